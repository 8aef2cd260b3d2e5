"""`profile`: one call that counts, and on request measures, what a model costs."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import nn

from compresskit.profiling.checking.crosscheck import crosscheck as crosschecked
from compresskit.profiling.counting.activations import activations, given_bytes
from compresskit.profiling.counting.dead_code import dead_code, dead_macs
from compresskit.profiling.counting.layers import layers
from compresskit.profiling.counting.model_call import Call
from compresskit.profiling.counting.operations import Record
from compresskit.profiling.counting.parameters import walk
from compresskit.profiling.counting.tracing_modes import Observed, materialised, observe, real_device
from compresskit.profiling.measuring.latency import Latency
from compresskit.profiling.measuring.latency import latency as timed
from compresskit.profiling.measuring.memory import measured_memory
from compresskit.profiling.measuring.receptive import receptive_field as probed
from compresskit.profiling.report import ModelProfile, OperationCount


def profile(
    model: nn.Module,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    device: str = "auto",
    crosscheck: bool = False,
    latency: bool = False,
    memory: bool = False,
    receptive_field: bool = False,
    materialize: bool = False,
    max_seconds: float = 30.0,
) -> ModelProfile:
    """What one forward of `model` costs, in eval mode: parameters, MACs, FLOPs, bytes, memory, and what nobody counted.

    The model is left as it is: everything runs on copies. Counting runs a copy without weights on the meta device, at
    any size and in no memory. A model whose Python looks at values is run for real, unasked up to four megapixels.

    Args:
        model: Any module.
        inputs: Its positional inputs: a tensor, or a tuple or list of them, nested as the model takes them; a mapping
            goes to the model by name. Tensors on the meta device will do: `torch.empty(1, 3, 64, 64, device="meta")`.
        kwargs: Its keyword inputs.
        device: Where real runs happen: `auto` is where the model is, `meta` allows none.
        crosscheck: Ask torch's counter, thop and fvcore too; fvcore runs a small real copy.
        latency: Time a real copy.
        memory: Measure what a real copy allocates.
        receptive_field: Probe how far one pixel of the input reaches, on real copies at small sizes.
        materialize: Give a model with lazy modules its weights, by one real forward of a copy.
        max_seconds: Limit of the timed calls, and of one size of the receptive field's probe.

    Returns:
        The figures; it prints as a table.

    Raises:
        DataError: The inputs are missing or do not fit the signature, or a real run was asked for that does not fit
            into memory.
        ShapeError: The forward fails on these sizes; the message names the module and a size that works.
    """
    call = Call.of(inputs, kwargs)
    if materialize:
        model = materialised(model, call)
    observed = observe(model, call, device)
    counted = _counted(model, call, observed)
    place = real_device(model, device) if latency or memory or receptive_field else None
    return replace(
        counted,
        crosscheck=crosschecked(model, call, observed) if crosscheck else (),
        memory=measured_memory(model, call, place, needed=counted.run_bytes) if memory and place else None,
        latency=_timed(model, call, place, counted.run_bytes, max_seconds) if latency and place else None,
        receptive_field=probed(model, call, max_seconds=max_seconds) if receptive_field else None,
    )


def _timed(model: nn.Module, call: Call, place: torch.device, needed: int, max_seconds: float) -> Latency:
    found, _ = timed({"": model}, call, place, needed={"": needed}, max_seconds=max_seconds)
    return found[""]


def _counted(model: nn.Module, call: Call, observed: Observed) -> ModelProfile:
    """The figures that need no real run."""
    record = observed.record
    parameters, operations = walk(model), _operations(record)
    # what numpy does in a real run cannot be followed
    hidden = record.strangers and observed.route not in ("meta", "fake")
    dead = () if hidden else dead_code(record)
    return ModelProfile(
        model=type(model).__name__,
        inputs=tuple(call.describe()),
        route=observed.route,
        torch=torch.__version__,
        parameters=parameters,
        operations=operations,
        layers=layers(model, record, dead),
        pixels=_pixels(call, record),
        given_bytes=given_bytes(record),
        activations=activations(record),
        dead=dead,
        dead_macs=0 if hidden else dead_macs(record),
        warnings=_warnings(parameters.total, operations),
    )


def _operations(record: Record) -> dict[str, OperationCount]:
    found: dict[str, OperationCount] = {}
    for one in record.operations:
        so_far = found.get(one.name, OperationCount(0, 0, 0, 0, counted=True))
        found[one.name] = OperationCount(
            so_far.calls + 1,
            so_far.macs + one.macs,
            so_far.elementwise + one.elementwise,
            so_far.bytes + one.bytes,
            counted=so_far.counted and one.counted,
        )
    return found


def _pixels(call: Call, record: Record) -> int | None:
    frame = call.frame()
    if frame is None:
        return None
    batch = next((tensor.shape[0] for tensor in call.tensors() if tensor.ndim >= 4), 1)
    output = record.output_shape or ()
    return batch * max(prod(frame), prod(output[-2:]) if len(output) >= 4 else 0)


def _warnings(parameters: int, operations: Mapping[str, OperationCount]) -> tuple[str, ...]:
    macs = sum(operation.macs for operation in operations.values())
    if parameters and not macs:
        return ("no MAC was counted, and the model has weights",)
    return ()
