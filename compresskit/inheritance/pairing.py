"""A teacher's channel for each channel of the student: the most important ones of each group, in their order."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from compresskit.inheritance.channels import Axis, Channel, Channels

Key = tuple[Any, ...]


@dataclass(slots=True)
class Pairing:
    """Teacher indices by student index, for each axis of the student's tensors."""

    indices: dict[Axis, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    reasons: dict[Axis, str] = field(default_factory=dict)
    """Reasons why an axis is not fully paired."""


def pair_channels(
    teacher: Channels, student: Channels, names: Mapping[str, str], score: Callable[[Channel], float]
) -> Pairing:
    """Return a pairing of the channels of tensors that both models have.

    Channels are paired within groups: those that the same output filters produce and the same layers take.

    Args:
        teacher: Channels of the teacher.
        student: Channels of the student.
        names: The teacher's name of each tensor of the student that both have.
        score: Importance of a channel of the teacher.
    """
    known = {source: name for name, source in names.items()}
    back = {axis: (known[axis[0]], axis[1]) for axis in teacher.sizes if axis[0] in known}
    own = {axis: axis for axis in student.sizes if axis[0] in names}
    pairing = Pairing()
    theirs = _groups(teacher, back, pairing, note=False)
    ours = _groups(student, own, pairing, note=True)
    heads = _pair_blocks(ours, theirs, score)
    for key, channels in ours.items():
        sources = theirs.get(key) or _with_producers(key, theirs, ours)
        if sources is None:
            _note(pairing, channels, "its channels are coupled with others in the teacher")
            continue
        _pair_group(key, channels, sources, heads, score, back, pairing)
    return pairing


def _groups(
    channels: Channels, names: Mapping[Axis, Axis], pairing: Pairing, *, note: bool
) -> dict[Key, list[Channel]]:
    """Return the channels by their producers and all their axes, of tensors that both models have."""
    groups: dict[Key, list[Channel]] = defaultdict(list)
    for channel in channels.classes():
        made = [axis for axis in channel.members if axis in channels.outputs]
        shared = [(names[a], len(indices), a in made) for a, indices in channel.members.items() if a in names]
        if not shared:
            continue
        if made and not any(is_made for *_, is_made in shared):
            if note:
                _note(pairing, [channel], f"it is fed by {made[0][0].rpartition('.')[0]}, which has no counterpart")
            continue
        producers = tuple(sorted((axis, count) for axis, count, is_made in shared if is_made))
        groups[producers, tuple(sorted((axis, count) for axis, count, _ in shared))].append(channel)
    return groups


def _with_producers(key: Key, theirs: Mapping[Key, list[Channel]], ours: Mapping[Key, Any]) -> list[Channel] | None:
    """Return the only group that the same filters produce, if other layers take it than in the student."""
    if not key[0] or sum(other[0] == key[0] for other in ours) > 1:
        return None
    same = [channels for other, channels in theirs.items() if other[0] == key[0]]
    return same[0] if len(same) == 1 else None


def _pair_blocks(
    ours: Mapping[Key, list[Channel]], theirs: Mapping[Key, list[Channel]], score: Callable[[Channel], float]
) -> dict[int, int] | None:
    """Return the teacher's block of each block of the student, chosen over all groups of channels that share blocks."""
    families: list[tuple[set[int], set[int]]] = []
    for key in ours.keys() & theirs.keys():
        here = {b for channel in ours[key] for b in channel.blocks}, {b for c in theirs[key] for b in c.blocks}
        if here[0] and here[1]:
            touching = [f for f in families if f[0] & here[0] or f[1] & here[1]]
            families = [f for f in families if f not in touching]
            families.append((here[0].union(*(f[0] for f in touching)), here[1].union(*(f[1] for f in touching))))
    scores: Counter[int] = Counter()
    for channel in (channel for channels in theirs.values() for channel in channels):
        for block in channel.blocks:
            scores[block] += score(channel)  # pyright: ignore[reportArgumentType]
    pairs: dict[int, int] = {}
    for mine, sources in families:
        best = sorted(sorted(sources), key=lambda block: -scores[block])[: len(mine)]
        if len(best) == len(mine):
            pairs |= dict(zip(sorted(mine), sorted(best), strict=True))
    return pairs


def _pair_group(
    key: Key,
    channels: list[Channel],
    sources: list[Channel],
    heads: Mapping[int, int] | None,
    score: Callable[[Channel], float],
    back: Mapping[Axis, Axis],
    pairing: Pairing,
) -> None:
    blocks = {min(c.blocks) for c in channels if c.blocks}
    if len(channels) == len(sources) and not blocks:
        chosen: list[tuple[Channel, Channel]] = list(zip(channels, sources, strict=True))
    elif reason := _obstacle(key, channels, sources):
        return _note(pairing, channels, reason)
    elif not blocks and any(c.blocks for c in sources):
        return _note(pairing, channels, "the teacher has several heads or groups where the student has one")
    else:
        chosen = []
        for block in sorted(blocks) or [None]:
            part = [c for c in channels if block is None or block in c.blocks]
            other = [c for c in sources if block is None or (heads or {}).get(block) in c.blocks]
            if len(other) < len(part) or (not key[0] and len(other) != len(part)):
                return _note(pairing, channels, "its heads or groups have no counterpart in the teacher")
            chosen += zip(part, _best(other, len(part), score), strict=True)
    for channel, source in chosen:
        _assign(channel, {back[a]: i for a, i in source.members.items() if a in back}, pairing)
    return None


def _obstacle(key: Key, channels: list[Channel], sources: list[Channel]) -> str:
    """Return the reason why a group of other size cannot be chosen from, or an empty text."""
    mine, theirs = len(channels), len(sources)
    blocks = any(channel.blocks for channel in channels)
    if mine > theirs:
        return f"the student has {mine} channels, the teacher {theirs}"
    pins = {pin for channel in (*channels, *sources) for pin in channel.pins}
    if (not key[0] and not blocks) or ("output" in pins and len(key[0]) and not _is_hidden(key)):
        return f"it is no hidden width: {theirs} in the teacher, {mine} in the student" if mine != theirs else ""
    pins.discard("output")
    return f"{min(pins)}; the widths differ" if pins and mine != theirs else ""


def _is_hidden(key: Key) -> bool:
    """Return whether another layer takes the channels of a group: weights that do not produce them, of two axes."""
    producers = {axis for axis, _ in key[0]}
    return any(axis not in producers and axis[1] > 0 for axis, _ in key[1])


def _best(channels: list[Channel], count: int, score: Callable[[Channel], float]) -> list[Channel]:
    """Return the most important channels, in their order."""
    order = sorted(range(len(channels)), key=lambda index: -score(channels[index]))[:count]
    return [channels[index] for index in sorted(order)]


def _assign(channel: Channel, source: Mapping[Axis, list[int]], pairing: Pairing) -> None:
    for axis, indices in channel.members.items():
        if len(source.get(axis, ())) == len(indices):
            pairing.indices[axis].update(zip(sorted(indices), sorted(source[axis]), strict=True))
        elif axis in source:
            pairing.reasons.setdefault(axis, "each channel stands for another number of inputs in the teacher")
        else:
            pairing.reasons.setdefault(axis, "it is fed by other layers in the teacher")


def _note(pairing: Pairing, channels: list[Channel], reason: str) -> None:
    for channel in channels:
        for axis in channel.members:
            pairing.reasons.setdefault(axis, reason)
