"""The function `inherit`: traces both models, pairs their channels, copies the weights."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import RecipeError, ShapeError, TapError, close_names, first_line
from compresskit.inheritance.channels import Axis, Channel, Channels
from compresskit.inheritance.pairing import Pairing, pair_channels
from compresskit.inheritance.report import InheritanceReport, InheritedTensor
from compresskit.inheritance.trace import trace_channels
from compresskit.nested import call_model, device_of
from compresskit.randomness import own_randomness
from compresskit.restore import preserve_state

SIDES = (32, 64, 224, 16, 28, 128, 256)
"""Sides of the pictures that are tried where no inputs are passed."""


def squared_norm(filters: Tensor) -> Tensor:
    """Return the squared L2 norm of each filter, (channels, …) to (channels,)."""
    return filters.flatten(1).square().sum(dim=1)


@torch.no_grad()
def inherit(
    teacher: nn.Module,
    student: nn.Module,
    *,
    inputs: Any = None,
    teacher_inputs: Any = None,
    names: Mapping[str, str] | None = None,
    importance: Callable[[Tensor], Tensor] = squared_norm,
) -> InheritanceReport:
    """Copy the teacher's weights into the student's layers of the same names, pruned to the student's widths.

    One forward of each model shows which channels belong together: through additions, concatenations, shuffles, norms,
    grouped convolutions and attention heads. Of each group the student takes the most important channels, in their
    order and without rescaling.

    Args:
        teacher: The model to inherit from; it stays as it is.
        student: The model to fill, in place.
        inputs: Inputs of both models; None tries noise in shapes that the first layer suggests.
        teacher_inputs: Inputs of the teacher where they differ.
        names: The teacher's module for modules of the student, such as `{"layers.1": "layers.2"}`. A key may be a glob.
        importance: A function from the filters of a layer (channels, …) to a score of each channel. The scores of
            coupled layers are added.

    Raises:
        RecipeError: A model is no module.
        TapError: `names` names a module that a model lacks.
        ShapeError: A model does not take the inputs, or none were passed and none that suit it were found.
    """
    for role, model in (("teacher", teacher), ("student", student)):
        if not isinstance(model, nn.Module):
            raise RecipeError(f"inherit: the {role} must be a torch module, got {type(model).__name__}")
    sources = _sources(teacher, student, names or {})
    theirs = _traced(teacher, inputs if teacher_inputs is None else teacher_inputs)
    ours = _traced(student, inputs)
    channels = [theirs, ours]
    state, target = teacher.state_dict(), student.state_dict()
    shared = _comparable(sources, channels, state, target)
    made = {axis: importance(state[axis[0]].float().movedim(axis[1], 0)) for axis in theirs.outputs}

    def score(channel: Channel) -> float:
        members = channel.members.items()
        return sum(float(made[axis][index]) for axis, indices in members if axis in made for index in indices)

    pairing = pair_channels(theirs, ours, shared, score)
    tensors = [_copy(name, sources.get(name), target, state, channels, pairing) for name in target]
    used = set(sources.values())
    return InheritanceReport(tuple(tensors), tuple(name for name in state if name not in used))


def _sources(teacher: nn.Module, student: nn.Module, names: Mapping[str, str]) -> dict[str, str]:
    """Return the teacher's name of each tensor of the student that it has."""
    modules = dict(student.named_modules())
    for glob, path in names.items():
        if not any(fnmatchcase(name, glob) for name in modules):
            raise TapError(f"names: the student has no module {glob!r}{close_names(glob, filter(None, modules))}")
        if path not in (known := dict(teacher.named_modules())):
            raise TapError(f"names: the teacher has no module {path!r}{close_names(path, filter(None, known))}")
    state = teacher.state_dict()
    sources = {name: _renamed(name, names) for name in student.state_dict()}
    return {name: source for name, source in sources.items() if source in state}


def _renamed(name: str, names: Mapping[str, str]) -> str:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        prefix = ".".join(parts[:end])
        for glob, path in names.items():
            if fnmatchcase(prefix, glob) and glob.count(".") == prefix.count("."):
                return ".".join([path, *parts[end:]])
    return name


def _comparable(
    sources: Mapping[str, str], channels: list[Channels], state: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> dict[str, str]:
    """Return the names of tensors of equal rank that differ only along axes of channels, so not in their kernels."""
    coupled = [
        {axis for c in side.classes() if len(c.members) > 1 or c.blocks for axis in c.members}
        | side.inputs
        | side.outputs
        for side in channels
    ]
    shared = {}
    for name, source in sources.items():
        one, other = target[name], state[source]
        if one.ndim == other.ndim and all(
            one.shape[d] == other.shape[d] or ((name, d) in coupled[1] and (source, d) in coupled[0])
            for d in range(one.ndim)
        ):
            shared[name] = source
    # two tensors of the student may share a source: each tensor of the teacher is paired with the first
    return {name: source for source, name in {source: name for name, source in reversed(shared.items())}.items()}


def _copy(
    name: str,
    source: str | None,
    target: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    channels: list[Channels],
    pairing: Pairing,
) -> InheritedTensor:
    """Copy the paired elements of one tensor."""
    own, shape = target[name], tuple(target[name].shape)
    if source is None:
        return InheritedTensor(name, None, shape, None, why="the teacher has none of that name")
    other = state[source]
    theirs = tuple(other.shape)
    if own.ndim != other.ndim:
        return InheritedTensor(name, source, shape, theirs, why="the ranks differ")
    if own.ndim == 0 or (not own.numel() and shape == theirs):
        own.copy_(other)
        return InheritedTensor(name, source, shape, theirs, share=1.0)
    maps = [pairing.indices.get((name, dim), {}) for dim in range(own.ndim)]
    groups = [side.groups.get(key, 1) for side, key in zip(channels, (source, name), strict=True)]
    reasons = [
        _reason((name, dim), maps[dim], channels[1], pairing, shape[dim], theirs[dim]) for dim in range(own.ndim)
    ]
    if max(groups) > 1:
        copied = _copy_grouped(own, other, maps, groups)
    else:
        keys = [torch.tensor(sorted(axis), dtype=torch.int64, device=own.device) for axis in maps]
        values = [
            torch.tensor([axis[i] for i in sorted(axis)], dtype=torch.int64, device=other.device) for axis in maps
        ]
        own[torch.meshgrid(*keys, indexing="ij")] = other[torch.meshgrid(*values, indexing="ij")].to(own)
        copied = int(torch.tensor([len(axis) for axis in maps]).prod())
    kept = tuple(tuple(axis[i] for i in sorted(axis)) for axis in maps)
    why = next((reason for reason in reasons if reason), "") if copied < own.numel() else ""
    return InheritedTensor(name, source, shape, theirs, kept if copied else (), copied / own.numel(), why)


def _copy_grouped(own: Tensor, other: Tensor, maps: list[dict[int, int]], groups: list[int]) -> int:
    """Copy a grouped convolution's filters, whose input maps count the channels of all groups; return the elements."""
    copied, inner = 0, (other.shape[1], own.shape[1])
    rows = (other.shape[0] // groups[0], own.shape[0] // groups[1])
    for out, source in maps[0].items():
        for index in range(inner[1]):
            into = maps[1].get(out // rows[1] * inner[1] + index)
            if into is not None and into // inner[0] == source // rows[0] and own.shape[2:] == other.shape[2:]:
                own[out, index] = other[source, into % inner[0]].to(own)
                copied += own[out, index].numel()
    return copied


def _reason(axis: Axis, pairs: Mapping[int, int], channels: Channels, pairing: Pairing, size: int, theirs: int) -> str:
    if len(pairs) == channels.sizes.get(axis, size):
        return ""
    if axis in pairing.reasons:
        return pairing.reasons[axis]
    return f"axis {axis[1]}: {theirs} in the teacher, {size} in the student" if size != theirs else "its shape differs"


def _traced(model: nn.Module, inputs: Any) -> Channels:
    if inputs is not None:
        try:
            return trace_channels(model, inputs)
        except (RuntimeError, TypeError) as error:
            raise ShapeError(
                f"inherit: {type(model).__name__} does not take the inputs: {first_line(error)}"
            ) from error
    why: Exception | None = None
    for candidate in _candidates(model):
        try:
            with preserve_state(model, buffers=True):
                call_model(model.eval(), candidate)
        except Exception as error:  # noqa: BLE001 - any model may refuse a guess in its own way
            why = error
        else:
            return trace_channels(model, candidate)
    raise ShapeError(f"inherit: no example of the inputs of {type(model).__name__} was found; pass inputs=…") from why


def _candidates(model: nn.Module) -> list[Any]:
    """Return noise in shapes that a model may take, by its first layer with weights."""
    device, tried = device_of(model), []
    with own_randomness(0):
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                return [torch.zeros(1, min(8, module.num_embeddings), dtype=torch.int64, device=device)]
            if isinstance(module, nn.Linear):
                return [torch.rand(1, *middle, module.in_features, device=device) for middle in ((), (8,))]
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                rank = len(module.kernel_size)
                tried = [torch.rand(1, module.in_channels, *[side] * rank, device=device) for side in SIDES]
                break
    size = getattr(model, "image_size", None)
    if isinstance(size, int) and tried:
        tried.insert(0, torch.rand(1, tried[0].shape[1], size, size, device=device))
    return [*tried, *(torch.rand(1, 4, side, side, device=device) for side in (32, 64) if tried)]
