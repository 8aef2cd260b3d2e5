"""Addresses of tensors in models, written `PATH[#CALL][@in|@out][SELECTOR…]`, and the names of models.

layer3 · rnn@out[0] · .@out.logits · blocks.3@out[:, 5:] · block#1 · attention@in.query · big:layer3
"""

import re
from dataclasses import dataclass, field
from typing import Any

from compresskit.errors import TapError

STUDENT = "student"


TEACHER = "teacher"
"""Name of a teacher that was passed without one."""


PREVIOUS = "previous"
"""Name of a frozen copy of the student, as it was when the stage began."""


HYBRID = "hybrid"
"""Name of the model that a stage's splices make."""


_ADDRESS = re.compile(r"(?P<path>[^#@\[\s]+)(#(?P<call>-?\d+))?(@(?P<port>in|out)(?![A-Za-z0-9_]))?(?P<selectors>.*)")


_SELECTOR = re.compile(
    r"\.(?P<name>[A-Za-z_]\w*)|\[(?P<index>-?\d+)\]|\[(?P<quote>['\"])(?P<key>.+?)(?P=quote)\]"
    r"|\[(?P<slices>[-\d:,. ]+)\]"
)


_SLICE = re.compile(r"(?P<start>-?\d+)?:(?P<stop>-?\d+)?(:(?P<step>[1-9]\d*)?)?")


@dataclass(frozen=True, slots=True)
class Slices:
    """A part of a tensor, written as torch writes it: `[:, 5:]`, `[..., :10]`, `[:, 0]`."""

    text: str
    index: tuple[Any, ...] = field(compare=False, repr=False)

    def __repr__(self) -> str:
        return self.text


def parse_slices(text: str) -> Slices | None:
    """Return the slices in a text such as `:, 5:`, or None if it is none."""
    index: list[Any] = []
    for part in (part.strip() for part in text.split(",")):
        if part == "...":
            index.append(...)
        elif part.lstrip("-").isdigit():
            index.append(int(part))
        elif match := _SLICE.fullmatch(part):
            numbers = (match[name] for name in ("start", "stop", "step"))
            index.append(slice(*(None if number is None else int(number) for number in numbers)))
        else:
            return None
    normal = ", ".join(part.strip() for part in text.split(","))
    return Slices(normal, tuple(index)) if index.count(...) <= 1 else None


@dataclass(frozen=True, slots=True)
class Address:
    """One parsed address. `str(address)` is the text that the user wrote."""

    text: str
    path: str
    call: int | None = None
    """Number of the call, from 0, of a module that runs several times; negative counts from the end. None expects a
    single call."""
    port: str = "out"
    selectors: tuple[int | str | Slices, ...] = ()

    def __str__(self) -> str:
        return self.text

    @property
    def key(self) -> str:
        """One text for all ways to write this address."""
        return f"{self.path}#{self.call or 0}@{self.port}{''.join(f'[{part!r}]' for part in self.selectors)}"


def parse_address(text: str) -> Address:
    """Parse an address.

    Raises:
        TapError: The text does not follow the grammar.
    """
    match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise TapError(
            f"{text!r} is no address; write PATH[#CALL][@in|@out][SELECTOR…], as in 'layer3' or 'rnn@out[0]'",
            about=(str(text),),
        )
    selectors, position = [], 0
    while position < len(match["selectors"]):
        part = _SELECTOR.match(match["selectors"], position)
        slices = parse_slices(part["slices"]) if part and part["slices"] else None
        if part is None or (part["slices"] and slices is None):
            wrong = match["selectors"][position:]
            raise TapError(
                f"address {text!r}: cannot read {wrong!r}; selectors are [0], .name, ['key'] or slices such as [:, 5:] "
                "after @in or @out",
                about=(text,),
            )
        selectors.append(slices or (int(part["index"]) if part["index"] else part["name"] or part["key"]))
        position = part.end()
    if match["port"] == "in" and selectors and isinstance(selectors[0], Slices):
        selectors.insert(0, 0)  # a part of the first input
    call = None if match["call"] is None else int(match["call"])
    return Address(text, match["path"], call, match["port"] or "out", tuple(selectors))


def split_model(text: str) -> tuple[str, str]:
    """Split `"big:layer3"` into a model's name and the rest, ("big", "layer3"); without a name that is ""."""
    name, colon, rest = text.partition(":")
    return (name, rest) if colon and name.isidentifier() else ("", text)
