"""ProgressiveDistiller: runs the stages of a curriculum over any teacher and any student."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compresskit.data import own_randomness
from compresskit.distill.address import unwrap
from compresskit.distill.feed import Unpack, moved, unpack_batch
from compresskit.distill.interrupt import deferred_interrupt
from compresskit.distill.plan import Plan, plan_stages
from compresskit.distill.progress import shown
from compresskit.distill.session import Evaluate, Session, StageResult
from compresskit.distill.stage import Stage
from compresskit.errors import RecipeError, close_names


@dataclass(frozen=True, slots=True)
class Result:
    """What `fit` gives back."""

    student: nn.Module
    """The very object that was passed in, trained."""
    history: list[dict[str, Any]]
    """A record a step, as in `metrics.jsonl`."""
    stages: list[StageResult]


class ProgressiveDistiller:
    """Distils a teacher into a student, stage by stage.

    Args:
        teacher: Any module; None where no stage has matches; `{"name": module}` for several.
        student: Any module. It is trained in place.
        stages: What to learn, in which order; see `compresskit.curricula`.
        seed: Decides adapters' initial values, dropout and the order of replayed loaders.
        device: "auto" takes CUDA where there is a device; else a torch device name.
        precision: "fp32", or "bf16" for autocast forwards; losses are computed in float32 or better either way.
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
        out: str | Path | None = None,
    ) -> None:
        self.student = student
        teachers = {} if teacher is None else {"": teacher} if isinstance(teacher, nn.Module) else dict(teacher)
        self.teachers = {name: unwrap(module) for name, module in teachers.items()}
        self.stages = tuple(stages)
        self.seed = seed
        self.device = _device(device)
        self.precision = precision
        self.out = None if out is None else Path(out)
        self._bare = unwrap(student)
        self._check()

    def __repr__(self) -> str:
        teachers = ", ".join(type(teacher).__name__ for teacher in self.teachers.values()) or "no teacher"
        stages = " -> ".join(stage.name for stage in self.stages)
        return f"ProgressiveDistiller({teachers} => {type(self._bare).__name__}: {stages})"

    def plan(self, batch: Any, unpack: Unpack | None = None) -> Plan:
        """Trace one batch through every stage without training: taps, shapes, adapters, what trains, cost.

        Nothing is changed. `print(distiller.plan(batch))` shows it.
        """
        inputs, targets = (unpack or unpack_batch)(batch)
        device = next((parameter.device for parameter in self._bare.parameters()), torch.device("cpu"))
        models = self._bare, self.teachers
        return plan_stages(self.stages, *models, self.seed, moved(inputs, device), moved(targets, device))

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
            evaluate: Called with the student, in eval mode and without gradients, at each stage's end.
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
        for model in (self._bare, *self.teachers.values()):
            model.to(self.device)
        with ExitStack() as stack:
            display = stack.enter_context(shown())
            stack.enter_context(own_randomness(self.seed))
            interrupt = stack.enter_context(deferred_interrupt())
            session = Session(
                self._bare,
                self.teachers,
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
            return Result(self.student, session.log.records, session.results)

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
        mine = set(self._bare.parameters())
        for name, teacher in self.teachers.items():
            if mine & set(teacher.parameters()):
                raise RecipeError(
                    f"teacher {name!r} shares parameters with the student; give it a copy (copy.deepcopy)"
                )


def _device(device: str | torch.device) -> torch.device:
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        made = torch.device(device)
        torch.empty(0, device=made)
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(f"device: {device!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return made
