"""Our count against other counters', each with a verdict: it agrees, it differs and why, it cannot run and why."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from compresskit.profiling.checking import backends
from compresskit.profiling.counting.copies import own_device, real_copy, untouched, zeroed
from compresskit.profiling.counting.dead_code import dead_code, dead_macs
from compresskit.profiling.counting.formulas import in_registry
from compresskit.profiling.counting.model_call import Call
from compresskit.profiling.counting.operations import Record, without_fast_path
from compresskit.profiling.counting.sizes import smallest_fitting
from compresskit.profiling.counting.tracing_modes import Observed, observe, prepared

TRACED_LIMIT = 30_000_000_000
"""MACs up to which a small copy is run for fvcore."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What another counter says."""

    backend: str
    verdict: Literal["agrees", "differs", "cannot run", "not installed"]
    reason: str = ""
    """Why it differs, where that can be told, or why it cannot run."""
    macs: int | None = None
    """Its count."""
    expected: int | None = None
    """Ours, for the same inputs."""
    inputs: tuple[str, ...] = ()

    def __str__(self) -> str:
        why = self.reason
        if self.verdict == "differs" and not why:
            why = f"unexplained: {self.macs:,} for {self.expected:,}"
        return f"{self.backend} {self.verdict}" + (f" ({why})" if why else "")


def crosscheck(model: nn.Module, call: Call, observed: Observed) -> tuple[Verdict, ...]:
    """The verdicts of torch's counter, thop and fvcore on what was observed."""
    asked: dict[str, Callable[[], Verdict]] = {
        "torch": lambda: _torch(model, call, observed),
        "thop": lambda: _thop(model, call, observed),
        "fvcore": lambda: _fvcore(model, call),
    }
    return tuple(_asked(model, name, ask) for name, ask in asked.items())


def _asked(model: nn.Module, name: str, ask: Callable[[], Verdict]) -> Verdict:
    try:
        with untouched(model), without_fast_path(), _quiet():
            return ask()
    except ImportError as error:
        return Verdict(name, "not installed", str(error))
    except Exception as error:  # noqa: BLE001  (whatever another library or the model raises)
        return Verdict(name, "cannot run", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}")


def _torch(model: nn.Module, call: Call, observed: Observed) -> Verdict:
    twin, placed, context = prepared(model, call, observed.route)
    with context:
        theirs = backends.torch_macs(twin, placed)
    missing = Counter[str]()
    for operation in observed.record.operations:
        if not in_registry(operation.name):
            missing[operation.name] += operation.macs
    ours = _macs(observed.record)
    reason = f"no formula for {_list(missing)}" if ours - theirs == sum(missing.values()) else ""
    return _verdict("torch", theirs, ours, call, reason)


def _thop(model: nn.Module, call: Call, observed: Observed) -> Verdict:
    twin, placed, context = prepared(model, call, observed.route)
    with context:
        found = backends.thop_macs(twin, placed)
    ours = _own_macs(observed.record)
    kinds = {path: type(module) for path, module in model.named_modules()}
    by_kind: dict[str, list[int]] = {}
    for path in {*found, *ours}:
        if found.get(path, 0) != ours.get(path, 0):
            sums = by_kind.setdefault(_named(kinds.get(path, nn.Module), path, found), [0, 0])
            sums[0] += found.get(path, 0)
            sums[1] += ours.get(path, 0)
    reason = "; ".join(f"{kind}: {theirs:,} for {expected:,}" for kind, (theirs, expected) in sorted(by_kind.items()))
    return _verdict("thop", sum(found.values()), _macs(observed.record), call, reason)


def _fvcore(model: nn.Module, call: Call) -> Verdict:
    small = smallest_fitting(model, call)
    observed = observe(model, small)
    ours = _macs(observed.record)
    if ours > TRACED_LIMIT:
        return Verdict("fvcore", "cannot run", f"it needs a real run, here of {ours / 1e9:.0f} G MACs")
    if observed.route in ("meta", "fake"):
        copied, device = zeroed(model), torch.device("cpu")
    else:  # the values decide what runs
        device = own_device(model)
        copied = real_copy(model, device)
    theirs, unsupported = backends.fvcore_macs(copied, small.on(device))
    return _verdict("fvcore", theirs, ours, small, _why_fvcore(ours - theirs, observed.record, unsupported))


def _why_fvcore(missing: int, record: Record, unsupported: list[str]) -> str:
    in_vain = dead_macs(record)
    modules = ", ".join(part.module for part in dead_code(record) if part.macs)
    if in_vain and missing == in_vain:
        return f"leaves out what reaches no output: {modules or 'some operations'}"
    known = [name for name in unsupported if name.removeprefix("aten::") in _COUNTED_BY_US]
    if known and missing > 0:
        return f"no formula for {', '.join(known)}" + (f"; leaves out {modules}" if in_vain and modules else "")
    return ""


_COUNTED_BY_US = (
    *("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
    *("scaled_dot_product_attention", "mv", "dot", "addmv", "addbmm", "baddbmm", "inner", "tensordot", "_int_mm"),
)
"""Operations with MACs, as a trace calls them, for which fvcore may have no formula."""


def _verdict(name: str, theirs: int, ours: int, call: Call, reason: str) -> Verdict:
    inputs = tuple(call.describe())
    if theirs == ours:
        return Verdict(name, "agrees", "", theirs, ours, inputs)
    return Verdict(name, "differs", reason, theirs, ours, inputs)


def _named(kind: type, path: str, found: Mapping[str, int]) -> str:
    """What a difference is about: a class of layers, or functions that no hook sees."""
    if path not in found or not backends.has_thop_rule(kind):
        return f"no rule for {kind.__name__}"
    return kind.__name__


def _own_macs(record: Record) -> dict[str, int]:
    """MACs by the innermost module that runs them."""
    own: Counter[str] = Counter()
    for operation in record.operations:
        own[operation.modules[-1] if operation.modules else ""] += operation.macs
    return {path: macs for path, macs in own.items() if macs}


def _macs(record: Record) -> int:
    return sum(operation.macs for operation in record.operations)


def _list(missing: Mapping[str, int]) -> str:
    return ", ".join(name for name, macs in missing.items() if macs)


@contextmanager
def _quiet() -> Iterator[None]:
    """Other libraries' warnings are not about the user's code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
