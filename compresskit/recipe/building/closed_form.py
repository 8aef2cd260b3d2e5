"""Modules that are solved in closed form on the training data, once in a run, instead of being trained."""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compresskit.distill.spec.address import STUDENT
from compresskit.errors import CheckpointError
from compresskit.evaluation import has_own
from compresskit.files import read_weights
from compresskit.randomness import own_randomness
from compresskit.recipe.building.components import Components


def fit_to_data(components: Components, seed: int) -> dict[str, Tensor]:
    """Solve everything that has a method `fit_to(dataset)` on the training data.

    It may be the evaluation, or a module inside the models and the baselines. Models whose weights were loaded are left
    out: their modules are solved already. Of modules that are equal in every respect one is solved and the others copy
    its state.

    Returns:
        The state of the modules, by their names in the run.
    """
    with own_randomness(seed, 3):
        if has_own(components.evaluation, "fit_to"):
            components.evaluation.fit_to(components.train)
        solvers = dict(_solvers(components))
        before = {name: copy.deepcopy(module) for name, module in solvers.items()}
        for number, (name, module) in enumerate(solvers.items()):
            equal = [other for other in list(solvers)[:number] if _are_equal(before[name], before[other])]
            if equal:
                module.load_state_dict(solvers[equal[0]].state_dict())
            else:
                module.fit_to(components.train)  # pyright: ignore[reportCallIssue]
    return {f"{name}.{key}": tensor for name, module in solvers.items() for key, tensor in module.state_dict().items()}


def restore_fitted(components: Components, path: Path, seed: int) -> None:
    """Load the state that `fit_to_data` returned, from a file of it, so that nothing is solved twice.

    Raises:
        CheckpointError: The file belongs to other models.
    """
    state = read_weights(path)
    if has_own(components.evaluation, "fit_to"):  # not a module, so it has no state to save
        with own_randomness(seed, 3):
            components.evaluation.fit_to(components.train)
    for name, module in _solvers(components):
        own = {key.removeprefix(f"{name}."): tensor for key, tensor in state.items() if key.startswith(f"{name}.")}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise CheckpointError(f"{path} does not fit {name}: {error}") from error


def _solvers(components: Components) -> Iterator[tuple[str, nn.Module]]:
    """Yield every module with a method `fit_to` by its name in the run, without modules inside of such a module."""
    owners: dict[str, nn.Module] = {**components.teachers, STUDENT: components.student}
    if not has_own(components.evaluation, "fit_to"):  # otherwise it fits its baselines itself
        owners |= {f"baselines.{name}": baseline for name, baseline in components.baselines.items()}
    seen: set[nn.Module] = set()
    for title, owner in owners.items():
        if title in components.loaded:
            continue
        for path, module in owner.named_modules():
            if module not in seen and hasattr(module, "fit_to"):
                yield f"{title}.{path}" if path else title, module
            if module in seen or hasattr(module, "fit_to"):
                seen.update(module.modules())


def _are_equal(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two modules without children surely compute the same: equal class, tensors and attributes."""
    ours, theirs = ({k: v for k, v in vars(module).items() if k not in vars(nn.Module())} for module in (one, other))
    if type(one) is not type(other) or any(True for module in (one, other) for _ in module.children()):
        return False
    return _same_tensors(one, other) and _same_attributes(ours, theirs)


def _same_tensors(one: nn.Module, other: nn.Module) -> bool:
    mine, yours = ({**dict(m.named_parameters()), **dict(m.named_buffers())} for m in (one, other))
    if mine.keys() != yours.keys() or any(mine[name].shape != yours[name].shape for name in mine):
        return False
    return all(((a == b) | (a.isnan() & b.isnan())).all() for a, b in zip(mine.values(), yours.values(), strict=True))


def _same_attributes(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    try:
        return bool(ours == theirs)
    except (RuntimeError, ValueError):  # tensors or arrays among them: better solved twice than wrong
        return False
