"""Matches with a glob in their address: one match for each module whose path it fits."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import nn

from compresskit.distill.objective.models import Models
from compresskit.distill.spec.address import HYBRID, PREVIOUS, STUDENT, split_model
from compresskit.distill.spec.match import Match, replace_fields
from compresskit.distill.spec.stage import Stage
from compresskit.errors import RecipeError, TapError, close_names


def expand_stages(stages: Sequence[Stage], models: Models) -> tuple[Stage, ...]:
    """Return the stages with each match of a glob replaced by one match for each module.

    A star stands for one part of a path: `blocks.*` fits `blocks.0`, and not `blocks.0.norm`. The stars of the
    teacher's address stand for what those of the student's fit.

    Raises:
        TapError: No module fits.
        RecipeError: The stars of the two sides do not correspond.
    """
    return tuple(
        replace(stage, matches=[one for match in stage.matches for one in _expanded(match, models, stage.name)])
        if any("*" in address for match in stage.matches for address in (*match.students, *match.teachers))
        else stage
        for stage in stages
    )


def _expanded(match: Match, models: Models, stage: str) -> Iterator[Match]:
    if not any("*" in address for address in (*match.students, *match.teachers)):
        yield match
        return
    if not isinstance(match.student, str) or not isinstance(match.teacher, str):
        raise RecipeError(f"stage {stage!r}: {match.name}: a glob stands for one tap a side, not in a list of several")
    name, address = split_model(match.student)
    if match.teacher.count("*") > match.student.count("*"):
        raise RecipeError(
            f"stage {stage!r}: {match.name}: the teacher's address has more stars than the student's, so it is not "
            "known what they stand for"
        )
    for parts in _fits(address, _module(models, name, match), match, stage):
        yield replace_fields(match, student=_filled(match.student, parts), teacher=_filled(match.teacher, parts))


def _module(models: Models, name: str, match: Match) -> nn.Module:
    if name == HYBRID or name not in ("", STUDENT, PREVIOUS, *models.teachers):
        raise RecipeError(f"{match.name}: a glob cannot be read in a model {name!r}")
    return models.teachers.get(name, models.student)


def _fits(address: str, model: nn.Module, match: Match, stage: str) -> list[tuple[str, ...]]:
    """Return what the stars stand for, for each module whose path fits."""
    path = re.split(r"[#@\[]", address, maxsplit=1)[0]
    pattern = re.compile("([^.]+)".join(map(re.escape, path.split("*"))))
    paths = [name for name, _ in model.named_modules() if name]
    fits = [found.groups() for name in paths if (found := pattern.fullmatch(name))]
    if not fits:
        raise TapError(
            f"stage {stage!r}: {match.name}: no module of {type(model).__name__} fits {path!r}"
            f"{close_names(path, paths)}",
            about=(match.students[0], stage),
        )
    return fits


def _filled(text: str, parts: Sequence[str]) -> str:
    """Return an address with its stars replaced by `parts`, in order."""
    for part in parts[: text.count("*")]:
        text = text.replace("*", part, 1)
    return text
