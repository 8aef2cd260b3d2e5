"""ProgressiveDistiller: runs the stages of a curriculum over any teacher and any student."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.data import own_randomness
from compresskit.distill.address import unwrap
from compresskit.distill.feed import Unpack, moved, unpack_batch
from compresskit.distill.interrupt import deferred_interrupt
from compresskit.distill.judge import Evaluate
from compresskit.distill.learned import Learned
from compresskit.distill.models import TEACHER, Models, View
from compresskit.distill.ownloop import OwnLoop
from compresskit.distill.plan import Plan, plan_stages
from compresskit.distill.progress import shown
from compresskit.distill.session import Session, StageResult
from compresskit.distill.stage import Stage
from compresskit.errors import RecipeError, close_names


@dataclass(frozen=True, slots=True)
class Result:
    """What `fit` gives back."""

    student: nn.Module
    """The very object that was passed in, trained; where the last stage averages weights, a copy that has these."""
    history: list[dict[str, Any]]
    """A record a step, as in `metrics.jsonl`."""
    stages: list[StageResult]


class ProgressiveDistiller:
    """Distils a teacher into a student, stage by stage.

    Args:
        teacher: Any module; None where no stage has matches; `{"name": module}` for several. One that stands on the
            student's side of a term learns, too; the others are frozen.
        student: Any module. It is trained in place.
        stages: What to learn, in which order; see `compresskit.curricula`.
        seed: Decides adapters' initial values, dropout and the order of replayed loaders.
        device: "auto" takes CUDA where there is a device; else a torch device name.
        precision: "fp32", or "bf16" for autocast forwards; losses are computed in float32 or better either way.
        views: What a model is given of a batch's inputs, where that is not all of them as they are: a callable by the
            model's name, `"student"` and `"teacher"` or the teachers' own. See `compresskit.distill.views`.
        out: Folder for metrics, checkpoints and the student's weights; None writes nothing.

    Raises:
        RecipeError: The stages, models or options do not make a run.
    """

    def __init__(
        self,
        teacher: nn.Module | Mapping[str, nn.Module] | None,
        student: nn.Module,
        stages: Sequence[Stage],
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        precision: str = "fp32",
        views: Mapping[str, View] | None = None,
        out: str | Path | None = None,
    ) -> None:
        self.student = student
        teachers = {} if teacher is None else {TEACHER: teacher} if isinstance(teacher, nn.Module) else dict(teacher)
        bare = {name: unwrap(module) for name, module in teachers.items()}
        self.models = Models(unwrap(student), bare, dict(views or {}))
        self.stages = tuple(stages)
        self.seed = seed
        self.device = chosen_device(device)
        self.precision = precision
        self.out = None if out is None else Path(out)
        self._learned: Learned | None = None
        """Adapters of `stage`; a run of `fit` has its own."""
        self._check()

    def __repr__(self) -> str:
        teachers = ", ".join(type(teacher).__name__ for teacher in self.models.teachers.values()) or "no teacher"
        stages = " -> ".join(stage.name for stage in self.stages)
        return f"ProgressiveDistiller({teachers} => {type(self.models.student).__name__}: {stages})"

    def plan(self, batch: Any, unpack: Unpack | None = None) -> Plan:
        """Trace one batch through every stage without training: taps, shapes, adapters, what trains, cost.

        Nothing is changed. `print(distiller.plan(batch))` shows it.
        """
        inputs, targets = (unpack or unpack_batch)(batch)
        device = _home(self.models.student)
        with torch.inference_mode(mode=False):
            return plan_stages(self.stages, self.models, self.seed, moved(inputs, device), moved(targets, device))

    def stage(
        self, index: int, batch: Any = None, *, steps: int | None = None, unpack: Unpack | None = None
    ) -> OwnLoop:
        """One stage for a loop of your own: `with distiller.stage(0) as objective: loss, terms = objective(x, y)`.

        Args:
            index: Which stage, from 0; negative counts from the end.
            batch: A batch to trace. Needed before `objective.parameters()`; without it the first call is traced.
            steps: Optimizer steps that you will do, for the schedules of a stage in epochs.
            unpack: Makes (inputs, targets) of the batch.

        Raises:
            RecipeError: There is no such stage.
        """
        if not -len(self.stages) <= index < len(self.stages):
            raise RecipeError(f"stage {index}: there are {len(self.stages)} stages, counted from 0")
        if self._learned is None:
            self._learned = Learned.beside(self.models.student, self.seed)
        loop = OwnLoop(self.stages, index % len(self.stages), self.models, self._learned, steps)
        if batch is not None:
            loop.bind((unpack or unpack_batch)(batch)[0])
        return loop

    def fit(
        self,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | None = None,
        evaluate: Evaluate | None = None,
        resume: bool | str = "auto",  # noqa: FBT001  (the public signature)
        unpack: Unpack | None = None,
    ) -> Result:
        """Train through all stages.

        Args:
            train_loader: Anything that can be iterated again and again; batches are (inputs, targets), or mappings
                with these keys.
            val_loader: Its terms are averaged at each stage's end.
            evaluate: Called with the student, in eval mode and without gradients, at each stage's end, and inside a
                stage as often as its `every` says.
            resume: False refuses a used folder; True demands a run to continue; "auto" continues one, starts a new
                one, or returns a finished one.
            unpack: Makes (inputs, targets) of a batch of another form.

        Raises:
            CheckpointError: The folder does not fit `resume`, or holds another run.
            TrainingError: A term or gradient is not finite.
            KeyboardInterrupt: Ctrl-C; with `out`, the run was saved first.
        """
        if resume not in (True, False, "auto"):
            raise RecipeError(f"resume must be True, False or 'auto', got {resume!r}")
        for model in (self.models.student, *self.models.teachers.values()):
            model.to(self.device)
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(mode=False))
            stack.enter_context(torch.enable_grad())
            display = stack.enter_context(shown())
            stack.enter_context(own_randomness(self.seed))
            interrupt = stack.enter_context(deferred_interrupt())
            session = Session(
                self.models,
                self.stages,
                seed=self.seed,
                device=self.device,
                half=torch.bfloat16 if self.precision == "bf16" else None,
                out=self.out,
                display=display,
                interrupt=interrupt,
            )
            stack.callback(session.close)
            session.restore(resume=resume)
            session.run(train_loader, val_loader, evaluate, unpack)
            student = self.student if session.given is self.models.student else session.given
            return Result(student, session.log.records, session.results)

    def _check(self) -> None:
        for stage in self.stages:
            if not isinstance(stage, Stage):
                raise RecipeError(f"stages must be Stage objects, got {stage!r}")
        if not self.stages:
            raise RecipeError("stages: there are none")
        if self.precision not in ("fp32", "bf16"):
            raise RecipeError(
                f"precision: unknown {self.precision!r}{close_names(str(self.precision), ('fp32', 'bf16'))}"
            )
        mine = set(_tensors(self.models.student))
        for name, teacher in self.models.teachers.items():
            if not mine.isdisjoint(_tensors(teacher)):
                raise RecipeError(
                    f"{name} shares parameters or buffers with the student; give it a copy (copy.deepcopy)"
                )
        for stage in self.stages:  # a model that is not there should be missed at once
            self.models.check(stage)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _home(model: nn.Module) -> torch.device:
    """Where a model is."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def chosen_device(device: str | torch.device) -> torch.device:
    """The device that is meant: "auto" takes CUDA where there is a device.

    Raises:
        RecipeError: It cannot be used here.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        made = torch.device(device)
        torch.empty(0, device=made)
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(f"device: {device!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return made
