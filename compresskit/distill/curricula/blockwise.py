"""Blockwise replacement: the teacher's blocks give way to the student's, one after the other."""

from collections.abc import Sequence
from typing import Any

from compresskit.distill.curricula.lengths import lengths, stage_name
from compresskit.distill.spec.address import HYBRID, split_model
from compresskit.distill.spec.match import Match, Splice, Task, changed
from compresskit.distill.spec.stage import Stage
from compresskit.errors import RecipeError


def blockwise(
    blocks: Sequence[Match],
    *,
    steps: int | Sequence[int],
    tasks: Sequence[Task] = (),
    outputs: Sequence[Match] = (),
    **stage_options: Any,
) -> tuple[Stage, ...]:
    """For each block in turn, first local, then global; at last the student alone.

    Local: what lies past the last block learns to give what the teacher's block gives. Global: the student's blocks so
    far stand in the teacher's place, through the glue of the local stage, and everything of them learns from what the
    rest of the teacher makes of it: the `outputs` and `tasks` of the `hybrid`. In the last stage the student is whole,
    and learns from the same outputs and tasks without the teacher's blocks.

    Args:
        blocks: The ends of the blocks, from the input to the output, as matches of student and teacher.
        steps: Optimizer steps of each local and each global stage and of the last one: one number for all, or
            `[local, global, last]`.
        tasks: Supervised terms of the outputs.
        outputs: Matches of the outputs with the teacher's.
        stage_options: Further fields of all stages.

    Returns:
        Two stages for each block, and one.

    Raises:
        RecipeError: There are no blocks, there is nothing to learn globally, or the steps do not fit.

    Source: Wang, Zhao, Li & Tan, *Progressive Blockwise Knowledge Distillation for Neural Network Acceleration*, IJCAI
        2018.
    """
    if not blocks:
        raise RecipeError("blocks: blockwise needs at least one", path=("blocks",))
    if not outputs and not tasks:
        raise RecipeError(
            "outputs: blockwise needs matches of the outputs, tasks, or both, for its global stages", path=("outputs",)
        )
    local, whole, last = lengths(steps, 3, "kinds of stages, local, global and last")
    stages = []
    for k, block in enumerate(blocks):
        name = stage_name(k, block.student)
        stages.append(
            Stage(f"{name}-local", [block], train="between" if k else "upstream", steps=local, **stage_options)
        )
        stages.append(
            Stage(
                f"{name}-global",
                matches=[_of_hybrid(match, match.teacher) for match in outputs],
                tasks=[_of_hybrid(task, task.student) for task in tasks],
                splices=[_splice(done) for done in blocks[: k + 1]],
                train="upstream",
                steps=whole,
                **stage_options,
            )
        )
    return (*stages, Stage("student", matches=outputs, tasks=tasks, steps=last, **stage_options))


def _splice(block: Match) -> Splice:
    if not isinstance(block.student, str) or not isinstance(block.teacher, str):
        raise RecipeError(f"blocks: {block.name}: a block ends at one tap", path=("blocks",))
    return Splice(block.student, into=block.teacher, adapter=block.adapter)


def _of_hybrid(term: Any, side: str | tuple[str, ...]) -> Any:
    """The term with its student's side in the hybrid, which has the teacher's addresses."""
    if any(split_model(address)[0] for address in term.students):
        raise RecipeError(f"{term.name}: blockwise says itself which model is meant; give the address alone")
    return changed(term, student=_in_hybrid(side))


def _in_hybrid(side: str | tuple[str, ...]) -> Any:
    if not isinstance(side, str):
        return tuple(_in_hybrid(address) for address in side)
    return f"{HYBRID}:{split_model(side)[1]}"
