"""Losses by name, what each needs its two sides to agree in, and the check of their options."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from compresskit.errors import RecipeError, close_names
from compresskit.losses.features import attention_transfer, l1, mse, relative_mse
from compresskit.losses.images import charbonnier, ssim
from compresskit.losses.logits import cross_entropy, kl
from compresskit.resolve import find
from compresskit.signature import check_arguments, takes

EVERYTHING = frozenset({"channels", "space"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A loss, and what an adapter has to make equal before it can be called."""

    function: Callable[..., Any]
    """`(student, teacher_or_target, **options) -> scalar`, or what makes such a callable: see `built`."""
    agree: frozenset[str] = EVERYTHING
    """What must agree between the two sides: any of "channels" and "space"."""
    relational: bool = False
    labels: bool = False
    built: bool = False
    """Whether `function` is a class or factory, called once with the options; else they come with each call."""
    name: str = ""
    """What messages and logs call it."""


CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {
        "mse": Entry(mse, name="mse"),
        "relative_mse": Entry(relative_mse, name="relative_mse"),
        "l1": Entry(l1, name="l1"),
        "charbonnier": Entry(charbonnier, name="charbonnier"),
        "ssim": Entry(ssim, name="ssim"),
        "kl": Entry(kl, name="kl"),
        "cross_entropy": Entry(cross_entropy, frozenset(), name="cross_entropy"),
        "attention_transfer": Entry(attention_transfer, frozenset({"space"}), name="attention_transfer"),
    }
)
"""A name here is a short form, never the only door: any callable and any dotted name is a loss too."""


def resolve_loss(loss: str | Callable[..., Any] | Entry, *, where: str = "loss") -> Entry:
    """The entry for a catalogue name, a dotted name or a callable; a foreign loss needs everything to agree.

    Raises:
        RecipeError: The name is unknown (the nearest is named), may not be used, or `loss` is no callable.
    """
    if isinstance(loss, Entry):
        return loss
    if isinstance(loss, str):
        if loss in CATALOGUE:
            return CATALOGUE[loss]
        if "." not in loss:
            raise RecipeError(f"{where}: no loss {loss!r}{close_names(loss, CATALOGUE)}")
        loss, name = find(loss, where=where, kind="callable"), loss
    else:
        name = getattr(loss, "__name__", type(loss).__name__)
    for entry in CATALOGUE.values():
        if entry.function is loss:
            return entry
    if not callable(loss):
        raise RecipeError(f"{where}: a loss is a name or a callable, got {loss!r}")
    return Entry(loss, built=isinstance(loss, type) or not takes(loss, positional=2), name=name.rpartition(".")[2])


def check_options(loss: str | Entry | Callable[..., Any], options: Mapping[str, Any], *, where: str) -> None:
    """Hold a loss's options against its signature.

    A schedule, `{"schedule": "linear", ...}`, passes for any option's value; so does any value that is not plain data.

    Raises:
        RecipeError: An option is unknown (the nearest is named), missing or of the wrong type.
    """
    entry = resolve_loss(loss, where=where)
    scheduled = [key for key, value in options.items() if is_schedule(value)]
    if entry.built and scheduled:
        raise RecipeError(f"{where}: {entry.name} is made once, so {scheduled[0]} cannot follow a schedule")
    values = {key: _Scheduled if is_schedule(value) else value for key, value in options.items()}
    check_arguments(entry.function, values, positional=0 if entry.built else 2, where=where, name=entry.name)


def make_loss(entry: Entry, options: Mapping[str, Any], *, where: str) -> Callable[..., Any]:
    """What a class or factory makes of its options, once; a plain function is handed back as it is.

    Raises:
        RecipeError: The class or factory refuses its options, or makes nothing that can be called.
    """
    if not entry.built:
        return entry.function
    try:
        made = entry.function(**options)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{where}: {entry.name} refuses these options: {error}") from error
    if not callable(made):
        raise RecipeError(f"{where}: {entry.name} gave {type(made).__name__}, which is not callable")
    return made


class _Scheduled:
    """Stands for a value that changes over the stage."""


def is_schedule(value: Any) -> bool:
    """Whether `value` is written as a schedule: `{"schedule": "linear", "start": 1.0, "end": 0.0}`."""
    return isinstance(value, Mapping) and "schedule" in value
