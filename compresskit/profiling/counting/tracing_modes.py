"""Ways to see a forward: on shapes alone where that is possible, with values where it is not.

1. `meta`: a weightless twin on the meta device. Any size, no memory.
2. `fake`: tensors that say they are on a device and have no values, for models that name a device.
3. `cpu`, `cuda`: a real run of a copy, for models whose Python looks at values. Only small inputs are run unasked.
"""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from compresskit.errors import CompressKitError, DataError, ShapeError
from compresskit.profiling.counting.copies import own_device, real_copy, untouched, weightless
from compresskit.profiling.counting.failures import explained, is_about_shapes, needs_values, values_missing
from compresskit.profiling.counting.model_call import Call
from compresskit.profiling.counting.operations import Record, record_forward

REAL_LIMIT = 4_000_000
"""Pixels, or elements of what is no picture, up to which a model is run for real when nothing else works."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A record and how it was taken."""

    record: Record
    route: str
    """`meta`, `fake`, or the device of a real run."""


def observe(model: nn.Module, call: Call, device: str = "auto") -> Observed:
    """Record one forward of a copy of `model`, in eval mode.

    Args:
        model: Any module.
        call: What it is called with.
        device: Where a real run happens: `auto` is where the model is, and only for small inputs; `meta` allows none.

    Raises:
        CompressKitError: The model does not take these inputs, or no route works; the message says what can be done.
    """
    check_ready(model, call)
    failures: list[tuple[Exception, nn.Module]] = []
    route = "meta"
    for route in _routes(model, call, device):
        if route == "fake" and not needs_values(failures[0][0]):
            continue
        twin, placed, context = prepared(model, call, route)
        try:
            with untouched(model), context:
                return Observed(record_forward(twin, placed.args, placed.kwargs), route)
        except CompressKitError:
            raise
        except Exception as error:  # noqa: BLE001  (whatever a model's own code raises)
            failures.append((error, twin))
            if is_about_shapes(error):
                break
    first, last = failures[0], failures[-1]
    if route in ("meta", "fake") and needs_values(first[0]):
        raise values_missing(*first, REAL_LIMIT) from first[0]
    raise explained(*last, model, call) from last[0]


def check_ready(model: nn.Module, call: Call) -> None:
    """Refuse a model without weights yet, and inputs that do not fit the signature of its forward.

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


def materialised(model: nn.Module, call: Call) -> nn.Module:
    """A copy of a model with lazy modules after one real forward: it has weights, and they are random.

    Raises:
        ShapeError: The forward fails.
    """
    call.check(model)
    device = own_device(model)
    copied, placed = real_copy(model, device), call.on(device)
    with untouched(model), torch.no_grad():
        try:
            copied(*placed.args, **placed.kwargs)
        except (RuntimeError, ValueError) as error:
            raise ShapeError(f"--materialize: the forward fails: {str(error).splitlines()[0]}") from error
    return copied


def real_device(model: nn.Module, device: str) -> torch.device:
    """Where a real run that was asked for happens.

    Raises:
        DataError: There is no such device, or the model has no values.
    """
    place = own_device(model) if device == "auto" else _device(device)
    if place.type == "meta":
        what = "--device meta allows none" if device == "meta" else "the model's weights have no values (meta device)"
        raise DataError(f"latency, measured memory and the receptive field need real runs, and {what}")
    return place


def _routes(model: nn.Module, call: Call, device: str) -> Iterator[str]:
    place = own_device(model) if device == "auto" else _device(device)
    yield "meta"
    yield "fake"
    if (
        place.type != "meta"
        and own_device(model).type != "meta"
        and (device != "auto" or call.positions() <= REAL_LIMIT)
    ):
        yield str(place)


def _device(name: str) -> torch.device:
    """A device by name, if this machine has it."""
    try:
        place = torch.device(name)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).splitlines()[0]
        raise DataError(f"--device {name}: {first}; use auto, meta, cpu or cuda") from error
    return place


def prepared(model: nn.Module, call: Call, route: str) -> tuple[nn.Module, Call, AbstractContextManager[object]]:
    """A copy and its inputs for a route, and the context to run them in."""
    if route == "meta":
        return weightless(model), call.on_meta(), nullcontext()
    if route != "fake":
        return real_copy(model, route), call.on(route), nullcontext()
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    device = torch.device("cpu") if own_device(model).type == "meta" else own_device(model)
    with mode:
        inputs = call.mapped(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype, device=device))
    return weightless(model, mode.from_tensor), inputs, _quiet(mode)


@contextmanager
def _quiet(mode: AbstractContextManager[object]) -> Iterator[None]:
    """Fake tensors without their log: it reports each failure, and a failure here is answered by another route."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        with mode:
            yield
    finally:
        logger.disabled = before
