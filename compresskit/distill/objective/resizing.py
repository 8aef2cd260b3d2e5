"""Changes of a tensor's size without parameters: resizing, tokens to a map, a map to tokens, a 1x1 map to a vector.

A size is a shape without batch and channels: () of vectors (n, c), (length,) of tokens (n, length, c), (h, w) of maps
(n, c, h, w), (d, h, w) of volumes (n, c, d, h, w).
"""

from collections.abc import Callable, Iterator
from math import gcd, isqrt, prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from compresskit.errors import ShapeError

Size = tuple[int, ...]

_MOST_EXTRA = 5
"""Tokens that may be left over beside a grid: a class token and four registers."""

_KINDS = ("a vector", "tokens", "a map", "a volume")

_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Step(NamedTuple):
    """One change of a tensor's size, and its name in the plan."""

    text: str
    run: Callable[[Tensor], Tensor]


def size_of(shape: torch.Size) -> Size:
    """Return the shape without batch and channels.

    Raises:
        ShapeError: The shape is none of a vector, tokens, a map or a volume.
    """
    if not 2 <= len(shape) <= 5:
        raise ShapeError(f"{len(shape)}-d tensors are no vectors, tokens, maps or volumes; give an adapter")
    return tuple(shape[1:-1] if len(shape) == 3 else shape[2:])


def extra_tokens(student: Size, teacher: Size) -> int:
    """Return the number of tokens before those of the grid, on the side that has tokens.

    Class and register tokens can be recognised beside a map only: the other tokens form a grid with the map's aspect
    ratio, and at most 5 are left over. The number is 0 otherwise, also between two sequences.
    """
    if {len(student), len(teacher)} != {1, 2}:
        return 0
    (tokens,), like = sorted((student, teacher), key=len)
    return next((extra for extra in range(_MOST_EXTRA + 1) if _grid_or_none(tokens - extra, like)), 0)


def steps_between(student: Size, teacher: Size, extra: int = 0) -> Iterator[Step]:
    """Yield the steps from the student's size to the teacher's; none if the two are equal.

    Maps, volumes and sequences are averaged over areas in directions that shrink and interpolated linearly in those
    that grow. Tokens are the cells of a map row by row. Between tokens and tokens two square numbers are square grids,
    and a number and its double, triple, … are sequences.

    Args:
        student: Size of the student's tensor.
        teacher: Size of the teacher's tensor.
        extra: Number of leading tokens that are no cells of the map on the other side. The steps leave out the
            student's; the caller leaves out the teacher's.

    Raises:
        ShapeError: The two are of kinds that do not fit, or the tokens form no grid with the map's aspect ratio, or
            neither grids nor sequences that fit; the message names slices that leave out class and register tokens.
    """
    cells = f"tokens[{extra}:]" if extra else "tokens"
    kinds = len(student), len(teacher)
    if student == teacher:
        return
    if kinds == (1, 2):
        grid = _grid(student[0] - extra, teacher)
        yield Step(f"{cells} → map {_size_text(grid)}", lambda tokens: tokens[:, extra:].mT.unflatten(2, grid))
        yield from steps_between(grid, teacher)
    elif kinds == (2, 1):
        yield from steps_between(student, _grid(teacher[0] - extra, student))
        yield Step(f"map → {cells}", lambda grid: grid.flatten(2).mT)
    elif kinds == (1, 1):
        yield _between_tokens(student[0], teacher[0])
    elif kinds[0] == kinds[1]:
        yield Step(f"resize to {_size_text(teacher)}", lambda grid: resize(grid, teacher))
    else:
        yield _to_or_from_vector(student, teacher)


def resize(grid: Tensor, size: Size) -> Tensor:
    """Return the tensor at another size: averaged over areas where it shrinks, interpolated linearly where it grows.

    Each direction is treated by itself, so a map that becomes wider and lower is averaged along its height alone.

    Args:
        grid: Tensor (n, c, length), (n, c, h, w) or (n, c, d, h, w).
        size: Size of the result.
    """
    shrunk = [min(old, new) for old, new in zip(grid.shape[2:], size, strict=True)]
    if shrunk != list(grid.shape[2:]):
        grid = F.interpolate(grid, shrunk, mode="area")
    if shrunk != list(size):
        grid = F.interpolate(grid, list(size), mode=_INTERPOLATION[len(size)])
    return grid


def _between_tokens(student: int, teacher: int) -> Step:
    sides = isqrt(student), isqrt(teacher)
    if (sides[0] ** 2, sides[1] ** 2) == (student, teacher):
        own, other = ((side, side) for side in sides)
        return Step(
            f"tokens {_size_text(own)} → {_size_text(other)}",
            lambda tokens: resize(tokens.mT.unflatten(2, own), other).flatten(2).mT,
        )
    low, high = sorted((student, teacher))
    ratio = high // low if low else 0
    if ratio * low == high and isqrt(ratio) ** 2 != ratio:  # a square ratio may be two grids with extra tokens
        return Step(f"length {student} → {teacher}", lambda tokens: resize(tokens.mT, (teacher,)).mT)
    raise ShapeError(
        f"{student} and {teacher} tokens are neither two grids nor sequences of which one is a multiple of the other; "
        f"leave out what has no counterpart, as class and register tokens, {_slices_text(student, teacher)}, "
        "or give an adapter"
    )


def _slices_text(student: int, teacher: int) -> str:
    """Return the slices that leave equal or square numbers of tokens on both sides, as an address writes them."""
    extras = [(own, other) for own in range(_MOST_EXTRA + 1) for other in range(_MOST_EXTRA + 1)]
    left = {pair: (student - pair[0], teacher - pair[1]) for pair in extras}
    grids = [pair for pair in extras if min(left[pair]) > 1 and all(isqrt(count) ** 2 == count for count in left[pair])]
    equal = [pair for pair in extras if left[pair][0] == left[pair][1] > 0]
    both = [pair for pair in grids if pair in equal]
    choices = both or grids or equal
    own, other = choices[0] if choices else (max(student - teacher, 0), max(teacher - student, 0))
    sides = [
        f"@out[:, {extra}:] on the {side}'s side" for side, extra in (("student", own), ("teacher", other)) if extra
    ]
    return f"by a slice, {' and '.join(sides)}"


def _to_or_from_vector(student: Size, teacher: Size) -> Step:
    if not student and len(teacher) > 1 and prod(teacher) == 1:
        return Step("vector → map", lambda vector: vector.reshape(*vector.shape, *teacher))
    if not teacher and len(student) > 1 and prod(student) == 1:
        return Step("map → vector", lambda grid: grid.flatten(1))
    advice = "tap a pooled output or give an adapter" if not (student and teacher) else "give an adapter"
    raise ShapeError(f"nothing turns {_KINDS[len(student)]} into {_KINDS[len(teacher)]}; {advice}")


def _grid(cells: int, like: Size) -> Size:
    if grid := _grid_or_none(cells, like):
        return grid
    raise ShapeError(
        f"{cells} tokens form no grid with the aspect of {_size_text(like)} "
        f"(at most {_MOST_EXTRA} extra ones are left out); give an adapter"
    )


def _grid_or_none(cells: int, like: Size) -> Size | None:
    """Return height and width of a grid of that many cells with exactly the aspect ratio of the map `like`, or None."""
    height, width = (side // gcd(*like) for side in like)
    scale = isqrt(max(cells, 0) // (height * width))
    return (scale * height, scale * width) if scale and scale * scale * height * width == cells else None


def _size_text(size: Size) -> str:
    return "x".join(map(str, size))
