"""`card.md`: what the distilled student is, how it was made, and what its figures say, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from compresskit.distill.spec.address import TEACHER
from compresskit.distill.spec.stage import Stage
from compresskit.recipe.reading import yaml
from compresskit.recipe.reading.load import Recipe
from compresskit.recipe.scoring.measure import Row
from compresskit.recipe.scoring.summary import Difference, amount, value, words

_NAMED = 12
"""Most samples that are named one by one."""


def card(
    recipe: Recipe,
    rows: Sequence[Row],
    found: Sequence[Difference],
    environment: Mapping[str, Any],
    *,
    inputs: str,
    samples: Sequence[str] = (),
) -> str:
    """The card as Markdown.

    Args:
        recipe: What was run.
        rows: The table's rows.
        found: The paired differences.
        environment: The session that finished the run.
        inputs: The shape that multiply-accumulates were counted for.
        samples: What the test samples are called, where they have names.
    """
    packages = environment["packages"]
    made_with = f"compresskit {packages['compresskit'] or 'from a checkout'}, torch {packages['torch']}"
    facts = {
        "student": _target(recipe.student),
        "teacher": ", ".join(_target(node) for node in recipe.teachers.values()) or "none",
        "recipe": recipe.name,
        "preset": recipe.preset or "none",
        "commit": environment["commit"] or "not run from a checkout",
        "seed": recipe.seed,
        "made with": f"{made_with}, on {environment['device']}, {environment['started']}",
    }
    parts = [
        f"# {recipe.name}",
        "\n".join(f"- **{name}**: {value}" for name, value in facts.items()),
        "## Figures",
        _table(rows),
        f"MACs are multiply-accumulates of one forward on an input of {inputs}.",
        *_says(rows, found, samples),
        "## Data",
        f"```yaml\n{yaml.dump({'data': dict(recipe.data)})}```",
        "## Training",
        *_training(recipe),
        "`recipe.yaml` beside this card is the whole recipe, every default written out: run it to make this again.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Row]) -> str:
    metrics = rows[0].columns
    titles = ["", *(metric.title for metric in metrics), "parameters", "MACs"]
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)]]
    for row in rows:
        figures = [value(row, metric) for metric in metrics]
        lines.append([row.name, *figures, f"{row.parameters:,}", amount(row.macs)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _says(rows: Sequence[Row], found: Sequence[Difference], samples: Sequence[str]) -> list[str]:
    """What the differences mean, and whether the teacher was worth it."""
    if not found:
        return []
    said = ["## What the figures say", "\n".join(f"- {difference}." for difference in found)]
    for difference in found:
        if difference.role == "alone":
            said.append(_of_the_teacher(difference, samples))
        elif difference.gain <= 0:
            said.append(f"The student does not reach the best baseline, {difference.than}.")
    teacher = next((row for row in rows if row.role == "teacher"), None)
    distilled = next(row for row in rows if row.role == "distilled")
    metric = found[0].metric
    ahead = 0.0 if teacher is None else distilled.metrics[metric.name] - teacher.metrics[metric.name]
    if teacher is not None and metric.gain(ahead) >= 0:
        said.append(f"The teacher itself is no better than its student ({metric.signed(ahead)} for the student).")
    return said


def _of_the_teacher(difference: Difference, samples: Sequence[str]) -> str:
    """What the teacher adds to what the student learns alone, and on which samples nothing."""
    count, better = len(difference.each), difference.better
    change = f"{difference.metric.signed(difference.mean)} on average"
    if difference.gain <= 0:
        but = f"; it helps on {better} of {count} samples" if better else ""
        return f"**The teacher adds nothing**: alone, the same student is as good or better ({change}{but})."
    if count - better > _NAMED:
        worse = count - better - sum(value == 0 for value in difference.each)
        return f"The teacher helps: {change}, better on {better} of {count} samples and worse on {worse}."
    if better < count:
        names = samples if len(samples) == count else [f"sample {number}" for number in range(1, count + 1)]
        pairs = zip(names, difference.each, strict=True)
        without = [name for name, by in pairs if difference.metric.gain(by) <= 0]
        return f"The teacher helps: {change}, but not on {len(without)} of {count}: {words(without)}."
    return f"The teacher helps: {change}{f', and on each of the {count} samples' if count else ''}."


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
