"""Blockwise replacement: the student's blocks take the place of the teacher's, one after the other."""

from collections.abc import Sequence
from typing import Any

from compresskit.distill.curricula.lengths import lengths, stage_name
from compresskit.distill.spec.address import HYBRID, split_model
from compresskit.distill.spec.match import Match, Splice, Task, replace_fields
from compresskit.distill.spec.misplaced import counted_in_steps
from compresskit.distill.spec.stage import Stage
from compresskit.errors import RecipeError


@counted_in_steps
def blockwise(
    blocks: Sequence[Match],
    *,
    steps: int | Sequence[int],
    tasks: Sequence[Task] = (),
    outputs: Sequence[Match] = (),
    **stage_options: Any,
) -> tuple[Stage, ...]:
    """Return a local and a global stage for each block, and a last stage of the student alone.

    In a local stage the student's next block learns to compute what the teacher's block computes. In a global stage the
    student's blocks so far take the place of the teacher's, through the adapters of the local stages, and all of them
    learn from the output of this `hybrid`, by `outputs` and `tasks`. In the last stage the student runs without the
    teacher's blocks and learns from the same outputs and tasks.

    Args:
        blocks: The ends of the blocks, from the input to the output, as matches of student and teacher.
        steps: Optimizer steps of each local and each global stage and of the last one: one number for all, or
            `[local, global, last]`.
        tasks: Supervised terms of the outputs.
        outputs: Matches of the outputs with the teacher's.
        stage_options: Further fields of all stages.

    Returns:
        Two stages for each block, and one for the student.

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
    local_steps, global_steps, last_steps = lengths(steps, 3, "kinds of stages, local, global and last")
    stages = []
    for k, block in enumerate(blocks):
        name = stage_name(k, block.student)
        stages.append(
            Stage(f"{name}-local", [block], train="between" if k else "upstream", steps=local_steps, **stage_options)
        )
        stages.append(
            Stage(
                f"{name}-global",
                matches=[_of_hybrid(match, match.teacher) for match in outputs],
                tasks=[_of_hybrid(task, task.student) for task in tasks],
                splices=[_splice(earlier) for earlier in blocks[: k + 1]],
                train="upstream",
                steps=global_steps,
                **stage_options,
            )
        )
    return (*stages, Stage("student", matches=outputs, tasks=tasks, steps=last_steps, **stage_options))


def _splice(block: Match) -> Splice:
    if not isinstance(block.student, str) or not isinstance(block.teacher, str):
        raise RecipeError(f"blocks: {block.name}: a block ends at one tap", path=("blocks",))
    return Splice(block.student, into=block.teacher, adapter=block.adapter)


def _of_hybrid(term: Any, side: str | tuple[str, ...]) -> Any:
    """Return the term with its student's side in the hybrid, which has the teacher's addresses."""
    if any(split_model(address)[0] for address in term.students):
        raise RecipeError(f"{term.name}: blockwise says itself which model is meant; give the address alone")
    return replace_fields(term, student=_in_hybrid(side))


def _in_hybrid(side: str | tuple[str, ...]) -> Any:
    if not isinstance(side, str):
        return tuple(_in_hybrid(address) for address in side)
    return f"{HYBRID}:{split_model(side)[1]}"
