"""Glue: what stands between two taps, an adapter of ours, the user's own module, or nothing."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from compresskit import resolve
from compresskit.distill.adapters import Adapter, build_adapter
from compresskit.distill.describe import describe
from compresskit.distill.learned import Learned
from compresskit.distill.models import Point
from compresskit.errors import RecipeError, ShapeError


@dataclass(frozen=True, slots=True)
class Glue:
    """Brings the student's tensor into the form of the teacher's."""

    adapter: Adapter | nn.Module | None = None

    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both tensors, fit to be compared. A module of the user's is given the student's alone."""
        if isinstance(self.adapter, Adapter):
            return self.adapter(student, teacher)
        return (student if self.adapter is None else self.adapter(student)), teacher

    def __str__(self) -> str:
        return "" if self.adapter is None else str(self.adapter).partition("\n")[0]

    @property
    def module(self) -> nn.Module | None:
        """What may hold parameters."""
        return self.adapter.learned if isinstance(self.adapter, Adapter) else self.adapter


def glue(
    adapter: str | nn.Module | Mapping[str, Any] | None,
    points: tuple[Point, Point],
    shapes: tuple[torch.Size, torch.Size],
    agree: Collection[str],
    learned: Learned,
    where: str,
) -> Glue:
    """What brings the tensor at the first point into the form of that at the second.

    Args:
        adapter: As in a match.
        points: The two taps; a pair has one adapter, whoever asks for it.
        shapes: Of the two traced tensors.
        agree: What has to agree.
        learned: Where adapters live.
        where: What messages start with.

    Raises:
        RecipeError: A node cannot be built, or the pair already has another adapter.
        ShapeError: No adapter can be built between these shapes.
    """
    if adapter is None:
        return Glue()
    pair = f"{points[0].key} -> {points[1].key}"
    keep = partial(learned.keep, f"adapter:{pair}")
    if adapter == "auto":
        try:
            return Glue(build_adapter(*shapes, agree, keep=lambda b: keep(lambda: b().to(learned.dtype), "auto")))
        except ShapeError as error:
            raise ShapeError(f"{where}: {error}") from None
    kept = keep(lambda: _given(adapter, where), describe(adapter))
    if isinstance(adapter, nn.Module) and kept is not adapter:
        raise RecipeError(f"{where}: the pair {pair} already has another adapter; one pair, one adapter")
    return Glue(kept)


def _given(adapter: Any, where: str) -> nn.Module:
    return (
        adapter if isinstance(adapter, nn.Module) else resolve.build(adapter, kind="module", where=f"{where}: adapter")
    )
