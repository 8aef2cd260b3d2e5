"""The forwards of one stage: each model once a step, as far as something is read, and the taps that read it."""

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from compresskit.data import SampleId
from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.hybrid import Splicing
from compresskit.distill.objective.models import Models, Point
from compresskit.distill.objective.trace import Trace, observe, tracing
from compresskit.distill.spec.address import HYBRID, PREVIOUS, STUDENT
from compresskit.distill.spec.stage import Stage
from compresskit.distill.taps.restore import copying, preserved
from compresskit.distill.taps.taps import Taps
from compresskit.distill.timing import Clock
from compresskit.errors import within
from compresskit.nested import copied

if TYPE_CHECKING:
    from compresskit.distill.taps.compiled import CompiledTaps


CachedTeacher = Callable[[Any, Sequence[SampleId], Callable[[Any], Mapping[str, Tensor]]], Mapping[str, Tensor]]
"""Gives a model's tensors for its inputs, of these samples, by running it or from memory."""


class Forwards(Mapping[Point, Tensor]):
    """The tensors at some points of some models. `run(inputs)` fills them, inside `with forwards:`.

    Models that learn run with gradients, the others in eval mode, frozen and without. The latter run first, and the
    hybrid, which reads other models, last.

    Args:
        stage: Whose splices make the hybrid.
        models: The student and its teachers.
        points: What is read.
        learners: Names of the models that learn.
        learned: Where glue lives.
        inputs: A batch's inputs, traced once.
        compiled: Whether the models run through `torch.compile`; the hybrid never does.

    Raises:
        TapError: An address names no tensor.
        RecipeError: A splice cannot be made.
        ShapeError: No adapter can be built for a splice.
    """

    def __init__(
        self,
        stage: Stage,
        models: Models,
        points: Iterable[Point],
        learners: Collection[str],
        learned: ExtraModules,
        inputs: Any,
        *,
        compiled: bool = False,
    ) -> None:
        self.models, self.learners = models, learners
        self._splicing = Splicing(stage.splices, models) if stage.splices else None
        self._points = list(dict.fromkeys([*points, *(self._splicing.sources if self._splicing else ())]))
        self._frozen: list[nn.Module] = []
        self.previous = None
        """The student as it was when this was made, if it is read."""
        if any(point.model == PREVIOUS for point in self._points):
            with copying(models.student, "previous"):
                self.previous = copy.deepcopy(models.student)
            self.previous.eval().requires_grad_(requires_grad=False)
        with within(about=stage.name):
            self.traces = self._trace(learned, inputs, f"stage {stage.name!r}")
        """What a run of each model showed."""
        self._taps = {
            name: self._made_taps(name, addresses, compiled=compiled and name != HYBRID)
            for name, addresses in self._by_model(self._points).items()
        }
        self._read: dict[str, Mapping[str, Tensor]] = {}
        self.recalls: Mapping[str, CachedTeacher] = {}
        """What answers in the place of a model, where its tensors may be known; see `constants`."""
        self.clock = Clock()

    def constants(self) -> dict[Point, Tensor]:
        """The points of teachers that do not learn, whose tensors depend on the batch alone.

        Each comes with a tensor of the traced shape and type, on the device "meta".
        """
        return {
            Point(name, address): self.traces[name].empty(address)
            for name, taps in self._taps.items()
            if name in self.models.teachers and name not in self.learners
            for address in taps.addresses
        }

    def shape(self, point: Point) -> torch.Size:
        """The traced shape at a point."""
        return self.traces[point.model].shapes[point.address]

    def reached_parameters(self, points: Iterable[Point]) -> set[str]:
        """Names of the parameters from which the tensors at some points are computed."""
        return {name for point in points for name in self.traces[point.model].feeds[point.address]}

    def modules(self) -> list[nn.Module]:
        """The splices' glue that may hold parameters."""
        return [] if self._splicing is None else list(self._splicing.modules())

    def __enter__(self) -> Self:
        self._frozen = [self._module(name) for name in self._taps if self._base(name) not in self.learners]
        with ExitStack() as stack:
            stack.enter_context(preserved(*self._frozen, buffers=True))
            for model in self._frozen:
                model.requires_grad_(requires_grad=False)
            self.keep_frozen_in_eval()
            for taps in self._taps.values():
                stack.enter_context(taps)
            self._held = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._held.__exit__(*error)

    def keep_frozen_in_eval(self) -> None:
        """Put in eval mode what does not learn: a loop of the user's own may call `train()` on what holds a teacher."""
        for model in self._frozen:
            model.eval()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Inside, the models are without hooks."""
        for taps in self._taps.values():
            taps.__exit__()
        try:
            yield
        finally:
            for taps in self._taps.values():
                taps.__enter__()

    def run(self, inputs: Any, samples: Sequence[SampleId] = ()) -> None:
        """Run every model that is read, unless it is known what it would say.

        Args:
            inputs: The batch's.
            samples: Which these are, where that is known.
        """
        for name, taps in self._taps.items():
            base = self._base(name)
            learns = name == HYBRID or name in self.learners
            if name == HYBRID and self._splicing is not None:
                self._splicing.take(self)
            with self.clock.phase("student" if learns else "teacher"):
                given = self._seen(name, base, inputs)
                with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
                    recall = self.recalls.get(name) if samples else None
                    self._read[name] = taps.forward(given) if recall is None else recall(given, samples, taps.forward)

    def clear(self) -> None:
        """Let go of the tensors, and through them of the graph."""
        self._read.clear()
        for taps in self._taps.values():
            taps.clear()
        if self._splicing is not None:
            self._splicing.clear()

    def __getitem__(self, point: Point) -> Tensor:
        return self._read[point.model][point.address]

    def __iter__(self) -> Iterator[Point]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)

    def _trace(self, learned: ExtraModules, inputs: Any, where: str) -> dict[str, Trace]:
        """Run each model once and to its end; where there are splices, build their glue on the way."""
        places = self._splicing.places if self._splicing else []
        reads = self._by_model([*self._points, *places])
        traces: dict[str, Trace] = {}
        others = [name for name in reads if name not in (PREVIOUS, HYBRID)]
        with tracing(self.models, self.learners, others) as names, ExitStack() as stack:
            sources: dict[Point, Tensor] = {}
            for name, addresses in reads.items():
                replaced = {}
                if name == HYBRID and self._splicing is not None:
                    shapes = {p: traces[p.model].shapes[p.address] for p in (*self._splicing.sources, *places)}
                    self._splicing.bind(shapes, learned, where)
                    self._splicing.take(sources)
                    replaced = self._splicing.replaced
                learns = name == HYBRID or name in self.learners
                taps = stack.enter_context(Taps(self._module(name), addresses, stop=False, replaced=replaced))
                traces[name] = observe(taps, self.models.view(self._base(name), inputs), names if learns else {})
                sources |= {Point(name, text): taps.raw(text) for text in addresses}
        return traces

    def _seen(self, name: str, base: str, inputs: Any) -> Any:
        """What a model is given: tensors of its own, if it writes into them; others and later epochs read them, too."""
        seen = self.models.view(base, inputs)
        return copied(seen) if self.traces[name].writes else seen

    def _made_taps(self, name: str, addresses: list[str], *, compiled: bool) -> "Taps | CompiledTaps":
        taps = Taps(
            self._module(name),
            addresses,
            clone=self.traces[name].overwritten & set(addresses),
            replaced=self._splicing.replaced if self._splicing and name == HYBRID else {},
        )
        if not compiled:
            return taps
        from compresskit.distill.taps.compiled import CompiledTaps

        return CompiledTaps(taps, name)

    def _by_model(self, points: Iterable[Point]) -> dict[str, list[str]]:
        """The addresses that are read in each model, the models in the order in which they run."""
        order = [PREVIOUS, *self.models.teachers, STUDENT, HYBRID]
        reads: dict[str, dict[str, None]] = {}
        for point in sorted(points, key=lambda p: (p.model in (*self.learners, HYBRID), order.index(p.model))):
            reads.setdefault(point.model, {})[point.address] = None
        return {name: list(addresses) for name, addresses in reads.items()}

    def _module(self, name: str) -> nn.Module:
        if name == PREVIOUS and self.previous is not None:
            return self.previous
        return self.models.module(self._base(name))

    def _base(self, name: str) -> str:
        """The model that runs under a name: the hybrid is another one, with tensors replaced."""
        return self._splicing.model if name == HYBRID and self._splicing is not None else name
