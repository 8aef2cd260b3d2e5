"""The zoo's commands of `compresskit`: their arguments only. The work is imported when a command starts.

`compresskit` finds them by the entry point group `compresskit.commands`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from compresskit.errors import RecipeError, close_names

if TYPE_CHECKING:
    from zoo.frames.frame import Gains
    from zoo.frames.method import Method
    from zoo.frames.mipi import Layout, Packing
    from zoo.raw.sensor.encoding import Domain

_SHIPPED = {"student": "zoo:pynet_qxq", "teacher": "zoo:pynet"}
"""The networks that come with the package, by method."""


def demosaic(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="Mosaics: 16-bit PNG or TIFF, .npy, .raw or .bin with --packing, DNG, camera files.",
        ),
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the pictures, NAME_METHOD.png each.")
    ],
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE|RUN", help="A run's folder, a file of weights, or a released one; else ours."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="student (the default) or teacher; or lmmse, nc, …, which need no weights.")
    ] = None,
    cfa: Annotated[
        str | None, typer.Option(metavar="NAME-PHASE", help="The array and its phase, such as qxq-grbg or quad-rggb.")
    ] = None,
    mosaic: Annotated[
        bool, typer.Option("--mosaic", help="The images are colour photographs: simulate a sensor that sees them.")
    ] = False,
    packing: Annotated[
        Literal["raw10", "raw12", "raw16"] | None, typer.Option(help="How .raw and .bin files are packed.")
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Size of .raw and .bin files, in pixels.")] = None,
    stride: Annotated[int | None, typer.Option(help="Bytes from row to row of .raw and .bin files.")] = None,
    black: Annotated[float | None, typer.Option(help="The number that means no light.")] = None,
    white: Annotated[float | None, typer.Option(help="The number where a pixel is full.")] = None,
    white_balance: Annotated[
        str | None, typer.Option(metavar="R,G,B|none", help="Gains, instead of the file's own if it states some.")
    ] = None,
    encoded: Annotated[
        bool, typer.Option("--encoded", help="The mosaics' values are display-encoded (sRGB) already.")
    ] = False,
    defects: Annotated[
        Path | None, typer.Option(metavar="MAP", help="An image that is not zero at defect pixels.")
    ] = None,
    domain: Annotated[
        Literal["linear", "display"] | None,
        typer.Option(help="Encoding that the method works in, instead of the one it was made for."),
    ] = None,
    to: Annotated[
        Literal["png", "tiff", "npy"], typer.Option("--to", help="Format of the pictures; npy has 32-bit floats.")
    ] = "png",
    bits: Annotated[int, typer.Option(help="Bits of a value in PNG and TIFF: 8 or 16.")] = 8,
    linear: Annotated[bool, typer.Option("--linear", help="Write linear values, not display-encoded ones.")] = False,
    bayer: Annotated[
        str | None,
        typer.Option(metavar="PHASE", help="Write a 16-bit Bayer mosaic of this phase instead of a picture."),
    ] = None,
    memory: Annotated[
        float, typer.Option(metavar="GIB", help="Memory for the work, besides a frame and its picture.")
    ] = 2.0,
    device: Annotated[str, typer.Option(help="'cpu', 'cuda', …")] = "cpu",
    precision: Annotated[
        Literal["fp32", "bf16", "auto"],
        typer.Option(help="Precision of a network; bf16, or auto, is faster where the processor has bfloat16 units."),
    ] = "fp32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist already.")] = False,
) -> None:
    """Make pictures of raw frames of any size, by a network or a conventional method.

    Examples:
      compresskit demosaic frame.png -o pictures --cfa qxq-grbg --black 64 --white 1023

      compresskit demosaic frame.dng -o pictures --weights runs/pynet_qxq

      compresskit demosaic frame.png -o pictures --method lmmse --cfa qxq-grbg --black 64 --white 1023

      compresskit demosaic photograph.png -o pictures --mosaic --method nc --cfa quad-rggb
    """
    from zoo.frames import command
    from zoo.frames.levels import Input
    from zoo.frames.memory import return_freed_memory
    from zoo.raw.sensor.cfa import CFA

    return_freed_memory()
    inputs = Input(
        cfa=None if cfa is None else CFA.of(cfa),
        photographs=mosaic,
        layout=_layout(packing, size, stride),
        black=black,
        white=white,
        gains=_gains(white_balance),
        encoded=encoded,
        defects=defects,
    )
    output = command.Output(
        folder=out,
        format=to,
        bits=16 if bayer is not None else _bits(bits),
        linear=linear,
        bayer=None if bayer is None else CFA.named("bayer", bayer),
        overwrite=overwrite,
    )
    chosen = _method(method, weights, domain, device, precision)
    if precision == "bf16" and not chosen.half:
        typer.echo("--precision bf16: this processor has no bfloat16 units, so the network runs in float32", err=True)
    for line in command.demosaic(images, chosen, inputs, output, memory=memory):
        typer.echo(line)


def _method(name: str | None, weights: Path | None, domain: "Domain | None", device: str, precision: str) -> "Method":
    from zoo.frames.method import conventional_method, network_method
    from zoo.raw.methods.methods import METHODS

    known = (*_SHIPPED, *METHODS)
    name = name or "student"
    if name not in known:
        raise RecipeError(f"--method: there is no {name!r}{close_names(name, known)}")
    if name not in _SHIPPED:
        if precision == "bf16":
            raise RecipeError(f"--precision {precision} is for networks, and {name} is none; leave it out")
        return conventional_method(name, weights, domain, device)
    return network_method(name, weights or Path(_SHIPPED[name]), domain, device, precision)


def _layout(packing: "Packing | None", size: str | None, stride: int | None) -> "Layout | None":
    from zoo.frames.mipi import Layout

    if packing is None and size is None and stride is None:
        return None
    if packing is None or size is None:
        raise RecipeError("binary mosaics need both --packing and --size, such as --packing raw10 --size 4000x3000")
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise RecipeError(f"--size is width x height in pixels, such as 4000x3000, got {size!r}")
    return Layout(packing, int(width), int(height), stride)


def _gains(text: str | None) -> "Gains | None":
    if text is None:
        return None
    if text == "none":
        return (1.0, 1.0, 1.0)
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise RecipeError(f"--white-balance is three gains, such as 2.0,1,1.6, or none; got {text!r}") from None
    if not all(0 < gain < float("inf") for gain in (red, green, blue)):
        raise RecipeError(f"--white-balance: gains are above 0, got {text!r}")
    return (red, green, blue)


def _bits(bits: int) -> int:
    if bits not in (8, 16):
        raise RecipeError(f"--bits is 8 or 16, got {bits}")
    return bits
