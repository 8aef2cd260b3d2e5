"""What is solved in closed form on the training data, once in a run, instead of being trained."""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from compresskit.distill.spec.address import STUDENT
from compresskit.errors import CheckpointError
from compresskit.evaluation import has_own
from compresskit.files import write_atomically
from compresskit.randomness import own_randomness
from compresskit.recipe.building.components import Parts
from compresskit.recipe.building.weights import read_weights


def fit_to_data(parts: Parts, seed: int) -> dict[str, Tensor]:
    """Show the training data to whatever is solved in closed form instead of being trained, and return what it learned.

    That is every module inside the models and the baselines, and the evaluation itself, that has a method `fit_to`; not
    inside a model whose weights were loaded, which has learned already. Of modules that are equal in every respect one
    is shown the data and the others take over what it learned.
    """
    with own_randomness(seed, 3):
        if has_own(parts.evaluation, "fit_to"):
            parts.evaluation.fit_to(parts.train)
        solvers = dict(_solvers(parts))
        before = {name: copy.deepcopy(module) for name, module in solvers.items()}
        for number, (name, module) in enumerate(solvers.items()):
            twins = [other for other in list(solvers)[:number] if _are_equal(before[name], before[other])]
            if twins:
                module.load_state_dict(solvers[twins[0]].state_dict())
            else:
                module.fit_to(parts.train)  # pyright: ignore[reportCallIssue]
    return {f"{name}.{key}": tensor for name, module in solvers.items() for key, tensor in module.state_dict().items()}


def save_fitted(path: Path, state: Mapping[str, Tensor]) -> None:
    """Keep what `fit_to_data` returned for when the run goes on."""
    content = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()})
    write_atomically(path, lambda part: part.write_bytes(content))


def restore_fitted(parts: Parts, path: Path, seed: int) -> None:
    """Put back what `save_fitted` kept, so that nothing is solved twice.

    Raises:
        CheckpointError: The file belongs to other models.
    """
    state = read_weights(path)
    if has_own(parts.evaluation, "fit_to"):  # no module, so it has no state that could have been kept
        with own_randomness(seed, 3):
            parts.evaluation.fit_to(parts.train)
    for name, module in _solvers(parts):
        own = {key.removeprefix(f"{name}."): tensor for key, tensor in state.items() if key.startswith(f"{name}.")}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise CheckpointError(f"{path} does not fit {name}: {error}") from error


def _solvers(parts: Parts) -> Iterator[tuple[str, nn.Module]]:
    """Every module with a method `fit_to`, once, by its name in the run; what lies inside one is its own business."""
    owners: dict[str, nn.Module] = {**parts.teachers, STUDENT: parts.student}
    if not has_own(parts.evaluation, "fit_to"):  # else its baselines are its own business too
        owners |= {f"baselines.{name}": baseline for name, baseline in parts.baselines.items()}
    seen: set[nn.Module] = set()
    for title, owner in owners.items():
        if title in parts.loaded:
            continue
        for path, module in owner.named_modules():
            if module not in seen and hasattr(module, "fit_to"):
                yield f"{title}.{path}" if path else title, module
            if module in seen or hasattr(module, "fit_to"):
                seen.update(module.modules())


def _are_equal(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules without parts surely do the same: of one class, with equal tensors and equal attributes."""
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
