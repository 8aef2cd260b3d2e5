"""`compresskit profile`: models by name, inputs as text, one result."""

from collections.abc import Sequence
from typing import Any

from compresskit.errors import DataError
from compresskit.profiling import Comparison, ModelProfile, compare, profile
from compresskit.profiling.counting.sizes import of_megapixels
from compresskit.profiling.input_option import agreed_inputs, parse_inputs
from compresskit.recipe.building.model_argument import build_named


def profile_named(
    models: Sequence[str],
    inputs: Sequence[str] = (),
    *,
    megapixels: float | None = None,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    **options: Any,
) -> ModelProfile | Comparison:
    """Profile a model, or compare several, that are given as MODEL arguments.

    Args:
        models: As `build_named` takes them.
        inputs: As `parse_inputs` takes them; without any, the recipe's data says what its models take.
        megapixels: The size of the picture instead of that of the inputs.
        preset: Of the recipes.
        overrides: Changes to the recipes.
        options: Those of `compresskit.profile`.

    Raises:
        CompressKitError: An argument is wrong, or a model cannot be profiled; the message says what was found.
    """
    if megapixels is not None and megapixels <= 0:
        raise DataError(f"--megapixels must be more than 0, got {megapixels:g}")
    real = any(options.get(name) for name in ("latency", "memory", "receptive_field"))
    named = build_named(models, with_inputs=not inputs, fitted=real, preset=preset, overrides=overrides)
    call = parse_inputs(inputs) if inputs else agreed_inputs({name: one.inputs for name, one in named.items()})
    if megapixels is not None:
        call = of_megapixels([one.model for one in named.values()], call, megapixels)
    built = {name: one.model for name, one in named.items()}
    if len(built) == 1:
        return profile(next(iter(built.values())), call.args, call.kwargs, **options)
    return compare(built, call.args, call.kwargs, **options)
