"""`compresskit evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from compresskit.commands.terminal import recipe_names, show

EXAMPLES = """
Examples:

  compresskit evaluate runs/pynet_qxq                                      a run's student, on its test data

  compresskit evaluate pynet_qxq --weights student.safetensors --data DIR  on other photographs

  compresskit evaluate pynet_qxq --methods lmmse,skr,nc --limit 4          conventional methods alone
"""


def evaluate(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A YAML file, a shipped recipe's name, or a run's folder.",
            autocompletion=recipe_names,
        ),
    ],
    *,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The student's; a run's folder has its own.")
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Measure on this instead of the test data.")] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="What to compare, the first with all others.",
            show_default="the student and the evaluation's baselines",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Only the first N samples.")] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of the recipe's presets; 'quick' where it has one.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change one value, after the preset.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For tables and pictures.", show_default="evaluations/NAME")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="'auto' takes a GPU where there is one; else 'cpu', 'cuda:1', …")
    ] = "auto",
    allow: Annotated[
        list[str] | None, typer.Option(metavar="PACKAGE", help="Trust a package that the recipe names.")
    ] = None,
) -> None:
    """Measure trained weights beside other methods, with intervals, and write tables and pictures."""
    from compresskit import nodes
    from compresskit.recipe.scoring.evaluate import evaluate_recipe

    names = None if methods is None else [name.strip() for name in methods.split(",")]
    with nodes.allow(allow or ()):
        result = evaluate_recipe(
            recipe,
            weights,
            data=data,
            methods=names,
            limit=limit,
            preset=preset,
            overrides=changes or (),
            out=out,
            device=device,
        )
    show(result)
