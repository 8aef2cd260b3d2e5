"""The networks of the published checkpoints, told from the names and shapes of their weights."""

from collections.abc import Mapping

from torch import Tensor, nn

from compresskit.errors import CheckpointError
from zoo.pynet.pynet import PyNET
from zoo.pynet.pynet_qxq import PyNETQxQ

NORM_1 = "conv_l1_d5.conv_3a.instance.weight"
NORM_2 = "conv_l2_d1.conv_3a.instance.weight"


def network_of(state: Mapping[str, Tensor]) -> nn.Module:
    """An untrained PyNET or PyNET-QxQ, as it was released, that these weights fit.

    It knows the files of PyNET-QxQ's release and of PyNET-PyTorch, whose names may start with `module.`, and any other
    weights of these two networks without a skip.

    Args:
        state: Weights by name.

    Raises:
        CheckpointError: They are neither network's, or belong to one that corrects a skip: its array and the skip's own
            size are not told by names.
    """
    names = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    first = names.get("conv_l1_d1.conv_3a.conv2d.weight")
    if first is None:
        raise CheckpointError(
            f"neither PyNET nor PyNET-QxQ: there is no 'conv_l1_d1', but {', '.join(list(names)[:3])}"
        )
    if any(name.startswith("skip.") for name in names):
        raise CheckpointError("weights of a network with a skip need the recipe that they were trained by beside them")
    if "conv_t0.upchannel.weight" in names:
        return PyNETQxQ(first.shape[0], instance_norm_level_1=NORM_1 in names)
    return PyNET(first.shape[0], instance_norm=NORM_2 in names, instance_norm_level_1=NORM_1 in names)
