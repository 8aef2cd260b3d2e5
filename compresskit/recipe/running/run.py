"""A whole run: the teacher, the student, the student alone, and what they come to. Each part resumes by itself."""

import copy
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.data import SampleLoader
from compresskit.distill.batches import unpack_batch
from compresskit.distill.cache.cache import TeacherCache
from compresskit.distill.distiller import ProgressiveDistiller, chosen_device
from compresskit.distill.processes import Processes, init_processes
from compresskit.distill.session.plan import Plan, check_cache
from compresskit.distill.spec.address import STUDENT, TEACHER
from compresskit.distill.spec.stage import Stage
from compresskit.environment import environment
from compresskit.files import read_json, write_json, write_text
from compresskit.nested import batch_size
from compresskit.recipe.building.closed_form import fit_to_data, restore_fitted, save_fitted
from compresskit.recipe.building.components import build_parts, control_stages
from compresskit.recipe.reading.load import Recipe, load_recipe
from compresskit.recipe.reading.run_files import ENVIRONMENT_FILE, FITTED_FILE, RECIPE_FILE, SUMMARY_FILE
from compresskit.recipe.running.folder import choose_folder, has_checkpoint, write_recipe
from compresskit.recipe.running.result import RunResult, plans_text
from compresskit.recipe.running.resume_command import call_options, says_how_to_go_on
from compresskit.recipe.scoring.card import card
from compresskit.recipe.scoring.differences import differences
from compresskit.recipe.scoring.measure import Contender, illustrate, input_shapes, measure, stored_rows
from compresskit.recipe.terminal import say


def run_recipe(
    recipe: str | Path,
    *,
    preset: str | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    dry_run: bool = False,
    trace: bool = False,
) -> RunResult:
    """Run a recipe from its data to the table at its end.

    Under `torchrun` the processes that it starts share every batch of the run: the numbers are those of one process
    but for their rounding. The first one writes and speaks.

    Args:
        recipe: A file, or the name of a shipped recipe.
        preset: A name from its `presets`; None takes `quick` where there is one.
        overrides: Changes on top of the preset: `"stages.1.steps=50"` as on the command line, or `{path: value}`.
        out: The run's folder; None is `runs/NAME`, with the next free number behind the name.
        resume: Go on with the run in `out`, or in the newest default folder that holds this recipe. The result has the
            same numbers as that of a run that nothing stopped.
        device: "auto" takes CUDA where there is a device; else a torch device name.
        dry_run: Build everything, trace one batch through every stage, and write nothing.
        trace: Write a profiler's trace of a few steps of each stage, in the folder `trace` of each part.

    Raises:
        CompressKitError: The recipe, the data, weights or the folder cannot be used; nothing is lost.
        KeyboardInterrupt: Ctrl-C; standard error says how to go on.
    """
    overrides = overrides if isinstance(overrides, Mapping) else list(overrides)
    with init_processes(chosen_device(device)) as processes:
        with processes.main_first():
            loaded = load_recipe(recipe, preset, overrides)
        if preset is None and "full" in loaded.presets and loaded.preset != "full" and torch.cuda.is_available():
            say("There is a GPU here: --preset full runs the whole recipe on it.")
        with loaded.sources.with_locations():
            if dry_run:
                run = _Run(loaded, None, device)
                run.solve()
                return RunResult(None, plans=run.plans())
            folder = processes.broadcast_from_main(lambda: choose_folder(loaded, out, resume=resume))
            call = [str(recipe), *call_options(loaded.preset, overrides, device)]
            with says_how_to_go_on(folder, call):
                return run_in(folder, loaded, call, device, processes, trace=trace)


def run_in(
    folder: Path, recipe: Recipe, call: Sequence[str], device: str, processes: Processes, *, trace: bool = False
) -> RunResult:
    """Run a recipe in a folder that `choose_folder` chose: from the start, or on from where a run of it stopped.

    Args:
        folder: The run's.
        recipe: What to run.
        call: Arguments of `compresskit run` that amount to this, to be written down.
        device: "auto", or a torch device name.
        processes: The processes that do so together.
        trace: As in `run_recipe`.
    """
    if processes.broadcast((folder / SUMMARY_FILE).exists()):
        say(f"{folder} is finished already")
        return _result(folder)
    with processes.main_first():
        run = _Run(recipe, folder, device, trace=trace)
        begun = _begin(run, folder, f"compresskit run {shlex.join(call)}", processes)
    _train(run)
    if processes.is_main:
        _finish(run, folder, begun)
    processes.wait()
    return _result(folder)


class _Run:
    """A recipe and its parts, as one session of the run has them."""

    def __init__(self, recipe: Recipe, folder: Path | None, device: str, *, trace: bool = False) -> None:
        self.recipe, self.folder, self.trace = recipe, folder, trace
        self.parts = parts = build_parts(recipe)
        self.distillers: dict[str, ProgressiveDistiller] = {}
        self.trained: dict[str, nn.Module] = {}
        """What each part came to."""
        for name, stages in recipe.pretrain.items():
            view = {STUDENT: parts.views[name]} if name in parts.views else {}
            self._add(_part(name), {}, parts.teachers[name], stages, device, view)
        self._add("student", parts.teachers, parts.student, recipe.stages, device, parts.views)

    @property
    def device(self) -> torch.device:
        """Where the models are trained."""
        return self.distillers["student"].device

    def solve(self) -> dict[str, Tensor]:
        """Solve what is solved in closed form, or take up the solution that the run's folder keeps.

        Returns what is to be kept. Afterwards the initial weights are final, and the control gets its copy of them.
        """
        kept = None if self.folder is None else self.folder / FITTED_FILE
        solved = {}
        if kept is not None and kept.exists():
            restore_fitted(self.parts, kept, self.recipe.seed)
        else:
            solved = fit_to_data(self.parts, self.recipe.seed)
        if self.recipe.control:
            alone = copy.deepcopy(self.parts.student)
            view = {name: view for name, view in self.parts.views.items() if name == STUDENT}
            self._add("alone", {}, alone, control_stages(self.recipe.stages), str(self.device), view)
        return solved

    def settle(self, folder: Path) -> None:
        """Replace `auto` in the recipe by what the folder's own says, or by what is fastest here."""
        if self.recipe.precision.is_resolved:
            return
        if (folder / RECIPE_FILE).exists():
            precision = load_recipe(folder / RECIPE_FILE).precision
        else:
            batch = next(iter(self.parts.loader(self.recipe, "train", workers=0)))
            precision = self.distillers["student"].settle(batch, note=say, shared=False)
        self.recipe = replace(self.recipe, precision=precision)
        for distiller in self.distillers.values():
            distiller.precision = precision

    def plans(self) -> dict[str, Plan]:
        """What each training part would do, traced on the first batch."""
        loader = self.parts.loader(self.recipe, "train", workers=0)
        batch = next(iter(loader))
        plans = {part: distiller.plan(batch) for part, distiller in self.distillers.items()}
        self._check_cache(plans["student"], loader, batch)
        return {self.title(part): plan for part, plan in plans.items()}

    def _check_cache(self, plan: Plan, loader: SampleLoader, batch: Any) -> None:
        """Refuse a cache that cannot be before the teacher is trained, not after."""
        student = self.distillers["student"]
        options = student.cache
        if options is None or options.auto or not student.models.teachers:
            return
        if self.folder is None:  # nothing is written
            options = replace(options, folder=None)
        cache = TeacherCache(options, loader, "", say)
        check_cache(plan, cache, student.stages, loader, batch_size(unpack_batch(batch)[0]))

    def title(self, part: str) -> str:
        """What happens in a part."""
        if part == "alone":
            return "the same student learns alone, on the supervised terms only"
        if part != "student":
            return f"{'the teacher' if part == TEACHER else part.replace('-', ' ', 1)} learns on its own"
        return "the student learns" + (" from the teacher" if self.parts.teachers else "")

    def contenders(self) -> list[Contender]:
        """Everything that the table at the end compares."""
        found = [Contender(name, "baseline", model) for name, model in self.parts.baselines.items()]
        if not self.parts.teachers:
            return [*found, Contender("student", "alone", self.parts.viewed(STUDENT, self.trained["student"]))]
        found += [
            Contender(name, "teacher", self.parts.viewed(name, teacher))
            for name, teacher in self.parts.teachers.items()
        ]
        if self.recipe.control:
            found.append(Contender("student alone", "alone", self.parts.viewed(STUDENT, self.trained["alone"])))
        return [
            *found,
            Contender("student distilled", "distilled", self.parts.viewed(STUDENT, self.trained["student"])),
        ]

    def _add(
        self,
        part: str,
        teachers: Mapping[str, nn.Module],
        student: nn.Module,
        stages: Sequence[Stage],
        device: str,
        views: Mapping[str, Any],
    ) -> None:
        recipe, folder = self.recipe, self.folder
        out = None if folder is None else folder if part == "student" else folder / part
        options = {"seed": recipe.seed, "device": device, "views": views, "out": out, "cache": recipe.cache}
        options |= recipe.precision.to_dict()
        self.distillers[part] = ProgressiveDistiller(teachers, student, stages, **options)


def _part(teacher: str) -> str:
    """What the pretraining of a teacher is called, and its folder."""
    return teacher if teacher == TEACHER else f"teacher-{teacher}"


def _begin(run: _Run, folder: Path, heading: str, processes: Processes) -> dict[str, Any]:
    """Take the folder once everything is known to fit, or take it up again; returns this session's environment."""
    begun = {**environment(run.device), "processes": processes.count}
    solved = run.solve()
    run.settle(folder)
    if not processes.is_main:  # it found all that in the folder
        return begun
    if (folder / RECIPE_FILE).exists():
        say(f"going on in {folder}" if has_checkpoint(folder) else f"{folder} has no checkpoint yet: starting again")
    else:
        plans = plans_text(run.plans())
        write_recipe(folder, run.recipe, heading, f"The plan, traced on one batch before the run:\n\n{plans}")
        say(f"running in {folder}")
    sessions = read_json(folder / ENVIRONMENT_FILE) or []
    write_json(folder / ENVIRONMENT_FILE, [*sessions, begun])
    if solved:
        save_fitted(folder / FITTED_FILE, solved)
    return begun


def _train(run: _Run) -> None:
    """Train each part to its end; a part that has come to it is only loaded."""
    for number, (part, distiller) in enumerate(run.distillers.items(), start=1):
        say(f"part {number} of {len(run.distillers)}: {run.title(part)}")
        validation = None if run.parts.val is None else run.parts.loader(run.recipe, "val")
        result = distiller.fit(run.parts.loader(run.recipe, "train"), validation, resume="auto", trace=run.trace)
        run.trained[part] = result.student
        if part.partition("-")[0] == TEACHER and result.student is not distiller.student:
            distiller.student.load_state_dict(
                result.student.state_dict()
            )  # a teacher teaches with its averaged weights


def _finish(run: _Run, folder: Path, begun: Mapping[str, Any]) -> None:
    """Measure every contender, draw the pictures, and write what it all came to."""
    contenders, evaluation, seed = run.contenders(), run.parts.evaluation, run.recipe.seed
    inputs = run.parts.sample()
    rows = measure(contenders, evaluation, inputs, folder, seed)
    illustrate(contenders, evaluation, folder / "images", seed)
    names = getattr(run.parts.test, "names", ())
    text = card(run.recipe, rows, differences(rows), begun, inputs=input_shapes(inputs), samples=names)
    write_text(folder / "card.md", text)
    write_json(folder / SUMMARY_FILE, [row.summary() for row in rows])


def _result(folder: Path) -> RunResult:
    rows = stored_rows(folder)
    return RunResult(folder, rows, differences(rows))
