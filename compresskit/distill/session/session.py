"""One call of `fit`: stage after stage, with its log and checkpoints, from wherever an earlier call ended."""

import copy
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from compresskit.distill.batches import BatchStream, PreparedBatch, Unpack
from compresskit.distill.cache.cache import TeacherCache, open_cache
from compresskit.distill.cache.lookup import CachedTeacher, recalled_share
from compresskit.distill.cache.options import CacheOptions
from compresskit.distill.execution import Execution
from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.forwards import Forwards
from compresskit.distill.objective.models import Models
from compresskit.distill.objective.trace import Traces, batch_signature, trace_stages
from compresskit.distill.session.callbacks import Callbacks, RunState
from compresskit.distill.session.checkpoint import fingerprint
from compresskit.distill.session.initial_weights import inherit_weights
from compresskit.distill.session.interrupt import Interrupt, error_of
from compresskit.distill.session.plan import TracedPlan, check_cache, look_ahead
from compresskit.distill.session.progress import Display
from compresskit.distill.session.results import StageResult
from compresskit.distill.session.run_folder import RunFolder
from compresskit.distill.spec.address import STUDENT
from compresskit.distill.spec.inherit import Inherit
from compresskit.distill.spec.stage import Stage, steps_of
from compresskit.distill.timing import Clock, profile_steps, shares_text
from compresskit.distill.training.bound_stage import BoundStage
from compresskit.distill.training.loop import StageLoop
from compresskit.distill.training.validation import Evaluate, Validator
from compresskit.errors import RecipeError, Stopped, within
from compresskit.randomness import restore_rng_state, rng_state, seed_all


class Position(NamedTuple):
    """The position of a run: how much of it is done."""

    stage: int = 0
    """Stages that are finished."""
    step: int = 0
    """Optimizer steps of the present stage that are done."""
    global_step: int = 0
    """Optimizer steps of the run that are done."""
    batches: int = 0
    """Batches that were consumed."""


class Session:
    """The state of one run, and the loop that takes it to its end. Built by `ProgressiveDistiller.fit`.

    Args:
        models: The student and its teachers.
        stages: Stages of the run.
        execution: Seed, device, precision and processes.
        cache: Options of the teacher cache, or None.
        inherit: The teacher whose weights the student starts from, or None.
        out: Folder of the run, or None.
        profiled: Whether to write a profiler's trace of a few steps of each stage.
        display: Display of the progress.
        interrupt: Flag that Ctrl-C and schedulers' signals set.
        traced_plan: The last plan: a run on a batch of its signature need not look ahead again.
        callbacks: The user's callbacks.
    """

    def __init__(
        self,
        models: Models,
        stages: tuple[Stage, ...],
        execution: Execution,
        *,
        cache: CacheOptions | None,
        inherit: Inherit | None,
        out: Path | None,
        profiled: bool,
        display: Display,
        interrupt: Interrupt,
        traced_plan: TracedPlan | None = None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self.models, self.student, self.stages = models, models.student, stages
        self.execution, self.processes = execution, execution.processes
        self.out, self.display, self.interrupt = out, display, interrupt
        self.clock = Clock()
        self.seconds = 0.0
        """Training time of all stages in this call."""
        self.position = Position()
        self.extra_modules = ExtraModules.for_student(models.student, execution.seed)
        self.results: list[StageResult] = []
        self.final_model: nn.Module = models.student
        """The student, or the copy that holds the average of its weights: what the run returns."""
        self._learning_teachers = sorted(
            {name for stage in stages for name in models.learners(stage.terms.values())} - {STUDENT}
        )
        self._profiled, self._traced_plan = profiled, traced_plan
        state = RunState(models.student, models.teachers, stages, out, self.processes.is_main)
        self._callbacks = Callbacks(callbacks, state) if callbacks else None
        self._traces: Traces | None = None
        self._inherit = inherit
        self._cache_options = cache
        self._cache: TeacherCache | None = None
        precision = str(execution.precision) + (f", cache in {cache.dtype}" if cache and cache.dtype != "fp32" else "")
        identity = {}
        if out is not None:
            identity = fingerprint(stages, models, self._learning_teachers, execution.seed, precision)
            if inherit is not None:
                identity["inherit"] = repr(inherit.to_node())
        self.run_folder = RunFolder(out, identity, self.processes)
        self._restored: dict[str, Any] | None = None
        """The content of a checkpoint about the stage in which it was made, until that stage continues."""

    def restore(self, *, resume: bool | str) -> None:
        """Continue the run in the folder, or begin one: see `ProgressiveDistiller.fit`."""
        state = self.run_folder.resume(self.execution.device, self.display.note, resume=resume)
        if state is None:
            return
        self.student.load_state_dict(state["student"])
        for name, weights in state["teachers"].items():
            self.models.teachers[name].load_state_dict(weights)
        self.extra_modules.load_state_dict(state["learned"])
        self.position = Position(**{name: state[name] for name in ("stage", "step", "global_step", "batches")})
        self.results = [StageResult(**result) for result in state["results"]]
        if state["given"] is not None:
            self.final_model = copy.deepcopy(self.student)
            self.final_model.load_state_dict(state["given"])
        self._restored = state

    def run(
        self, loader: Iterable[Any], val_loader: Iterable[Any] | None, evaluate: Evaluate | None, unpack: Unpack | None
    ) -> None:
        """Train through all stages that are left."""
        self._notify("on_run_begin")
        try:
            self._run(loader, val_loader, evaluate, unpack)
        finally:
            self._notify("on_run_end")

    def _run(
        self, loader: Iterable[Any], val_loader: Iterable[Any] | None, evaluate: Evaluate | None, unpack: Unpack | None
    ) -> None:
        validator = Validator(self.models, self.execution, val_loader, evaluate, unpack)
        teachers = {name: self.models.teachers[name] for name in self._learning_teachers}
        if self.position.stage == len(self.stages):
            self.run_folder.restore_weights({STUDENT: self.final_model, **teachers}, self.display.note)
        else:
            self.run_folder.open()
            validator.check(self.stages)
            how = {"time_first": self.models.is_time_first}
            stream = BatchStream(loader, self.position.batches, self.execution, unpack, self.display.note, **how)
            steps = self.processes.broadcast([steps_of(stage, loader) for stage in self.stages])
            self._open_cache(loader)
            if self._restored is None:
                if self._inherit is not None:
                    report = inherit_weights(self._inherit, self.models, stream.peek().inputs)
                    self.display.note(f"weights from {self._inherit.teacher}: {report.summary()}")
                self._look_ahead(stream, loader, validated=validator.has_data)
                self._save()
            for index in range(self.position.stage, len(self.stages)):
                self.results.append(self._train(index, steps, stream, validator))
                self.position = self.position._replace(stage=index + 1, step=0)
                self._save()
                if self.processes.any(flag=self.interrupt.requested):
                    self._stop(f"after stage {self.stages[index].name!r}")
            if shares := self.shares():
                self.display.note(f"where the time went: {shares_text(shares)}")
            self.run_folder.save_weights({STUDENT: self.final_model, **teachers})
        self.processes.wait()

    def close(self) -> None:
        """Close the log, and write what the cache holds to its folder."""
        self.run_folder.log.close()
        if self._cache is not None:
            self._cache.close()

    def shares(self) -> dict[str, float]:
        """Return the share of each phase in the stages' time; nothing on a GPU that works on by itself."""
        if self.seconds == 0.0 or (self.execution.device.type == "cuda" and not self._profiled):
            return {}
        return self.clock.shares(self.seconds)

    def _open_cache(self, loader: Iterable[Any]) -> None:
        if self.models.teachers:
            how = f"{self.execution.device.type}, {self.execution.precision}, torch {torch.__version__}"
            shared = not self.processes.is_single
            self._cache = open_cache(self._cache_options, loader, how, self.display.note, shared=shared)

    def _look_ahead(self, stream: BatchStream, loader: Iterable[Any], *, validated: bool) -> None:
        """Check every stage: a mistake in the last one should not show after hours in the first."""
        inputs, targets, samples = stream.peek()
        plan = self._traced_plan
        if plan is None or validated or plan.signature != batch_signature(self.models, inputs, targets):
            self._traces, constants = look_ahead(
                self.stages, self.models, self.execution.seed, inputs, targets, validated=validated
            )
        else:
            self._traces, constants = plan.traces, [stage.constants for stage in plan.plan.stages]
        if self._cache is not None and self._cache_options is not None and not self._cache_options.auto:
            check_cache(constants, self._cache, self.stages, loader, len(samples))

    def _bind(
        self, index: int, batch: PreparedBatch, all_steps: Sequence[int]
    ) -> tuple[BoundStage, list[CachedTeacher]]:
        """Return a stage bound to a batch, and the teachers that the cache answers for."""
        inputs = batch.inputs
        # the look-ahead has traced every stage; a batch of other sizes, or a resumed run, is traced here
        if self._traces is None or self._traces.signature != batch_signature(self.models, inputs):
            self._traces = trace_stages(self.stages, self.models, inputs)
        cached: dict[str, CachedTeacher] = {}

        def cached_teachers(forwards: Forwards) -> dict[str, CachedTeacher]:
            if self._cache is not None:
                left = sum(all_steps[n] * self.stages[n].accumulate for n in range(index, len(all_steps)))
                cached.update(self._cache.cached_teachers(self.stages[index].name, forwards, len(batch.samples), left))
            return cached

        bound = BoundStage(
            self.stages,
            index,
            self.models,
            self.extra_modules,
            inputs,
            self._traces,
            all_steps[index],
            cached_teachers=cached_teachers,
            clock=self.clock,
            compiled=bool(self.execution.precision.compile),
        )
        return bound, list(cached.values())

    def _train(self, index: int, all_steps: Sequence[int], stream: BatchStream, validator: Validator) -> StageResult:
        """Train one stage to its end, validate it and return its result."""
        stage, steps = self.stages[index], all_steps[index]
        bound, cached_teachers = self._bind(index, stream.peek(), all_steps)
        self.display.start(f"stage {index + 1}/{len(self.stages)} {stage.name}", self.position.step, steps)
        began = time.monotonic()
        loop = StageLoop(bound, self.execution)
        profiled = self.out / "trace" / f"{index + 1}.json.gz" if self._profiled and self.out else None
        profiled = profiled if self.processes.is_main else None
        with bound.training(), profile_steps(profiled, self.clock, steps - self.position.step) as after_step:
            self._restore_stage(loop)
            self._notify("on_stage_begin", steps=steps)
            try:
                while self.position.step < steps and not loop.early_stopping.should_stop:
                    self._step(loop, stream, validator)
                    after_step()
            finally:
                loop.optimizer.zero_grad(set_to_none=True)
            self._broadcast_buffers(loop)
            loop.early_stopping.restore_best(loop.learning())
            if validator.measures:
                self._notify("on_evaluation_begin")
            with loop.averaged():
                validation = validator.validate(bound.objective)
        self.final_model = self.student if loop.average is None else loop.average.module
        with loop.averaged():
            metrics = validator.metrics()
        if validator.measures:
            self._notify("on_evaluation_end", {**validation, **metrics})
        seconds = time.monotonic() - began
        self.seconds += seconds
        for teacher in cached_teachers:
            self.display.note(f"stage {stage.name}: {teacher}")
        share = recalled_share(cached_teachers)
        result = StageResult(stage.name, self.position.step, seconds, metrics, validation, share)
        self._notify("on_stage_end", result)
        return result

    def _notify(self, name: str, *arguments: Any, steps: int | None = None) -> None:
        """Call the user's callbacks, if there are any."""
        if self._callbacks is None:
            return
        state, position = self._callbacks.state, self.position
        state.index, state.step = min(position.stage, len(self.stages) - 1), position.step
        state.global_step, state.steps = position.global_step, state.steps if steps is None else steps
        self._callbacks.notify(name, *arguments)

    def _restore_stage(self, loop: StageLoop) -> None:
        if self._restored is None:
            return
        if self._restored["loop"] is not None:
            loop.load_state_dict(self._restored["loop"])
        self._restore_rng(self._restored["rng"])  # last, so that nothing before can have drawn a number
        self._restored = None

    def _step(self, loop: StageLoop, stream: BatchStream, validator: Validator) -> None:
        """Take the next batches, do one optimizer step, log it, and validate, save or stop where that is due."""
        step, steps = self.position.step, loop.objective.steps
        if self._cache is not None and stream.epoch_begins and not self.processes.is_single:
            self._share_cache(self._cache)
        if self._callbacks is not None:
            self._notify("on_step_begin")
        with self.clock.phase("load"):
            batches = stream.take(loop.stage.accumulate)
        stop_or_save = self.processes.any_async(lambda: (self.interrupt.requested, self.run_folder.due))
        record = loop.train_step(batches, step)
        loss = record.pop("loss")
        last = step + 1 == steps
        if loop.stage.every is not None and (last or (step + 1) % loop.stage.every == 0):
            record["metrics"] = self._validate(loop, validator)
        record = {"stage": loop.stage.name, "step": step, "global_step": self.position.global_step, **record}
        self.run_folder.log.append(record)
        done = self.position
        self.position = Position(done.stage, step + 1, done.global_step + 1, stream.position)
        self.display.advance(step + 1, loss, record["samples_per_s"])
        if self._callbacks is not None:
            self._notify("on_step_end", record)
        stop, save = stop_or_save()
        if stop or (save and not last):
            self._save(loop)
        if stop:
            self._stop(f"in stage {loop.stage.name!r} after step {self.position.step}")

    def _validate(self, loop: StageLoop, validator: Validator) -> dict[str, float]:
        """Evaluate inside a stage, and let early stopping see it."""
        where = f"stage {loop.stage.name!r}"
        self._notify("on_evaluation_begin")
        self._broadcast_buffers(loop)
        with loop.averaged():
            metrics = validator.validate(loop.objective)
            with loop.objective.forwards.suspended():
                of_student = validator.metrics()
        for goal in loop.early_stopping.goals:
            if goal.metric in of_student and STUDENT not in loop.objective.learners:
                raise RecipeError(
                    f"{where}: {goal.metric!r} is the student's, and it does not learn here; watch 'loss'",
                    about=(loop.stage.name,),
                )
        metrics |= of_student
        with within(about=loop.stage.name):
            loop.early_stopping.update(metrics, loop.learning(), where)
        self._notify("on_evaluation_end", metrics)
        loop.restart_clock()
        text = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self.display.note(f"stage {loop.stage.name}, step {self.position.step + 1}: {text}")
        if loop.early_stopping.should_stop:
            self.display.note(f"stage {loop.stage.name}: no more progress, it ends here")
        return metrics

    def _stop(self, where: str) -> None:
        """Raise KeyboardInterrupt, or what stands for another signal; the run has been saved."""
        signals = [signum for signum in self.processes.gather(self.interrupt.signal) if signum is not None]
        error = error_of(signals[0])
        by = f" by {error.signal.name}" if isinstance(error, Stopped) else ""
        saved = "nothing was saved (no out=)" if self.out is None else f"saved in {self.out}, to continue with resume"
        self.display.note(f"stopped{by} {where}; {saved}")
        raise error

    def _broadcast_buffers(self, loop: StageLoop) -> None:
        """Give what learns the main process's running statistics, before anything reads them."""
        for model in loop.learning().values():
            self.processes.broadcast_tensors(model.buffers())

    def _share_cache(self, cache: TeacherCache) -> None:
        """Let every process find what the others have stored in the epoch that just ended."""
        cache.flush()
        self.processes.wait()

    def _restore_rng(self, states: Sequence[dict[str, Any]]) -> None:
        """Restore this process's random numbers; a process that was not there before begins new ones."""
        if self.processes.rank < len(states):
            restore_rng_state(states[self.processes.rank])
        else:
            seed_all(self.execution.seed, self.processes.rank, self.position.global_step)

    def _save(self, loop: StageLoop | None = None) -> None:
        if self.out is None:
            return
        if loop is not None:
            self._broadcast_buffers(loop)
        finished = self.position.stage == len(self.stages)
        state = {
            **self.position._asdict(),
            "numerics": self.execution.precision.to_dict(),
            "student": self.student.state_dict(),
            "teachers": {name: self.models.teachers[name].state_dict() for name in self._learning_teachers},
            "given": self.final_model.state_dict() if finished and self.final_model is not self.student else None,
            "learned": self.extra_modules.state_dict(),
            "loop": None if loop is None else loop.state_dict(),
            "rng": self.processes.gather(rng_state()),
            "results": [asdict(result) for result in self.results],
        }
        self.run_folder.save(state)
