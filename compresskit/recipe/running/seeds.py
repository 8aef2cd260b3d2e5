"""One recipe under several seeds: what is the method's doing, and what is chance.

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
from compresskit.errors import RecipeError
from compresskit.files import write_json
from compresskit.recipe.reading.load import Recipe, load_recipe
from compresskit.recipe.reading.overrides import parse
from compresskit.recipe.reading.run_files import RECIPE_FILE, SUMMARY_FILE
from compresskit.recipe.running.folder import choose_folder, write_recipe
from compresskit.recipe.running.result import RunResult
from compresskit.recipe.running.resume_command import call_options, says_how_to_go_on
from compresskit.recipe.running.run import run_in
from compresskit.recipe.scoring.differences import Difference, differences
from compresskit.recipe.scoring.measure import Row
from compresskit.recipe.scoring.metric import Metric
from compresskit.recipe.scoring.tables import run_table
from compresskit.recipe.terminal import plain_text, say, words

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class SeedsResult:
    """What the runs came to together. It prints well: mean ± standard deviation over the seeds."""

    folder: Path
    """Where everything is."""
    runs: Mapping[int, RunResult]
    """By seed."""
    rows: Sequence[Row]
    """The mean over the seeds; where a row of one run has a figure for each sample, these have one for each seed."""
    differences: Sequence[Difference]
    """Seed by seed: under one seed both students start from the same weights and see the same batches."""

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        spread = "" if len(self.runs) == 1 else " ± standard deviation"
        said = [
            f"Mean{spread} over seed{'s' * (len(self.runs) > 1)} {words(list(self.runs))}; differences by seed.",
            *map(str, self.differences),
            f"All of it is in {self.folder}",
        ]
        return Group(run_table(self.rows, _mean_and_spread), Text("\n".join(said), no_wrap=True, overflow="ignore"))

    def __str__(self) -> str:
        return plain_text(self)


def run_seeds(
    recipe: str | Path,
    seeds: Sequence[int],
    *,
    preset: str | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    trace: bool = False,
) -> SeedsResult:
    """Run a recipe once under each seed and compare over the seeds.

    Args:
        recipe: A file, or the name of a shipped recipe.
        seeds: Each takes the place of the recipe's own.
        preset: As in `run_recipe`.
        overrides: As in `run_recipe`, without the seed.
        out: The folder of all runs; None is `runs/NAME-seeds`, with the next free number behind the name.
        resume: Go on in `out`, or in the newest default folder of this recipe. Finished seeds are only read again, and
            further seeds may be added.
        device: "auto" takes CUDA where there is a device; else a torch device name.
        trace: As in `run_recipe`.

    Raises:
        CompressKitError: As from `run_recipe`; or the seeds are no different whole numbers from 0.
        KeyboardInterrupt: Ctrl-C; standard error says how to go on.
    """
    overrides = overrides if isinstance(overrides, Mapping) else list(overrides)
    _check(seeds, overrides)
    with init_processes(chosen_device(device)) as processes:
        with processes.main_first():
            loaded = load_recipe(recipe, preset, overrides)
        together = replace(loaded, name=f"{loaded.name}-seeds")  # so that it is not taken for a single run's folder
        call = [str(recipe), *call_options(loaded.preset, overrides, device)]
        runs = {}
        with loaded.sources.with_locations():
            folder = processes.broadcast_from_main(lambda: choose_folder(together, out, resume=resume))
            command = [*call, "--seeds", ",".join(map(str, seeds))]
            with says_how_to_go_on(folder, command):
                if processes.is_main and not (folder / RECIPE_FILE).exists():
                    notes = "Each seed's own run is in the folder seed-SEED."
                    write_recipe(folder, together, f"compresskit run {shlex.join(command)}", notes)
                for seed in seeds:
                    say(f"seed {seed} ({len(runs) + 1} of {len(seeds)})")
                    one = replace(loaded, seed=seed)
                    place = processes.broadcast_from_main(partial(_place, one, folder / f"seed-{seed}"))
                    own = [*call, "--set", f"seed={seed}"]
                    runs[seed] = run_in(place, one, own, device, processes, trace=trace)
        rows = _over_seeds([run.rows for run in runs.values()])
        result = SeedsResult(folder, runs, rows, differences(rows))
        if processes.is_main:
            write_json(folder / SUMMARY_FILE, _summary(result))
    return result


def _place(recipe: Recipe, folder: Path) -> Path:
    """The folder of one seed's run, begun or not."""
    return choose_folder(recipe, folder, resume=(folder / RECIPE_FILE).exists())


def read_seeds(text: str) -> list[int]:
    """The seeds in the text of `--seeds`: `0,1,2`.

    Raises:
        RecipeError: It is something else.
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
    """The rows of the first run, each with the means over all runs, and a figure for each seed."""
    over = []
    for rows in zip(*runs, strict=True):
        each = {name: [row.metrics[name] for row in rows] for name in rows[0].metrics}
        means = {name: fmean(values) for name, values in each.items()}
        over.append(replace(rows[0], metrics=means, per_sample=each))
    return over


def _mean_and_spread(row: Row, metric: Metric) -> str:
    each = row.per_sample[metric.name]
    return row.figure(metric) + (f" ± {metric.spread(stdev(each))}" if len(each) > 1 else "")


def _summary(result: SeedsResult) -> list[dict[str, Any]]:
    """The rows of `summary.json`: means, and beside them what was found under each seed."""
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
