"""Taps on a model that runs through `torch.compile`.

The whole read is compiled as one graph: the hooks are traced into it, and so is the exception that ends the forward, so
that what lies behind the last tap is not even in the graph. The read has a code object of its own, because dynamo keeps
graphs by code object and does not look at hooks when it takes one: a graph of another model of the same class, which
had no hooks, could otherwise be taken for this one's, and the taps would stay empty.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any, Self

import torch
from torch import Tensor
from torch._dynamo.exc import BackendCompilerFailed, FailOnRecompileLimitHit, TorchDynamoException

from compresskit.distill.taps.taps import Taps
from compresskit.errors import RecipeError, first_line


class CompiledTaps(Mapping[str, Tensor]):
    """`Taps` whose forward is compiled.

    Overwritten tensors cannot be noticed here: an eager run has to show which ones to clone.

    Args:
        taps: The taps to read.
        name: Name of the model in messages.
    """

    def __init__(self, taps: Taps, name: str) -> None:
        self.addresses = taps.addresses
        self._taps, self._name = taps, name
        self._read = torch.compile(_own_code(_reader(taps)), fullgraph=True)
        self._tensors: Mapping[str, Tensor] = {}

    def __enter__(self) -> Self:
        self._taps.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._taps.__exit__(*error)
        self.clear()

    def clear(self) -> None:
        """Release the captured tensors, and through them the graph."""
        self._tensors = {}

    def forward(self, inputs: Any) -> Self:
        """Run the model as far as the taps need, and hold the captured tensors until the next forward.

        Raises:
            RecipeError: The model cannot be compiled, or not as one graph.
        """
        try:
            self._tensors = self._read(inputs)
        except FailOnRecompileLimitHit:  # no part of this forward has run
            warnings.warn(
                f"compile: each batch makes another graph of the {self._name} (a number that counts up in its forward, "
                "or ever new sizes); from here on it runs as written",
                stacklevel=2,
            )
            self._read = _reader(self._taps)
            self._tensors = self._read(inputs)
        except TorchDynamoException as error:
            failed = isinstance(error, BackendCompilerFailed)
            what = "cannot be compiled here" if failed else "is no one graph"
            why = first_line(error.inner_exception if failed else error)
            raise RecipeError(f"compile: the {self._name} {what}; leave compile off ({why})") from None
        finally:
            self._taps.clear()
        return self

    def __getitem__(self, text: str) -> Tensor:
        return self._tensors[text]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _reader(taps: Taps) -> Callable[[Any], dict[str, Tensor]]:
    def read(inputs: Any) -> dict[str, Tensor]:
        taps.forward(inputs)
        return {text: taps.raw(text) for text in taps.addresses}

    return read


def _own_code(function: Callable[[Any], dict[str, Tensor]]) -> Callable[[Any], dict[str, Tensor]]:
    """Return the same function with a code object of its own."""
    if not isinstance(function, FunctionType):
        return function
    parts = (function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    return FunctionType(function.__code__.replace(), *parts)
