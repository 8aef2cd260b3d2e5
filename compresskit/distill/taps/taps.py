"""Taps: tensors read from inside any module, by hooks that then vanish.

A `Taps` is a mapping from address to tensor. Its hooks exist only inside the `with` block, it stops the forward as
soon as it holds all it was asked for, and a tap that captured nothing is an error.
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

from compresskit.distill.spec.address import Address, find_module, parse_address, select, unwrap
from compresskit.distill.taps.replace import Replacing
from compresskit.distill.taps.stop import Stop, Stopped
from compresskit.errors import DataError, TapError


def call_model(model: nn.Module, inputs: Any) -> Any:
    """`model(*inputs)` for a tuple or list, `model(**inputs)` for a mapping, else `model(inputs)`."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


def check_call(model: nn.Module, inputs: Any) -> None:
    """Raise a DataError where `call_model` would only get a TypeError about arguments."""
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
    except ValueError:  # no signature to be read
        return


@dataclass(eq=False)
class Taps(Mapping[str, Tensor]):
    """The tensors at some addresses of a model, read by hooks that exist only inside the `with` block.

    Args:
        model: Any module; `torch.compile`d ones are read through the module below.
        addresses: What to capture. Checked at once.
        stop: End the forward once everything is captured. An address that counts calls from the end needs the whole.
        clone: Addresses that a later in-place operation overwrites; these are copied when captured.
        replaced: Addresses whose tensor is replaced, after all captures there, by what the function makes of it.

    Raises:
        TapError: An address names no module; a capture found no tensor, several calls where one was expected, or a
            tensor that was overwritten in place after it was captured.
    """

    model: nn.Module
    addresses: Iterable[str]
    stop: bool = True
    clone: Collection[str] = ()
    replaced: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict, init=False)
    """How often the module of each address ran in the last forward (up to where it stopped)."""

    def __post_init__(self) -> None:
        self.model = unwrap(self.model)
        self._addresses = {text: parse_address(text) for text in self.addresses}
        self._modules = {text: find_module(self.model, address) for text, address in self._addresses.items()}
        self._replacing = [Replacing(self.model, parse_address(text), made) for text, made in self.replaced.items()]
        hooked = {*self._modules.values(), *(replacing.module for replacing in self._replacing)}
        self._call = as_written(call_model) if hidden(self.model, hooked) else call_model
        self._handles: list[Any] = []
        self._captures: dict[str, deque[tuple[Tensor, int]]] = {}
        """What was captured, each with how often it had been written into: that tells whether it was since."""
        self._pending: set[str] = set()
        self._stop = Stop()
        self._active = False
        """Whether a forward of ours is running: gradient checkpointing runs modules again in the backward."""

    def __enter__(self) -> Self:
        for text, address in self._addresses.items():
            module = self._modules[text]
            if address.port == "in":
                handle = module.register_forward_pre_hook(partial(self._on_input, address), with_kwargs=True)
            else:
                handle = module.register_forward_hook(self._output_hook(address))
            self._handles.append(handle)
        for replacing in self._replacing:  # after the captures, which read what was there before
            self._handles.append(replacing.hook(lambda: self._active))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.clear()

    def clear(self) -> None:
        """Let go of the captured tensors, and through them of the graph."""
        self._captures.clear()

    def forward(self, inputs: Any) -> Self:
        """Run the model as far as the taps need, and hold what they captured until the next forward."""
        self.calls = dict.fromkeys(self._addresses, 0)
        self._captures = {text: deque(maxlen=max(1, -(a.call or 0))) for text, a in self._addresses.items()}
        self._pending = set(self._addresses)
        for replacing in self._replacing:
            replacing.calls = 0
        if self._addresses:
            self._run(inputs)
        for address in self._addresses.values() if self._pending else ():
            self._check_captured(address)
        for replacing in () if self.stop else self._replacing:  # else it may lie behind all that is read
            replacing.check_happened()
        return self

    def _run(self, inputs: Any) -> None:
        stopped = False
        self._active = True
        try:
            self._call(self.model, inputs)
        except Stopped as stop:
            if stop.by is not self._stop:  # the business of another engine around this one
                raise
            stopped = True
        except TapError:
            raise
        except Exception:
            if self._pending:  # else what lies behind the taps, or what a model makes of the stop, is nobody's concern
                raise
        finally:
            self._active = False
            self._stop.ended(by_stop=stopped)

    def __getitem__(self, text: str) -> Tensor:
        tensor, version = self._captures[text][0]
        if version == _UNCOUNTED:
            return tensor.clone()
        if writes_into(tensor) != version:
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
        """The tensor as it is now, even if it was overwritten: for its shape and its history, not its values."""
        return self._captures[text][0][0]

    def overwritten(self) -> frozenset[str]:
        """The addresses whose tensor was changed in place after the capture."""
        return frozenset(
            text for text, captures in self._captures.items() if writes_into(captures[0][0]) != captures[0][1]
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
        self._captures[text].append((tensor, writes_into(tensor)))
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


def writes_into(tensor: Tensor) -> int:
    """How often the tensor was written into; an inference tensor does not count that, and in a graph nobody asks."""
    try:
        return 0 if is_compiling() else tensor._version  # noqa: SLF001  (it has no public name)
    except RuntimeError:
        return _UNCOUNTED


def _bound_arguments(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by their names in the module's `forward`."""
    try:
        return {**inspect.signature(module.forward).bind(*args, **kwargs).arguments, **kwargs}
    except (TypeError, ValueError):  # a forward without a readable signature: only what was passed by name has one
        return kwargs


def hidden(model: nn.Module, read: Collection[nn.Module]) -> bool:
    """Whether `model` may run some of the modules `read` without their hooks."""
    return any(module in read for module in _inside_compiled(model))


def as_written(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, in which nothing runs through a compiler of its own."""

    def called(*args: Any) -> Any:
        if is_compiling():  # all in one graph already
            return call(*args)
        with torch.compiler.set_stance("force_eager"):
            return call(*args)

    return called


def _inside_compiled(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        if getattr(module, "_compiled_call_impl", None) is not None:  # module.compile()
            yield from module.modules()
        elif isinstance(inside := getattr(module, "_orig_mod", None), nn.Module):  # torch.compile(module)
            yield from inside.modules()
