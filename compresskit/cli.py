"""The command line: its commands and exit codes.

0: done. 2: the user's input was wrong; one to three lines say why. 1: the run failed; a bug and the user's own code
keep their traceback. 130: Ctrl-C; 143: SIGTERM; 138: SIGUSR1. torch is imported only when a command starts to work.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib.metadata import entry_points
from signal import SIGINT

from compresskit.errors import CompressKitError, ExportError, Stopped, TrainingError, cut_middle, first_line
from compresskit.installation import without_current_folder

with without_current_folder():  # PYTHONPATH may have put it before everything else
    import typer

    from compresskit.commands import evaluate, export, profile, run

_SIGNALS = 128
"""Exit code of a process that a signal ended, without the signal's number."""

_CANNOT_WRITE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk is full",
    errno.EFBIG: "a file became larger than the system allows",
    errno.EROFS: "the file system is read-only",
}

app = typer.Typer(
    name="compresskit",
    help="Compress a PyTorch model by distilling it, stage by stage, into a smaller one.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # a traceback should be Python's own
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. Exceptions of a bug or of the user's own code pass through."""
    try:
        with without_current_folder():  # `--allow` puts it back, at the end
            _add_installed_commands()
            given = list(sys.argv[1:] if arguments is None else arguments)
            code = app(given, prog_name="compresskit", standalone_mode=False)
    except SystemExit as end:  # typer ends a command in this way
        code = end.code
    except Exception as error:
        message = getattr(
            error, "format_message", None
        )  # typer's message on wrong arguments, which it would print on five lines
        if message is None:
            raise
        if text := message():  # without any arguments the help was printed, and there is nothing to add
            sys.stderr.write(f"compresskit: {cut_middle(text)}\nSee compresskit --help.\n")
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
            _add(point.name, point.load())


def _add(name: str, function: Callable[..., None], examples: str | None = None) -> None:
    app.command(name, epilog=examples)(wraps(function)(_exit_codes()(function)))


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Turn errors inside the block into a message and an exit code."""
    try:
        yield
    except (TrainingError, ExportError) as error:
        raise _failure(str(error), 1) from error
    except CompressKitError as error:
        raise _failure(str(error), 2) from error
    except KeyboardInterrupt as stop:
        raise _stopped(stop) from None
    except MemoryError as error:
        raise _failure(cut_middle(f"there is not enough memory: {first_line(error)}"), 1) from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise _failure(cut_middle(f"the name {str(error.filename)!r} is too long for a file"), 2) from error
        if error.errno not in _CANNOT_WRITE:
            raise
        raise _failure(f"{_CANNOT_WRITE[error.errno]}: {error}", 1) from error


def _stopped(stop: KeyboardInterrupt) -> typer.Exit:
    if isinstance(stop, Stopped):
        return _failure(str(stop), _SIGNALS + stop.signal)
    return _failure("stopped by Ctrl-C", _SIGNALS + SIGINT)


def _failure(message: str, code: int) -> typer.Exit:
    rank = os.environ.get("RANK", "0")  # of several processes that torchrun started, one may fail alone
    if rank == "0" or code < _SIGNALS:
        print(f"compresskit{f' (process {rank})' * (rank != '0')}: {message}", file=sys.stderr)
    return typer.Exit(code)


_add("run", run.run, run.EXAMPLES)
_add("profile", profile.profile, profile.EXAMPLES)
_add("evaluate", evaluate.evaluate, evaluate.EXAMPLES)
_add("export", export.export, export.EXAMPLES)
