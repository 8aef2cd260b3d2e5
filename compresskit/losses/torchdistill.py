"""Losses of torchdistill by name: those that compare one tensor of the student with one of the teacher.

Its classes ask for module paths and read their tensors from dictionaries. Here the paths are filled in, and the rest of
a class's arguments are the loss's options. `torchdistill.PKTLoss` is short for `torchdistill.losses.mid_level.PKTLoss`.
"""

import inspect
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, TypeGuard

from jaxtyping import Float
from torch import Tensor, nn

from compresskit.errors import RecipeError
from compresskit.losses.compared import wide
from compresskit.losses.entry import EVERYTHING, Entry

_MODULE = "torchdistill.losses.mid_level"
_PATH, _IO = ".", "output"
_PAIR = {"student": {"path": _PATH, "io": _IO}, "teacher": {"path": _PATH, "io": _IO}}

_OTHERWISE: Mapping[str, str] = MappingProxyType(
    {
        "FSPLoss": "it compares two maps of each side; use the loss 'fsp'",
        "VIDLoss": "its student gives a mean and a variance; use the loss 'variational'",
        "HierarchicalContextLoss": "its student gives a pair, from torchdistill's own fusion module",
    }
)
"""Classes whose signature looks as if one tensor of each side were enough."""
_AGREE: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "ATLoss": frozenset({"space"}),
        **dict.fromkeys(("CCKDLoss", "ChSimLoss", "PKTLoss", "RKDLoss", "SKDDirectionLoss", "SPKDLoss"), frozenset()),
    }
)
"""Where not everything has to agree."""
_RELATIONAL = frozenset(
    {"CCKDLoss", "ChSimLoss", "DISTLoss", "PKTLoss", "RKDLoss", "SKDDirectionLoss", "SKDInstanceLoss", "SPKDLoss"}
)


def full_name(dotted: str) -> str:
    """Where a loss really lives: `torchdistill.NAME` is short for a name of its module of losses."""
    package, _, name = dotted.partition(".")
    return f"{_MODULE}.{name}" if package == "torchdistill" and name and "." not in name else dotted


def is_theirs(loss: Any) -> TypeGuard[type[nn.Module]]:
    """Whether `loss` is one of torchdistill's classes of losses."""
    return isinstance(loss, type) and issubclass(loss, nn.Module) and loss.__module__.startswith("torchdistill.losses")


def wrapped(loss: type[nn.Module]) -> Entry:
    """The entry of a torchdistill class; its options are the class's, without paths.

    Raises:
        RecipeError: The class compares something else than one tensor with one; the message says what.
    """
    if reason := _obstacle(loss):
        raise RecipeError(f"torchdistill's {loss.__name__} cannot be a match's loss: {reason}")
    return _entry(loss)


class OneToOne(nn.Module):
    """A loss of torchdistill, called with two tensors."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        made = vars(loss)
        self._alpha = made.get("alpha")
        # classes with an alpha apply beta T^2 at any alpha but 0
        self._left_out = made["beta"] * made["temperature"] ** 2 if self._alpha == 0 else 1.0

    def forward(
        self, student: Float[Tensor, "*s"], teacher: Float[Tensor, "*t"], target: Tensor | None = None
    ) -> Float[Tensor, ""]:
        """The value. `target` is what a loss with a supervised part compares the student with.

        Raises:
            RecipeError: The loss has a supervised part, and there is no target.
        """
        if self._alpha and target is None:
            raise RecipeError(f"{type(self.loss).__name__}: alpha={self._alpha} weighs the labels, and there are none")
        tensors = ({_PATH: {_IO: wide(side)}} for side in (student, teacher))
        return self.loss(*tensors, target) * self._left_out


@cache
def _entry(loss: type[nn.Module]) -> Entry:
    parameters = inspect.signature(loss).parameters
    given = {name: _filled_in(name) for name in parameters if _filled_in(name) is not None}
    options = [_option(p) for p in parameters.values() if p.name not in given and p.kind is not p.VAR_KEYWORD]
    defaults = {p.name: p.default for p in options if p.default is not p.empty}

    def build(**options: Any) -> OneToOne:
        return OneToOne(loss(**given, **defaults | options))

    build.__signature__ = inspect.Signature(options)  # what options are checked against
    return Entry(
        build,
        agree=_AGREE.get(loss.__name__, EVERYTHING),
        built=True,
        name=loss.__name__,
        relational=loss.__name__ in _RELATIONAL,
        labels="targets" in inspect.signature(loss.forward).parameters,
    )


def _obstacle(loss: type[nn.Module]) -> str | None:
    """Why a class cannot compare one tensor with one; None where it can."""
    parameters = inspect.signature(loss).parameters
    paths = [name for name in parameters if name.endswith("_path")]
    sides = {side: [path for path in paths if path.startswith(side)] for side in ("student", "teacher")}
    others = [path for path in paths if not path.startswith(tuple(sides))]
    if loss.__name__ in _OTHERWISE:
        return _OTHERWISE[loss.__name__]
    if "num_samples" in parameters:
        return "it needs the number of training samples and each one's index"
    if others:
        return f"it reads an auxiliary module ({', '.join(others)})"
    if any(len(own) > 1 for own in sides.values()):
        return f"it reads several tensors of a side ({', '.join(max(sides.values(), key=len))})"
    if not any(name.endswith("_pairs") for name in parameters) and not all(sides.values()):
        return "it takes no tensor from each side"
    return None


def _filled_in(name: str) -> Any:
    """What an argument that says where tensors come from is set to; None for an option."""
    if name.endswith("_pairs"):
        return {"pair": _PAIR}
    if name.startswith(("student_", "teacher_")):
        return {"path": _PATH, "io": _IO}.get(name.rpartition("_")[2])
    return None


def _option(parameter: inspect.Parameter) -> inspect.Parameter:
    """The option of an argument; an alpha of None, which its class cannot compute with, is 0."""
    default = 0.0 if parameter.name == "alpha" and parameter.default is None else parameter.default
    return parameter.replace(kind=parameter.KEYWORD_ONLY, default=default)
