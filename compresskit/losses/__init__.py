"""Losses as pure functions, by what they compare: logits, features, images; and the catalogue of their names.

Each takes the student's side first, computes in float32 or better and returns a mean over what it compares.
"""

from compresskit.losses.catalogue import CATALOGUE, Entry, check_options, make_loss, resolve_loss
from compresskit.losses.features import attention_transfer, l1, mse, relative_mse
from compresskit.losses.images import charbonnier, ssim
from compresskit.losses.logits import cross_entropy, kl

__all__ = [
    "CATALOGUE",
    "Entry",
    "attention_transfer",
    "charbonnier",
    "check_options",
    "cross_entropy",
    "kl",
    "l1",
    "make_loss",
    "mse",
    "relative_mse",
    "resolve_loss",
    "ssim",
]
