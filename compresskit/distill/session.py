"""One call of `fit`: stage after stage, with its log and checkpoints, from wherever an earlier call ended."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compresskit.data import own_randomness, restore_rng_state, rng_state
from compresskit.distill.checkpoint import Checkpoints, check_fingerprint, fingerprint, save_weights
from compresskit.distill.feed import Feed, Unpack, moved, unpack_batch
from compresskit.distill.interrupt import Interrupt
from compresskit.distill.log import MetricsLog
from compresskit.distill.loop import StageLoop, batch_size
from compresskit.distill.objective import Objective
from compresskit.distill.plan import plan_stages
from compresskit.distill.preserved import preserved
from compresskit.distill.progress import Display
from compresskit.distill.stage import Stage
from compresskit.distill.terms import Learned
from compresskit.distill.trained import declared_parameters, fed_before, only_training
from compresskit.errors import CheckpointError, DataError, RecipeError

CHECKPOINT_SECONDS = 60.0
"""Training time after which a checkpoint is due, besides those at each stage's end."""

Evaluate = Callable[[nn.Module], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class StageResult:
    """What one stage came to."""

    name: str
    steps: int
    seconds: float
    """Training time of the stage; after a resume, that since the resume."""
    metrics: dict[str, float] = field(default_factory=dict)
    """What `evaluate` said at the stage's end."""
    validation: dict[str, float] = field(default_factory=dict)
    """Means of the stage's terms over the validation data, in eval mode."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands."""

    stage: int = 0
    step: int = 0
    """Optimizer steps done in the stage."""
    global_step: int = 0
    """Optimizer steps done in all."""
    batches: int = 0
    """Batches consumed in all."""


class Session:
    """The state of one run, and what takes it to its end. Built by `ProgressiveDistiller.fit`."""

    def __init__(
        self,
        student: nn.Module,
        teachers: Mapping[str, nn.Module],
        stages: tuple[Stage, ...],
        *,
        seed: int,
        device: torch.device,
        half: torch.dtype | None,
        out: Path | None,
        display: Display,
        interrupt: Interrupt,
    ) -> None:
        self.student = student
        self.teachers = teachers
        self.stages = stages
        self.seed = seed
        self.device = device
        self.half = half
        self.out = out
        self.display = display
        self.interrupt = interrupt
        self.position = Position()
        self.learned = Learned(seed, device)
        self.results: list[StageResult] = []
        self.log = MetricsLog(None)
        self._checkpoints = None if out is None else Checkpoints(out / "checkpoints")
        self._fingerprint = {} if out is None else fingerprint(stages, student, teachers, seed, str(half))
        self._restored: dict[str, Any] | None = None
        """The loop and generators of a checkpoint, until its stage goes on."""
        self._saved_at = time.monotonic()

    def restore(self, *, resume: bool | str) -> None:
        """Take up the run in the folder, or begin one: see `ProgressiveDistiller.fit`."""
        if self.out is None or self._checkpoints is None:
            if resume is True:
                raise CheckpointError("resume=True needs a folder: give ProgressiveDistiller(..., out=...)")
            return
        path = self.out / "metrics.jsonl"
        used = bool(self._checkpoints.files()) or path.exists()
        if resume is False and used:
            raise CheckpointError(
                f"{self.out} already holds a run.\nContinue it with resume=True, or choose another folder."
            )
        state = self._checkpoints.newest(self.device, self.display.note)
        if state is None:
            if resume is True:
                raise CheckpointError(f"{self.out} holds no checkpoint to continue from; start it without resume")
            if used:
                self.display.note(f"{self.out} holds no checkpoint yet: starting again")
            self.log = MetricsLog(path)
            return
        check_fingerprint(state["fingerprint"], self._fingerprint, self.out)
        self.student.load_state_dict(state["student"])
        self.learned.load_state_dict(state["learned"])
        self.position = Position(**{name: state[name] for name in ("stage", "step", "global_step", "batches")})
        self.results = [StageResult(**result) for result in state["results"]]
        self.log = MetricsLog(path, state["log_bytes"])
        self._restored = state

    def run(
        self, loader: Iterable[Any], val_loader: Iterable[Any] | None, evaluate: Evaluate | None, unpack: Unpack | None
    ) -> None:
        """Train through all stages that are left."""
        if self.position.stage < len(self.stages):
            _check_readable(val_loader, unpack)
            feed = Feed(loader, self.position.batches, self.seed, unpack, self.device)
            if self._restored is None:
                # a mistake in the last stage should not show after hours in the first one
                plan_stages(self.stages, self.student, self.teachers, self.seed, *feed.peek())
                self._save()
            for index in range(self.position.stage, len(self.stages)):
                steps = _steps(self.stages[index], loader)
                result = self._train(index, steps, feed, val_loader, unpack)
                if evaluate is not None:
                    result = replace(result, metrics=self._evaluate(evaluate))
                self.results.append(result)
                self.position = replace(self.position, stage=index + 1, step=0)
                self._save()
                self._stop_if_asked(f"after stage {self.stages[index].name!r}")
        if self.out is not None:
            save_weights(self.out / "student.safetensors", self.student)

    def close(self) -> None:
        """Close the log."""
        self.log.close()

    def _train(
        self, index: int, steps: int, feed: Feed, val_loader: Iterable[Any] | None, unpack: Unpack | None
    ) -> StageResult:
        stage, first = self.stages[index], self.position.step
        inputs, _ = feed.peek()
        objective = Objective(stage, self.student, self.teachers, self.learned, inputs, steps)
        before = fed_before(self.stages, index, self.student, inputs)
        names = declared_parameters(stage, self.student, objective.feeds(), before)
        parameters = [parameter for name, parameter in self.student.named_parameters() if name in names]
        self.display.start(f"stage {index + 1}/{len(self.stages)} {stage.name}", first, steps)
        began = time.monotonic()
        with only_training(self.student, stage, names), objective:
            loop = StageLoop(objective, parameters, self.half)
            if self._restored is not None and self._restored["loop"] is not None:
                loop.load_state_dict(self._restored["loop"])
            if self._restored is not None:  # last, so that nothing above can have drawn a number
                restore_rng_state(self._restored["rng"])
                self._restored = None
            try:
                for step in range(first, steps):
                    self._step(loop, step, feed)
                    self._after_step(loop, last=step + 1 == steps)
            finally:
                loop.optimizer.zero_grad(set_to_none=True)
            validation = {} if val_loader is None else self._validate(objective, val_loader, unpack)
        return StageResult(stage.name, steps, time.monotonic() - began, validation=validation)

    def _step(self, loop: StageLoop, step: int, feed: Feed) -> None:
        loop.objective.step = step
        record = loop.update(feed.take(loop.stage.accumulate))
        loss = record.pop("loss")
        self.log.append({"stage": loop.stage.name, "step": step, "global_step": self.position.global_step, **record})
        self.position = replace(
            self.position, step=step + 1, global_step=self.position.global_step + 1, batches=feed.position
        )
        self.display.advance(step + 1, loss, record["samples_per_s"])

    def _after_step(self, loop: StageLoop, *, last: bool) -> None:
        due = time.monotonic() - self._saved_at > CHECKPOINT_SECONDS
        if self.interrupt.requested or (due and not last):
            self._save(loop)
        self._stop_if_asked(f"in stage {loop.stage.name!r} after step {self.position.step}")

    def _stop_if_asked(self, where: str) -> None:
        """End the run on Ctrl-C, once it is saved."""
        if not self.interrupt.requested:
            return
        saved = "nothing was saved (no out=)" if self.out is None else f"saved in {self.out}, to continue with resume"
        self.display.note(f"stopped {where}; {saved}")
        raise KeyboardInterrupt

    def _save(self, loop: StageLoop | None = None) -> None:
        if self._checkpoints is None:
            return
        state = {
            **asdict(self.position),
            "fingerprint": self._fingerprint,
            "student": self.student.state_dict(),
            "learned": self.learned.state_dict(),
            "loop": None if loop is None else loop.state_dict(),
            "rng": rng_state(),
            "log_bytes": self.log.flush(),
            "results": [asdict(result) for result in self.results],
        }
        self._checkpoints.save(state)
        self._saved_at = time.monotonic()

    def _evaluate(self, evaluate: Evaluate) -> dict[str, float]:
        with preserved(self.student), own_randomness(self.seed), torch.no_grad():
            self.student.eval()
            return {name: float(value) for name, value in evaluate(self.student).items()}

    def _validate(self, objective: Objective, loader: Iterable[Any], unpack: Unpack | None) -> dict[str, float]:
        totals: dict[str, float] = {}
        count = 0
        models = self.student, *objective.modules()
        with preserved(*models), own_randomness(self.seed), torch.no_grad():
            for model in models:
                model.eval()
            for batch in loader:
                inputs, targets = (moved(part, self.device) for part in (unpack or unpack_batch)(batch))
                size = batch_size(inputs)
                with torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None):
                    _, terms = objective(inputs, targets)
                count += size
                for name, value in terms.items():
                    totals[name] = totals.get(name, 0.0) + float(value) * size
        return {name: total / count for name, total in totals.items()}


def _check_readable(val_loader: Iterable[Any] | None, unpack: Unpack | None) -> None:
    """Read one batch of the validation data.

    Raises:
        DataError: There is none, or it cannot be read a second time.
    """
    if val_loader is None:
        return
    if iter(val_loader) is val_loader:
        raise DataError("val_loader can be walked only once, and each stage needs it; give a list or a DataLoader")
    for batch in val_loader:
        (unpack or unpack_batch)(batch)
        return
    raise DataError("val_loader is empty")


def _steps(stage: Stage, loader: Iterable[Any]) -> int:
    """Optimizer steps of a stage; a stage in epochs needs a loader with a length."""
    if stage.steps is not None:
        return stage.steps
    try:
        batches = len(loader)  # pyright: ignore[reportArgumentType]
    except TypeError:
        raise RecipeError(f"stage {stage.name!r}: epochs need a loader with a length; give steps") from None
    return (stage.epochs or 1) * -(-batches // stage.accumulate)
