"""Ways to trace a forward: on shapes alone if that is possible, with values if not.

1. `meta`: a copy without values on the meta device. Any size, no memory.
2. `fake`: tensors that report a device and have no values, for models that name a device.
3. `cpu`, `cuda`: a real run of a copy, for models whose Python reads values; by default only for small inputs.
"""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from compresskit.errors import CompressKitError, DataError, ShapeError, first_line
from compresskit.nested import device_of
from compresskit.profiling.counting.copies import copy_to, copy_without_values, guard
from compresskit.profiling.counting.failures import explain, is_about_shapes, missing_values_error, needs_values
from compresskit.profiling.counting.model_call import ModelCall
from compresskit.profiling.counting.operations import ForwardRecord, record_operations

REAL_RUN_LIMIT = 4_000_000
"""Pixels, or elements of inputs that are not pictures, up to which `auto` falls back to a real run."""


def record_forward(model: nn.Module, call: ModelCall, device: str = "auto") -> ForwardRecord:
    """Record one forward of a copy of `model`, in eval mode, in the first tracing mode that works.

    Args:
        model: Any module.
        call: Its inputs.
        device: Device of a real run: `auto` is the model's, for small inputs only; `meta` forbids real runs.

    Raises:
        CompressKitError: The model does not take these inputs, or no mode works; the message says what to do.
    """
    check_ready(model, call)
    failures: list[tuple[Exception, nn.Module]] = []
    mode = "meta"
    for mode in _tracing_modes(model, call, device):
        if mode == "fake" and not needs_values(failures[0][0]):
            continue
        copy, inputs, context = prepare(model, call, mode)
        try:
            with guard(model), context:
                return record_operations(copy, inputs, mode)
        except CompressKitError:
            raise
        except Exception as error:  # noqa: BLE001  (any exception of the model's own code)
            failures.append((error, copy))
            if is_about_shapes(error):
                break
    first, last = failures[0], failures[-1]
    if mode in ("meta", "fake") and needs_values(first[0]):
        raise missing_values_error(*first, REAL_RUN_LIMIT) from first[0]
    raise explain(*last, model, call) from last[0]


def prepare(
    model: nn.Module, call: ModelCall, mode: str
) -> tuple[nn.Module, ModelCall, AbstractContextManager[object]]:
    """Return a copy of the model and its inputs for a tracing mode, and the context to run them in."""
    if mode == "meta":
        return copy_without_values(model), call.to_meta(), nullcontext()
    if mode != "fake":
        return copy_to(model, mode), call.to(mode), nullcontext()
    from torch._subclasses.fake_tensor import FakeTensorMode

    fake = FakeTensorMode(allow_non_fake_inputs=True)
    device = torch.device("cpu") if device_of(model).type == "meta" else device_of(model)
    with fake:
        inputs = call.map(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype, device=device))
    return copy_without_values(model, fake.from_tensor), inputs, _without_log(fake)


def check_ready(model: nn.Module, call: ModelCall) -> None:
    """Refuse a model whose lazy modules have no weights yet, and inputs that do not fit the signature.

    Raises:
        DataError: The message says what to do.
    """
    call.check(model)
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise DataError(
                f"{type(model).__name__}: {name.rpartition('.')[0] or 'the model'} is lazy and has no weights yet; "
                "run one real forward first, or pass --materialize (materialize=True in Python)"
            )


def initialize_lazy_modules(model: nn.Module, call: ModelCall) -> nn.Module:
    """Return a copy of a model after one real forward, which gives its lazy modules random weights.

    Raises:
        ShapeError: The forward fails.
    """
    call.check(model)
    device = device_of(model)
    copy, inputs = copy_to(model, device), call.to(device)
    with guard(model), torch.no_grad():
        try:
            inputs.run(copy)
        except (RuntimeError, ValueError) as error:
            raise ShapeError(f"--materialize: the forward fails: {first_line(error)}") from error
    return copy


def real_device(model: nn.Module, device: str) -> torch.device:
    """Return the device of a real run that the user requested.

    Raises:
        DataError: There is no such device, or the model has no values.
    """
    resolved = _resolve(model, device)
    if resolved.type == "meta":
        why = "--device meta forbids them" if device == "meta" else "the model's weights have no values (meta device)"
        raise DataError(f"latency, measured memory and the receptive field need real runs, and {why}")
    return resolved


def _tracing_modes(model: nn.Module, call: ModelCall, device: str) -> Iterator[str]:
    resolved = _resolve(model, device)
    yield "meta"
    yield "fake"
    has_values = resolved.type != "meta" and device_of(model).type != "meta"
    if has_values and (device != "auto" or call.positions() <= REAL_RUN_LIMIT):
        yield str(resolved)


def _resolve(model: nn.Module, name: str) -> torch.device:
    """Return the device of this name, or the model's for `auto`."""
    if name == "auto":
        return device_of(model)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DataError(f"--device {name}: {first_line(error)}; use auto, meta, cpu or cuda") from error
    return device


@contextmanager
def _without_log(fake: AbstractContextManager[object]) -> Iterator[None]:
    """Enter fake tensors without their log of failures; a failure here only means that another mode is tried."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        with fake:
            yield
    finally:
        logger.disabled = before
