"""Scores: the figures of every model of a run, compared and written down.

The figures come from a `compresskit.Evaluation`. Files, in reading order:

- `metric`: name, unit and direction of a figure, and its text.
- `measure`: one model, or all models of a run, measured by an evaluation; the rows of a run.
- `differences`: the distilled student minus its rivals, sample by sample.
- `tables`: a table of figures for a terminal and in Markdown.
- `card`: `card.md`, the student on a page.
- `bootstrap`: intervals of a mean.
- `method_scores`: the figures of several methods under several conditions.
- `evaluate`: the work of `compresskit evaluate`.
"""
