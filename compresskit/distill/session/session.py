"""One call of `fit`: stage after stage, with its log and checkpoints, from wherever an earlier call ended."""

import copy
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compresskit.distill.batches import BatchStream, Unpack
from compresskit.distill.cache.cache import TeacherCache, open_cache
from compresskit.distill.cache.lookup import CachedTeacher, recalled_share
from compresskit.distill.cache.options import CacheOptions
from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.models import Models
from compresskit.distill.objective.objective import Objective
from compresskit.distill.precision import Precision
from compresskit.distill.processes import Processes
from compresskit.distill.session.checkpoint import fingerprint
from compresskit.distill.session.interrupt import Interrupt
from compresskit.distill.session.plan import TracedPlan, batch_signature, check_cache, plan_stages
from compresskit.distill.session.progress import Display
from compresskit.distill.session.results import StageResult
from compresskit.distill.session.run_folder import RunFolder
from compresskit.distill.spec.address import STUDENT
from compresskit.distill.spec.stage import Stage, steps_of
from compresskit.distill.timing import Clock, profile_steps, told
from compresskit.distill.training.loop import StageLoop
from compresskit.distill.training.trainable import reached_by_previous_stage, train_only, trainable_names
from compresskit.distill.training.validation import Evaluate, Validator
from compresskit.errors import RecipeError, within
from compresskit.nested import batch_size
from compresskit.randomness import restore_rng_state, rng_state, seed_all


class Session:
    """The state of one run, and what takes it to its end. Built by `ProgressiveDistiller.fit`."""

    def __init__(
        self,
        models: Models,
        stages: tuple[Stage, ...],
        *,
        seed: int,
        device: torch.device,
        precision: Precision,
        cache: CacheOptions | None,
        out: Path | None,
        trace: bool,
        display: Display,
        interrupt: Interrupt,
        processes: Processes,
        traced_plan: TracedPlan | None = None,
    ) -> None:
        self.models = models
        self.processes = processes
        self.student = models.student
        self.stages = stages
        self.seed = seed
        self.device = device
        self.precision = precision
        self.clock = Clock()
        self.seconds = 0.0
        """Of all stages that this call trained."""
        self.out = out
        self.display = display
        self.interrupt = interrupt
        self.position = Position()
        self.learned = ExtraModules.for_student(models.student, seed)
        self.results: list[StageResult] = []
        self.final_model: nn.Module = models.student
        """What the run gives back: the student, or the copy that holds the average of its weights."""
        self._learning = sorted(
            {name for stage in stages for name in models.learners(stage.terms.values())} - {STUDENT}
        )
        self._trace, self._traced_plan = trace, traced_plan
        self._cache_options = cache
        self._cache: TeacherCache | None = None
        precision_text = str(precision) + (f", cache in {cache.dtype}" if cache and cache.dtype != "fp32" else "")
        same = {} if out is None else fingerprint(stages, models, self._learning, seed, precision_text)
        self.run_folder = RunFolder(out, same, processes)
        self._restored: dict[str, Any] | None = None
        """What a checkpoint holds of the stage that it was made in, until that stage goes on."""

    def restore(self, *, resume: bool | str) -> None:
        """Take up the run in the folder, or begin one: see `ProgressiveDistiller.fit`."""
        state = self.run_folder.resume(self.device, self.display.note, resume=resume)
        if state is None:
            return
        self.student.load_state_dict(state["student"])
        for name, weights in state["teachers"].items():
            self.models.teachers[name].load_state_dict(weights)
        self.learned.load_state_dict(state["learned"])
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
        validator = Validator(
            self.models,
            self.seed,
            self.device,
            self.precision.autocast_dtype,
            val_loader,
            evaluate,
            unpack,
            self.processes,
        )
        if self.position.stage < len(self.stages):
            validator.check(self.stages)
            note = self.display.note
            feed = BatchStream(
                loader, self.position.batches, self.seed, unpack, self.device, self.precision, self.processes, note
            )
            steps = self.processes.broadcast([steps_of(stage, loader) for stage in self.stages])
            self._open_cache(loader)
            if self._restored is None:
                self._look_ahead(feed, loader, validated=val_loader is not None)
                self._save()
            for index in range(self.position.stage, len(self.stages)):
                self.results.append(self._train(index, steps, feed, validator))
                self.position = replace(self.position, stage=index + 1, step=0)
                self._save()
                if self.processes.any(flag=self.interrupt.requested):
                    self._stop(f"after stage {self.stages[index].name!r}")
            if shares := self.shares():
                self.display.note(f"where the time went: {told(shares)}")
        self.run_folder.keep(
            {STUDENT: self.final_model, **{name: self.models.teachers[name] for name in self._learning}}
        )
        self.processes.wait()

    def close(self) -> None:
        """Close the log, and bring what the cache holds to its folder."""
        self.run_folder.log.close()
        if self._cache is not None:
            self._cache.close()

    def shares(self) -> dict[str, float]:
        """Where the time of the stages went; nothing where the clock could not tell: a GPU works on by itself."""
        if self.seconds == 0.0 or (self.device.type == "cuda" and not self._trace):
            return {}
        return self.clock.shares(self.seconds)

    def _open_cache(self, loader: Iterable[Any]) -> None:
        if self.models.teachers:
            how = f"{self.device.type}, {self.precision}, torch {torch.__version__}"
            self._cache = open_cache(
                self._cache_options, loader, how, self.display.note, shared=not self.processes.is_single
            )

    def _look_ahead(self, feed: BatchStream, loader: Iterable[Any], *, validated: bool) -> None:
        """Trace every stage: a mistake in the last one should not show after hours in the first."""
        inputs, targets, _ = feed.peek()
        traced_plan = self._traced_plan
        if traced_plan is None or validated or traced_plan.kind != batch_signature(inputs, targets):
            plan = plan_stages(self.stages, self.models, self.seed, inputs, targets, validated=validated)
        else:
            plan = traced_plan.plan
        if self._cache is not None and self._cache_options is not None and not self._cache_options.auto:
            check_cache(plan, self._cache, self.stages, loader, batch_size(inputs))

    def _batches(self, index: int, steps: Sequence[int]) -> int:
        """How many batches there are from a stage on."""
        return sum(steps[number] * self.stages[number].accumulate for number in range(index, len(steps)))

    def _train(self, index: int, all_steps: Sequence[int], feed: BatchStream, validator: Validator) -> StageResult:
        stage, steps = self.stages[index], all_steps[index]
        inputs = feed.peek().inputs
        objective = Objective(stage, self.models, self.learned, inputs, steps, compiled=bool(self.precision.compile))
        objective.forwards.clock = self.clock
        learners = {name: self.models.module(name) for name in objective.learners}
        before = reached_by_previous_stage(self.stages, index, self.models, inputs)
        names = trainable_names(stage, self.models, objective.reached_parameters(), before)
        trained = {name: p for name, p in self.models.parameters(objective.learners) if name in names}
        recalls: dict[str, CachedTeacher] = {}
        if self._cache is not None:
            left = self._batches(index, all_steps)
            recalls = self._cache.recalls(stage.name, objective.forwards, batch_size(inputs), left)
        objective.forwards.recalls = recalls
        self.display.start(f"stage {index + 1}/{len(self.stages)} {stage.name}", self.position.step, steps)
        began = time.monotonic()
        loop = StageLoop(objective, trained, self.precision, self.processes)
        trace = (
            self.out / "trace" / f"{index + 1}.json.gz" if self._trace and self.processes.is_main and self.out else None
        )
        left = steps - self.position.step
        with train_only(learners, stage, names), objective, profile_steps(trace, self.clock, left) as after_step:
            if self._restored is not None and self._restored["loop"] is not None:
                loop.load_state_dict(self._restored["loop"])
            if self._restored is not None:  # last, so that nothing above can have drawn a number
                self._restore_rng(self._restored["rng"])
                self._restored = None
            try:
                while self.position.step < steps and not loop.watch.stalled:
                    self._step(loop, feed, validator)
                    after_step()
            finally:
                loop.optimizer.zero_grad(set_to_none=True)
            self._align_buffers(loop)
            loop.watch.give_best(loop.learning())
            with loop.averaged():
                validation = validator.validation(objective)
        self.final_model = self.student if loop.average is None else loop.average.module
        with loop.averaged():
            metrics = validator.metrics()
        seconds = time.monotonic() - began
        self.seconds += seconds
        for recall in recalls.values():
            self.display.note(f"stage {stage.name}: {recall}")
        recalled = recalled_share(recalls.values())
        return StageResult(stage.name, self.position.step, seconds, metrics, validation, recalled)

    def _step(self, loop: StageLoop, feed: BatchStream, validator: Validator) -> None:
        step, steps = self.position.step, loop.objective.steps
        loop.objective.step = step
        if self._cache is not None and feed.begins and not self.processes.is_single:
            self._share_cache(self._cache)
        with self.clock.phase("load"):
            portion = feed.take(loop.stage.accumulate)
        wishes = self.processes.any_async(self._wishes)
        record = loop.update(portion)
        loss = record.pop("loss")
        last = step + 1 == steps
        if loop.stage.every is not None and (last or (step + 1) % loop.stage.every == 0):
            record["metrics"] = self._validate(loop, validator)
        self.run_folder.log.append(
            {"stage": loop.stage.name, "step": step, "global_step": self.position.global_step, **record}
        )
        self.position = replace(
            self.position, step=step + 1, global_step=self.position.global_step + 1, batches=feed.position
        )
        self.display.advance(step + 1, loss, record["samples_per_s"])
        stop, due = wishes()
        if stop or (due and not last):
            self._save(loop)
        if stop:
            self._stop(f"in stage {loop.stage.name!r} after step {self.position.step}")

    def _wishes(self) -> tuple[bool, bool]:
        """Whether this process is to stop, and whether it is time for a checkpoint."""
        return self.interrupt.requested, self.run_folder.due

    def _validate(self, loop: StageLoop, validator: Validator) -> dict[str, float]:
        """Evaluate inside a stage, and let the stage's watch see it."""
        where = f"stage {loop.stage.name!r}"
        self._align_buffers(loop)
        with loop.averaged():
            found = validator.validation(loop.objective)
            with loop.objective.forwards.suspended():
                metrics = validator.metrics()
        for goal in loop.watch.goals:
            if goal.metric in metrics and STUDENT not in loop.objective.learners:
                raise RecipeError(
                    f"{where}: {goal.metric!r} is the student's, and it does not learn here; watch 'loss'",
                    about=(loop.stage.name,),
                )
        found |= metrics
        with within(about=loop.stage.name):
            loop.watch.see(found, loop.learning(), where)
        loop.restart_clock()
        shown = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
        self.display.note(f"stage {loop.stage.name}, step {self.position.step + 1}: {shown}")
        if loop.watch.stalled:
            self.display.note(f"stage {loop.stage.name}: no more progress, it ends here")
        return found

    def _stop(self, where: str) -> None:
        """End the run, which is saved, as Ctrl-C does."""
        saved = "nothing was saved (no out=)" if self.out is None else f"saved in {self.out}, to continue with resume"
        self.display.note(f"stopped {where}; {saved}")
        raise KeyboardInterrupt

    def _align_buffers(self, loop: StageLoop) -> None:
        """Give what learns the first process's running statistics, before anything reads them."""
        for model in loop.learning().values():
            self.processes.broadcast_tensors(model.buffers())

    def _share_cache(self, cache: TeacherCache) -> None:
        """Let every process find what the others have kept in the pass that just ended."""
        cache.flush()
        self.processes.wait()

    def _restore_rng(self, states: Sequence[dict[str, Any]]) -> None:
        """Take up this process's random numbers; one that was not there before begins new ones."""
        if self.processes.rank < len(states):
            restore_rng_state(states[self.processes.rank])
        else:
            seed_all(self.seed, self.processes.rank, self.position.global_step)

    def _save(self, loop: StageLoop | None = None) -> None:
        if self.out is None:
            return
        if loop is not None:
            self._align_buffers(loop)
        finished = self.position.stage == len(self.stages)
        state = {
            **asdict(self.position),
            "numerics": self.precision.to_dict(),
            "student": self.student.state_dict(),
            "teachers": {name: self.models.teachers[name].state_dict() for name in self._learning},
            "given": self.final_model.state_dict() if finished and self.final_model is not self.student else None,
            "learned": self.learned.state_dict(),
            "loop": None if loop is None else loop.state_dict(),
            "rng": self.processes.gather(rng_state()),
            "results": [asdict(result) for result in self.results],
        }
        self.run_folder.save(state)


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
