"""How both networks correct a skip."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from zoo.raw.cfa import CFA

PACKED = 4
SEEN = 24


def seen(packed: Tensor, picture: Tensor, cfa: CFA) -> Tensor:
    """The skip's picture and the mosaic's sparse colours, both laid out at the packed planes' resolution."""
    count, _, height, width = packed.shape
    pick = packed.new_tensor([[0, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 0]])  # planes [B, Gr, R, Gb] to R, G, B
    sparse = cfa.unpack((packed[:, None] * pick[:, :, None, None]).flatten(0, 1))
    sparse = sparse.view(count, 3, 2 * height, 2 * width)
    return F.pixel_unshuffle(torch.cat([picture, sparse], dim=1), 2)
