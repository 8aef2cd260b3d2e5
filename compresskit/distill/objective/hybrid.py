"""The splices of a stage at work: the hybrid is a model with some tensors replaced by those of another model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from compresskit.distill.objective.adapters import Adapter, bind_adapter
from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.models import Models, Point
from compresskit.distill.spec.match import Splice
from compresskit.errors import RecipeError, ShapeError, within
from compresskit.losses.entry import EVERYTHING


class Splicing:
    """The splices of one stage, which make the hybrid: `model`, run with the tensors at `targets` replaced.

    Args:
        splices: Splices of the stage, at least one.
        models: The student and its teachers.

    Raises:
        RecipeError: A model is unknown, or the splices lead into several.
    """

    def __init__(self, splices: Sequence[Splice], models: Models) -> None:
        self._splices = splices
        ends = [models.splice_points(splice) for splice in splices]
        self.sources = [source for source, _ in ends]
        """Taps whose tensors are put in."""
        self.targets = [target for _, target in ends]
        """Taps whose tensors they replace."""
        names = dict.fromkeys(target.model for target in self.targets)
        if len(names) > 1:
            raise RecipeError(f"splices: all of a stage lead into one model, but these into {' and '.join(names)}")
        self.model = next(iter(names))
        """The name of the model that the splices lead into."""
        self.replaced: dict[str, Callable[[Tensor], Tensor]] = {}
        """The replacement of the tensor at each tap of the hybrid, as a function of that tensor."""
        self._adapters: dict[Point, Adapter] = {}
        self._tensors: dict[Point, Tensor] = {}

    def bind(self, shapes: Mapping[Point, torch.Size], extra_modules: ExtraModules) -> None:
        """Build the adapters for tensors of these shapes.

        Raises:
            RecipeError: A node cannot be built.
            ShapeError: No adapter can be built between two shapes.
        """
        for splice, source, target in zip(self._splices, self.sources, self.targets, strict=True):
            pair, sizes = (source, target), (shapes[source], shapes[target])
            with within(f"splice {splice.source} -> {splice.into}"):
                self._adapters[target] = bind_adapter(splice.adapter, pair, sizes, EVERYTHING, extra_modules)
            self.replaced[target.address] = partial(self._replacement, source, target)

    def modules(self) -> Iterator[nn.Module]:
        """Yield the adapters' modules that may have parameters."""
        yield from (adapter.module for adapter in self._adapters.values() if adapter.module is not None)

    def take(self, tensors: Mapping[Point, Tensor]) -> None:
        """Hold this step's tensors at the sources until the hybrid has run."""
        self._tensors = {source: tensors[source] for source in self.sources}

    def clear(self) -> None:
        """Release the tensors."""
        self._tensors = {}

    def _replacement(self, source: Point, target: Point, old: Tensor) -> Tensor:
        """Return the replacement of `old`: a new tensor, as later modules may write into it."""
        tensor = self._tensors[source]
        half = tensor.dtype in (torch.float16, torch.bfloat16)
        try:
            adapted, _ = self._adapters[target](tensor.float() if half else tensor, old)
        except ShapeError as error:
            error.within(f"splice {source.address} -> {target.address}")
            raise
        return adapted.clone() if adapted is tensor else adapted
