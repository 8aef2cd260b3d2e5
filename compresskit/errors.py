"""A small family of errors.

Each error is also the built-in that fits it, so `except ValueError` keeps working:

    CompressKitError
    ├── RecipeError      (ValueError)    a recipe, stage or option cannot be understood
    │   └── ArgumentError (TypeError)    a keyword argument is unknown, or belongs to another object
    ├── TapError         (LookupError)   an address names no tensor of the model
    ├── ShapeError       (ValueError)    two tensors do not fit each other
    ├── DataError        (ValueError)    a photograph, folder or batch cannot be used
    ├── CheckpointError  (ValueError)    weights or a run's folder belong to something else
    ├── TrainingError    (RuntimeError)  the run itself failed: a loss became NaN
    └── ExportError      (RuntimeError)  the exported file would not do what the model does

All but the last two are the user's input: the command line answers them with exit code 2, the last two with 1.

An error carries the place in the recipe that it is about. The code that raises it knows the last part, a key; each
caller that passes it on puts its own part before, with `at`:

    with at("stages", 0):
        raise RecipeError("unknown key 'setps'", path=("setps",))     # stages[0]: unknown key 'setps'
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from signal import Signals

_LONGEST_WORD, _LONGEST_LINE = 240, 900
"""Characters of a message's longest word, such as a number or an address that the user wrote, and longest line."""


KeyPath = tuple[str | int, ...]
"""A place in nested data: `("stages", 0, "steps")`, written `stages[0].steps`."""


class CompressKitError(Exception):
    """Base class: `except CompressKitError` catches all of them.

    Args:
        message: What is wrong, and what would be right.
        path: The place that the message is about, as seen by the code that raises: the message names it already.
        about: The user's own texts that are wrong, such as an address and the name of its stage, the narrowest first:
            for code that knows no place in a recipe.
    """

    def __init__(self, message: str = "", *, path: KeyPath = (), about: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.outer: KeyPath = ()
        """The parts that callers have put before the path; the text of the error starts with them."""
        self.inner = path
        self.about = about
        self.located = False
        """True if the message starts with a file and line already."""

    @property
    def path(self) -> KeyPath:
        """The place that the error is about."""
        return self.outer + self.inner

    def within(self, title: str) -> None:
        """Start the message with a title, which is no part of the path."""
        self.message, self.outer, self.inner = f"{title}: {self}", (), self.path

    def __str__(self) -> str:
        return cut_middle(f"{path_text(self.outer)}: {self.message}" if self.outer else self.message)


class RecipeError(CompressKitError, ValueError):
    """A recipe cannot be understood. The message starts with the place: `stages[1].matches[0].loss`."""


class ArgumentError(RecipeError, TypeError):
    """A keyword argument is unknown. The message says where it belongs."""


class TapError(CompressKitError, LookupError):
    """An address names no tensor of the model, or a tap captured nothing."""


class ShapeError(CompressKitError, ValueError):
    """Two tensors, or a tensor and a module, do not fit each other."""


class DataError(CompressKitError, ValueError):
    """A photograph, a folder or a batch cannot be used."""


class CheckpointError(CompressKitError, ValueError):
    """Weights, a checkpoint or a run's folder belong to something else, or are damaged."""


class TrainingError(CompressKitError, RuntimeError):
    """The run failed while training: the message names the stage and the term."""


class ExportError(CompressKitError, RuntimeError):
    """A model cannot be exported, or the exported file computes something else."""


class Stopped(KeyboardInterrupt):
    """A run that SIGTERM or SIGUSR1 has stopped, as Ctrl-C stops it: no error, and no CompressKitError.

    Args:
        signum: The signal.
    """

    def __init__(self, signum: int) -> None:
        self.signal = Signals(signum)
        super().__init__(f"stopped by {self.signal.name}")


@contextmanager
def at(*path: str | int) -> Iterator[None]:
    """Put `path` before the path of errors that are raised inside the block."""
    try:
        yield
    except CompressKitError as error:
        error.outer = path + error.outer
        raise


@contextmanager
def within(title: str = "", *, about: str | None = None) -> Iterator[None]:
    """Start the messages of errors that are raised inside the block with a title.

    Args:
        title: Beginning of the messages; empty leaves them as they are.
        about: The user's text that what happens inside the block belongs to, such as a stage's name.
    """
    try:
        yield
    except CompressKitError as error:
        if title:
            error.within(title)
        if about is not None:
            error.about += (about,)
        raise


def path_text(path: KeyPath) -> str:
    """Return a path as recipes and messages write it: `stages[0].steps`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def cut_middle(text: str) -> str:
    """Return a message without the middle of what is too long to read: of words and of lines."""
    text = re.sub(rf"\S{{{_LONGEST_WORD + 1},}}", lambda word: _cut(word[0], _LONGEST_WORD), text)
    return "\n".join(_cut(line, _LONGEST_LINE) for line in text.split("\n"))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest * 2 // 3]} … {text[-(longest // 3 - 3) :]}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if it has no message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def close_names(word: str, known: Iterable[str], *, most: int = 3) -> str:
    """Return the end of a sentence about an unknown `word`: the nearest known names, or some of those that exist."""
    names = [str(name) for name in known]
    if close := get_close_matches(word, names, n=most, cutoff=0.5):
        return f"; did you mean {' or '.join(repr(name) for name in close)}?"
    if not names:
        return "; there are none"
    more = f", … ({len(names)} in all)" if len(names) > 8 else ""
    return f"; known: {', '.join(names[:8])}{more}"
