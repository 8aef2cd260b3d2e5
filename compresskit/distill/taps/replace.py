"""A tensor inside a forward, replaced by another: a hook on one module, for splices."""

import copy
from collections.abc import Callable, MutableMapping
from typing import Any

from torch import Tensor, nn

from compresskit.distill.spec.address import Address, find_module, select
from compresskit.errors import TapError


class Replacing:
    """Replaces the tensor at one address of a model.

    Args:
        model: The unwrapped model.
        address: Which tensor: of an output, or of a positional input.
        made: What to put there, from what is there.

    Raises:
        TapError: The address names no module, or an input by name.
    """

    def __init__(self, model: nn.Module, address: Address, made: Callable[[Tensor], Tensor]) -> None:
        self.calls = 0
        """How often the module ran in this forward."""
        self.module = find_module(model, address)
        """Whose input or output it is."""
        self._address = address
        self._made = made
        if (address.call or 0) < 0:
            message = f"{address.text!r}: a tensor to replace cannot be counted from the last call"
            raise TapError(message, about=(address.text,))
        if address.port == "in" and address.selectors and isinstance(address.selectors[0], str):
            message = f"{address.text!r}: an input to replace is counted, as in {address.path}@in[0]"
            raise TapError(message, about=(address.text,))

    def hook(self, active: Callable[[], bool]) -> Any:
        """Register the hook, which does its work while `active()`; returns its handle."""

        def on_output(_module: nn.Module, _args: Any, output: Any) -> Any:
            return self._replaced(output, self._address.selectors) if active() else None

        def on_input(_module: nn.Module, args: tuple[Any, ...]) -> Any:
            return self._replaced(args, self._address.selectors or (0,)) if active() else None

        if self._address.port == "in":
            return self.module.register_forward_pre_hook(on_input)
        return self.module.register_forward_hook(on_output)

    def check_happened(self) -> None:
        """Raise a TapError unless the module ran, and the call that is meant came."""
        if self.calls <= (self._address.call or 0):
            message = f"the splice into {self._address.text!r} replaced nothing: there was no such call"
            raise TapError(message, about=(self._address.text,))

    def _replaced(self, value: Any, selectors: tuple[int | str, ...]) -> Any:
        number, self.calls = self.calls, self.calls + 1
        if self._address.call is None and number > 0:
            path = self._address.path
            raise TapError(
                f"{path!r} runs more than once in a forward; say which call to replace: {path}#0, {path}#1, …",
                about=(self._address.text,),
            )
        if self._address.call is not None and self._address.call != number:
            return None
        old = select(value, selectors, self._address)
        new = self._made(old)
        if new.shape != old.shape:
            raise TapError(
                f"{self._address.text!r} is {tuple(old.shape)}, but what should replace it {tuple(new.shape)}; "
                "give an adapter",
                about=(self._address.text,),
            )
        return _put(value, selectors, new.to(old.dtype), self._address)


def _put(value: Any, selectors: tuple[int | str, ...], new: Tensor, address: Address) -> Any:
    """`value` with the part at `selectors` replaced; the user's own containers are left as they are."""
    if not selectors:
        return new
    first, rest = selectors[0], selectors[1:]
    if isinstance(value, MutableMapping):
        copied = copy.copy(value)
        copied[first] = _put(value[first], rest, new, address)
        return copied
    if isinstance(value, (tuple, list)) and isinstance(first, int):
        items = list(value)
        items[first] = _put(items[first], rest, new, address)
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    raise TapError(f"{address.text!r}: a part of a {type(value).__name__} cannot be replaced", about=(address.text,))
