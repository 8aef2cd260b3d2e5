"""The names that a recipe may use without `--allow`, read from `allowed.yaml`, and what each slot takes of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

Kind = Literal[
    "module", "optimizer", "scheduler", "dataset", "callable", "curriculum", "schedule", "evaluation", "argument"
]
"""A slot of a recipe: what it takes is limited by its kind. `callable` is a loss, a target or a view; `argument` is an
option of another node."""


SLOTS: Mapping[Kind, tuple[str, ...]] = {
    "module": ("modules",),
    "optimizer": ("optimizers",),
    "scheduler": ("schedulers",),
    "dataset": ("datasets",),
    "callable": ("functions", "views", "modules", "transforms"),
    "curriculum": ("curricula",),
    "schedule": ("functions",),
    "evaluation": ("evaluations",),
    "argument": ("modules", "datasets", "transforms", "functions", "parts"),
}
"""The kinds of things in `allowed.yaml` that each slot takes."""


PACKAGES = ("compresskit", "zoo", "torch", "torchvision", "timm", "torchdistill")
"""The packages that the list names something of. Importing them has no surprises."""


FILE, PUBLISHED, MORE = "@", "!", "..."
"""The marks in `allowed.yaml`: an argument that names a file to read, one that names something published, and any
further arguments by position."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """A name on the list, and the arguments that a recipe may give it."""

    module: str
    name: str
    group: str
    """Its kind: `modules`, `optimizers`, …"""
    marks: Mapping[str, str]
    """The mark of each argument, `""` for most."""

    @property
    def dotted(self) -> str:
        """The full name."""
        return f"{self.module}.{self.name}"

    @property
    def arguments(self) -> list[str]:
        """The arguments that may be given by name."""
        return [argument for argument in self.marks if argument != MORE]


@cache
def allowed_names() -> Mapping[str, Allowed]:
    """Return the list, by dotted name."""
    text = Path(__file__).with_name("allowed.yaml").read_text(encoding="utf-8")
    groups = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # both are safe
    return {entry.dotted: entry for entry in _entries(groups)}


def members(module: str, kind: Kind | None = None) -> list[str]:
    """Return the names of a module that are on the list, of those that a slot takes."""
    entries = (entry for entry in allowed_names().values() if entry.module == module)
    return [entry.name for entry in entries if kind is None or entry.group in SLOTS[kind]]


def _entries(groups: Mapping[str, Mapping[str, Mapping[str, str | None]]]) -> Iterator[Allowed]:
    for group, modules in groups.items():
        for module, names in modules.items():
            for name, arguments in names.items():
                yield Allowed(module, name, group, dict(map(_marked, (arguments or "").split())))


def _marked(argument: str) -> tuple[str, str]:
    """Return an argument and its mark."""
    mark = argument[-1] if argument[-1] in FILE + PUBLISHED else ""
    return argument.removesuffix(mark) if mark else argument, mark
