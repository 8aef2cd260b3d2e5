"""The positions of a batch that count, written as text: `attention_mask`, `labels[:, 1:] != -100`, `inputs[1] > 0`."""

import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from compresskit.distill.spec.address import Address, parse_address
from compresskit.errors import RecipeError, TapError

_TEXT = re.compile(r"(?P<where>[A-Za-z_][^=!<>]*?)\s*((?P<operator>==|!=|<=|>=|<|>)\s*(?P<number>-?\d+(\.\d+)?))?")


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


class MaskText(NamedTuple):
    """A parsed mask: a tensor of the batch, and maybe a comparison with a number."""

    where: Address
    keys: tuple[str, ...]
    """Keys that lead into the batch's mappings."""
    compare: Callable[[Any, Any], Any] | None
    number: float | int


def parse_mask(text: str) -> MaskText:
    """Parse a mask.

    Raises:
        RecipeError: The text does not follow the grammar.
    """
    match = _TEXT.fullmatch(text.strip())
    try:
        where = parse_address(match["where"]) if match else None
    except TapError:
        where = None
    if match is None or where is None or where.call is not None or "@" in where.text:
        raise RecipeError(
            f"mask: cannot read {text!r}; write a key of the batch, slices and a comparison after it, as in "
            "'attention_mask', 'labels[:, 1:]' or 'labels != -100'",
            path=("mask",),
        )
    number = match["number"] or "0"
    return MaskText(
        where,
        tuple(where.path.split(".")),
        _OPERATORS[match["operator"]] if match["operator"] else None,
        float(number) if "." in number else int(number),
    )


def check_mask(mask: Any) -> None:
    """Check the `mask` of a match or task.

    Raises:
        RecipeError: It is none of a text, a callable, a node and None.
    """
    if isinstance(mask, str):
        parse_mask(mask)
    elif mask is not None and not callable(mask) and not (hasattr(mask, "keys") and "_target_" in mask):
        raise RecipeError(
            f"mask must be null, a key of the batch such as 'attention_mask', a callable or a node with _target_, "
            f"got {mask!r}",
            path=("mask",),
        )
