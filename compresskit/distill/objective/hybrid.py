"""The splices of one stage at work: whose tensors go where, through which glue."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from compresskit.distill.objective.adapters import Glue, glue
from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.models import Models, Point
from compresskit.distill.spec.match import Splice
from compresskit.errors import RecipeError, ShapeError
from compresskit.losses.entry import EVERYTHING


class Splicing:
    """What makes the hybrid: `model` run with some of its tensors replaced by those of other models.

    Args:
        splices: Of the stage, at least one.
        models: Where they lead.

    Raises:
        RecipeError: A model is unknown, or the splices lead into several.
    """

    def __init__(self, splices: Sequence[Splice], models: Models) -> None:
        self._splices = splices
        self._ends = [models.spliced(splice) for splice in splices]
        names = dict.fromkeys(into.model for _, into in self._ends)
        if len(names) > 1:
            raise RecipeError(f"splices: all of a stage lead into one model, but these into {' and '.join(names)}")
        self.model = next(iter(names))
        """The name of the model that the splices lead into."""
        self.replaced: dict[str, Callable[[Tensor], Tensor]] = {}
        """What each tap of the hybrid puts in the place of what is there."""
        self._glue: dict[Point, Glue] = {}
        self._sources: dict[Point, Tensor] = {}

    @property
    def sources(self) -> list[Point]:
        """Where the tensors come from."""
        return [source for source, _ in self._ends]

    @property
    def places(self) -> list[Point]:
        """Where they go."""
        return [into for _, into in self._ends]

    def bind(self, shapes: Mapping[Point, torch.Size], learned: ExtraModules, where: str) -> None:
        """Build the glue, for tensors of these shapes.

        Raises:
            RecipeError: A node cannot be built.
            ShapeError: No adapter can be built between two shapes.
        """
        for splice, (source, into) in zip(self._splices, self._ends, strict=True):
            sizes, name = (shapes[source], shapes[into]), f"{where}: splice {splice.source} -> {splice.into}"
            self._glue[into] = glue(splice.adapter, (source, into), sizes, EVERYTHING, learned, name)
            self.replaced[into.address] = partial(self._made, source, into)

    def modules(self) -> Iterable[nn.Module]:
        """Glue that may hold parameters."""
        return (made.module for made in self._glue.values() if made.module is not None)

    def take(self, tensors: Mapping[Point, Tensor]) -> None:
        """Take up the tensors of this step, for the hybrid's run."""
        self._sources = {source: tensors[source] for source in self.sources}

    def clear(self) -> None:
        """Let go of them."""
        self._sources = {}

    def _made(self, source: Point, into: Point, old: Tensor) -> Tensor:
        """What replaces `old`: a tensor of its own, as what comes behind may write into it."""
        tensor = self._sources[source]
        half = tensor.dtype in (torch.float16, torch.bfloat16)
        try:
            glued, _ = self._glue[into](tensor.float() if half else tensor, old)
        except ShapeError as error:
            raise ShapeError(f"splice {source.address} -> {into.address}: {error}") from None
        return glued.clone() if glued is tensor else glued
