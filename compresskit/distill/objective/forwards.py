"""The forwards of one stage: each model once a step, only as far as something is read, and the taps that read it."""

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
from compresskit.distill.objective.trace import Role, Trace, Traces, observe, tracing
from compresskit.distill.spec.address import HYBRID, PREVIOUS, STUDENT
from compresskit.distill.spec.stage import Stage
from compresskit.distill.taps.failure import explain_failure
from compresskit.distill.taps.taps import Taps
from compresskit.distill.timing import Clock
from compresskit.errors import within
from compresskit.nested import clone_tensors
from compresskit.restore import explain_copy_failure, preserve_state

if TYPE_CHECKING:
    from compresskit.distill.taps.compiled import CompiledTaps  # loads torch's compiler

TeacherCall = Callable[[Any, Sequence[SampleId], Callable[[Any], Mapping[str, Tensor]]], Mapping[str, Tensor]]
"""Returns a model's tensors for its inputs, of these samples, from memory or by calling the function it is given."""


class Forwards(Mapping[Point, Tensor]):
    """The tensors at some points of some models. `run(inputs)` fills them, inside `with forwards:`.

    Models that learn run with gradients; the others run in eval mode, frozen and without gradients. The latter run
    first, and the hybrid, which reads other models, runs last.

    Args:
        stage: Stage whose splices make the hybrid.
        models: The student and its teachers.
        points: Points that are read.
        learners: Names of the models that learn.
        extra_modules: Keeper of the splices' adapters.
        inputs: Inputs of a batch, for the trace of a hybrid.
        traces: Traces of the run on that batch.
        cached_teachers: A function of this object that returns what answers in place of frozen teachers, by name.
        clock: Clock that adds up the seconds of each phase.
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
        extra_modules: ExtraModules,
        inputs: Any,
        traces: Traces,
        *,
        cached_teachers: "Callable[[Forwards], Mapping[str, TeacherCall]] | None" = None,
        clock: Clock | None = None,
        compiled: bool = False,
    ) -> None:
        self.models, self.learners = models, learners
        self.clock = Clock() if clock is None else clock
        self._splicing = Splicing(stage.splices, models) if stage.splices else None
        self._points = list(dict.fromkeys([*points, *(self._splicing.sources if self._splicing else ())]))
        self._frozen: list[nn.Module] = []
        self.previous = None
        """The student as it was when the stage began, if something reads it."""
        if any(point.model == PREVIOUS for point in self._points):
            with explain_copy_failure(models.student, "previous"):
                self.previous = copy.deepcopy(models.student)
            self.previous.eval().requires_grad_(requires_grad=False)
        self.traces = (
            {name: traces.of[Role(name, name in learners)] for name in self._by_model(self._points)}
            if self._splicing is None
            else self._trace(self._splicing, extra_modules, inputs, f"stage {stage.name!r}")
        )
        """The trace of each model that is read."""
        self._taps = {
            name: self._place_taps(name, addresses, compiled=compiled and name != HYBRID)
            for name, addresses in self._by_model(self._points).items()
        }
        self._tensors: dict[str, Mapping[str, Tensor]] = {}
        self._cached_teachers = {} if cached_teachers is None else cached_teachers(self)

    def constants(self) -> dict[Point, Tensor]:
        """Return the points of frozen teachers, whose tensors depend on the batch alone.

        Each comes with a tensor of the traced shape and type, on the device "meta".
        """
        return {
            Point(name, address): self.traces[name].empty(address)
            for name, taps in self._taps.items()
            if name in self.models.teachers and name not in self.learners
            for address in taps.addresses
        }

    def shape(self, point: Point) -> torch.Size:
        """Return the traced shape at a point."""
        return self.traces[point.model].shapes[point.address]

    def reached_parameters(self, points: Iterable[Point]) -> set[str]:
        """Return the names of the parameters from which the tensors at some points are computed."""
        return {name for point in points for name in self.traces[point.model].parameters[point.address]}

    def modules(self) -> list[nn.Module]:
        """Return the splices' adapters that may hold parameters."""
        return [] if self._splicing is None else list(self._splicing.modules())

    def __enter__(self) -> Self:
        self._frozen = [self._module(name) for name in self._taps if self._base(name) not in self.learners]
        with ExitStack() as stack:
            stack.enter_context(preserve_state(*self._frozen, buffers=True))
            for model in self._frozen:
                model.requires_grad_(requires_grad=False)
            self.keep_frozen_in_eval()
            for taps in self._taps.values():
                stack.enter_context(taps)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def keep_frozen_in_eval(self) -> None:
        """Put what does not learn in eval mode: a loop of the user's own may call `train()` on what holds a teacher."""
        for model in self._frozen:
            model.eval()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Remove the hooks from the models inside the block."""
        for taps in self._taps.values():
            taps.__exit__()
        try:
            yield
        finally:
            for taps in self._taps.values():
                taps.__enter__()

    def run(self, inputs: Any, samples: Sequence[SampleId] = ()) -> None:
        """Run every model that is read, unless a cached teacher knows its answer.

        Args:
            inputs: Inputs of a batch.
            samples: Samples in the batch, where they are known.
        """
        for name, taps in self._taps.items():
            base = self._base(name)
            learns = name == HYBRID or name in self.learners
            if name == HYBRID and self._splicing is not None:
                self._splicing.take(self)
            with self.clock.phase("student" if learns else "teacher"):
                own_inputs = self._inputs_of(name, base, inputs)
                failure = explain_failure(f"the {name}", self._module(name))
                with failure, torch.set_grad_enabled(learns and torch.is_grad_enabled()):
                    cached = self._cached_teachers.get(name) if samples else None
                    self._tensors[name] = (
                        taps.forward(own_inputs) if cached is None else cached(own_inputs, samples, taps.forward)
                    )

    def clear(self) -> None:
        """Release the tensors, and through them the graph."""
        self._tensors.clear()
        for taps in self._taps.values():
            taps.clear()
        if self._splicing is not None:
            self._splicing.clear()

    def __getitem__(self, point: Point) -> Tensor:
        return self._tensors[point.model][point.address]

    def __iter__(self) -> Iterator[Point]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)

    def _trace(self, splicing: Splicing, extra_modules: ExtraModules, inputs: Any, title: str) -> dict[str, Trace]:
        """Run each model once, the hybrid last, and build the splices' adapters in between."""
        targets = splicing.targets
        reads = self._by_model([*self._points, *targets])
        traces: dict[str, Trace] = {}
        real = {name: self.models.module(name) for name in (*self.learners, *reads) if name not in (PREVIOUS, HYBRID)}
        with tracing(real, self.learners) as names, ExitStack() as stack:
            sources: dict[Point, Tensor] = {}
            for name, addresses in reads.items():
                replaced = {}
                if name == HYBRID:
                    shapes = {p: traces[p.model].shapes[p.address] for p in (*splicing.sources, *targets)}
                    with within(title):
                        splicing.bind(shapes, extra_modules)
                    splicing.take(sources)
                    replaced = splicing.replaced
                learns = name == HYBRID or name in self.learners
                taps = stack.enter_context(Taps(self._module(name), addresses, stop=False, replace=replaced))
                traces[name] = observe(taps, self.models.view(self._base(name), inputs), names if learns else {})
                sources |= {Point(name, address): taps.raw(address) for address in addresses}
        return traces

    def _inputs_of(self, name: str, base: str, inputs: Any) -> Any:
        """Return a model's inputs: a copy if the model writes into them, as others and later epochs read them too."""
        own_inputs = self.models.view(base, inputs)
        return clone_tensors(own_inputs) if self.traces[name].writes else own_inputs

    def _place_taps(self, name: str, addresses: list[str], *, compiled: bool) -> "Taps | CompiledTaps":
        taps = Taps(
            self._module(name),
            addresses,
            clone=self.traces[name].overwritten & set(addresses),
            replace=self._splicing.replaced if self._splicing and name == HYBRID else {},
        )
        if not compiled:
            return taps
        from compresskit.distill.taps.compiled import CompiledTaps

        return CompiledTaps(taps, name)

    def _by_model(self, points: Iterable[Point]) -> dict[str, list[str]]:
        """Return the addresses that are read in each model, the models in the order in which they run."""
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
        """Return the model that runs under a name: the hybrid is another one, with tensors replaced."""
        return self._splicing.model if name == HYBRID and self._splicing is not None else name
