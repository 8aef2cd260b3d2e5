"""Losses as pure functions, by what they compare: logits, features, samples, images; and the catalogue of their names.

Each takes the student's side first, computes in float32 or better and returns a mean over what it compares. Two hold
something between calls and are classes: `Variational` learned variances, `Perceptual` a network's weights.
"""

from compresskit.losses.catalogue import CATALOGUE, check_options, make_loss, resolve_loss
from compresskit.losses.correlation import dist
from compresskit.losses.decoupled import dkd
from compresskit.losses.entry import Entry
from compresskit.losses.features import attention_transfer, cosine, l1, mse, relative_mse
from compresskit.losses.flow import fsp, gram
from compresskit.losses.images import charbonnier, fourier_amplitude, gradient, ms_ssim, ssim
from compresskit.losses.logits import cross_entropy, kl, standardized_kl
from compresskit.losses.perceptual import Perceptual
from compresskit.losses.relational import relational_angle, relational_distance
from compresskit.losses.similarities import cka, probabilistic_transfer, similarity_preserving
from compresskit.losses.variational import Variational

__all__ = [
    "CATALOGUE",
    "Entry",
    "Perceptual",
    "Variational",
    "attention_transfer",
    "charbonnier",
    "check_options",
    "cka",
    "cosine",
    "cross_entropy",
    "dist",
    "dkd",
    "fourier_amplitude",
    "fsp",
    "gradient",
    "gram",
    "kl",
    "l1",
    "make_loss",
    "ms_ssim",
    "mse",
    "probabilistic_transfer",
    "relational_angle",
    "relational_distance",
    "relative_mse",
    "resolve_loss",
    "similarity_preserving",
    "ssim",
    "standardized_kl",
]
