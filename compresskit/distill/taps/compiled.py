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
from compresskit.errors import RecipeError


class CompiledTaps(Mapping[str, Tensor]):
    """`Taps` whose forward is compiled. An ordinary run has shown which tensors are overwritten: here nothing can.

    Args:
        taps: What is read.
        name: What messages call the model.
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
        """Let go of the captured tensors, and through them of the graph."""
        self._tensors = {}

    def forward(self, inputs: Any) -> Self:
        """Run the model as far as the taps need, and hold what they captured until the next forward.

        Raises:
            RecipeError: The model cannot be compiled, or not as one graph.
        """
        try:
            self._tensors = self._read(inputs)
        except FailOnRecompileLimitHit:  # nothing of this forward has been run
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
            why = str(error.inner_exception if failed else error).strip().partition("\n")[0]
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
    """The same function with a code object that no other has."""
    made = function
    if isinstance(function, FunctionType):
        parts = (function.__globals__, function.__name__, function.__defaults__, function.__closure__)
        made = FunctionType(function.__code__.replace(), *parts)
    return made
