"""Curricula: rules that turn a few match points into stages. Each is a plain function; yours needs no registration."""

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
