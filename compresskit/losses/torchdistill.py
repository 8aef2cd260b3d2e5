"""Losses of torchdistill by name: those that compare one tensor of the student with one of the teacher.

Its classes take module paths and read their tensors from dictionaries. Here the paths are filled in, and the rest of a
class's arguments are the loss's options. `torchdistill.PKTLoss` is short for `torchdistill.losses.mid_level.PKTLoss`.
"""

import inspect
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, TypeGuard

from jaxtyping import Float
from torch import Tensor, nn

from compresskit.errors import RecipeError
from compresskit.losses.checks import at_least_float32, class_axis
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
"""Classes that need more than one tensor of each side although their signature does not show it, with the reason."""

_AGREE: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "ATLoss": frozenset({"space"}),
        **dict.fromkeys(("CCKDLoss", "ChSimLoss", "PKTLoss", "RKDLoss", "SKDDirectionLoss", "SPKDLoss"), frozenset()),
    }
)
"""Sizes that must agree, for the classes that do not need all of them to."""

_LOGITS = frozenset({"KDLoss", "LogitStdKDLoss", "DISTLoss", "SKDInstanceLoss", "SKDDirectionLoss"})
"""Classes that compare class scores."""

_MAPS = frozenset({"ATLoss", "AltActTransferLoss", "AffinityLoss", "ChSimLoss"})
"""Classes that compare maps, whose channels are dimension 1."""

_RELATIONAL = frozenset(
    {"CCKDLoss", "ChSimLoss", "DISTLoss", "PKTLoss", "RKDLoss", "SKDDirectionLoss", "SKDInstanceLoss", "SPKDLoss"}
)


def full_name(dotted: str) -> str:
    """Return the full dotted name of a loss: `torchdistill.NAME` is short for a name in its module of losses."""
    package, _, name = dotted.partition(".")
    return f"{_MODULE}.{name}" if package == "torchdistill" and name and "." not in name else dotted


def is_theirs(loss: Any) -> TypeGuard[type[nn.Module]]:
    """Return whether `loss` is one of torchdistill's classes of losses."""
    return isinstance(loss, type) and issubclass(loss, nn.Module) and loss.__module__.startswith("torchdistill.losses")


def entry_of(loss: type[nn.Module]) -> Entry:
    """Return the entry of a torchdistill class, whose options are the class's arguments without the paths.

    Raises:
        RecipeError: The class does not compare one tensor with one; the message says why.
    """
    if reason := _obstacle(loss):
        raise RecipeError(f"torchdistill's {loss.__name__} cannot be a match's loss: {reason}")
    return _entry(loss)


class OneToOne(nn.Module):
    """A loss of torchdistill, called with two tensors."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        options = vars(loss)
        self._alpha = options.get("alpha")
        # classes with an alpha apply beta T^2 at any alpha but 0
        self._factor = options["beta"] * options["temperature"] ** 2 if self._alpha == 0 else 1.0

    def forward(
        self, student: Float[Tensor, "*s"], teacher: Float[Tensor, "*t"], target: Tensor | None = None
    ) -> Float[Tensor, ""]:
        """Compute the loss.

        Args:
            student: Tensor of the student.
            teacher: Tensor of the teacher.
            target: Labels, for a loss with a supervised part.

        Raises:
            RecipeError: The loss has a supervised part, and there is no target.
        """
        if self._alpha and target is None:
            raise RecipeError(f"{type(self.loss).__name__}: alpha={self._alpha} weighs the labels, and there are none")
        kind = type(self.loss).__name__
        if kind in _LOGITS and class_axis(student.shape, None, loss=kind) == 2 and target is not None:
            target = target.flatten()
        tensors = ({_PATH: {_IO: _as_theirs(at_least_float32(side), kind)}} for side in (student, teacher))
        return self.loss(*tensors, target) * self._factor


def _as_theirs(side: Float[Tensor, "*s"], kind: str) -> Float[Tensor, "*r"]:
    """Return tokens (n, length, c) as what the class reads: rows of classes, or channels in dimension 1."""
    if side.ndim != 3:
        return side
    if kind in _LOGITS:
        return side.flatten(0, 1)
    return side.movedim(2, 1) if kind in _MAPS else side


@cache
def _entry(loss: type[nn.Module]) -> Entry:
    parameters = inspect.signature(loss).parameters
    paths = {name: _filled_in(name) for name in parameters if _filled_in(name) is not None}
    options = [_option(p) for p in parameters.values() if p.name not in paths and p.kind is not p.VAR_KEYWORD]
    defaults = {p.name: p.default for p in options if p.default is not p.empty}

    def build(**options: Any) -> OneToOne:
        return OneToOne(loss(**paths, **defaults | options))

    build.__signature__ = inspect.Signature(options)  # options are checked against it
    return Entry(
        build,
        agree=_AGREE.get(loss.__name__, frozenset({"space"}) if loss.__name__ in _LOGITS else EVERYTHING),
        built=True,
        name=loss.__name__,
        relational=loss.__name__ in _RELATIONAL,
        logits=loss.__name__ in _LOGITS - {"SKDDirectionLoss"},
        by_position=loss.__name__ in _LOGITS,
        labels="targets" in inspect.signature(loss.forward).parameters,
    )


def _obstacle(loss: type[nn.Module]) -> str | None:
    """Return why a class cannot compare one tensor with one; None if it can."""
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
    """Return the value of an argument that tells where tensors come from; None for an option."""
    if name.endswith("_pairs"):
        return {"pair": _PAIR}
    if name.startswith(("student_", "teacher_")):
        return {"path": _PATH, "io": _IO}.get(name.rpartition("_")[2])
    return None


def _option(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return the option of an argument; an alpha of None, which its class cannot compute with, becomes 0."""
    default = 0.0 if parameter.name == "alpha" and parameter.default is None else parameter.default
    return parameter.replace(kind=parameter.KEYWORD_ONLY, default=default)
