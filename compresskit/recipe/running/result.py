"""What `run_recipe` gives back, as text for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from compresskit.distill.session.plan import Plan
from compresskit.recipe.scoring.differences import Difference
from compresskit.recipe.scoring.measure import Row
from compresskit.recipe.scoring.tables import run_table
from compresskit.recipe.terminal import plain_text

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run came to, or after a dry run, what it would do. It prints well.

    A finished run prints as the table of its rows and the paired differences between them.
    """

    folder: Path | None
    """Where everything is; None after a dry run, which writes nothing."""
    rows: Sequence[Row] = ()
    """A row for each baseline, the teacher, the student alone and the student distilled."""
    differences: Sequence[Difference] = ()
    plans: Mapping[str, Plan] = field(default_factory=dict)
    """After a dry run, the plan of each part of the run, by what happens in it."""

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        if self.folder is None:
            said = f"{plans_text(self.plans)}\n\nNothing was trained and nothing was written."
            return Text(said, no_wrap=True, overflow="ignore")
        said = "\n".join([*map(str, self.differences), f"All of it is in {self.folder}"])
        return Group(run_table(self.rows), Text(said, no_wrap=True, overflow="ignore"))

    def __str__(self) -> str:
        return plain_text(self)


def plans_text(plans: Mapping[str, Plan]) -> str:
    """Plans for people, one after the other under their titles."""
    parts = [f"Part {number} of {len(plans)}: {title}" for number, title in enumerate(plans, start=1)]
    return "\n\n\n".join(f"{part}\n\n{plan}" for part, plan in zip(parts, plans.values(), strict=True))
