"""Channels of parameters that must be chosen together, as a union-find.

Each index of each axis of each tensor of a model is a channel with a number. A forward unites channels: a convolution's
input channel with the output channel that feeds it, the two sides of an addition. Zero is the number of no channel.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

Axis = tuple[str, int]
"""A tensor's name in the state of its model, and one of its dimensions."""


@dataclass(eq=False)
class Channel:
    """Indices of axes that are one channel of the network."""

    members: dict[Axis, list[int]] = field(default_factory=dict)
    blocks: set[int] = field(default_factory=set)
    """Numbers of the heads or groups that hold the channel."""
    pins: set[str] = field(default_factory=set)
    """Reasons why the channel's group must keep its width."""


class Channels:
    """The channels of a model, numbered from 1, and the blocks (heads, groups) that hold them."""

    def __init__(self) -> None:
        self._parents = [0]
        self._owners: list[tuple[Axis, int] | None] = [None]
        self._blocks: list[tuple[int, int]] = []
        self._pins: list[tuple[int, str]] = []
        self.outputs: set[Axis] = set()
        """Axes that are outputs of a contraction: filters of convolutions, rows of linear layers, embeddings."""
        self.inputs: set[Axis] = set()
        """Axes over which a contraction sums."""
        self.sizes: dict[Axis, int] = {}
        self.groups: dict[str, int] = {}
        """Groups of grouped convolutions: their axis 1 counts the input channels of all groups."""

    def new_axis(self, axis: Axis, size: int) -> range:
        """Return numbers for the channels of a new axis."""
        self.sizes[axis] = size
        start = len(self._parents)
        self._parents += range(start, start + size)
        self._owners += [(axis, index) for index in range(size)]
        return range(start, start + size)

    def new_block(self) -> int:
        """Return the number of a new block."""
        self._parents.append(len(self._parents))
        self._owners.append(None)
        return len(self._parents) - 1

    def is_block(self, number: int) -> bool:
        """Return whether a number is a block's."""
        return self._owners[self.find(number)] is None

    def find(self, number: int) -> int:
        """Return the number that stands for all that it is united with."""
        parents = self._parents
        while parents[number] != number:
            parents[number] = number = parents[parents[number]]
        return number

    def unite(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Unite pairs of channels, or of blocks; a channel with a block is put into it."""
        for one, other in pairs:
            if not one or not other:
                continue
            a, b = self.find(one), self.find(other)
            if (self._owners[a] is None) == (self._owners[b] is None):
                self._parents[max(a, b)] = min(a, b)
            else:
                self._blocks.append((b, a) if self._owners[a] is None else (a, b))

    def pin(self, numbers: Iterable[int], reason: str) -> None:
        """Keep the width of the groups of some channels."""
        self._pins += [(number, reason) for number in numbers if number]

    def axis_of(self, number: int) -> Axis | None:
        """Return the axis that a channel was numbered for."""
        owner = self._owners[number]
        return None if owner is None else owner[0]

    def classes(self) -> list[Channel]:
        """Return the channels, in the order of their first members."""
        classes: dict[int, Channel] = defaultdict(Channel)
        for number, owner in enumerate(self._owners):
            if owner is not None:
                axis, index = owner
                classes[self.find(number)].members.setdefault(axis, []).append(index)
        self._merge_blocks()
        for number, block in self._blocks:
            classes[self.find(number)].blocks.add(self.find(block))
        for number, reason in self._pins:
            if self._owners[number] is not None:
                classes[self.find(number)].pins.add(reason)
        return list(classes.values())

    def _merge_blocks(self) -> None:
        """Unite blocks that share a channel, such as those of two group norms of one residual stream."""
        first: dict[int, int] = {}
        for number, block in self._blocks:
            root = self.find(number)
            self.unite([(first.setdefault(root, block), block)])
