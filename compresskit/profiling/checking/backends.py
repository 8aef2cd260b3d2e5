"""Other counters: torch's own, thop's and fvcore's. They count MACs alone, so that equal means equal.

None of them sees the user's model. torch's and thop's run on a copy without values, fvcore's on a small real copy,
because it traces a real run. Each is imported when it is needed.
"""

import importlib
import importlib.metadata
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from compresskit.nested import held_tensors, map_tensors
from compresskit.profiling.counting.model_call import ModelCall

_FVCORE_MACS = ("conv", "linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum")
"""Operations with MACs, as fvcore calls them."""

_WRAPPED = "model"


def torch_macs(model: nn.Module, call: ModelCall) -> int:
    """Return the MACs by torch's FlopCounterMode."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call.run(model)
    return counter.get_total_flops() // 2


def thop_macs(model: nn.Module, call: ModelCall) -> dict[str, int]:
    """Return the MACs by path, by thop's rules for convolutions, linear and recurrent layers; its other rules are off.

    Raises:
        ImportError: thop is not installed, or it is another package of the same name.
    """
    thop = _thop()
    other_rules = {
        kind: thop.zero_ops
        for kind in thop.register_hooks
        if not issubclass(kind, nn.modules.conv._ConvNd | nn.Linear | nn.RNNBase | nn.RNNCellBase)  # noqa: SLF001
    }
    wrapped, tensors = _TensorsToTensors(model, call), tuple(call.tensors())
    _, _, layers = thop.profile(wrapped, tensors, custom_ops=other_rules, verbose=False, ret_layer_info=True)
    return dict(_leaves(layers, ""))


def has_thop_rule(kind: type) -> bool:
    """Return whether thop has a rule for a class of modules; it looks up the exact class."""
    return kind in _thop().register_hooks


def fvcore_macs(model: nn.Module, call: ModelCall) -> tuple[int, list[str]]:
    """Return the MACs by fvcore, and the operations that it does not support.

    Raises:
        ImportError: fvcore is not installed.
    """
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(_TensorsToTensors(model, call), tuple(call.tensors()))
    analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False).tracer_warnings("none")
    with torch.no_grad():
        counts = analysis.by_operator()
    return int(sum(counts[name] for name in _FVCORE_MACS)), sorted(analysis.unsupported_ops())


class _TensorsToTensors(nn.Module):
    """A model that takes its tensors one by one and returns a tuple of tensors, as thop and fvcore need it."""

    def __init__(self, model: nn.Module, call: ModelCall) -> None:
        super().__init__()
        self.add_module(_WRAPPED, model)
        self.call = call

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Put the tensors into the call, run it, and return the tensors of the output."""
        remaining = iter(tensors)
        args, kwargs = map_tensors(lambda _: next(remaining), [self.call.args, dict(self.call.kwargs)])
        return tuple(held_tensors(getattr(self, _WRAPPED)(*args, **kwargs), objects=True))


def _thop() -> ModuleType:
    """Import thop's module of rules; `thop.profile` is that module, hidden behind a function of the same name."""
    rules = importlib.import_module("thop.profile")
    try:
        importlib.metadata.version("thop")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError("the module thop belongs to another package, whose rules differ") from None
    return rules


def _leaves(layers: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, int]]:
    """Yield the MACs at each path of thop's nested result, whose nodes are (MACs, parameters, inner layers)."""
    for name, (macs, _, inner) in layers.items():
        path = f"{prefix}.{name}" if prefix else name
        if inner:
            yield from _leaves(inner, path)
        else:
            yield path.removeprefix(f"{_WRAPPED}.") if path != _WRAPPED else "", int(macs)
