"""A whole run: the teacher, the student, its controls, and the table at the end. Each part resumes by itself."""

import copy
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compresskit.data import SampleLoader
from compresskit.distill.cache.cache import TeacherCache
from compresskit.distill.distiller import ProgressiveDistiller, chosen_device
from compresskit.distill.processes import Processes, init_processes
from compresskit.distill.session.folder_lock import locked_folder
from compresskit.distill.session.plan import Plan, check_cache
from compresskit.distill.spec.address import STUDENT, TEACHER
from compresskit.distill.spec.inherit import Inherit
from compresskit.distill.spec.stage import Stage
from compresskit.environment import environment
from compresskit.errors import CheckpointError
from compresskit.files import read_records, read_weights, write_json, write_records, write_text, write_weights
from compresskit.nodes import without_downloads
from compresskit.recipe.building.closed_form import fit_to_data, restore_fitted
from compresskit.recipe.building.components import build_components, control_stages
from compresskit.recipe.reading.load import Recipe, load_recipe
from compresskit.recipe.run_files import (
    ALONE,
    DAMAGED_RECIPE_FILE,
    ENVIRONMENT_FILE,
    FITTED_FILE,
    INHERITED,
    RECIPE_FILE,
    SUMMARY_FILE,
    has_checkpoint,
    part_folder,
    pretraining_of,
    recipe_damage,
)
from compresskit.recipe.running.finished import is_finished
from compresskit.recipe.running.folder import choose_folder, replace_recipe, write_recipe
from compresskit.recipe.running.resume_command import call_options, resume_hint
from compresskit.recipe.scoring.card import card
from compresskit.recipe.scoring.differences import Difference, differences
from compresskit.recipe.scoring.measure import Contender, Row, illustrate, input_shapes, measure, stored_rows
from compresskit.recipe.scoring.tables import run_table
from compresskit.recipe.terminal import say
from compresskit.tables import plain_text

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class RunResult:
    """The results of a run, or the plans of a dry run.

    A finished run prints as the table of its rows and the paired differences between them.
    """

    folder: Path | None
    """The run's folder; None after a dry run, which writes nothing."""
    rows: Sequence[Row] = ()
    """A row for each baseline, the teacher, the controls (`alone`, `inherited`) and the student distilled."""
    differences: Sequence[Difference] = ()
    plans: Mapping[str, Plan] = field(default_factory=dict)
    """After a dry run, the plan of each part of the run, by its title."""

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        if self.folder is None:
            text = f"{plans_text(self.plans)}\n\nNothing was trained and nothing was written."
            return Text(text, no_wrap=True, overflow="ignore")
        text = "\n".join([*map(str, self.differences), f"All of it is in {self.folder}"])
        return Group(run_table(self.rows), Text(text, no_wrap=True, overflow="ignore"))

    def __str__(self) -> str:
        return plain_text(self)


def run_recipe(
    recipe: str | Path,
    *,
    preset: str | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    out: str | Path | None = None,
    resume: bool | str = False,
    device: str = "auto",
    dry_run: bool = False,
    trace: bool = False,
) -> RunResult:
    """Run a recipe from its data to the table at its end.

    Under `torchrun` its processes share every batch of the run: the numbers are those of one process but for their
    rounding. Only the main process writes files and messages.

    Args:
        recipe: A file, or the name of a shipped recipe.
        preset: A name from its `presets`; None takes `quick` where there is one.
        overrides: Changes on top of the preset: `"stages.1.steps=50"` as on the command line, or `{path: value}`.
        out: The run's folder; None is `runs/NAME`, with the next free number behind the name.
        resume: Go on with the run in `out`, or in the newest default folder that holds this recipe. The result has the
            same numbers as that of a run that nothing stopped. "auto" starts a run where there is none to go on with.
        device: "auto" takes CUDA where there is a device; else a torch device name.
        dry_run: Build everything, trace one batch through every stage, and write nothing.
        trace: Write a profiler's trace of a few steps of each stage, in the folder `trace` of each part.

    Raises:
        CompressKitError: The recipe, the data, weights or the folder cannot be used; nothing is lost.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGUSR1; standard error shows the command that resumes the run.
    """
    overrides = overrides if isinstance(overrides, Mapping) else list(overrides)
    with init_processes(chosen_device(device)) as processes:
        with processes.main_first():
            loaded = load_recipe(recipe, preset, overrides)
        if preset is None and "full" in loaded.presets and loaded.preset != "full" and torch.cuda.is_available():
            say("There is a GPU here: --preset full runs the whole recipe on it.")
        with loaded.sources.with_locations():
            if dry_run:
                with without_downloads():
                    run = _Run(loaded, None, device)
                    run.fit_closed_form()
                    return RunResult(None, plans=run.plans())
            folder = processes.broadcast_from_main(lambda: choose_folder(loaded, out, resume=resume))
            arguments = [str(recipe), *call_options(loaded.preset, overrides, device)]
            with resume_hint(folder, arguments):
                return run_in_folder(folder, loaded, arguments, device, processes, trace=trace)


def run_in_folder(
    folder: Path, recipe: Recipe, arguments: Sequence[str], device: str, processes: Processes, *, trace: bool = False
) -> RunResult:
    """Run a recipe in a folder from `choose_folder`: from the start, or from where an earlier call stopped.

    Args:
        folder: The run's folder.
        recipe: The recipe to run.
        arguments: Arguments of the `compresskit run` that this call amounts to, for the record.
        device: "auto", or a torch device name.
        processes: The processes of the run.
        trace: See `run_recipe`.
    """
    if processes.broadcast_from_main(lambda: is_finished(folder)):
        say(f"{folder} is finished already")
        return _result(folder)
    resumes = processes.broadcast((folder / RECIPE_FILE).exists())  # before others are locked out, to notice a new one
    with locked_folder(folder, processes):
        with processes.main_first():
            run = _Run(recipe, folder, device, trace=trace)
            environment_record = _begin(
                run, folder, f"compresskit run {shlex.join(arguments)}", processes, resumes=resumes
            )
        _train(run)
        if processes.is_main:
            _finish(run, folder, environment_record)
        processes.wait()
    return _result(folder)


class _Run:
    """A recipe's components and the distiller of each part: the teachers', the student's, the control's."""

    def __init__(self, recipe: Recipe, folder: Path | None, device: str, *, trace: bool = False) -> None:
        self.recipe, self.folder, self.trace = recipe, folder, trace
        self.components = components = build_components(recipe)
        self.distillers: dict[str, ProgressiveDistiller] = {}
        self.trained: dict[str, nn.Module] = {}
        """The trained model of each finished part."""
        for name, stages in recipe.pretrain.items():
            view = {STUDENT: components.views[name]} if name in components.views else {}
            self._add(pretraining_of(name), {}, components.teachers[name], stages, device, view)
        self._add(
            STUDENT, components.teachers, components.student, recipe.stages, device, components.views, recipe.inherit
        )

    @property
    def device(self) -> torch.device:
        """The device that the models are trained on."""
        return self.distillers[STUDENT].device

    def fit_closed_form(self) -> dict[str, Tensor]:
        """Solve what has a closed form, or load the solution from the run's folder, and add the controls.

        The controls come last because they start from a copy of the student's initial weights, which are final only
        now.

        Returns:
            The state to save; empty if it was loaded.
        """
        file = None if self.folder is None else self.folder / FITTED_FILE
        state = {}
        if file is None or not file.exists() or not self._restore_fitted(file):
            state = fit_to_data(self.components, self.recipe.seed)
        if self.recipe.control:
            stages, device, views = control_stages(self.recipe.stages), str(self.device), self.components.views
            own_view = {name: view for name, view in views.items() if name == STUDENT}
            self._add(ALONE, {}, copy.deepcopy(self.components.student), stages, device, own_view)
            if self.recipe.inherit is not None:
                student, teachers = copy.deepcopy(self.components.student), self.components.teachers
                self._add(INHERITED, teachers, student, stages, device, views, self.recipe.inherit)
                self.distillers[STUDENT] = self.distillers.pop(STUDENT)  # last: a teacher may learn beside the student
        return state

    def _restore_fitted(self, file: Path) -> bool:
        """Load the closed-form solution from a file; return False, and say so, if the file is damaged."""
        try:
            read_weights(file)
        except CheckpointError as error:
            say(f"{error}; it is solved again")
            return False
        restore_fitted(self.components, file, self.recipe.seed)
        return True

    def resolve_auto(self, folder: Path) -> None:
        """Replace `auto` in the recipe by the choice in the run's folder, or by what is fastest on this machine."""
        if self.recipe.precision.is_resolved:
            return
        if (folder / RECIPE_FILE).exists():
            precision = load_recipe(folder / RECIPE_FILE).precision
        else:
            batch = next(iter(self.components.loader(self.recipe, "train", workers=0)))
            precision = self.distillers[STUDENT].resolve_auto(batch, note=say, shared=False)
        self.recipe = replace(self.recipe, precision=precision)
        for distiller in self.distillers.values():
            distiller.precision = precision

    def plans(self) -> dict[str, Plan]:
        """Return the plan of each part by its title, traced on the first batch."""
        loader = self.components.loader(self.recipe, "train", workers=0)
        batch = next(iter(loader))
        plans = {part: distiller.plan(batch) for part, distiller in self.distillers.items()}
        self._check_cache(plans[STUDENT], loader)
        return {self.title(part): plan for part, plan in plans.items()}

    def _check_cache(self, plan: Plan, loader: SampleLoader) -> None:
        """Refuse a cache that cannot work before the teacher is trained, not after."""
        student = self.distillers[STUDENT]
        options = student.cache
        if options is None or options.auto or not student.models.teachers:
            return
        if self.folder is None:  # nothing is written
            options = replace(options, folder=None)
        cache = TeacherCache(options, loader, "", say)
        check_cache(
            [stage.constants for stage in plan.stages],
            cache,
            student.stages,
            loader,
            min(loader.batch_size, len(loader.dataset)),
        )

    def title(self, part: str) -> str:
        """Return a sentence about what is trained in a part."""
        if part == ALONE:
            return "the same student learns alone, on the supervised terms only"
        if part == INHERITED:
            return "the same student starts from the teacher's weights and learns alone"
        if part != STUDENT:
            return f"{'the teacher' if part == TEACHER else part.replace('-', ' ', 1)} learns on its own"
        return "the student learns" + (" from the teacher" if self.components.teachers else "")

    def contenders(self) -> list[Contender]:
        """Return all models that the table at the end compares."""
        components = self.components
        student = components.viewed(STUDENT, self.trained[STUDENT])
        baselines = [Contender(name, "baseline", model) for name, model in components.baselines.items()]
        if not components.teachers:
            return [*baselines, Contender("student", "alone", student)]
        teachers = [
            Contender(name, "teacher", components.viewed(name, model)) for name, model in components.teachers.items()
        ]
        control = []
        if self.recipe.control:
            control = [
                Contender(f"student {part}", part, components.viewed(STUDENT, self.trained[part]))
                for part in (ALONE, INHERITED)
                if part in self.trained
            ]
        return [*baselines, *teachers, *control, Contender("student distilled", "distilled", student)]

    def _add(
        self,
        part: str,
        teachers: Mapping[str, nn.Module],
        student: nn.Module,
        stages: Sequence[Stage],
        device: str,
        views: Mapping[str, Any],
        inherit: Inherit | None = None,
    ) -> None:
        recipe = self.recipe
        out = None if self.folder is None else part_folder(self.folder, part)
        options = {
            "seed": recipe.seed,
            "device": device,
            "views": views,
            "out": out,
            "cache": recipe.cache,
            "inherit": inherit,
        }
        options |= recipe.precision.to_dict()
        self.distillers[part] = ProgressiveDistiller(teachers, student, stages, **options)


def _begin(run: _Run, folder: Path, command: str, processes: Processes, *, resumes: bool) -> dict[str, Any]:
    """Begin or resume the run in its folder, once everything is known to fit, and return this call's environment."""
    environment_record = {**environment(run.device), "processes": processes.count}
    fitted = run.fit_closed_form()
    run.resolve_auto(folder)
    if not processes.is_main:  # the main process came first and wrote the files below
        return environment_record
    if resumes:
        if damage := recipe_damage(folder):
            say(f"{damage}; it is now {DAMAGED_RECIPE_FILE}, and the recipe of this call takes its place")
            replace_recipe(folder, run.recipe, command)
        say(f"going on in {folder}" if has_checkpoint(folder) else f"{folder} has no checkpoint yet: starting again")
    else:
        plans = plans_text(run.plans())
        write_recipe(folder, run.recipe, command, f"The plan, traced on one batch before the run:\n\n{plans}")
        say(f"running in {folder}")
    _add_session(folder / ENVIRONMENT_FILE, environment_record)
    if fitted:
        write_weights(folder / FITTED_FILE, fitted)
    return environment_record


def _add_session(path: Path, session: Mapping[str, Any]) -> None:
    """Add a session to the file of all sessions; a damaged one is only information, so it is set aside."""
    sessions, intact = read_records(path)
    if not intact:
        aside = path.with_name(f"{path.stem}.damaged{path.suffix}")
        say(f"{path} is damaged: it is now {aside.name}, and {len(sessions)} sessions in it can be read")
        path.replace(aside)
    write_records(path, [*sessions, session])


def _train(run: _Run) -> None:
    """Train each part to its end; a finished part is only loaded."""
    for number, (part, distiller) in enumerate(run.distillers.items(), start=1):
        say(f"part {number} of {len(run.distillers)}: {run.title(part)}")
        validation = None if run.components.val is None else run.components.loader(run.recipe, "val")
        result = distiller.fit(run.components.loader(run.recipe, "train"), validation, resume="auto", trace=run.trace)
        run.trained[part] = result.student
        if part.partition("-")[0] == TEACHER and result.student is not distiller.student:
            # a teacher teaches with its averaged weights
            distiller.student.load_state_dict(result.student.state_dict())


def _finish(run: _Run, folder: Path, environment_record: Mapping[str, Any]) -> None:
    """Measure all contenders, draw the pictures, and write the card and the summary."""
    contenders, evaluation, seed = run.contenders(), run.components.evaluation, run.recipe.seed
    inputs = run.components.sample()
    rows = measure(contenders, evaluation, inputs, folder, seed)
    illustrate(contenders, evaluation, folder / "images", seed)
    names = getattr(run.components.test, "names", ())
    text = card(run.recipe, rows, differences(rows), environment_record, inputs=input_shapes(inputs), samples=names)
    write_text(folder / "card.md", text)
    write_json(folder / SUMMARY_FILE, [row.summary() for row in rows])


def _result(folder: Path) -> RunResult:
    rows = stored_rows(folder)
    return RunResult(folder, rows, differences(rows))


def plans_text(plans: Mapping[str, Plan]) -> str:
    """Return plans for people, one after the other under their titles."""
    parts = [f"Part {number} of {len(plans)}: {title}" for number, title in enumerate(plans, start=1)]
    return "\n\n\n".join(f"{part}\n\n{plan}" for part, plan in zip(parts, plans.values(), strict=True))
