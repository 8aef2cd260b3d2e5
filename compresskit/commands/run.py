"""`compresskit run`."""

from pathlib import Path
from typing import Annotated

import typer

from compresskit.commands.terminal import recipe_names, show

EXAMPLES = """
Examples:

  compresskit run pynet_qxq                       a shipped recipe, its quick preset

  compresskit run pynet_qxq --dry-run             show what it would do

  compresskit run my.yaml --set stages.1.steps=50 numbers count from 0, values are YAML

  compresskit run my.yaml --resume                go on with its newest run

  compresskit run digits --seeds 0,1,2            once under each seed: mean, spread, paired differences

  torchrun --nproc-per-node 2 -m compresskit run my.yaml     two processes share each batch, a GPU each
"""


def run(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A YAML file, or the name of a shipped recipe.", autocompletion=recipe_names
        ),
    ],
    *,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of the recipe's presets; 'quick' where it has one.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change one value, after the preset; as often as you like."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The run's folder.", show_default="runs/NAME, the next free number"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, or with the newest one.")
    ] = False,
    auto_resume: Annotated[
        bool,
        typer.Option(
            "--auto-resume", help="Like --resume, but start a run if there is none: for jobs that a scheduler requeues."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Build everything, show the plan, write nothing.")] = False,
    trace: Annotated[
        bool,
        typer.Option("--trace", help="Write a profiler's trace of a few steps of each stage into the run's folder."),
    ] = False,
    seeds: Annotated[
        str | None, typer.Option(metavar="0,1,2", help="Run once under each of these seeds, and compare over them.")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="'auto' takes a GPU where there is one; else 'cpu', 'cuda:1', …")
    ] = "auto",
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PACKAGE", help="Trust a package that the recipe names; the current folder is searched too."
        ),
    ] = None,
) -> None:
    """Run a recipe: train, distil, compare, and write a folder with all of it."""
    from compresskit import nodes
    from compresskit.recipe.running.run import run_recipe
    from compresskit.recipe.running.seeds import read_seeds, run_seeds

    several = None if seeds is None else read_seeds(seeds)
    where = {"out": out, "resume": "auto" if auto_resume else resume, "device": device, "trace": trace}
    with nodes.allow(allow or ()):
        if several is None or dry_run:  # the plan is the same under every seed
            result = run_recipe(recipe, preset=preset, overrides=changes or (), dry_run=dry_run, **where)
        else:
            result = run_seeds(recipe, several, preset=preset, overrides=changes or (), **where)
    show(result)
