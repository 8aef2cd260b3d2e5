"""From an address to a module of a model, and from its input or output to a tensor."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from compresskit.distill.spec.address import Address
from compresskit.errors import RecipeError, TapError, close_names


def unwrap(model: nn.Module) -> nn.Module:
    """Return the user's own module below `torch.compile` and `DistributedDataParallel`.

    Raises:
        RecipeError: The model is in a wrapper that keeps its tensors from being read.
    """
    *_, model = _layers(model)
    kind = type(model).__name__
    if kind in ("DataParallel", "FullyShardedDataParallel"):
        raise RecipeError(
            f"the model is wrapped in {kind}, under which no whole module runs that could be tapped; give the bare "
            "module, and start several processes with torchrun"
        )
    return model


def wrapper_of(model: nn.Module) -> DistributedDataParallel | None:
    """Return the `DistributedDataParallel` around the user's own module, or None."""
    return next((layer for layer in _layers(model) if isinstance(layer, DistributedDataParallel)), None)


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """Yield a model and, as long as that is a wrapper, the model inside it."""
    yield model
    inner = model.module if isinstance(model, DistributedDataParallel) else getattr(model, "_orig_mod", None)
    if isinstance(inner, nn.Module):
        yield from _layers(inner)


def find_module(model: nn.Module, address: Address) -> nn.Module:
    """Return the module that `address` names inside the unwrapped `model`.

    Raises:
        TapError: There is no such module; the message names the nearest paths.
    """
    modules = {**dict(model.named_modules(remove_duplicate=False)), ".": model}
    if isinstance(modules.get(address.path), torch.jit.ScriptModule):
        raise TapError(
            f"{address.text!r} is a TorchScript module, which takes no hooks; tap a plain module that calls it",
            about=(address.text,),
        )
    if address.path not in modules:
        paths = [path for path in modules if path not in ("", ".")]
        message = f"{type(model).__name__} has no module {address.path!r}{close_names(address.path, paths)}"
        raise TapError(message, about=(address.text,))
    return modules[address.path]


def select(value: Any, selectors: tuple[int | str, ...], address: Address) -> Tensor:
    """Return the tensor that the selectors lead to inside a module's input or output.

    Raises:
        TapError: There is no such part, or it is not a tensor.
    """
    for selector in selectors:
        value = _step(value, selector, address)
    if value is None:
        raise TapError(
            f"{address.text!r} is None in this forward, so there is nothing to compare", about=(address.text,)
        )
    if not isinstance(value, Tensor):
        inside = _describe(value)
        raise TapError(
            f"{address.text!r} is {inside}, not a tensor; select one, as in {_with_selector(value, address)}",
            about=(address.text,),
        )
    if value.is_nested:
        raise TapError(
            f"{address.text!r} is a nested tensor, whose rows differ in length; "
            "nn.TransformerEncoder gives plain ones with enable_nested_tensor=False",
            about=(address.text,),
        )
    return value


def _step(value: Any, selector: int | str, address: Address) -> Any:
    if isinstance(selector, str) and not isinstance(value, Mapping) and hasattr(value, selector):
        return getattr(value, selector)
    try:
        return value[selector]
    except (KeyError, IndexError, TypeError):
        shown = f"[{selector}]" if isinstance(selector, int) else f".{selector}"
        raise TapError(f"{address.text!r}: there is no {shown} in {_describe(value)}", about=(address.text,)) from None


def _with_selector(value: Any, address: Address) -> str:
    """Return an address that goes one step further, into this very value."""
    base = address.text if "@" in address.text else f"{address.text}@{address.port}"
    if isinstance(value, Mapping):
        return f"{base}.{next(iter(value), 'name')}"
    return f"{address.text}[0]" if isinstance(value, list | tuple) else f"{base}.name"


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with keys {', '.join(map(str, list(value)[:8]))}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
