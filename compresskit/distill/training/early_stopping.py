"""Early stopping and best weights: the evaluations inside a stage, and the decisions that follow from them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from compresskit.distill.spec.goal import Goal, parse_goal
from compresskit.errors import RecipeError, close_names


class EarlyStopping:
    """The evaluations of one stage: it keeps the best weights, and says when to stop.

    Args:
        best: The stage's `best`.
        until: The stage's `until`.
    """

    def __init__(self, best: str | None, until: Mapping[str, Any] | None) -> None:
        self._best = None if best is None else parse_goal(best, "best")
        self._plateau = None if until is None else parse_goal(until["plateau"], "until: plateau")
        self._patience = 0 if until is None else until.get("patience", 3)
        self._min_delta = 0.0 if until is None else until.get("min_delta", 0.0)
        self._state: dict[str, Any] = {
            "best": None if self._best is None else self._best.worst,
            "weights": None,
            "reference": None if self._plateau is None else self._plateau.worst,
            "without_progress": 0,
        }

    @property
    def goals(self) -> list[Goal]:
        """The metrics that decide."""
        return [goal for goal in (self._best, self._plateau) if goal is not None]

    def update(self, metrics: Mapping[str, float], learning: Mapping[str, nn.Module], where: str) -> None:
        """Take an evaluation of what is learning now into account.

        Raises:
            RecipeError: A metric that decides was not measured; the message names the nearest.
        """
        state = self._state
        if self._best is not None and self._best.better(_measured(self._best, metrics, where), state["best"]):
            state["best"] = metrics[self._best.metric]
            state["weights"] = {name: _copies(module) for name, module in learning.items()}
        if self._plateau is not None:
            value = _measured(self._plateau, metrics, where)
            progress = self._plateau.better(value, state["reference"], by=self._min_delta)
            state["reference"] = value if progress else state["reference"]
            state["without_progress"] = 0 if progress else state["without_progress"] + 1

    @property
    def should_stop(self) -> bool:
        """True after as many evaluations without progress as the stage's patience."""
        return self._plateau is not None and self._state["without_progress"] >= self._patience

    def restore_best(self, learning: Mapping[str, nn.Module]) -> None:
        """Restore the weights of the best evaluation, if there was one."""
        for name, weights in (self._state["weights"] or {}).items():
            learning[name].load_state_dict(weights)

    def state_dict(self) -> dict[str, Any]:
        """Return everything, for a checkpoint."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self._state = dict(state)


def _measured(goal: Goal, metrics: Mapping[str, float], where: str) -> float:
    if goal.metric not in metrics:
        raise RecipeError(
            f"{where}: {goal.mode} {goal.metric!r}: no such metric was measured{close_names(goal.metric, metrics)}"
        )
    return float(metrics[goal.metric])


def _copies(module: nn.Module) -> dict[str, Any]:
    state = module.state_dict()
    return {name: v.detach().clone() if isinstance(v, torch.Tensor) else v for name, v in state.items()}
