"""Two encodings of light in numbers: linear, as a sensor counts it, and display-encoded.

A demosaicing method works well on values like those it was made for. Photographs are display-encoded and a sensor's
values are linear, so a method's weights keep its domain, and values are converted to it and back.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Domain = Literal["linear", "display"]
"""An encoding of light."""


DOMAINS: tuple[Domain, ...] = ("linear", "display")


def to_display(linear: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Encode linear light from 0 to 1 by the curve of sRGB. Its straight part continues below 0, which noise needs.

    Source: IEC 61966-2-1:1999.
    """
    curve = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, curve)


def to_linear(display: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Decode to linear light: the inverse of `to_display`."""
    curve = ((display.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(display <= 0.04045, display / 12.92, curve)


def convert(values: Float[Tensor, "*shape"], source: Domain, target: Domain) -> Float[Tensor, "*shape"]:
    """Convert values from one domain to another."""
    if source == target:
        return values
    return to_display(values) if target == "display" else to_linear(values)
