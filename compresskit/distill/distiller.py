"""ProgressiveDistiller: runs the stages of a curriculum over any teacher and any student."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from compresskit.distill.batches import BatchStream, Unpack, unpacked
from compresskit.distill.cache.options import CacheOptions
from compresskit.distill.execution import Execution
from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.globs import expand_stages
from compresskit.distill.objective.models import Models, View
from compresskit.distill.own_loop import StageObjective, check_closed
from compresskit.distill.precision import Precision, match_memory_format
from compresskit.distill.processes import Processes, init_processes, local
from compresskit.distill.session.checkpoint import Checkpoints
from compresskit.distill.session.folder_lock import locked_folder
from compresskit.distill.session.initial_weights import inherited
from compresskit.distill.session.interrupt import deferred_interrupt
from compresskit.distill.session.plan import TracedPlan, plan_stages
from compresskit.distill.session.plan_text import Plan
from compresskit.distill.session.progress import open_display
from compresskit.distill.session.results import Result
from compresskit.distill.session.session import Session
from compresskit.distill.spec.address import TEACHER
from compresskit.distill.spec.inherit import Inherit
from compresskit.distill.spec.misplaced import checked_names
from compresskit.distill.spec.stage import Stage
from compresskit.distill.taps.locate import unwrap, wrapper_of
from compresskit.distill.training.autotune import choose
from compresskit.distill.training.validation import Evaluate
from compresskit.errors import DataError, RecipeError, close_names, first_line
from compresskit.nested import device_of, parameters_and_buffers, to_device
from compresskit.randomness import own_randomness


class ProgressiveDistiller:
    """Distils a teacher into a student, stage by stage.

    Args:
        teacher: Any module; None where no stage has matches; `{"name": module}` for several. A teacher on the student's
            side of a term learns, too; the others are frozen.
        student: Any module. It is trained in place. If it is wrapped in `DistributedDataParallel`, every backward of
            `stage`'s objective averages the gradients over its processes.
        stages: Stages in their order; see `compresskit.curricula`.
        seed: Seed of adapters' initial values, dropout and the order of replayed loaders.
        device: Device name; "auto" takes CUDA if there is a device.
        precision: "fp32"; "tf32", float32 whose products a GPU rounds; "bf16" or "fp16" for autocast forwards. Weights
            are float32 and losses float32 or better in every case. "auto" takes what is fastest here.
        compile: Whether the models run through `torch.compile`, each as one graph; or "auto".
        memory_format: "contiguous", "channels_last" for images, or "auto".
        cache: Options of the cache of frozen teachers' tensors, for samples that come again: a mapping with `budget`,
            such as "8GB", and maybe `dtype` (fp32, fp16, bf16) and `folder`, which runs share; or "auto", which uses a
            cache only where it is possible and pays. It takes a `SampleLoader` of a dataset with `variants`.
        views: Functions that make a model's own inputs from a batch's inputs, by the model's name: `"student"` and
            `"teacher"` or the teachers' own names. See `compresskit.distill.views`.
        inherit: Name of the teacher whose weights, pruned to the student's widths, `fit` gives the student before the
            first stage; or `{"from": name, "names": {module of the student: module of the teacher}}`. See
            `compresskit.inherit`.
        out: Folder for metrics, checkpoints and the student's weights; None writes nothing.

    Raises:
        RecipeError: The stages, models or options do not make a run.
    """

    @checked_names
    def __init__(
        self,
        teacher: nn.Module | Mapping[str, nn.Module] | None,
        student: nn.Module,
        stages: Sequence[Stage],
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        precision: str = "fp32",
        compile: bool | str = False,
        memory_format: str = "contiguous",
        cache: str | Mapping[str, Any] | CacheOptions | None = None,
        views: Mapping[str, View] | None = None,
        inherit: str | Mapping[str, Any] | Inherit | None = None,
        out: str | Path | None = None,
    ) -> None:
        self.student = student
        teachers = {} if teacher is None else {TEACHER: teacher} if isinstance(teacher, nn.Module) else dict(teacher)
        bare = {name: unwrap(module) for name, module in teachers.items()}
        self.models = Models(unwrap(student), bare, dict(views or {}), wrapper_of(student))
        self.stages = tuple(stages)
        self.seed = seed
        self.device = chosen_device(device)
        self.precision = Precision(precision, compile, memory_format)
        self.precision.check(self.device)
        self.cache = CacheOptions.of(cache)
        self.inherit = Inherit.of(inherit)
        self.out = None if out is None else Path(out)
        self._extra_modules: ExtraModules | None = None
        """Adapters of `stage`; a run of `fit` has its own."""
        self._open_blocks: list[StageObjective] = []
        self._traced_plan: TracedPlan | None = None
        """The last plan: a run on a batch of its signature need not look ahead again."""
        self._check()
        self.stages = expand_stages(self.stages, self.models)

    def __repr__(self) -> str:
        teachers = ", ".join(type(teacher).__name__ for teacher in self.models.teachers.values()) or "no teacher"
        stages = " -> ".join(stage.name for stage in self.stages)
        return f"ProgressiveDistiller({teachers} => {type(self.models.student).__name__}: {stages})"

    def plan(self, batch: Any, unpack: Unpack | None = None) -> Plan:
        """Trace one batch through every stage without training, and return the plan.

        It tells what is inherited, taps, shapes, adapters, what trains and the cost; `print(distiller.plan(batch))`
        shows it. Nothing is changed.
        """
        check_closed(self._open_blocks)
        inputs, targets = (to_device(part, device_of(self.models.student)) for part in unpacked(batch, unpack)[:2])
        timed = self.cache is not None
        with torch.inference_mode(mode=False), inherited(self.inherit, self.models, inputs) as report:
            self._traced_plan = plan_stages(self.stages, self.models, self.seed, inputs, targets, timed=timed)
        if report is None or self.inherit is None:
            return self._traced_plan.plan
        return replace(self._traced_plan.plan, inherited=report, inherited_from=self.inherit.teacher)

    def stage(
        self, index: int, batch: Any = None, *, steps: int | None = None, unpack: Unpack | None = None
    ) -> StageObjective:
        """Return one stage for a loop of your own.

        `with distiller.stage(0, batch) as objective: loss, terms = objective(inputs, targets)`.

        Args:
            index: Number of the stage, from 0; negative numbers count from the end.
            batch: Batch to trace. It is needed before `objective.parameters()`; without it the first call is traced.
            steps: Number of optimizer steps that you will do, for the schedules of a stage in epochs.
            unpack: Function that makes (inputs, targets) of the batch.

        Raises:
            RecipeError: There is no such stage, an "auto" has not been resolved, or there is `inherit`: that is a part
                of `fit`.
        """
        if self.inherit is not None:
            raise RecipeError(
                "inherit: it is done by fit; before a loop of your own call compresskit.inherit(teacher, student)"
            )
        if not -len(self.stages) <= index < len(self.stages):
            raise RecipeError(f"stage {index}: there are {len(self.stages)} stages, counted from 0")
        if self._extra_modules is None:
            self._extra_modules = ExtraModules.for_student(self.models.student, self.seed)
        loop = StageObjective(
            self.stages,
            index % len(self.stages),
            self.models,
            self._extra_modules,
            steps,
            self._open_blocks,
            self.precision,
        )
        if batch is not None:
            loop.bind(unpacked(batch, unpack).inputs)
        return loop

    @checked_names
    def fit(
        self,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | None = None,
        evaluate: Evaluate | None = None,
        resume: bool | str = "auto",  # noqa: FBT001  (the public signature)
        unpack: Unpack | None = None,
        *,
        trace: bool = False,
        callbacks: Sequence[Any] = (),
    ) -> Result:
        """Train through all stages, and return the student with its history.

        Under `torchrun`, or in a process group of your own, all processes train one student together, on parts of the
        same batches; the main one writes files and prints.

        Args:
            train_loader: Anything that can be iterated again and again; batches are (inputs, targets), or mappings
                with these keys. Where each process has other data, that is its part of each batch.
            val_loader: Validation data; the terms are averaged over it at each stage's end.
            evaluate: Function of the student that returns metrics. It is called in eval mode and without gradients, at
                each stage's end, and inside a stage as often as its `every` says.
            resume: False refuses a used folder; True demands a run to continue; "auto" continues one, starts a new
                one, or returns a finished one.
            unpack: Function that makes (inputs, targets) of a batch of another form, or (inputs, targets, count) where
                the number of its samples cannot be read from them.
            trace: Whether to write a profiler's trace of a few steps of each stage to the folder `trace` in `out`.
            callbacks: Objects with methods that are called where the run, a stage, a step or an evaluation begins and
                ends; see `compresskit.Callback`.

        Raises:
            CheckpointError: The folder does not fit `resume`, holds another run, or is in use by another process.
            TrainingError: A term or gradient is not finite.
            KeyboardInterrupt: Ctrl-C, or as its subclass `compresskit.errors.Stopped` SIGTERM or SIGUSR1; with `out`,
                the run was saved first.
        """
        for loader in (train_loader, val_loader):
            if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
                name = type(loader).__name__
                raise DataError(
                    f"fit takes batches, and {name} is a dataset of single samples: give "
                    f"torch.utils.data.DataLoader({name.lower()}, batch_size=32)"
                )
        if resume not in (True, False, "auto"):
            raise RecipeError(f"resume must be True, False or 'auto', got {resume!r}")
        if trace and self.out is None:
            raise RecipeError("trace=True needs a folder: give ProgressiveDistiller(..., out=...)")
        check_closed(self._open_blocks)
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(mode=False))
            stack.enter_context(torch.enable_grad())
            processes = stack.enter_context(init_processes(self.device, self.models.group))
            display = stack.enter_context(open_display(silent=not processes.is_main))
            self.models.to(self.device, display.note)
            for model in self.models.modules:
                processes.broadcast_tensors(parameters_and_buffers(model))
            if self.out is not None:
                stack.enter_context(locked_folder(self.out, processes, display.note))
            stack.enter_context(own_randomness(self.seed, *(() if processes.is_main else (processes.rank,))))
            interrupt = stack.enter_context(deferred_interrupt())
            self.precision = self._resolved_precision(train_loader, unpack, display.note)
            stack.enter_context(self.precision.applied_to(*self.models.modules))
            session = Session(
                self.models,
                self.stages,
                Execution(self.seed, self.device, self.precision, processes),
                cache=self.cache,
                inherit=self.inherit,
                out=self.out,
                profiled=trace,
                display=display,
                interrupt=interrupt,
                traced_plan=self._traced_plan,
                callbacks=callbacks,
            )
            stack.callback(session.close)
            session.restore(resume=resume)
            session.run(train_loader, val_loader, evaluate, unpack)
        match_memory_format(session.final_model, self.models.student)
        student = self.student if session.final_model is self.models.student else session.final_model
        return Result(student, session.run_folder.log.history(), session.results, session.shares())

    def resolve_auto(
        self,
        batch: Any,
        unpack: Unpack | None = None,
        note: Callable[[str], None] = lambda _: None,
        *,
        shared: bool = True,
    ) -> Precision:
        """Measure what `"auto"` should be, use it from now on and return it. Without any `"auto"` nothing is done.

        Args:
            batch: Batch of the training data.
            unpack: Function that makes (inputs, targets) of the batch.
            note: Function that receives a line of text for each measurement.
            shared: Whether the processes of a group all take the main one's choice; then all of them must call this.
        """
        if not self.precision.is_resolved:
            self.models.to(self.device, note)
            inputs, targets = (to_device(part, self.device) for part in unpacked(batch, unpack)[:2])
            choice = choose(self.precision, self.stages[-1], self.models, (inputs, targets), note)
            processes = Processes.now(self.device, self.models.group)
            self.precision = processes.broadcast(choice) if shared else choice
        return self.precision

    settle = resolve_auto
    """The former name of `resolve_auto`."""

    def _resolved_precision(
        self, loader: Iterable[Any], unpack: Unpack | None, note: Callable[[str], None]
    ) -> Precision:
        """Return the options without "auto": those with which the run in the folder began, or else the fastest."""
        if self.precision.is_resolved:
            return self.precision
        if self.out is not None:
            state = Checkpoints(self.out / "checkpoints").newest(self.device, lambda _: None)  # noted on restore
            if state is not None:
                return Precision(**state["numerics"])
        execution = Execution(self.seed, self.device, processes=Processes.now(self.device, self.models.group))
        batch = BatchStream(loader, 0, execution, unpack).peek()
        return self.resolve_auto((batch.inputs, batch.targets), None, note)

    def _check(self) -> None:
        for stage in self.stages:
            if not isinstance(stage, Stage):
                raise RecipeError(f"stages must be Stage objects, got {stage!r}")
        if not self.stages:
            raise RecipeError("stages: there are none")
        of_student = set(parameters_and_buffers(self.models.student))
        for name, teacher in self.models.teachers.items():
            if not of_student.isdisjoint(parameters_and_buffers(teacher)):
                raise RecipeError(
                    f"{name} shares parameters or buffers with the student; give it a copy (copy.deepcopy)"
                )
        if self.inherit is not None and self.inherit.teacher not in self.models.teachers:
            known = list(self.models.teachers)
            raise RecipeError(
                f"inherit: there is no teacher {self.inherit.teacher!r}{close_names(self.inherit.teacher, known)}",
                path=("inherit",),
            )
        for stage in self.stages:  # a missing model should be noticed at once
            self.models.check(stage)


def chosen_device(device: str | torch.device) -> torch.device:
    """Return the device for a name; "auto" takes CUDA if there is a device.

    Raises:
        RecipeError: The device cannot be used here.
    """
    if str(device) == "auto":
        return local(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        chosen = local(torch.device(device))
        torch.zeros(1, device=chosen).item()  # which "meta" cannot
    except (RuntimeError, AssertionError, ImportError, NotImplementedError) as error:
        reason = first_line(error).partition(". ")[0]
        raise RecipeError(f"device: {device!r} cannot be used here: {reason}") from None
    return chosen
