"""Curricula: functions that turn a few match points into stages. Your own needs no registration.

- `stepwise`: one teacher, one student: `joint`, `fitnets`, `progressive`, `in_turn`
- `chains`: more than two models: `assistants`, `route`, `anchored`, `together`
- `blockwise`: the student's blocks take the place of the teacher's, one after the other
- `annealed`: a temperature that falls, then the tasks alone
- `lengths`: the number of steps of each stage, and the names of stages
"""

from compresskit.distill.curricula.annealed import annealed as annealed
from compresskit.distill.curricula.blockwise import blockwise as blockwise
from compresskit.distill.curricula.chains import anchored as anchored
from compresskit.distill.curricula.chains import assistants as assistants
from compresskit.distill.curricula.chains import route as route
from compresskit.distill.curricula.chains import together as together
from compresskit.distill.curricula.stepwise import fitnets as fitnets
from compresskit.distill.curricula.stepwise import in_turn as in_turn
from compresskit.distill.curricula.stepwise import joint as joint
from compresskit.distill.curricula.stepwise import progressive as progressive

__all__ = [
    "anchored",
    "annealed",
    "assistants",
    "blockwise",
    "fitnets",
    "in_turn",
    "joint",
    "progressive",
    "route",
    "together",
]
