"""Export of a model to a file that other runtimes read, kept only if it computes what PyTorch computes."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from compresskit.errors import ExportError, RecipeError, first_line

Format = Literal["onnx", "pt2"]
Inputs = tuple[Tensor, ...]

TOLERANCE, TOLERANCE_HALF = 1e-4, 2e-2
"""Largest difference that passes, as a share of the output's largest value, or of 1 if that is more."""


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported file, and the difference of its outputs from PyTorch's in float32."""

    path: Path
    format: Format
    half: bool
    shapes: Sequence[Sequence[int]]
    """Shapes of the samples that were compared."""
    difference: float
    """Largest difference over all samples and values, as a share of the largest value, or of 1 if that is more."""
    tolerance: float

    def __str__(self) -> str:
        sizes = ", ".join(dict.fromkeys("x".join(map(str, shape)) for shape in self.shapes))
        return (
            f"{self.path}  {self.format}, {'float16' if self.half else 'float32'}; largest difference from PyTorch "
            f"{self.difference:.1e} (at most {self.tolerance:.0e}) on {len(self.shapes)} samples of {sizes}"
        )


def export(
    model: nn.Module,
    samples: Sequence[Inputs],
    path: str | Path,
    *,
    format: Format,
    dynamic: bool = False,
    half: bool = False,
    sliced_reflection: bool = False,
    any_batch: bool = False,
    channels_last: bool = False,
    opset: int | None = None,
    tolerance: float | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Exported:
    """Write a model as ONNX or as PyTorch's `.pt2`, run the file on samples, and keep it only if the outputs agree.

    Args:
        model: Model on the CPU, which is not changed. The file holds its eval mode.
        samples: Positional inputs with real values: the first is traced, all are compared.
        path: File to write.
        format: `onnx`, run by ONNX Runtime, or `pt2`, run by `torch.export.load`.
        dynamic: Allow other sizes (axes from the third on) than those traced; samples must have two sizes.
        half: Write float16, inputs and outputs too. The file is compared with the model in float32.
        sliced_reflection: Write reflection padding as slices and concatenations, which compute the same: some runtimes
            have no padding but the constant one.
        any_batch: Allow other numbers of samples at once than that traced; two at once are compared, too.
        channels_last: Let the inputs have their channels as the last axis.
        opset: Version of ONNX's operators; None leaves the choice to PyTorch.
        tolerance: Largest difference that passes, as a share of an output's largest value, or of 1 if that is more.
            None is 1e-4, in half precision 2e-2.
        metadata: Texts to store in the file, by name.

    Raises:
        RecipeError: The packages for ONNX are missing, `samples` have too few or too many sizes, or an opset is
            given for another format.
        ExportError: The model cannot be traced, or the file's outputs differ too much; no file is left then.
    """
    path = Path(path)
    if opset is not None and format != "onnx":
        raise RecipeError(f"an opset is a version of ONNX's operators, and the format is {format}")
    shapes = [[*sample[0].shape] for sample in samples]
    if dynamic and len({tuple(shape[2:]) for shape in shapes}) < 2:
        raise RecipeError(f"sizes that may change are compared on two: all samples are {shapes[0]}")
    if not dynamic and len({tuple(shape) for shape in shapes}) > 1:
        raise RecipeError(f"sizes are fixed, and the samples' differ: {shapes}")
    tolerance = tolerance or (TOLERANCE_HALF if half else TOLERANCE)
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        if any_batch:  # PyTorch takes a traced size of 1 for a constant
            samples = [tuple(torch.cat([tensor, tensor.flip(0)]) for tensor in samples[0]), *samples]
        expected = [tree_leaves(model(*sample)) for sample in samples]
        inputs = [tuple((_half(tensor) if half else tensor).contiguous() for tensor in sample) for sample in samples]
        model = model.half() if half else model
        if channels_last:
            model, inputs = _ChannelsLast(model), [tuple(map(_to_channels_last, sample)) for sample in inputs]
        axes = slice(0) if not dynamic else slice(1, -1) if channels_last else slice(2, None)
        program = _trace(model, inputs[0], axes=axes, any_batch=any_batch, sliced=sliced_reflection)
        part = path.with_name(f"{path.stem}.part.{format}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save = _save_onnx if format == "onnx" else _save_pt2
            save(program, inputs[0], part, dict(metadata or {}), opset)
            difference = max(_difference(*pair) for pair in zip(_run(part, format, inputs), expected, strict=True))
            if not difference <= tolerance:
                raise ExportError(
                    f"{path} is not written: it would differ from PyTorch by {difference:.1e}, more than "
                    f"{tolerance:.0e}; export it otherwise, or allow more with --tolerance"
                )
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return Exported(path, format, half, shapes, difference, tolerance)


class _ChannelsLast(nn.Module):
    """A model whose inputs have their channels as the last axis."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Any:
        """Call the model with the channels as the second axis."""
        return self.model(*(tensor.movedim(-1, 1) for tensor in inputs))


class _Portable(TorchFunctionMode):
    """A mode in which the inverse of a pixel shuffle is a convolution, since PyTorch writes it as a tensor of six axes.

    On request reflection padding is computed by slices and concatenations.
    """

    def __init__(self, *, sliced: bool) -> None:
        super().__init__()
        self.sliced = sliced

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.sliced and function is F.pad and "reflect" in (kwargs.get("mode"), *args[2:3]):
            return reflect_pad(args[0], args[1] if len(args) > 1 else kwargs["pad"])
        if function is F.pixel_unshuffle and args[0].is_floating_point():
            return unshuffle(args[0], args[1] if len(args) > 1 else kwargs["downscale_factor"])
        return function(*args, **kwargs)


def unshuffle(tensor: Tensor, factor: int) -> Tensor:
    """Compute `F.pixel_unshuffle` by a convolution that selects each place of a square in turn."""
    channels = tensor.shape[1]
    places = torch.eye(factor**2).to(tensor).unflatten(1, (1, factor, factor))
    return F.conv2d(tensor, places.repeat(channels, 1, 1, 1), stride=factor, groups=channels)


def reflect_pad(tensor: Tensor, pad: Sequence[int]) -> Tensor:
    """Compute `F.pad` in the mode `reflect` by slices one element thick; `pad` has pairs from the last axis on."""
    for axis, (before, after) in zip((-1, -2, -3), zip(pad[::2], pad[1::2], strict=True), strict=False):
        side = tensor.shape[axis]
        start = [tensor.narrow(axis, index, 1) for index in range(before, 0, -1)]
        end = [tensor.narrow(axis, side - 1 - index, 1) for index in range(1, after + 1)]
        tensor = torch.cat([*start, tensor, *end], axis) if start or end else tensor
    return tensor


def _to_channels_last(tensor: Tensor) -> Tensor:
    return tensor.movedim(1, -1).contiguous()


def _trace(model: nn.Module, sample: Inputs, *, axes: slice, any_batch: bool, sliced: bool) -> Any:
    """Return the traced program, whose sizes may change along `axes`, and along the first on request."""
    batch = [0] if any_batch else []
    sizes = tuple(dict.fromkeys([*batch, *range(tensor.ndim)[axes]], torch.export.Dim.AUTO) for tensor in sample)
    shapes: Any = {"inputs": sizes} if isinstance(model, _ChannelsLast) else sizes
    try:
        with _Portable(sliced=sliced):
            return torch.export.export(model, sample, dynamic_shapes=shapes if any(sizes) else None)
    except Exception as error:  # the model's own code may fail in any way without values
        raise ExportError(f"{type(model).__name__} cannot be traced: {first_line(error)}") from error


def _run(path: Path, format: Format, samples: Sequence[Inputs]) -> list[list[Tensor]]:
    """Return the file's outputs for the samples."""
    try:
        return _run_onnx(path, samples) if format == "onnx" else _run_pt2(path, samples)
    except Exception as error:  # errors of ONNX Runtime and of a traced program have no class in common
        raise ExportError(f"the file cannot be run on the samples: {first_line(error)}") from error


def _save_pt2(program: Any, _: Inputs, path: Path, metadata: dict[str, str], _opset: int | None) -> None:
    torch.export.save(program, path, extra_files={"compresskit.json": json.dumps(metadata)})


def _run_pt2(path: Path, samples: Sequence[Inputs]) -> list[list[Tensor]]:
    module = torch.export.load(path).module()
    return [tree_leaves(module(*sample)) for sample in samples]


def _save_onnx(program: Any, sample: Inputs, path: Path, metadata: dict[str, str], opset: int | None) -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise RecipeError(f"ONNX needs {error.name}: pip install 'compresskit[onnx]'") from None
    try:
        onnx_program: Any = torch.onnx.export(program, sample, dynamo=True, verbose=False, opset_version=opset)
    except Exception as error:  # the translation of an operation may fail in any way
        raise ExportError(f"PyTorch cannot write this as ONNX: {first_line(error)}") from error
    written = onnx_program.model.opset_imports.get("")
    if opset is not None and written != opset:
        raise ExportError(f"this cannot be written with opset {opset}; PyTorch writes it with {written}")
    outputs = onnx_program.model.graph.outputs
    for number, output in enumerate(outputs):  # PyTorch's names change with the model's code
        output.name = "output" if len(outputs) == 1 else f"output_{number}"
    onnx_program.model.metadata_props.update(metadata)
    onnx_program.save(path)


def _run_onnx(path: Path, samples: Sequence[Inputs]) -> list[list[Tensor]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; it warns of its own missed optimisations
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    feeds = [{name: tensor.numpy() for name, tensor in zip(names, sample, strict=True)} for sample in samples]
    return [[torch.from_numpy(output) for output in session.run(None, feed)] for feed in feeds]


def _difference(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest difference; NaN if either side has one, so that it passes no tolerance."""
    pairs = list(zip(outputs, expected, strict=True))
    return max(
        float((one.double() - other.double()).abs().max() / max(1.0, float(other.abs().max()))) for one, other in pairs
    )


def _half(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.is_floating_point() else tensor
