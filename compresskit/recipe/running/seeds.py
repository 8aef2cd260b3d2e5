"""One recipe under several seeds, to tell the effect of a method from chance.

Each seed is a whole run in a folder of its own, `OUT/seed-0`, `OUT/seed-1`, …, which resumes by itself.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from compresskit.distill.distiller import chosen_device
from compresskit.distill.processes import init_processes
from compresskit.distill.session.folder_lock import locked_folder
from compresskit.errors import RecipeError
from compresskit.files import write_json
from compresskit.recipe.reading.load import Recipe, load_recipe
from compresskit.recipe.reading.overrides import parse
from compresskit.recipe.run_files import RECIPE_FILE, SUMMARY_FILE
from compresskit.recipe.running.folder import choose_folder, write_recipe
from compresskit.recipe.running.resume_command import call_options, resume_hint
from compresskit.recipe.running.run import RunResult, run_in_folder
from compresskit.recipe.scoring.differences import Difference, differences
from compresskit.recipe.scoring.measure import Row
from compresskit.recipe.scoring.metric import Metric
from compresskit.recipe.scoring.tables import run_table
from compresskit.recipe.terminal import say, words
from compresskit.tables import plain_text

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class SeedsResult:
    """The results of several runs. It prints as a table of means ± standard deviations over the seeds."""

    folder: Path
    """The folder of all runs."""
    runs: Mapping[int, RunResult]
    """The result of each seed's run."""
    rows: Sequence[Row]
    """Rows of means over the seeds. Where a row of one run has a value per sample, these have one per seed."""
    differences: Sequence[Difference]
    """Differences by seed: under one seed both students start from the same weights and see the same batches."""

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        spread = "" if len(self.runs) == 1 else " ± standard deviation"
        lines = [
            f"Mean{spread} over seed{'s' * (len(self.runs) > 1)} {words(list(self.runs))}; differences by seed.",
            *map(str, self.differences),
            f"All of it is in {self.folder}",
        ]
        return Group(run_table(self.rows, _mean_and_spread), Text("\n".join(lines), no_wrap=True, overflow="ignore"))

    def __str__(self) -> str:
        return plain_text(self)


def run_seeds(
    recipe: str | Path,
    seeds: Sequence[int],
    *,
    preset: str | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    out: str | Path | None = None,
    resume: bool | str = False,
    device: str = "auto",
    trace: bool = False,
) -> SeedsResult:
    """Run a recipe once under each seed and compare over the seeds.

    Args:
        recipe: A file, or the name of a shipped recipe.
        seeds: Seeds to use in place of the recipe's own.
        preset: See `run_recipe`.
        overrides: See `run_recipe`; without the seed.
        out: The folder of all runs; None is `runs/NAME-seeds`, with the next free number behind the name.
        resume: Go on in `out`, or in the newest default folder of this recipe. Finished seeds are only read, and
            further seeds may be added. "auto" starts them where there are none to go on with.
        device: "auto" takes CUDA where there is a device; else a torch device name.
        trace: See `run_recipe`.

    Raises:
        CompressKitError: See `run_recipe`; or the seeds are not distinct whole numbers from 0.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGUSR1; standard error shows the command that resumes the runs.
    """
    overrides = overrides if isinstance(overrides, Mapping) else list(overrides)
    _check(seeds, overrides)
    with init_processes(chosen_device(device)) as processes:
        with processes.main_first():
            loaded = load_recipe(recipe, preset, overrides)
        series = replace(loaded, name=f"{loaded.name}-seeds")  # so that its folder is not taken for a single run's
        call = [str(recipe), *call_options(loaded.preset, overrides, device)]
        runs = {}
        with loaded.sources.with_locations():
            folder = processes.broadcast_from_main(lambda: choose_folder(series, out, resume=resume))
            arguments = [*call, "--seeds", ",".join(map(str, seeds))]
            with resume_hint(folder, arguments), locked_folder(folder, processes):
                if processes.is_main and not (folder / RECIPE_FILE).exists():
                    notes = "Each seed's own run is in the folder seed-SEED."
                    write_recipe(folder, series, f"compresskit run {shlex.join(arguments)}", notes)
                for seed in seeds:
                    say(f"seed {seed} ({len(runs) + 1} of {len(seeds)})")
                    single = replace(loaded, seed=seed)
                    own = processes.broadcast_from_main(partial(_own_folder, single, folder / f"seed-{seed}"))
                    single_call = [*call, "--set", f"seed={seed}"]
                    runs[seed] = run_in_folder(own, single, single_call, device, processes, trace=trace)
                rows = _over_seeds([run.rows for run in runs.values()])
                result = SeedsResult(folder, runs, rows, differences(rows))
                if processes.is_main:
                    write_json(folder / SUMMARY_FILE, _summary(result))
    return result


def _own_folder(recipe: Recipe, folder: Path) -> Path:
    """Return the folder of one seed's run, after checking that it is free or holds this run."""
    return choose_folder(recipe, folder, resume=(folder / RECIPE_FILE).exists())


def read_seeds(text: str) -> list[int]:
    """Return the seeds in the text of `--seeds`: `0,1,2`.

    Raises:
        RecipeError: The text is something else.
    """
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise RecipeError(f"--seeds {text}: expected whole numbers with commas between, such as 0,1,2") from None
    _check(seeds)
    return seeds


def _check(seeds: Sequence[int], overrides: Mapping[str, Any] | Sequence[str] = ()) -> None:
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise RecipeError(f"seeds: expected different whole numbers from 0, such as 0,1,2, got {words(seeds or [()])}")
    paths = overrides if isinstance(overrides, Mapping) else [parse(text)[0] for text in overrides]
    if "seed" in paths:
        raise RecipeError("seed: it is set and several seeds are given as well; leave one of them out")


def _over_seeds(runs: Sequence[Sequence[Row]]) -> list[Row]:
    """Return the rows of the first run, with the means over all runs and a value per seed."""
    means_over_seeds = []
    for rows in zip(*runs, strict=True):
        each = {name: [row.metrics[name] for row in rows] for name in rows[0].metrics}
        means = {name: fmean(values) for name, values in each.items()}
        means_over_seeds.append(replace(rows[0], metrics=means, per_sample=each))
    return means_over_seeds


def _mean_and_spread(row: Row, metric: Metric) -> str:
    each = row.per_sample[metric.name]
    return row.figure(metric) + (f" ± {metric.spread(stdev(each))}" if len(each) > 1 else "")


def _summary(result: SeedsResult) -> list[dict[str, Any]]:
    """Return the rows of `summary.json`: means, and the values of each seed beside them."""
    seeds = list(result.runs)
    rows = []
    for row in result.rows:
        spread = {name: stdev(values) for name, values in row.per_sample.items() if len(seeds) > 1}
        rows.append({**row.summary(), "seeds": seeds, "std": spread, "per_seed": dict(row.per_sample)})
        if row.role == "distilled":
            rows[-1]["minus"] = [
                {"than": d.than, "metric": d.metric.name, "mean": d.mean, "each": d.each, "better": d.better}
                for d in result.differences
            ]
    return rows
