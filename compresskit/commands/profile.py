"""`compresskit profile`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compresskit.commands.terminal import show
from compresskit.errors import DataError

if TYPE_CHECKING:
    from compresskit.profiling import Comparison, ModelProfile

EXAMPLES = """
Examples:

  compresskit profile zoo.pynet.PyNET --input 1x4x64x64

  compresskit profile zoo.pynet.PyNET zoo.pynet.PyNETQxQ --input 1x4x64x64 --megapixels 108

  compresskit profile 'torchvision.models.resnet18(num_classes=10)' --input 1x3x224x224 --sort macs --top 5

  compresskit profile pynet_qxq#student --latency --json student.json
"""


def profile(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL", help="A dotted name with literal arguments, or RECIPE#teacher, RECIPE#student."
        ),
    ],
    *,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="SHAPE",
            help="1x4x64x64, ids=1x128:int64 or @batch.pt; not needed for a recipe's models.",
        ),
    ] = None,
    megapixels: Annotated[
        float | None, typer.Option(metavar="N", help="A picture of this size instead, rounded up to a size that fits.")
    ] = None,
    latency: Annotated[bool, typer.Option("--latency", help="Time real runs; several models in turn.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Measure the memory of a real run.")] = False,
    receptive_field: Annotated[
        bool, typer.Option("--receptive-field", help="Probe how far one pixel of the input reaches.")
    ] = False,
    crosscheck: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare the count with torch's counter, thop and fvcore.")
    ] = True,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with 1 if an operation is uncounted or a counter differs without a reason."
        ),
    ] = False,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="Device of real runs: auto, cpu, cuda, …; meta forbids them.")
    ] = "auto",
    max_seconds: Annotated[float, typer.Option(metavar="S", help="Limit of the timed calls.")] = 30.0,
    materialize: Annotated[
        bool, typer.Option("--materialize", help="Give lazy modules their weights by one real forward.")
    ] = False,
    depth: Annotated[int, typer.Option(metavar="N", min=0, help="Levels of modules in the table.")] = 1,
    sort: Annotated[
        str, typer.Option(metavar="ORDER", help="model, macs, parameters, output_bytes or bytes.")
    ] = "model",
    top: Annotated[int | None, typer.Option(metavar="N", min=1, help="Number of modules in the table.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all figures, exact.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a row for each module.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table.")] = None,
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="One of the recipe's presets.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change one value of the recipe.")
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="PACKAGE", help="Trust a package that a MODEL names.")
    ] = None,
) -> None:
    """Count the cost of a model: parameters, MACs, FLOPs, bytes and memory, and compare several models."""
    from compresskit import nodes
    from compresskit.profiling import ModelProfile
    from compresskit.profiling.files import write_files

    measured = {"latency": latency, "memory": memory, "receptive_field": receptive_field}
    options = {"crosscheck": crosscheck, "device": device, "materialize": materialize, "max_seconds": max_seconds}
    with nodes.allow(allow or ()):
        result = _profile_arguments(
            models,
            inputs or (),
            megapixels=megapixels,
            preset=preset,
            overrides=changes or (),
            fitted=any(measured.values()),
            **measured,
            **options,
        )
    show(result.table(depth=depth, sort=sort, top=top) if isinstance(result, ModelProfile) else result)
    write_files(result, json=json, csv=csv, markdown=markdown)
    if strict and result.doubts:
        sys.stderr.write(f"compresskit: --strict: {'; '.join(result.doubts)}\n")
        raise typer.Exit(1)


def _profile_arguments(
    models: Sequence[str],
    inputs: Sequence[str],
    *,
    megapixels: float | None,
    preset: str | None,
    overrides: Sequence[str],
    fitted: bool,
    **options: Any,
) -> "ModelProfile | Comparison":
    """Profile the model of one MODEL argument, or compare those of several.

    Args:
        models: MODEL arguments.
        inputs: `--input` options; without any, the data of the recipe provides the inputs of its models.
        megapixels: Size of the picture instead of that of the inputs.
        preset: Preset of the recipes.
        overrides: Changes to the recipes.
        fitted: Fit the parts of a recipe's model that are solved in closed form, for a real run.
        options: Options of `compresskit.profile`.
    """
    from compresskit.profiling import compare, profile
    from compresskit.profiling.counting.sizes import resize_to_megapixels
    from compresskit.profiling.input_option import common_inputs, parse_inputs
    from compresskit.recipe.building.model_argument import build_named

    if megapixels is not None and megapixels <= 0:
        raise DataError(f"--megapixels must be more than 0, got {megapixels:g}")
    named = build_named(models, with_inputs=not inputs, fitted=fitted, preset=preset, overrides=overrides)
    call = parse_inputs(inputs) if inputs else common_inputs({name: one.inputs for name, one in named.items()})
    built = {name: one.model for name, one in named.items()}
    if megapixels is not None:
        call = resize_to_megapixels(list(built.values()), call, megapixels)
    if len(built) == 1:
        (model,) = built.values()
        return profile(model, call.args, call.kwargs, **options)
    return compare(built, call.args, call.kwargs, **options)
