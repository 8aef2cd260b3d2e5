"""Other counters, asked for MACs alone so that equal means equal: torch's own, fvcore's and thop's.

None of them sees the user's model. torch's and thop's run on a copy without weights, fvcore's on a small real copy:
it traces a real run. Each is imported when it is asked.
"""

import importlib
import importlib.metadata
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from compresskit.profiling.counting.model_call import Call
from compresskit.profiling.counting.tensors import OBJECTS, mapped, tensors_in

_FVCORE_MACS = ("conv", "linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum")


_WRAPPED = "model"


def torch_macs(model: nn.Module, call: Call) -> int:
    """MACs by torch's FlopCounterMode."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*call.args, **call.kwargs)
    return counter.get_total_flops() // 2


def thop_macs(model: nn.Module, call: Call) -> dict[str, int]:
    """MACs by thop's own rules for convolutions, linear and recurrent layers, by path; its other rules are set to 0.

    Raises:
        ImportError: thop is not installed, or it is another package of the same name.
    """
    rules = _thop()
    flat = _Flat(model, call)
    others = {
        kind: rules.zero_ops
        for kind in rules.register_hooks
        if not issubclass(kind, nn.modules.conv._ConvNd | nn.Linear | nn.RNNBase | nn.RNNCellBase)  # noqa: SLF001
    }
    _, _, found = rules.profile(flat, tuple(call.tensors()), custom_ops=others, verbose=False, ret_layer_info=True)
    return dict(_leaves(found, ""))


def has_thop_rule(kind: type) -> bool:
    """Whether thop knows a class of modules; it goes by the exact class."""
    return kind in _thop().register_hooks


def fvcore_macs(model: nn.Module, call: Call) -> tuple[int, list[str]]:
    """MACs by fvcore, and the operations that it did not support.

    Raises:
        ImportError: fvcore is not installed.
    """
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(_Flat(model, call), tuple(call.tensors()))
    analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False).tracer_warnings("none")
    with torch.no_grad():
        found = analysis.by_operator()
    return int(sum(found[name] for name in _FVCORE_MACS)), sorted(analysis.unsupported_ops())


class _Flat(nn.Module):
    """A model that takes its tensors one by one and returns a tuple of tensors, which is all that these tools know."""

    def __init__(self, model: nn.Module, call: Call) -> None:
        super().__init__()
        self.add_module(_WRAPPED, model)
        self.call = call

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Put the tensors where they belong in the call, and take those of the output."""
        remaining = iter(tensors)
        args, kwargs = mapped(lambda _: next(remaining), [self.call.args, dict(self.call.kwargs)])
        return tuple(tensors_in(getattr(self, _WRAPPED)(*args, **kwargs), objects=OBJECTS))


def _thop() -> ModuleType:
    """The rules of thop; `thop.profile` is a module, behind a function of the same name."""
    rules = importlib.import_module("thop.profile")
    try:
        importlib.metadata.version("thop")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError("the module thop is another package's, whose rules differ") from None
    return rules


def _leaves(found: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, int]]:
    """The MACs at each path of thop's nested answer, whose nodes are (MACs, parameters, inside)."""
    for name, (macs, _, inside) in found.items():
        path = f"{prefix}.{name}" if prefix else name
        if inside:
            yield from _leaves(inside, path)
        else:
            yield path.removeprefix(f"{_WRAPPED}.") if path != _WRAPPED else "", int(macs)
