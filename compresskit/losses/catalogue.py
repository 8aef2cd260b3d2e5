"""Losses by name, and the check of their options."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from torch import nn
from torch.nn import functional as F

from compresskit.errors import CompressKitError, RecipeError, close_names
from compresskit.losses import torchdistill
from compresskit.losses.correlation import dist
from compresskit.losses.decoupled import dkd
from compresskit.losses.divergences import jsd, reverse_kl, skew_kl, topk_kl
from compresskit.losses.entry import EVERYTHING, Entry
from compresskit.losses.features import attention_transfer, cosine, l1, mse, relative_mse
from compresskit.losses.flow import fsp, gram
from compresskit.losses.images import charbonnier, fourier_amplitude, gradient, ms_ssim, ssim
from compresskit.losses.logits import cross_entropy, kl, standardized_kl
from compresskit.losses.perceptual import Perceptual
from compresskit.losses.relational import relational_angle, relational_distance
from compresskit.losses.similarities import cka, probabilistic_transfer, similarity_preserving
from compresskit.losses.variational import Variational
from compresskit.nodes import find
from compresskit.signature import check_arguments, takes

_NOTHING: frozenset[str] = frozenset()
_SPACE = frozenset({"space"})

_TORCH_ON_LOGITS = (F.kl_div, F.cross_entropy, F.nll_loss, nn.KLDivLoss, nn.CrossEntropyLoss, nn.NLLLoss)
"""Losses of torch between scores of the same classes."""

CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {
        "mse": Entry(mse, name="mse", by_position=True),
        "relative_mse": Entry(relative_mse, name="relative_mse", relational=True, by_position=True),
        "l1": Entry(l1, name="l1", by_position=True),
        "cosine": Entry(cosine, name="cosine", by_position=True),
        "variational": Entry(Variational, built=True, name="variational", by_position=True),
        "attention_transfer": Entry(attention_transfer, _SPACE, name="attention_transfer", by_position=False),
        "gram": Entry(gram, _NOTHING, name="gram", relational=True, by_position=False),
        "fsp": Entry(fsp, _NOTHING, name="fsp", relational=True, several=True, by_position=False),
        "similarity_preserving": Entry(
            similarity_preserving, _NOTHING, name="similarity_preserving", relational=True, by_position=False
        ),
        "relational_distance": Entry(
            relational_distance, _NOTHING, name="relational_distance", relational=True, by_position=False
        ),
        "relational_angle": Entry(
            relational_angle, _NOTHING, name="relational_angle", relational=True, by_position=False
        ),
        "cka": Entry(cka, _NOTHING, name="cka", relational=True, by_position=False),
        "probabilistic_transfer": Entry(
            probabilistic_transfer, _NOTHING, name="probabilistic_transfer", relational=True, by_position=False
        ),
        "kl": Entry(kl, _SPACE, name="kl", logits=True, by_position=True),
        "standardized_kl": Entry(standardized_kl, _SPACE, name="standardized_kl", logits=True, by_position=True),
        "dkd": Entry(dkd, _SPACE, name="dkd", labels=True, logits=True, by_position=True),
        "dist": Entry(dist, _SPACE, name="dist", relational=True, logits=True, by_position=True),
        "reverse_kl": Entry(reverse_kl, _SPACE, name="reverse_kl", logits=True, by_position=True),
        "jsd": Entry(jsd, _SPACE, name="jsd", logits=True, by_position=True),
        "skew_kl": Entry(skew_kl, _SPACE, name="skew_kl", logits=True, by_position=True),
        "topk_kl": Entry(topk_kl, _SPACE, name="topk_kl", logits=True, by_position=True),
        "cross_entropy": Entry(cross_entropy, _NOTHING, name="cross_entropy", logits=True, by_position=True),
        "charbonnier": Entry(charbonnier, name="charbonnier", by_position=True),
        "ssim": Entry(ssim, name="ssim", by_position=False),
        "ms_ssim": Entry(ms_ssim, name="ms_ssim", by_position=False),
        "gradient": Entry(gradient, name="gradient", by_position=False),
        "fourier_amplitude": Entry(fourier_amplitude, name="fourier_amplitude", by_position=False),
        "perceptual": Entry(Perceptual, built=True, name="perceptual", by_position=False),
    }
)
"""Losses by name. A name is only a short form: any callable and any dotted name is a loss too."""


def resolve_loss(loss: str | Callable[..., Any] | Entry) -> Entry:
    """Return the entry of a catalogue name, a dotted name or a callable.

    For a loss that is not in the catalogue adapters make channels and space equal. It gets the batch's labels if its
    third positional argument is called `target` and has no default.

    Raises:
        RecipeError: The name is unknown (the message names the nearest) or not allowed, or `loss` is not callable.
    """
    if isinstance(loss, Entry):
        return loss
    if isinstance(loss, str):
        if loss in CATALOGUE:
            return CATALOGUE[loss]
        if "." not in loss:
            raise RecipeError(f"no loss {loss!r}{close_names(loss, CATALOGUE)}")
        name, loss = loss.rpartition(".")[2], find(torchdistill.full_name(loss), kind="callable")
    else:
        name = getattr(loss, "__name__", type(loss).__name__)
    if known := [entry for entry in CATALOGUE.values() if entry.function is loss]:
        return known[0]
    if torchdistill.is_theirs(loss):
        return torchdistill.entry_of(loss)
    if not callable(loss):
        raise RecipeError(f"a loss is a name or a callable, got {loss!r}")
    return _foreign(loss, name)


def check_options(loss: str | Entry | Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Check a loss's options against its signature.

    Any option may be a schedule, `{"schedule": "linear", ...}`, or a value that is not plain data.

    Raises:
        RecipeError: An option is unknown (the message names the nearest), missing or of the wrong type.
    """
    entry = resolve_loss(loss)
    scheduled = [key for key, value in options.items() if is_schedule(value)]
    if entry.built and scheduled:
        message = f"{entry.name} is made once, so {scheduled[0]} cannot follow a schedule"
        raise RecipeError(message, path=(scheduled[0],))
    values = {key: _Scheduled if is_schedule(value) else value for key, value in options.items()}
    check_arguments(entry.function, values, positional=entry.positional, name=entry.name)


def make_loss(entry: Entry, options: Mapping[str, Any]) -> Callable[..., Any]:
    """Build the loss of a class or factory from its options; a plain function is returned as it is.

    Raises:
        RecipeError: The class or factory refuses its options, or its result is not callable.
        CheckpointError: It reads a file that is missing or cannot be used.
    """
    if not entry.built:
        return entry.function
    try:
        loss = entry.function(**options)
    except CompressKitError:  # may be a ValueError, too, and says itself what is wrong
        raise
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{entry.name} refuses these options: {error}") from error
    if not callable(loss):
        raise RecipeError(f"{entry.name} gave {type(loss).__name__}, which is not callable")
    return loss


class _Scheduled:
    """A stand-in for a value that changes over the stage."""


def is_schedule(value: Any) -> bool:
    """Return whether `value` is written as a schedule: `{"schedule": "linear", "start": 1.0, "end": 0.0}`."""
    return isinstance(value, Mapping) and "schedule" in value


def _foreign(loss: Callable[..., Any], name: str) -> Entry:
    built = isinstance(loss, type) or not takes(loss, positional=2)
    logits = any(loss is known for known in _TORCH_ON_LOGITS)
    return Entry(
        loss, _SPACE if logits else EVERYTHING, built=built, name=name, labels=_takes_labels(loss), logits=logits
    )


def _takes_labels(loss: Callable[..., Any]) -> bool:
    """Return whether the third positional argument is called `target` and has no default."""
    call, own = loss, 0
    if isinstance(loss, nn.Module):
        call = loss.forward
    elif isinstance(loss, type) and issubclass(loss, nn.Module):
        call, own = loss.forward, 1  # its `self`
    try:
        third = list(inspect.signature(call).parameters.values())[own + 2 : own + 3]
    except (TypeError, ValueError):  # a builtin without a signature
        return False
    return any(p.name == "target" and p.default is p.empty and p.kind is not p.KEYWORD_ONLY for p in third)
