"""What one forward did: every operation, every storage, every module's calls. All counted figures are read off it."""

import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from compresskit.profiling.counting.elementwise import elementwise_flops, makes_nothing
from compresskit.profiling.counting.formulas import has_formula, macs, operation_name
from compresskit.profiling.counting.tensors import OBJECTS, tensors_in
from compresskit.profiling.counting.workspace import laid_out_as_on_a_cpu, workspace

GIVEN = -1
"""Born before the forward: a weight, a buffer or an input."""


@dataclass(slots=True)
class Storage:
    """The memory behind a tensor and its views."""

    bytes: int
    born: int
    """Number of the operation that made it, or `GIVEN`."""
    died: int | None = None
    """Number of the first operation that ran without it; None if it outlived the forward."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, as torch dispatched it."""

    name: str
    modules: tuple[str, ...]
    """Paths of the modules inside which it ran, the outermost, "", first."""
    macs: int
    elementwise: int
    bytes: int
    """Of its operands and results, each once; 0 for a view."""
    workspace: int
    """Bytes that it borrows on this machine's CPU while it runs."""
    counted: bool
    """False where neither a formula nor a table knows it."""
    reads: tuple[int, ...]
    """Numbers of the storages of its operands."""
    writes: tuple[int, ...]
    """And of its results, and of operands that it changes."""
    changes: bool
    """Whether it writes into an operand."""


@dataclass(slots=True)
class Calls:
    """How a module was called."""

    count: int = 0
    output_shape: tuple[int, ...] | None = None
    """Of the first tensor that the first call returned."""
    output_bytes: int = 0
    """Of all tensors that the first call returned."""


@dataclass(slots=True)
class Record:
    """One forward."""

    operations: list[Operation] = field(default_factory=list)
    storages: list[Storage] = field(default_factory=list)
    calls: dict[str, Calls] = field(default_factory=dict)
    outputs: frozenset[int] | None = None
    """Numbers of the storages that were returned; None where no tensor was found in what was returned."""
    output_shape: tuple[int, ...] | None = None
    strangers: bool = False
    """Whether a tensor came from nowhere: a constant, or one that numpy made of another out of sight."""


def record_forward(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Record:
    """Run `model` once, as it is, and note what it does. It is left with its hooks removed, but is else not protected.

    The fused attention of `nn.MultiheadAttention` is off while it runs: torch would see one opaque operation.
    """
    recorder = _Recorder()
    given = [*model.parameters(), *model.buffers(), *tensors_in([args, kwargs], objects=OBJECTS)]
    recorder.know([*given, *tensors_in([_attributes(module) for module in model.modules()], objects=OBJECTS)])
    with torch.no_grad(), without_fast_path(), _uncompiled(), _watched(model, recorder), recorder:
        output = model(*args, **kwargs)
    return recorder.finished(output)


class _Recorder(TorchDispatchMode):
    """Notes operations while it is entered."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.record = Record()
        self._serials: dict[int, int] = {}
        self._funerals: list[weakref.finalize] = []
        self._stack: tuple[str, ...] = ()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Take operations apart as far as torch can, run each and note it."""
        del types
        kwargs = kwargs or {}
        if hasattr(func, "decompose") and not has_formula(func) and func is not torch.ops.prim.device.default:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        output = laid_out_as_on_a_cpu(func, args, func(*args, **kwargs))
        self._note(func, args, kwargs, output)
        return output

    def know(self, tensors: Iterable[Tensor]) -> None:
        """Storages that exist already."""
        for tensor in tensors:
            self._serial(tensor, GIVEN)

    def entering(self, path: str, _module: nn.Module, _args: Any) -> None:
        """A module begins."""
        self._stack = (*self._stack, path)

    def leaving(self, path: str, _module: nn.Module, _args: Any, output: Any) -> None:
        """A module ends, or fails: then there is no output."""
        self._stack = self._stack[:-1]
        calls = self.record.calls.setdefault(path, Calls())
        calls.count += 1
        if calls.count == 1:
            tensors = list(tensors_in(output))
            calls.output_shape = tuple(tensors[0].shape) if tensors else None
            calls.output_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def finished(self, output: Any) -> Record:
        """The record of a forward that returned `output`; what dies from now on is no longer noted."""
        for funeral in self._funerals:
            funeral.detach()
        tensors = list(tensors_in(output, objects=OBJECTS))
        if tensors:
            self.record.outputs = frozenset(self._numbers(tensors))
            self.record.output_shape = tuple(tensors[0].shape)
        return self.record

    def _note(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        operands, results = list(tensors_in([args, kwargs])), list(tensors_in(output))
        name = operation_name(func)
        known = len(self.record.storages)
        self.know(operands)  # torch.tensor and from_numpy make their tensors out of sight, and so do constants
        reads = self._numbers(operands)
        self.record.strangers |= len(self.record.storages) > known
        changed = self._numbers(_changed(func, args, kwargs))
        multiplied = macs(func, args, kwargs, output)
        flops = 0 if multiplied is not None else elementwise_flops(func, args, output)
        self.record.operations.append(
            Operation(
                name,
                self._stack,
                macs=multiplied or 0,
                elementwise=flops or 0,
                bytes=0 if makes_nothing(func) else sum(_touched(tensor) for tensor in (*operands, *results)),
                workspace=workspace(func, args, output),
                counted=flops is not None,
                reads=tuple(reads),
                writes=(*self._numbers(results), *changed),
                changes=bool(changed),
            )
        )

    def _numbers(self, tensors: Iterable[Tensor]) -> list[int]:
        numbers = (self._serial(tensor, len(self.record.operations)) for tensor in tensors)
        return [number for number in numbers if number is not None]

    def _serial(self, tensor: Tensor, born: int) -> int | None:
        """The number of a tensor's storage, a new one where it has not been seen."""
        try:
            memory = tensor.untyped_storage()
            size = memory.nbytes()
        except (NotImplementedError, RuntimeError):  # sparse and opaque tensors have none
            return None
        address = memory._cdata  # noqa: SLF001  (meta storages have no other name)
        if address not in self._serials:
            self._serials[address] = len(self.record.storages)
            self.record.storages.append(Storage(size, born))
            self._funerals.append(weakref.finalize(memory, self._buried, address))
        return self._serials[address]

    def _buried(self, address: int) -> None:
        self.record.storages[self._serials.pop(address)].died = len(self.record.operations)


def _changed(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """The operands that an operation writes to."""
    schema = getattr(func, "_schema", None)
    for index, argument in enumerate(schema.arguments if schema is not None else ()):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from tensors_in(args[index] if index < len(args) else kwargs.get(argument.name))


def _touched(tensor: Tensor) -> int:
    """Bytes read or written; an expanded tensor has only those that exist."""
    size = tensor.numel() * tensor.element_size()
    try:
        return min(size, tensor.untyped_storage().nbytes())
    except (NotImplementedError, RuntimeError):
        return size


def _attributes(module: nn.Module) -> dict[str, Any]:
    own = ("_parameters", "_buffers", "_modules")
    return {name: value for name, value in vars(module).items() if name not in own}


@contextmanager
def _watched(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Hooks that tell the recorder which module runs."""
    handles = []
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # takes no hooks; what it does counts for what calls it
            continue
        handles.append(module.register_forward_pre_hook(partial(recorder.entering, path), prepend=True))
        handles.append(module.register_forward_hook(partial(recorder.leaving, path), always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def without_fast_path() -> Iterator[None]:
    """Inside, attention runs operation by operation; its fused form is one that no counter looks into."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _uncompiled() -> AbstractContextManager[object]:
    """Compiled parts run as they were written: a compiler would hide operations from the dispatcher."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
