"""`card.md`: the distilled student on a page, with its origin, its figures, and a summary of them in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from compresskit.distill.spec.address import TEACHER
from compresskit.distill.spec.stage import Stage
from compresskit.recipe.reading import yaml
from compresskit.recipe.reading.load import Recipe
from compresskit.recipe.scoring.differences import Difference
from compresskit.recipe.scoring.measure import Row
from compresskit.recipe.scoring.tables import run_table
from compresskit.recipe.terminal import words

_MOST_NAMES = 12
"""Largest number of samples that are listed by name."""

_CONTROLS = {
    "alone": ("The teacher", "alone"),
    "inherited": ("Imitation, beside inheritance,", "from the teacher's weights and alone"),
}
"""The advantage of the distilled student over each control, and how the control learns, in words."""


def card(
    recipe: Recipe,
    rows: Sequence[Row],
    differences: Sequence[Difference],
    environment: Mapping[str, Any],
    *,
    inputs: str,
    samples: Sequence[str] = (),
) -> str:
    """Return the card as Markdown.

    Args:
        recipe: Recipe of the run.
        rows: Rows of the run's table.
        differences: Paired differences between the rows.
        environment: Environment of the session that finished the run.
        inputs: Shape of the input on which multiply-accumulates were counted.
        samples: Names of the test samples, if they have any.
    """
    packages = environment["packages"]
    versions = f"compresskit {packages['compresskit'] or 'from a checkout'}, torch {packages['torch']}"
    facts = {
        "student": _target(recipe.student),
        "teacher": ", ".join(_target(node) for node in recipe.teachers.values()) or "none",
        "recipe": recipe.name,
        "preset": recipe.preset or "none",
        "commit": environment["commit"] or "not run from a checkout",
        "seed": recipe.seed,
        "made with": f"{versions}, on {environment['device']}, {environment['started']}",
    }
    parts = [
        f"# {recipe.name}",
        "\n".join(f"- **{name}**: {value}" for name, value in facts.items()),
        "## Figures",
        run_table(rows).markdown(),
        f"MACs are multiply-accumulates of one forward on an input of {inputs}.",
        *_conclusions(rows, differences, samples),
        "## Data",
        f"```yaml\n{yaml.dump({'data': dict(recipe.data)})}```",
        "## Training",
        *_training(recipe),
        "`recipe.yaml` beside this card is the whole recipe with every default. Run it to train this model again.",
    ]
    return "\n\n".join(parts) + "\n"


def _conclusions(rows: Sequence[Row], differences: Sequence[Difference], samples: Sequence[str]) -> list[str]:
    """Return the differences, and sentences on whether the teacher helps and the student beats the baselines."""
    if not differences:
        return []
    parts = ["## What the figures say", "\n".join(f"- {difference}." for difference in differences)]
    for difference in differences:
        if difference.role in _CONTROLS:
            parts.append(_effect(difference, samples))
        elif difference.gain <= 0:
            parts.append(f"The student does not reach the best baseline, {difference.than}.")
    teacher = next((row for row in rows if row.role == "teacher"), None)
    distilled = next(row for row in rows if row.role == "distilled")
    metric = differences[0].metric
    ahead = 0.0 if teacher is None else distilled.metrics[metric.name] - teacher.metrics[metric.name]
    if teacher is not None and metric.gain(ahead) >= 0:
        parts.append(f"The teacher itself is no better than its student ({metric.signed(ahead)} for the student).")
    return parts


def _effect(difference: Difference, samples: Sequence[str]) -> str:
    """Return by how much the distilled student is better than a control, and on which samples it is not."""
    cause, without = _CONTROLS[difference.role]
    count, better = len(difference.each), difference.better
    change = f"{difference.metric.signed(difference.mean)} on average"
    if difference.gain <= 0:
        but = f"; it helps on {better} of {count} samples" if better else ""
        return f"**{cause} adds nothing**: {without}, the same student is as good or better ({change}{but})."
    if count - better > _MOST_NAMES:
        worse = count - better - difference.equal
        return f"{cause} helps: {change}, better on {better} of {count} samples and worse on {worse}."
    if better < count:
        names = samples if len(samples) == count else [f"sample {number}" for number in range(1, count + 1)]
        pairs = zip(names, difference.each, strict=True)
        not_better = [name for name, change in pairs if difference.metric.gain(change) <= 0]
        return f"{cause} helps: {change}, but not on {len(not_better)} of {count}: {words(not_better)}."
    return f"{cause} helps: {change}{f', and on each of the {count} samples' if count else ''}."


def _training(recipe: Recipe) -> list[str]:
    parts = []
    for name, stages in recipe.pretrain.items():
        parts.append(f"The teacher{'' if name == TEACHER else f' {name}'}, on its own:\n\n{_stages(stages)}")
    parts.append(f"The student{', from the teacher' if recipe.teachers else ''}:\n\n{_stages(recipe.stages)}")
    if recipe.control:
        parts.append(
            "The student alone: the same student from the same initial weights, over the same stages, steps and "
            "batches, on the supervised terms only. Where a stage of the distilled student trains only what its "
            "matches reach, the student alone trains everything."
        )
    if recipe.inherit is not None:
        parts.append(
            f"The student distilled starts from the weights of its teacher {recipe.inherit.teacher}, pruned to its "
            "widths." + (" So does the student inherited, which then learns like the student alone." * recipe.control)
        )
    return parts


def _stages(stages: Sequence[Stage]) -> str:
    lines = []
    for number, stage in enumerate(stages, start=1):
        length = f"{stage.steps} steps" if stage.steps is not None else f"{stage.epochs} epochs"
        lines.append(f"{number}. {stage.name}: {length}, {words([f'`{term}`' for term in stage.terms])}")
    return "\n".join(lines)


def _target(node: Mapping[str, Any]) -> str:
    options = {key: value for key, value in node.items() if not key.startswith("_")}
    return f"`{node['_target_']}`" + (f" with {yaml.dump_line(options)}" if options else "")
