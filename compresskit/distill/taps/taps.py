"""Taps: tensors read from inside any module, by hooks that are removed afterwards.

A `Taps` is a mapping from address to tensor. Its hooks exist only inside the `with` block, it stops the forward as
soon as it holds all tensors, and a tap that captured nothing is an error.
"""

import inspect
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from compresskit.distill.spec.address import Address, parse_address
from compresskit.distill.taps.locate import find_module, select, unwrap
from compresskit.distill.taps.replace import Replacement
from compresskit.distill.taps.stop import Stop, Stopped
from compresskit.errors import DataError, TapError
from compresskit.nested import call_model


def check_call(model: nn.Module, inputs: Any) -> None:
    """Raise a DataError that explains the call if `model.forward` does not take these inputs."""
    args, kwargs = ((), inputs) if isinstance(inputs, Mapping) else (inputs, {})
    args = args if isinstance(args, (tuple, list)) else (args,)
    try:
        inspect.signature(model.forward).bind(*args, **kwargs)
    except TypeError as error:
        raise DataError(
            f"{type(model).__name__}.forward does not take these inputs: {error};\n"
            "a mapping is passed as model(**inputs), a tuple or list as model(*inputs); "
            "a single argument of that kind goes into a tuple: (inputs,)"
        ) from None
    except ValueError:  # it has no readable signature
        return


@dataclass(eq=False)
class Taps(Mapping[str, Tensor]):
    """The tensors at some addresses of a model, read by hooks that exist only inside the `with` block.

    Args:
        model: Any module; `torch.compile`d ones are read through the module below.
        addresses: Addresses of the tensors to capture. Checked at once.
        stop: End the forward once everything is captured. An address that counts calls from the end needs all of it.
        clone: Addresses of tensors that a later operation overwrites in place; these are cloned when captured.
        replace: Functions by address. Each computes the tensor that takes the place of the one there, after the taps
            have captured that one.

    Raises:
        TapError: An address names no module; a capture found no tensor, several calls where one was expected, or a
            tensor that was overwritten in place after it was captured.
    """

    model: nn.Module
    addresses: Iterable[str]
    stop: bool = True
    clone: Collection[str] = ()
    replace: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict, init=False)
    """Number of times that the module of each address ran in the last forward, up to where that stopped."""

    def __post_init__(self) -> None:
        self.model = unwrap(self.model)
        self._addresses = {text: parse_address(text) for text in self.addresses}
        self._modules = {text: find_module(self.model, address) for text, address in self._addresses.items()}
        self._replacements = [
            Replacement(self.model, parse_address(text), function) for text, function in self.replace.items()
        ]
        hooked = {*self._modules.values(), *(replacement.module for replacement in self._replacements)}
        self._call = eagerly(call_model) if compiled_inside(self.model, hooked) else call_model
        self._handles: list[Any] = []
        self._captures: dict[str, deque[tuple[Tensor, int]]] = {}
        """Captured tensors, each with its version then. A later version tells that it was overwritten."""
        self._pending: set[str] = set()
        self._stop = Stop()
        self._active = False
        """True during `forward` only: gradient checkpointing runs modules again in the backward."""

    def __enter__(self) -> Self:
        for text, address in self._addresses.items():
            module = self._modules[text]
            if address.port == "in":
                handle = module.register_forward_pre_hook(partial(self._on_input, address), with_kwargs=True)
            else:
                handle = module.register_forward_hook(self._output_hook(address))
            self._handles.append(handle)
        for replacement in self._replacements:  # after the captures, which read the tensor that was there before
            self._handles.append(replacement.hook(lambda: self._active))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.clear()

    def clear(self) -> None:
        """Release the captured tensors, and through them the graph."""
        self._captures.clear()

    def forward(self, inputs: Any) -> Self:
        """Run the model as far as the taps need, and hold the captured tensors until the next forward."""
        self.calls = dict.fromkeys(self._addresses, 0)
        self._captures = {text: deque(maxlen=max(1, -(a.call or 0))) for text, a in self._addresses.items()}
        self._pending = set(self._addresses)
        for replacement in self._replacements:
            replacement.calls = 0
        if self._addresses:
            self._run(inputs)
        for address in self._addresses.values() if self._pending else ():
            self._check_captured(address)
        for replacement in () if self.stop else self._replacements:  # a stop may come before the replacement
            replacement.check_happened()
        return self

    def _run(self, inputs: Any) -> None:
        stopped = False
        self._active = True
        try:
            self._call(self.model, inputs)
        except Stopped as stop:
            if stop.by is not self._stop:  # it belongs to other taps around these
                raise
            stopped = True
        except TapError:
            raise
        except Exception:
            if self._pending:  # with all tensors captured it does not matter how the rest of the forward fails
                raise
        finally:
            self._active = False
            self._stop.finish(by_stop=stopped)

    def __getitem__(self, text: str) -> Tensor:
        tensor, version = self._captures[text][0]
        if version == _UNCOUNTED:
            return tensor.clone()
        if version_of(tensor) != version:
            raise TapError(
                f"the tensor at {text!r} was overwritten in place after it was captured (ReLU(inplace=True)?); tap the "
                "module that overwrites it, or build that one with inplace=False",
                about=(text,),
            )
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._captures)

    def __len__(self) -> int:
        return len(self._captures)

    def raw(self, text: str) -> Tensor:
        """Return the tensor without the check that it was not overwritten: for its shape and graph, not its values."""
        return self._captures[text][0][0]

    def overwritten(self) -> frozenset[str]:
        """Return the addresses whose tensor was changed in place after the capture."""
        return frozenset(
            text for text, captures in self._captures.items() if version_of(captures[0][0]) != captures[0][1]
        )

    def _on_input(self, address: Address, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        first = address.selectors[:1]
        if first and isinstance(first[0], str):
            self._keep(address, _bound_arguments(module, args, kwargs), address.selectors)
        else:
            self._keep(address, args or tuple(kwargs.values()), address.selectors or (0,))

    def _output_hook(self, address: Address) -> Callable[..., None]:
        keep, selectors = self._keep, address.selectors

        def on_output(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
            keep(address, output, selectors)

        return on_output

    def _keep(self, address: Address, value: Any, selectors: tuple[int | str, ...]) -> None:
        if not self._active or self._stop.requested:
            return
        text, call = address.text, address.call
        number = self.calls[text]
        self.calls[text] = number + 1
        if call is None and number > 0:
            message = f"{address.path!r} runs more than once in a forward; say which call: {address.path}#0, …#-1"
            raise TapError(message, about=(text,))
        if call is not None and 0 <= call != number:
            return
        tensor = select(value, selectors, address)
        tensor = tensor.clone() if text in self.clone else tensor
        self._captures[text].append((tensor, version_of(tensor)))
        if call is None or call >= 0:  # a call counted from the end is known only at the end
            self._pending.discard(text)
        if self.stop and not self._pending:
            self._stop()

    def _check_captured(self, address: Address) -> None:
        ran = self.calls[address.text]
        if ran == 0:
            parts = [name for name, _ in self._modules[address.text].named_children()]
            hint = f"; tap a part of it, such as {address.path}.{parts[-1]}" if parts else ""
            message = f"the tap {address.text!r} captured nothing: its module did not run in this forward{hint}"
            raise TapError(message, about=(address.text,))
        if len(self._captures[address.text]) < max(1, -(address.call or 0)):
            raise TapError(
                f"the tap {address.text!r} captured nothing: its module ran {ran} times, there is no such call",
                about=(address.text,),
            )


_UNCOUNTED = -1


def version_of(tensor: Tensor) -> int:
    """Return how often a tensor was written into; 0 in a compiled graph, -1 for an inference tensor."""
    try:
        return 0 if is_compiling() else tensor._version  # noqa: SLF001  (it has no public name)
    except RuntimeError:
        return _UNCOUNTED


def _bound_arguments(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by their names in the module's `forward`."""
    try:
        return {**inspect.signature(module.forward).bind(*args, **kwargs).arguments, **kwargs}
    except (TypeError, ValueError):  # no readable signature: only arguments passed by name have a name
        return kwargs


def compiled_inside(model: nn.Module, hooked: Collection[nn.Module]) -> bool:
    """Return whether some of the modules `hooked` lie in a compiled part of `model`, which may run without hooks."""
    return any(module in hooked for module in _compiled_modules(model))


def eagerly(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same call with all compiled parts run eagerly."""

    def call_eagerly(*args: Any) -> Any:
        if is_compiling():  # all of it in one graph
            return call(*args)
        with torch.compiler.set_stance("force_eager"):
            return call(*args)

    return call_eagerly


def _compiled_modules(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        if getattr(module, "_compiled_call_impl", None) is not None:  # module.compile()
            yield from module.modules()
        elif isinstance(inside := getattr(module, "_orig_mod", None), nn.Module):  # torch.compile(module)
            yield from inside.modules()
