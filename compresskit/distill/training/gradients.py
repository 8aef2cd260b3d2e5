"""Gradients of a step: their norm, a cheap check that they are finite, and the norm of each term's own gradient."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from compresskit.distill.processes import Processes

_NO_SCALE = torch.ones((), device="cpu")


def gradient_norm(parameters: Sequence[nn.Parameter], *, needed: bool) -> Tensor | None:
    """Return the norm of the whole gradient, or None if it is not needed and the gradient is finite for certain."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return None if not needed and all_finite(gradients) else get_total_norm(gradients)


def all_finite(gradients: Sequence[Tensor]) -> bool:
    """Return True if no gradient has an infinity or a NaN; False if one has, or if only a norm could tell.

    That is so on a GPU, where an answer would wait for the device, and for sparse or complex gradients. On a CPU this
    takes an eighth of the time of a norm. It is the operation of torch's gradient scalers, with a scale of 1.
    """
    if not all(g.is_cpu and g.layout is torch.strided and g.is_floating_point() for g in gradients):
        return False
    not_finite = torch.zeros(1, device="cpu")
    if gradients:
        torch._amp_foreach_non_finite_check_and_unscale_(  # pyright: ignore[reportPrivateImportUsage]
            list(gradients), not_finite, _NO_SCALE
        )
    return not not_finite.item()


def norms_by_term(
    losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter], processes: Processes, share: float
) -> dict[str, float]:
    """Return the norm of each unweighted term's own gradient over everything that trains.

    Args:
        losses: Unweighted terms of a batch, with their graph, which is retained.
        parameters: Everything that trains.
        processes: Processes that share the batch.
        share: Share of this process's samples of the batch in all samples of the step.
    """
    norms = {}
    for name, loss in losses.items():
        if loss.requires_grad:
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            if not processes.is_single:
                gradients = _mean_over_processes(gradients, parameters, processes, share)
            norms[name] = float(get_total_norm([gradient for gradient in gradients if gradient is not None]))
        else:
            norms[name] = 0.0
    return norms


def _mean_over_processes(
    gradients: Iterable[Tensor | None], parameters: Sequence[nn.Parameter], processes: Processes, share: float
) -> list[Tensor]:
    """Return the gradients of the mean over a whole batch; this process has `share` of its samples."""
    part = share / float(processes.total(torch.tensor(share, device=processes.device)))
    pairs = zip(gradients, parameters, strict=True)
    own = (torch.zeros_like(parameter) if gradient is None else gradient for gradient, parameter in pairs)
    return [processes.total(gradient * part) for gradient in own]
