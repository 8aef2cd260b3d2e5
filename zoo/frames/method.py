"""A way to demosaic: a conventional method by its name, or a network from its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compresskit import load_model
from compresskit.errors import CheckpointError, RecipeError, first_line
from compresskit.nested import device_of
from zoo.pynet.released import network_of
from zoo.raw.methods.lmmse import LMMSEPhase
from zoo.raw.methods.methods import METHODS
from zoo.raw.sensor.cfa import CFA
from zoo.raw.sensor.encoding import Domain


@dataclass(frozen=True, slots=True)
class Method:
    """A way to demosaic, before the array of a frame is known."""

    name: str
    build: Callable[[CFA], nn.Module]
    """Function from an array to a module for it, or for one that differs from it in the phase."""
    cfa: CFA | None
    """The only array that the method takes, phase included; None takes any."""
    domain: Domain
    """The encoding of light that the method was trained or designed for."""
    half: bool = False
    """True runs a network in bfloat16."""


def conventional_method(name: str, weights: Path | None, domain: Domain | None, device: str) -> Method:
    """Return a method of `METHODS`. With weights, `lmmse` takes the filters that a run has fitted.

    Raises:
        CheckpointError: The weights have no LMMSE-phase.
    """
    if name == "lmmse" and weights is not None:
        loaded = load_model(weights)
        linear = next((part for part in loaded.model.modules() if isinstance(part, LMMSEPhase)), None)
        if linear is None:
            raise CheckpointError(f"{weights} has no LMMSE-phase; leave --weights out, and it is fitted")
        return Method(name, lambda _: _to_device(linear, device), linear.cfa, domain or _training_domain(loaded.recipe))
    return Method(name, lambda cfa: _to_device(METHODS[name](cfa), device), None, domain or "display")


def network_method(part: str, weights: Path, domain: Domain | None, device: str, precision: str = "fp32") -> Method:
    """Return the method of a run's network, `student` or `teacher`, or of a published checkpoint.

    With the precision "bf16" or "auto" it runs in bfloat16, unless the processor has no units for it and is slower.

    Raises:
        CheckpointError: The weights, or the recipe beside them, cannot be used.
    """
    loaded = load_model(weights, part=part if weights.is_dir() else None, otherwise=network_of)
    model = _to_device(loaded.model, device)
    cfa = getattr(model, "cfa", None)
    if not isinstance(cfa, CFA):
        raise CheckpointError(f"{weights} is a {type(model).__name__}, which does not say for which array it is")
    half = precision != "fp32" and (device_of(model).type != "cpu" or has_bfloat16_units())
    return Method(part, lambda _: model, cfa, domain or _training_domain(loaded.recipe), half)


def has_bfloat16_units() -> bool:
    """Return whether the processor has instructions for products of bfloat16: AMX, AVX512_BF16 or Arm's."""
    return any(name.endswith("bf16") and value is True for name, value in torch.cpu.get_capabilities().items())


def _to_device(module: nn.Module, device: str) -> nn.Module:
    try:
        if torch.device(device).type == "meta":
            raise RecipeError("--device meta: tensors on it have no values")
        return module.to(device)
    except (RuntimeError, AssertionError, ImportError) as error:  # torch's ways to say that there is none
        raise RecipeError(f"--device {device}: {first_line(error)}") from error


def _training_domain(recipe: Mapping[str, Any] | None) -> Domain:
    """Return the domain of the training data.

    Photographs are display-encoded; a published checkpoint, which has no recipe, was trained on a sensor's values.
    """
    if recipe is None:
        return "linear"
    return ((recipe.get("data") or {}).get("train") or {}).get("domain", "display")
