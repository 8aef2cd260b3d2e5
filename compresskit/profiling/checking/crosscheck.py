"""Our count against other counters, each with a verdict: it agrees, it differs and why, or it cannot run and why."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from compresskit.errors import first_line
from compresskit.nested import device_of
from compresskit.profiling.checking import backends
from compresskit.profiling.counting.copies import copy_to, copy_with_zeros, guard
from compresskit.profiling.counting.dead_code import dead_macs, find_dead_code
from compresskit.profiling.counting.formulas import in_registry
from compresskit.profiling.counting.model_call import ModelCall
from compresskit.profiling.counting.operations import ForwardRecord, without_fast_path
from compresskit.profiling.counting.sizes import smallest_valid_call
from compresskit.profiling.counting.tracing_modes import prepare, record_forward

FVCORE_LIMIT = 30_000_000_000
"""MACs up to which a small copy is run for fvcore."""

_UNKNOWN_TO_FVCORE = (
    *("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
    *("scaled_dot_product_attention", "mv", "dot", "addmv", "addbmm", "baddbmm", "inner", "tensordot", "_int_mm"),
)
"""Operations with MACs, as a trace calls them, for which fvcore may have no formula."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of another counter."""

    backend: str
    verdict: Literal["agrees", "differs", "cannot run", "not installed"]
    reason: str = ""
    """Reason why it differs, if it can be found, or why it cannot run."""
    macs: int | None = None
    """Its count."""
    expected: int | None = None
    """Our count, for the same inputs."""
    inputs: tuple[str, ...] = ()

    def __str__(self) -> str:
        reason = self.reason
        if self.verdict == "differs" and not reason:
            reason = f"unexplained: {self.macs:,} for {self.expected:,}"
        return f"{self.backend} {self.verdict}" + (f" ({reason})" if reason else "")


def run_crosscheck(model: nn.Module, call: ModelCall, record: ForwardRecord) -> tuple[Verdict, ...]:
    """Return the verdicts of torch's counter, thop and fvcore on our record of the same call."""
    counters: dict[str, Callable[[], Verdict]] = {
        "torch": lambda: _check_torch(model, call, record),
        "thop": lambda: _check_thop(model, call, record),
        "fvcore": lambda: _check_fvcore(model, call),
    }
    return tuple(_run(model, name, check) for name, check in counters.items())


def _run(model: nn.Module, name: str, check: Callable[[], Verdict]) -> Verdict:
    try:
        with guard(model), without_fast_path(), _without_warnings():
            return check()
    except ImportError as error:
        return Verdict(name, "not installed", str(error))
    except Exception as error:  # noqa: BLE001  (any exception of another library or the model)
        return Verdict(name, "cannot run", f"{type(error).__name__}: {first_line(error)[:120]}")


def _check_torch(model: nn.Module, call: ModelCall, record: ForwardRecord) -> Verdict:
    copy, inputs, context = prepare(model, call, record.tracing_mode)
    with context:
        theirs = backends.torch_macs(copy, inputs)
    without_formula = Counter[str]()
    for operation in record.operations:
        if not in_registry(operation.name):
            without_formula[operation.name] += operation.macs
    names = ", ".join(name for name, macs in without_formula.items() if macs)
    reason = f"no formula for {names}" if record.macs - theirs == sum(without_formula.values()) else ""
    return _verdict("torch", theirs, record.macs, call, reason)


def _check_thop(model: nn.Module, call: ModelCall, record: ForwardRecord) -> Verdict:
    copy, inputs, context = prepare(model, call, record.tracing_mode)
    with context:
        theirs = backends.thop_macs(copy, inputs)
    ours = _macs_by_module(record)
    kinds = {path: type(module) for path, module in model.named_modules()}
    differences: dict[str, list[int]] = {}
    for path in {*theirs, *ours}:
        if theirs.get(path, 0) != ours.get(path, 0):
            sums = differences.setdefault(_subject(kinds.get(path, nn.Module), path, theirs), [0, 0])
            sums[0] += theirs.get(path, 0)
            sums[1] += ours.get(path, 0)
    reason = "; ".join(
        f"{subject}: {macs:,} for {expected:,}" for subject, (macs, expected) in sorted(differences.items())
    )
    return _verdict("thop", sum(theirs.values()), record.macs, call, reason)


def _check_fvcore(model: nn.Module, call: ModelCall) -> Verdict:
    small = smallest_valid_call(model, call)
    record = record_forward(model, small)
    if record.macs > FVCORE_LIMIT:
        return Verdict("fvcore", "cannot run", f"it needs a real run, here of {record.macs / 1e9:.0f} G MACs")
    if record.is_real_run:  # the values decide which operations run
        device = device_of(model)
        copy = copy_to(model, device)
    else:
        copy, device = copy_with_zeros(model), torch.device("cpu")
    theirs, unsupported = backends.fvcore_macs(copy, small.to(device))
    return _verdict("fvcore", theirs, record.macs, small, _fvcore_reason(record.macs - theirs, record, unsupported))


def _fvcore_reason(missing: int, record: ForwardRecord, unsupported: list[str]) -> str:
    dead = dead_macs(record)
    modules = ", ".join(part.module for part in find_dead_code(record) if part.macs)
    if dead and missing == dead:
        return f"leaves out what reaches no output: {modules or 'some operations'}"
    names = [name for name in unsupported if name.removeprefix("aten::") in _UNKNOWN_TO_FVCORE]
    if names and missing > 0:
        return f"no formula for {', '.join(names)}" + (f"; leaves out {modules}" if dead and modules else "")
    return ""


def _verdict(name: str, theirs: int, ours: int, call: ModelCall, reason: str) -> Verdict:
    inputs = tuple(call.describe())
    if theirs == ours:
        return Verdict(name, "agrees", "", theirs, ours, inputs)
    return Verdict(name, "differs", reason, theirs, ours, inputs)


def _subject(kind: type, path: str, theirs: Mapping[str, int]) -> str:
    """Return the subject of a difference from thop: a class of layers, or the lack of a rule."""
    if path not in theirs or not backends.has_thop_rule(kind):
        return f"no rule for {kind.__name__}"
    return kind.__name__


def _macs_by_module(record: ForwardRecord) -> dict[str, int]:
    """Return the MACs by the innermost module that runs them."""
    macs: Counter[str] = Counter()
    for operation in record.operations:
        macs[operation.modules[-1] if operation.modules else ""] += operation.macs
    return {path: count for path, count in macs.items() if count}


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignore warnings: other libraries' are not about the user's code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
