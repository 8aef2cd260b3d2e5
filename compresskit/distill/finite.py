"""Whether gradients are finite: asked in every step, so it must cost next to nothing."""

from collections.abc import Sequence

import torch
from torch import Tensor


def all_finite(gradients: Sequence[Tensor]) -> bool:
    """Whether it is certain, without waiting for a device, that no gradient holds an infinity or a NaN.

    False says nothing: a norm then tells. On a CPU this takes an eighth of a norm's time. It is what torch's gradient
    scalers do, here with a scale of 1.
    """
    if not all(g.device.type == "cpu" and g.layout == torch.strided and g.is_floating_point() for g in gradients):
        return False
    found = torch.zeros(1)
    if gradients:
        torch._amp_foreach_non_finite_check_and_unscale_(  # pyright: ignore[reportPrivateImportUsage]
            list(gradients), found, torch.ones(())
        )
    return not found.item()
