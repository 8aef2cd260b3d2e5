"""The command line: arguments in, exit codes out.

0 done; 2 the user's input was wrong, said in one to three lines; 1 the run failed (a bug and the user's own code keep
their traceback); 130 Ctrl-C. torch is imported only when a command starts to work.
"""

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from compresskit.errors import CompressKitError, ExportError, TrainingError

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(
    name="compresskit",
    help="Compress a PyTorch model by distilling it, stage by stage, into a smaller one.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # a traceback should be Python's own
)

_EXAMPLES = """
Examples:

  compresskit run pynet_qxq                       a shipped recipe, its quick preset

  compresskit run pynet_qxq --dry-run             show what it would do

  compresskit run my.yaml --set stages.1.steps=50 numbers count from 0, values are YAML

  compresskit run my.yaml --resume                go on with its newest run

  compresskit run digits --seeds 0,1,2            once under each seed: mean, spread, paired differences
"""


_PROFILE_EXAMPLES = """
Examples:

  compresskit profile zoo.pynet.PyNET --input 1x4x64x64

  compresskit profile zoo.pynet.PyNET zoo.pynet.PyNETQxQ --input 1x4x64x64 --megapixels 108

  compresskit profile 'torchvision.models.resnet18(num_classes=10)' --input 1x3x224x224 --sort macs --top 5

  compresskit profile pynet_qxq#student --latency --json student.json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; a bug or the user's own code raises what it raises."""
    _add_installed_commands()
    try:
        code = app(
            list(sys.argv[1:] if arguments is None else arguments), prog_name="compresskit", standalone_mode=False
        )
    except SystemExit as end:  # typer's way to end a command
        code = end.code
    except Exception as error:
        message = getattr(error, "format_message", None)  # typer's word on wrong arguments; it would take five lines
        if message is None:
            raise
        if text := message():  # without any arguments the help was printed, and there is nothing to add
            sys.stderr.write(f"compresskit: {text}\nSee compresskit --help.\n")
        code = 2
    return code if isinstance(code, int) else 0


@app.callback()
def _commands() -> None:
    """Compress a PyTorch model by distilling it, stage by stage, into a smaller one."""


def _add_installed_commands() -> None:
    """Add the commands of installed packages: functions in the entry point group `compresskit.commands`."""
    known = {command.name for command in app.registered_commands}
    for point in entry_points(group="compresskit.commands"):
        if point.name not in known:
            function = point.load()
            app.command(point.name)(wraps(function)(_exit_codes()(function)))


def _recipe_names(incomplete: str) -> list[str]:
    from compresskit.recipe.shipped import shipped_recipes

    files = [str(path) for path in Path().glob(f"{incomplete}*") if path.suffix == ".yaml" or path.is_dir()]
    return [name for name in shipped_recipes() if name.startswith(incomplete)] + files


@app.command(epilog=_EXAMPLES)
def run(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A YAML file, or the name of a shipped recipe.", autocompletion=_recipe_names
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Build everything, show the plan, write nothing.")] = False,
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
    with _exit_codes():
        from compresskit import resolve
        from compresskit.recipe.run import run_recipe
        from compresskit.recipe.seeds import read_seeds, run_seeds

        several = None if seeds is None else read_seeds(seeds)
        where = {"out": out, "resume": resume, "device": device}
        with resolve.allow(allow or ()):
            if several is None or dry_run:  # the plan is the same under every seed
                result = run_recipe(recipe, preset=preset, overrides=changes or (), dry_run=dry_run, **where)
            else:
                result = run_seeds(recipe, several, preset=preset, overrides=changes or (), **where)
        _show(result)


@app.command(epilog=_PROFILE_EXAMPLES)
def profile(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="A dotted name with literal arguments, or RECIPE#teacher, RECIPE#student."
        ),
    ],
    *,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="SHAPE",
            help="1x4x64x64, ids=1x128:int64 or @batch.pt; a recipe's models have their own.",
        ),
    ] = None,
    megapixels: Annotated[
        float | None, typer.Option(metavar="N", help="A picture of this size instead, rounded up to one that fits.")
    ] = None,
    latency: Annotated[bool, typer.Option("--latency", help="Time real runs, of several models in turn.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Measure the memory of a real run.")] = False,
    receptive_field: Annotated[
        bool, typer.Option("--receptive-field", help="Probe how far one pixel of the input reaches.")
    ] = False,
    crosscheck: Annotated[
        bool, typer.Option("--check/--no-check", help="Ask torch's counter, thop and fvcore too.")
    ] = True,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if something is uncounted or a counter differs unexplained.")
    ] = False,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="Where real runs happen: auto, cpu, cuda, …; meta allows none.")
    ] = "auto",
    max_seconds: Annotated[float, typer.Option(metavar="S", help="Limit of the timed calls.")] = 30.0,
    materialize: Annotated[
        bool, typer.Option("--materialize", help="Run lazy modules once, for their weights.")
    ] = False,
    depth: Annotated[int, typer.Option(metavar="N", min=0, help="Levels of modules in the table.")] = 1,
    sort: Annotated[
        str, typer.Option(metavar="ORDER", help="model, macs, parameters, output_bytes or bytes.")
    ] = "model",
    top: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only so many modules.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything, exact.")] = None,
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
    """Say what models cost: parameters, MACs, FLOPs, bytes, memory, and what nobody counted. Several are compared."""
    with _exit_codes():
        from compresskit import resolve
        from compresskit.profiling import files
        from compresskit.profiling.table import view
        from compresskit.recipe.profiled import profile_named

        asked = {"latency": latency, "memory": memory, "receptive_field": receptive_field, "crosscheck": crosscheck}
        options = {**asked, "device": device, "materialize": materialize, "max_seconds": max_seconds}
        with resolve.allow(allow or ()):
            result = profile_named(
                models, inputs or (), megapixels=megapixels, preset=preset, overrides=changes or (), **options
            )
        _show(view(result, depth=depth, sort=sort, top=top))
        files.write(result, json=json, csv=csv, markdown=markdown)
        if strict and result.doubts:
            raise _failure(f"--strict: {'; '.join(result.doubts)}", 1)


@app.command()
def export(
    source: Annotated[
        str, typer.Argument(metavar="RECIPE|RUN", help="A run's folder, or a recipe together with --weights.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")],
    format: Annotated[  # noqa: A002  (the option's name)
        Literal["onnx", "pt2"], typer.Option(help="ONNX, or PyTorch's own torch.export.")
    ],
    weights: Annotated[Path | None, typer.Option(metavar="FILE", help="Weights for a recipe.")] = None,
    part: Annotated[str | None, typer.Option(help="student, teacher or alone.")] = None,
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
    tolerance: Annotated[
        float | None, typer.Option(help="Largest difference from PyTorch that passes.", show_default="1e-4; half 2e-2")
    ] = None,
    allow: Annotated[list[str] | None, typer.Option(metavar="PACKAGE", help="Trust a package.")] = None,
) -> None:
    """Write a run's model as a file for other runtimes, after comparing it with PyTorch on real samples."""
    with _exit_codes():
        from compresskit import resolve
        from compresskit.recipe.export import export_model

        with resolve.allow(allow or ()):
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
                tolerance=tolerance,
            )
        typer.echo(str(exported))


@app.command()
def evaluate(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A YAML file, a shipped recipe's name, or a run's folder.",
            autocompletion=_recipe_names,
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
    with _exit_codes():
        from compresskit import resolve
        from compresskit.recipe.evaluate import evaluate_recipe

        names = None if methods is None else [name.strip() for name in methods.split(",")]
        with resolve.allow(allow or ()):
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
        _show(result)


@contextmanager
def _exit_codes() -> Iterator[None]:
    """What goes wrong inside becomes a message and an exit code."""
    try:
        yield
    except (TrainingError, ExportError) as error:
        raise _failure(str(error), 1) from error
    except CompressKitError as error:
        raise _failure(str(error), 2) from error
    except KeyboardInterrupt:
        raise _failure("stopped by Ctrl-C", 130) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _failure(f"the disk is full: {error}", 1) from error


def _failure(message: str, code: int) -> typer.Exit:
    print(f"compresskit: {message}", file=sys.stderr)
    return typer.Exit(code)


def _show(result: "RenderableType") -> None:
    """Print a result; a reader that has closed the pipe (`| head`) has seen enough."""
    from rich.console import Console

    console = Console(highlight=False)
    with console.capture() as capture:
        console.print(result, soft_wrap=True)
    try:
        sys.stdout.write(f"{capture.get().rstrip()}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at its end
