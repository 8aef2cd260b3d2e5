"""Parameter groups: which parameters of a stage the optimizer treats same_on_all."""

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer

from compresskit.distill.spec.stage import Stage
from compresskit.errors import RecipeError, close_names


def parameter_groups(
    stage: Stage,
    trained: Mapping[str, nn.Parameter],
    beside: Mapping[str, nn.Parameter],
    known: Collection[str],
) -> list[dict[str, Any]]:
    """The models' parameters, what trains beside them, and one group for each of the stage's `groups`.

    Args:
        stage: Whose `groups` count; a parameter is in the first whose glob matches its name.
        trained: Parameters of the models, by name.
        beside: Parameters of adapters and losses, by name.
        known: Names of all parameters of all models: stages of a curriculum share their groups, and what one of them
            names may train in another one only.

    Raises:
        RecipeError: A glob matches no parameter of any model, and does not begin as an adapter's or a loss's name.
    """
    own: dict[str, list[nn.Parameter]] = {glob: [] for glob in stage.groups}
    rest: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for parameters, others in zip((trained, beside), rest, strict=True):
        for name, parameter in parameters.items():
            glob = next((glob for glob in own if fnmatchcase(name, glob)), None)
            (others if glob is None else own[glob]).append(parameter)
    for glob, found in own.items():
        if not found and not glob.startswith(("adapter:", "loss:")) and not any(fnmatchcase(n, glob) for n in known):
            raise RecipeError(
                f"stage {stage.name!r}: groups: {glob!r} matches no parameter{close_names(glob, (*known, *beside))}",
                path=("groups", glob),
                about=(stage.name,),
            )
    groups = [{"params": rest[0]}, {"params": rest[1]}]
    groups += [{"params": found, **stage.groups[glob]} for glob, found in own.items()]
    return [group for group in groups if group["params"]]


def check_groups(stage: Stage, optimizer: Optimizer) -> None:
    """Raise a RecipeError for an option that the optimizer does not know: torch would keep it and not use it."""
    for glob, options in stage.groups.items():
        for key in options:
            if key not in optimizer.defaults:
                kind = type(optimizer).__name__
                raise RecipeError(
                    f"stage {stage.name!r}: groups: {glob!r}: {kind} has no option {key!r}"
                    f"{close_names(str(key), optimizer.defaults)}",
                    path=("groups", glob, key),
                    about=(stage.name,),
                )
