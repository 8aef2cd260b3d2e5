"""`profile` and `compare`: count, and on request measure, the cost of one forward of a model or of several."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import nn

from compresskit.errors import DataError, within
from compresskit.profiling.checking.crosscheck import run_crosscheck
from compresskit.profiling.comparison import Comparison
from compresskit.profiling.counting.activations import activation_memory, resident_bytes
from compresskit.profiling.counting.dead_code import dead_macs, find_dead_code
from compresskit.profiling.counting.layers import count_layers
from compresskit.profiling.counting.model_call import ModelCall
from compresskit.profiling.counting.operations import ForwardRecord
from compresskit.profiling.counting.parameters import count_parameters
from compresskit.profiling.counting.tracing_modes import initialize_lazy_modules, real_device, record_forward
from compresskit.profiling.measuring.latency import Latency, measure_latency
from compresskit.profiling.measuring.memory import measure_memory
from compresskit.profiling.measuring.receptive_field import measure_receptive_field
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
    """Compute the cost of one forward of `model` in eval mode: parameters, MACs, FLOPs, bytes and memory.

    Operations that cannot be counted are listed. The model is not changed: everything runs on copies. Counting runs a
    copy without values on the meta device, at any size and in no memory. A model whose Python reads values runs for
    real, by default up to four megapixels.

    Args:
        model: Any module.
        inputs: Positional inputs: a tensor, or a tuple or list of them, nested as the model takes them; a mapping holds
            inputs by name. Tensors on the meta device are enough: `torch.empty(1, 3, 64, 64, device="meta")`.
        kwargs: Keyword inputs.
        device: Device of real runs: `auto` is the model's, `meta` forbids real runs.
        crosscheck: Compare the count with torch's counter, thop and fvcore; fvcore runs a small real copy.
        latency: Time a real copy.
        memory: Measure the allocations of a real copy.
        receptive_field: Probe how far one pixel of the input reaches, on real copies at small sizes.
        materialize: Give lazy modules their weights first, by one real forward of a copy.
        max_seconds: Limit of the timed calls, and of one size of the receptive field's probe.

    Returns:
        The figures, which print as a table.

    Raises:
        DataError: The inputs are missing or do not fit the signature, or a requested real run does not fit into memory.
        ShapeError: The forward fails on these sizes; the message names the module and a size that works.
    """
    call = ModelCall.of(inputs, kwargs)
    if materialize:
        model = initialize_lazy_modules(model, call)
    record = record_forward(model, call, device)
    counted = _counted_profile(model, call, record)
    run_device = real_device(model, device) if latency or memory or receptive_field else None
    return replace(
        counted,
        crosscheck=run_crosscheck(model, call, record) if crosscheck else (),
        memory=measure_memory(model, call, run_device, needed=counted.run_bytes) if memory and run_device else None,
        latency=_latency(model, call, run_device, counted.run_bytes, max_seconds) if latency and run_device else None,
        receptive_field=measure_receptive_field(model, call, max_seconds=max_seconds) if receptive_field else None,
    )


def compare(
    models: Mapping[str, nn.Module],
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    device: str = "auto",
    latency: bool = False,
    max_seconds: float = 30.0,
    **options: Any,
) -> Comparison:
    """Profile several models on the same inputs, and compare each to the first.

    Args:
        models: Models by name.
        inputs: Inputs of all models, as for `profile`.
        kwargs: Keyword inputs of all models.
        device: Device of real runs.
        latency: Time real copies, call by call in turn.
        max_seconds: Limit of the timed calls of all models together.
        options: Other options of `profile`.

    Returns:
        The profiles, and the ratios of their latencies.

    Raises:
        DataError: There are no models, or an error of `profile`; its message starts with the model's name.
        ShapeError: An error of `profile`.
    """
    if not models:
        raise DataError("compare: there are no models")
    profiles = {}
    for name, model in models.items():
        with within(name):
            profiles[name] = profile(model, inputs, kwargs, device=device, max_seconds=max_seconds, **options)
    if not latency:
        return Comparison(profiles)
    devices = {real_device(model, device) for model in models.values()}
    if len(devices) > 1:
        raise DataError(
            f"latencies are compared on one device, but the models are on {', '.join(sorted(map(str, devices)))}"
        )
    (run_device,) = devices
    needed = {name: one.run_bytes for name, one in profiles.items()}
    call = ModelCall.of(inputs, kwargs)
    latencies, faster = measure_latency(models, call, run_device, needed=needed, max_seconds=max_seconds)
    return Comparison({name: replace(one, latency=latencies[name]) for name, one in profiles.items()}, faster)


def _latency(model: nn.Module, call: ModelCall, run_device: torch.device, needed: int, max_seconds: float) -> Latency:
    latencies, _ = measure_latency({"": model}, call, run_device, needed={"": needed}, max_seconds=max_seconds)
    return latencies[""]


def _counted_profile(model: nn.Module, call: ModelCall, record: ForwardRecord) -> ModelProfile:
    """Return the profile with all figures that need no real run."""
    parameters, operations = count_parameters(model), _count_operations(record)
    # the work of numpy in a real run cannot be followed
    is_hidden = record.has_unknown_operands and record.is_real_run
    dead = () if is_hidden else find_dead_code(record)
    return ModelProfile(
        model=type(model).__name__,
        inputs=tuple(call.describe()),
        route=record.tracing_mode,
        torch=torch.__version__,
        parameters=parameters,
        operations=operations,
        layers=count_layers(model, record, dead),
        pixels=_pixels(call, record),
        resident_bytes=resident_bytes(record),
        activations=activation_memory(record),
        dead=dead,
        dead_macs=0 if is_hidden else dead_macs(record),
        warnings=("no MAC was counted, and the model has weights",) if parameters.total and not record.macs else (),
    )


def _count_operations(record: ForwardRecord) -> dict[str, OperationCount]:
    counts: dict[str, OperationCount] = {}
    for operation in record.operations:
        before = counts.get(operation.name, OperationCount(0, 0, 0, 0, counted=True))
        counts[operation.name] = OperationCount(
            before.calls + 1,
            before.macs + operation.macs,
            before.elementwise + operation.elementwise,
            before.bytes + operation.bytes,
            counted=before.counted and operation.counted,
        )
    return counts


def _pixels(call: ModelCall, record: ForwardRecord) -> int | None:
    """Return the pixels of the larger one of the input and output pictures of a batch; None without pictures."""
    picture = call.picture_size()
    if picture is None:
        return None
    batch = next((tensor.shape[0] for tensor in call.tensors() if tensor.ndim >= 4), 1)
    output = record.output_shape or ()
    return batch * max(prod(picture), prod(output[-2:]) if len(output) >= 4 else 0)
