"""The optimizer of a stage with its parameter groups, and its learning-rate scheduler."""

from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from compresskit import nodes
from compresskit.distill.spec.stage import DEFAULT_OPTIMIZER, Stage
from compresskit.errors import RecipeError, at, close_names, within


def make_optimizer(
    stage: Stage,
    trainable: Mapping[str, nn.Parameter],
    extra: Mapping[str, nn.Parameter],
    known: Collection[str],
    *,
    fused: bool = False,
) -> Optimizer:
    """Return the stage's optimizer over everything that trains.

    Args:
        stage: Stage whose `optimizer` and `groups` count.
        trainable: Parameters of the models, by name.
        extra: Parameters of adapters and losses, by name.
        known: Names of all parameters of all models; see `parameter_groups`.
        fused: Whether to ask for the optimizer's fused implementation, where it has one and the stage does not choose.

    Raises:
        RecipeError: The optimizer cannot be built, is none, or does not know an option of a group.
    """
    groups = parameter_groups(stage, trainable, extra, known)
    where, node = f"stage {stage.name!r}: optimizer", stage.optimizer or DEFAULT_OPTIMIZER
    offered: dict[str, Any] = {"fused": True} if fused and not (isinstance(node, Mapping) and "foreach" in node) else {}
    optimizer = _build(node, groups, stage, kind="optimizer", offered=offered)
    if not isinstance(optimizer, Optimizer):
        raise RecipeError(f"{where} must give a torch Optimizer, got {type(optimizer).__name__}")
    _check_options(stage, optimizer)
    return optimizer


def make_scheduler(stage: Stage, optimizer: Optimizer, steps: int) -> LRScheduler | None:
    """Return the stage's learning-rate scheduler, or None.

    Raises:
        RecipeError: The scheduler cannot be built, is none, or needs a metric.
    """
    where = f"stage {stage.name!r}: scheduler"
    if stage.scheduler is None:
        return None
    offered = {"total_steps": steps, "T_max": steps}
    scheduler = _build(stage.scheduler, optimizer, stage, kind="scheduler", offered=offered)
    if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, ReduceLROnPlateau):
        raise RecipeError(
            f"{where} must give a torch LRScheduler that steps without a metric, got {type(scheduler).__name__}"
        )
    return scheduler


def parameter_groups(
    stage: Stage,
    trainable: Mapping[str, nn.Parameter],
    extra: Mapping[str, nn.Parameter],
    known: Collection[str],
) -> list[dict[str, Any]]:
    """Return the models' parameters, those of adapters and losses, and one group for each of the stage's `groups`.

    Args:
        stage: Stage whose `groups` count; a parameter is in the first whose glob matches its name.
        trainable: Parameters of the models, by name.
        extra: Parameters of adapters and losses, by name.
        known: Names of all parameters of all models: stages of a curriculum share their groups, and what one of them
            names may train in another one only.

    Raises:
        RecipeError: A glob matches no parameter of any model, and does not begin as an adapter's or a loss's name.
    """
    own: dict[str, list[nn.Parameter]] = {glob: [] for glob in stage.groups}
    rest: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for parameters, others in zip((trainable, extra), rest, strict=True):
        for name, parameter in parameters.items():
            glob = next((glob for glob in own if fnmatchcase(name, glob)), None)
            (others if glob is None else own[glob]).append(parameter)
    for glob, matched in own.items():
        if not matched and not glob.startswith(("adapter:", "loss:")) and not any(fnmatchcase(n, glob) for n in known):
            raise RecipeError(
                f"stage {stage.name!r}: groups: {glob!r} matches no parameter{close_names(glob, (*known, *extra))}",
                path=("groups", glob),
                about=(stage.name,),
            )
    groups = [{"params": rest[0]}, {"params": rest[1]}]
    groups += [{"params": matched, **stage.groups[glob]} for glob, matched in own.items()]
    return [group for group in groups if group["params"]]


def _check_options(stage: Stage, optimizer: Optimizer) -> None:
    """Refuse an option that the optimizer does not know: torch would keep it and not use it."""
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


def _build(
    factory: str | Mapping[str, Any] | Callable[..., Any],
    argument: Any,
    stage: Stage,
    *,
    kind: nodes.Kind,
    offered: Mapping[str, Any],
) -> Any:
    """Call a node, a dotted name or a callable with `argument`; a node is offered what it does not set."""
    if callable(factory):
        return factory(argument)
    node = {"_target_": factory} if isinstance(factory, str) else factory
    with within(f"stage {stage.name!r}", about=stage.name), at(kind):
        return nodes.build(node, argument, kind=kind, **offered)
