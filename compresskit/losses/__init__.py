"""Losses as pure functions, and the catalogue of their names.

Each takes the student's side first, computes in float32 or better and returns a mean over the elements that it
compares. Two hold tensors between calls and are classes: `Variational` learned variances, `Perceptual` a network's
weights.

- `catalogue`: losses by name, and the check of their options
- `entry`: properties of a loss that the engine needs
- `features`: tensors, element by element or place by place: `mse`, `cosine`, `attention_transfer`, …
- `flow`: Gram matrices of channels: `gram`, `fsp`
- `variational`: features under a learned variance: `Variational`
- `logits`: class scores: `kl`, `standardized_kl`, `cross_entropy`
- `divergences`: class scores, by other divergences: `reverse_kl`, `jsd`, `skew_kl`, `topk_kl`
- `decoupled`: class scores, the label apart from the other classes: `dkd`
- `correlation`: class scores by their correlation: `dist`
- `relational`: distances and angles between the samples of a batch
- `similarities`: similarity matrices of the samples of a batch: `cka`, `similarity_preserving`, …
- `images`: `charbonnier`, `ssim`, `ms_ssim`, `gradient`, `fourier_amplitude`
- `perceptual`: images through VGG-16: `Perceptual`
- `torchdistill`: torchdistill's own losses, by name
- `checks`: arguments of one shape, in float32 or better, and options within bounds
- `vectors`: means, lengths and cosines that stay finite
"""

from compresskit.losses.catalogue import CATALOGUE, check_options, make_loss, resolve_loss
from compresskit.losses.correlation import dist
from compresskit.losses.decoupled import dkd
from compresskit.losses.divergences import jsd, reverse_kl, skew_kl, topk_kl
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
    "jsd",
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
    "reverse_kl",
    "similarity_preserving",
    "skew_kl",
    "ssim",
    "standardized_kl",
    "topk_kl",
]
