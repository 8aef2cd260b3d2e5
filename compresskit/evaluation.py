"""`Evaluation`: the base class of whatever measures a model, with a default for every optional member."""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeGuard

from compresskit.errors import RecipeError

if TYPE_CHECKING:
    from torch import nn


class Evaluation:
    """A measurement of a model on test data, by one or more metrics.

    Derive from it and override one method: `per_sample` if every sample has values of its own, otherwise `__call__`.
    Everything else is optional. Pass an instance to `fit(evaluate=…)`, or name the class in a recipe as `evaluate`.

    Fits and runs put the model in eval mode and turn gradients off before they measure it. The model stays on the
    device that it was trained on.

    Args:
        dataset: The samples to measure on. A recipe passes its `data.test`.

    Example:
        ```python
        class DepthError(Evaluation):
            units = {"error": "m"}
            lower_is_better = ("error",)

            def per_sample(self, model):
                errors = [(model(image[None])[0] - depth).abs().mean() for image, depth in self.dataset]
                return {"error": [float(error) for error in errors]}
        ```
    """

    units: Mapping[str, str] = MappingProxyType({})
    """The unit of each metric that has one, such as `{"psnr": "dB"}`."""
    lower_is_better: Collection[str] = ()
    """The metrics that improve as they fall."""
    baselines: Mapping[str, "nn.Module"] = MappingProxyType({})
    """Models to compare with in every table, by name."""
    methods: Mapping[str, Callable[[], "nn.Module"]] = MappingProxyType({})
    """More models that `compresskit evaluate --methods` can name. Each function builds one."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __call__(self, model: "nn.Module") -> Mapping[str, float]:
        """Return the mean of each metric over the samples. The first metric decides which model is better."""
        return {name: fmean(values) for name, values in self.per_sample(model).items()}

    def per_sample(self, model: "nn.Module") -> Mapping[str, Iterable[float]]:  # noqa: ARG002
        """Return each metric's value for every sample, in the order of the data, or nothing if there are means only.

        With values per sample, two models are compared sample by sample: the difference gets an interval of its own,
        and the run's card names the samples on which the teacher does not help.
        """
        return {}

    def conditions(self) -> Mapping[str, "Evaluation"]:
        """Return one evaluation per condition, such as a noise level, for `compresskit evaluate`. The order is kept."""
        return {"": self}

    def illustrate(self, models: Mapping[str, "nn.Module"], folder: Path) -> None:
        """Draw the results of all models into an existing folder, at the end of a run."""

    def draw_worst(self, models: Mapping[str, "nn.Module"], path: Path) -> None:
        """Draw where the first model is worst, beside the other models, into one image, for `compresskit evaluate`."""

    def fit_to(self, dataset: Any) -> None:
        """Solve what has a closed form on the training data, once, before anything is trained.

        An evaluation that overrides this method fits its baselines itself. Otherwise a run fits every baseline that has
        a method `fit_to`.
        """


def has_own(evaluation: Evaluation | None, method: str) -> TypeGuard[Evaluation]:
    """Return whether there is an evaluation that overrides an optional method."""
    own = getattr(evaluation, method, None)
    return own is not None and getattr(own, "__func__", None) is not getattr(Evaluation, method)


def as_evaluation(thing: Any) -> Evaluation:
    """Return an evaluation with every optional member, made of an `Evaluation` or of anything that measures a model.

    Args:
        thing: An `Evaluation`; a function of a model; or an object of another class with some of the members.

    Raises:
        RecipeError: It has no method that measures a model.
    """
    evaluation = thing if isinstance(thing, Evaluation) else _Completed(thing)
    is_called = callable(thing) and type(thing).__call__ is not Evaluation.__call__
    if not is_called and not has_own(evaluation, "per_sample"):
        raise RecipeError(
            f"{type(thing).__name__} cannot measure a model: define per_sample(model), which returns each metric's "
            "value for every sample, or __call__(model), which returns each metric's mean"
        )
    return evaluation


class _Completed(Evaluation):
    """A function, or an object of any class, with the defaults of `Evaluation` for the members that it lacks."""

    def __init__(self, measurement: Any) -> None:
        self._measurement, self._gives_means = measurement, callable(measurement)
        members = [name for name in vars(Evaluation) if not name.startswith("_")]
        vars(self).update({name: getattr(measurement, name) for name in members if hasattr(measurement, name)})

    def __call__(self, model: "nn.Module") -> Mapping[str, float]:
        return self._measurement(model) if self._gives_means else super().__call__(model)
