"""`compresskit export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

EXAMPLES = """
Examples:

  compresskit export runs/pynet_qxq --format onnx -o student.onnx

  compresskit export runs/pynet_qxq --format onnx --dynamic --wrap zoo.raw.FromMosaic -o camera.onnx

  compresskit export pynet_qxq --weights student.safetensors --format pt2 --size 128x128 -o student.pt2
"""


def export(
    source: Annotated[
        str, typer.Argument(metavar="RECIPE|RUN", help="A run's folder, zoo:NAME, or a recipe together with --weights.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")],
    format: Annotated[Literal["onnx", "pt2"], typer.Option(help="ONNX, or PyTorch's own torch.export.")],
    weights: Annotated[Path | None, typer.Option(metavar="FILE", help="Weights for a recipe.")] = None,
    part: Annotated[str | None, typer.Option(help="student, teacher, alone or inherited.")] = None,
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="A recipe's preset.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change the recipe's data.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Of the model's input; a training sample's if not given.")
    ] = None,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Let height and width differ from that.")] = False,
    wrap: Annotated[
        str | None, typer.Option(metavar="NAME", help="A module to put the model into, such as zoo.raw.FromMosaic.")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="float16, inputs and outputs too.")] = False,
    reflection: Annotated[
        Literal["pad", "slices"], typer.Option(help="How reflection padding is written; slices run everywhere.")
    ] = "pad",
    batch: Annotated[bool, typer.Option("--batch", help="Let the number of samples at once differ from 1.")] = False,
    nhwc: Annotated[bool, typer.Option("--nhwc", help="Inputs with their channels as the last axis.")] = False,
    opset: Annotated[int | None, typer.Option(help="Version of ONNX's operators.")] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="Largest difference from PyTorch that passes.", show_default="1e-4; half 2e-2")
    ] = None,
    allow: Annotated[list[str] | None, typer.Option(metavar="PACKAGE", help="Trust a package.")] = None,
) -> None:
    """Write a run's model as a file for other runtimes, after comparing it with PyTorch on real samples."""
    from compresskit import nodes
    from compresskit.recipe.running.export import export_model

    with nodes.allow(allow or ()):
        exported = export_model(
            source,
            out,
            format=format,
            weights=weights,
            part=part,
            preset=preset,
            overrides=changes or (),
            size=size,
            dynamic=dynamic,
            wrap=wrap,
            half=half,
            sliced_reflection=reflection == "slices",
            any_batch=batch,
            channels_last=nhwc,
            opset=opset,
            tolerance=tolerance,
        )
    typer.echo(str(exported))
