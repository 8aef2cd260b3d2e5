"""Operations, storages and module calls of one forward. All counted figures are computed from this record."""

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

from compresskit.nested import held_tensors, parameters_and_buffers, tensors_in
from compresskit.profiling.counting.elementwise import accesses_memory, elementwise_flops
from compresskit.profiling.counting.formulas import has_formula, macs, operation_name
from compresskit.profiling.counting.model_call import ModelCall
from compresskit.profiling.counting.workspace import with_cpu_layout, workspace_bytes

BEFORE_FORWARD = -1
"""Operation number of storages that exist before the forward: weights, buffers and inputs."""


@dataclass(slots=True)
class Storage:
    """The memory behind a tensor and its views."""

    bytes: int
    allocated_at: int
    """Number of the operation that allocated it, or `BEFORE_FORWARD`."""
    freed_at: int | None = None
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
    """Bytes of its operands and results, each once; 0 for a view."""
    workspace: int
    """Bytes that it borrows on this machine's CPU while it runs."""
    counted: bool
    """False if no formula and no table knows it."""
    reads: tuple[int, ...]
    """Numbers of the storages of its operands."""
    writes: tuple[int, ...]
    """Numbers of the storages of its results, and of operands that it changes."""
    mutates: bool
    """True if it writes into an operand."""


@dataclass(slots=True)
class ModuleCalls:
    """Calls of one module."""

    count: int = 0
    output_shape: tuple[int, ...] | None = None
    """Shape of the first tensor that the first call returned."""
    output_bytes: int = 0
    """Bytes of all tensors that the first call returned."""


@dataclass(slots=True)
class ForwardRecord:
    """One forward."""

    tracing_mode: str = ""
    """`meta`, `fake`, or the device of a real run."""
    operations: list[Operation] = field(default_factory=list)
    storages: list[Storage] = field(default_factory=list)
    calls: dict[str, ModuleCalls] = field(default_factory=dict)
    """Calls by the path of the module."""
    outputs: frozenset[int] | None = None
    """Numbers of the storages of the output; None if the output holds no tensor."""
    output_shape: tuple[int, ...] | None = None
    has_unknown_operands: bool = False
    """True if an operand was neither there before nor the result of an operation: a constant, or a result of numpy."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all operations."""
        return sum(operation.macs for operation in self.operations)

    @property
    def is_real_run(self) -> bool:
        """True if the operations computed values."""
        return self.tracing_mode not in ("meta", "fake")


def record_operations(model: nn.Module, call: ModelCall, tracing_mode: str = "") -> ForwardRecord:
    """Run `model` itself once and record its operations. Its hooks are removed again; nothing else is protected.

    The fused attention of `nn.MultiheadAttention` is off during the run, because torch would see one opaque operation.

    Args:
        model: Module to run.
        call: Its inputs.
        tracing_mode: Tracing mode to note in the record.
    """
    recorder = _Recorder(tracing_mode)
    recorder.add_storages(parameters_and_buffers(model))
    recorder.add_storages(held_tensors([call.args, call.kwargs], objects=True))
    recorder.add_storages(held_tensors([_attributes(module) for module in model.modules()], objects=True))
    with torch.no_grad(), without_fast_path(), _without_compiler(), _module_hooks(model, recorder), recorder:
        output = call.run(model)
    return recorder.finish(output)


class _Recorder(TorchDispatchMode):
    """Dispatch mode that records operations while it is entered."""

    supports_higher_order_operators = True

    def __init__(self, tracing_mode: str) -> None:
        super().__init__()
        self.record = ForwardRecord(tracing_mode)
        self._numbers: dict[int, int] = {}
        """Numbers of the storages that are alive, by address."""
        self._finalizers: list[weakref.finalize] = []
        self._modules: tuple[str, ...] = ()
        """Paths of the modules that are running."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Decompose an operation as far as torch can, run each part and record it."""
        del types
        kwargs = kwargs or {}
        if hasattr(func, "decompose") and not has_formula(func) and func is not torch.ops.prim.device.default:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        output = with_cpu_layout(func, args, func(*args, **kwargs))
        self._record_operation(func, args, kwargs, output)
        return output

    def add_storages(self, tensors: Iterable[Tensor]) -> None:
        """Add the storages of tensors that no operation made."""
        for tensor in tensors:
            self._storage_number(tensor, BEFORE_FORWARD)

    def enter_module(self, path: str, _module: nn.Module, _args: Any) -> None:
        """Note that a module begins."""
        self._modules = (*self._modules, path)

    def exit_module(self, path: str, _module: nn.Module, _args: Any, output: Any) -> None:
        """Note that a module ends, or fails: then there is no output."""
        self._modules = self._modules[:-1]
        calls = self.record.calls.setdefault(path, ModuleCalls())
        calls.count += 1
        if calls.count == 1:
            tensors = list(held_tensors(output))
            calls.output_shape = tuple(tensors[0].shape) if tensors else None
            calls.output_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def finish(self, output: Any) -> ForwardRecord:
        """Return the record of a forward that returned `output`. Storages that die later count as alive to the end."""
        for finalizer in self._finalizers:
            finalizer.detach()
        tensors = list(held_tensors(output, objects=True))
        if tensors:
            self.record.outputs = frozenset(self._storage_numbers(tensors))
            self.record.output_shape = tuple(tensors[0].shape)
        return self.record

    def _record_operation(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        operands, results = list(tensors_in([args, kwargs])), list(tensors_in(output))
        known = len(self.record.storages)
        self.add_storages(operands)  # torch.tensor and from_numpy make tensors unseen, and so do constants
        reads = self._storage_numbers(operands)
        self.record.has_unknown_operands |= len(self.record.storages) > known
        mutated = self._storage_numbers(_mutated(func, args, kwargs))
        multiplies = macs(func, args, kwargs, output)
        flops = 0 if multiplies is not None else elementwise_flops(func, args, output)
        self.record.operations.append(
            Operation(
                operation_name(func),
                self._modules,
                macs=multiplies or 0,
                elementwise=flops or 0,
                bytes=sum(map(_bytes_accessed, (*operands, *results))) if accesses_memory(func) else 0,
                workspace=workspace_bytes(func, args, output),
                counted=flops is not None,
                reads=tuple(reads),
                writes=(*self._storage_numbers(results), *mutated),
                mutates=bool(mutated),
            )
        )

    def _storage_numbers(self, tensors: Iterable[Tensor]) -> list[int]:
        numbers = (self._storage_number(tensor, len(self.record.operations)) for tensor in tensors)
        return [number for number in numbers if number is not None]

    def _storage_number(self, tensor: Tensor, allocated_at: int) -> int | None:
        """Return the number of a tensor's storage, which is added if it is new; None if it has no storage."""
        try:
            memory = tensor.untyped_storage()
            size = memory.nbytes()
        except (NotImplementedError, RuntimeError):  # sparse and opaque tensors
            return None
        address = memory._cdata  # noqa: SLF001  (meta storages have no other name)
        if address not in self._numbers:
            self._numbers[address] = len(self.record.storages)
            self.record.storages.append(Storage(size, allocated_at))
            self._finalizers.append(weakref.finalize(memory, self._free_storage, address))
        return self._numbers[address]

    def _free_storage(self, address: int) -> None:
        self.record.storages[self._numbers.pop(address)].freed_at = len(self.record.operations)


def _mutated(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """Yield the operands that an operation writes to."""
    schema = getattr(func, "_schema", None)
    for index, argument in enumerate(schema.arguments if schema is not None else ()):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from tensors_in(args[index] if index < len(args) else kwargs.get(argument.name))


def _bytes_accessed(tensor: Tensor) -> int:
    """Return the bytes of a tensor that an operation reads or writes; an expanded tensor counts as its storage."""
    size = tensor.numel() * tensor.element_size()
    try:
        return min(size, tensor.untyped_storage().nbytes())
    except (NotImplementedError, RuntimeError):
        return size


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Return the plain attributes of a module."""
    tables = ("_parameters", "_buffers", "_modules")
    return {name: value for name, value in vars(module).items() if name not in tables}


@contextmanager
def _module_hooks(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Report to the recorder which module runs."""
    handles = []
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # takes no hooks; its work counts for its caller
            continue
        handles.append(module.register_forward_pre_hook(partial(recorder.enter_module, path), prepend=True))
        handles.append(module.register_forward_hook(partial(recorder.exit_module, path), always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def without_fast_path() -> Iterator[None]:
    """Run attention operation by operation; no counter sees into its fused form."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _without_compiler() -> AbstractContextManager[object]:
    """Run compiled parts as they were written; a compiler would hide operations from the dispatcher."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
