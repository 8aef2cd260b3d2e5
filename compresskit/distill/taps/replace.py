"""Another tensor in the place of one inside a model, by a hook on one module. Splices are built on it."""

import copy
from collections.abc import Callable, MutableMapping
from typing import Any

from torch import Tensor, nn

from compresskit.distill.spec.address import Address, Slices
from compresskit.distill.taps.locate import find_module, select
from compresskit.errors import TapError


class Replacement:
    """Replacement of the tensor at one address of a model.

    Args:
        model: The unwrapped model.
        address: Address of the tensor, in an output or a positional input.
        function: Function from the tensor there to the one that takes its place, of the same shape.

    Raises:
        TapError: The address names no module, or an input by name.
    """

    def __init__(self, model: nn.Module, address: Address, function: Callable[[Tensor], Tensor]) -> None:
        self.calls = 0
        """Number of times that the module ran in this forward."""
        self.module = find_module(model, address)
        """The module that has the tensor as its input or output."""
        self._address = address
        self._function = function
        if (address.call or 0) < 0:
            message = f"{address.text!r}: a tensor to replace cannot be counted from the last call"
            raise TapError(message, about=(address.text,))
        if address.port == "in" and address.selectors and isinstance(address.selectors[0], str):
            message = f"{address.text!r}: an input to replace is counted, as in {address.path}@in[0]"
            raise TapError(message, about=(address.text,))

    def hook(self, active: Callable[[], bool]) -> Any:
        """Register the hook, which replaces the tensor while `active()` is true, and return its handle."""

        def on_output(_module: nn.Module, _args: Any, output: Any) -> Any:
            return self._replace(output, self._address.selectors) if active() else None

        def on_input(_module: nn.Module, args: tuple[Any, ...]) -> Any:
            return self._replace(args, self._address.selectors or (0,)) if active() else None

        if self._address.port == "in":
            return self.module.register_forward_pre_hook(on_input)
        return self.module.register_forward_hook(on_output)

    def check_happened(self) -> None:
        """Raise a TapError unless the module ran as often as the address needs."""
        if self.calls <= (self._address.call or 0):
            message = f"the splice into {self._address.text!r} replaced nothing: there was no such call"
            raise TapError(message, about=(self._address.text,))

    def _replace(self, value: Any, selectors: tuple[int | str | Slices, ...]) -> Any:
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
        if selectors and isinstance(selectors[-1], Slices):
            message = f"{self._address.text!r}: a splice replaces a whole tensor, not a part of one"
            raise TapError(message, about=(self._address.text,))
        new = self._function(old)
        if new.shape != old.shape:
            raise TapError(
                f"{self._address.text!r} is {tuple(old.shape)}, but what should replace it {tuple(new.shape)}; "
                "give an adapter",
                about=(self._address.text,),
            )
        return _put(value, selectors, new.to(old.dtype), self._address)


def _put(value: Any, selectors: tuple[int | str | Slices, ...], new: Tensor, address: Address) -> Any:
    """Return `value` with `new` as its part at `selectors`. The user's own containers are not changed."""
    if not selectors:
        return new
    first, rest = selectors[0], selectors[1:]
    if isinstance(value, MutableMapping):
        mapping = copy.copy(value)
        mapping[first] = _put(value[first], rest, new, address)
        return mapping
    if isinstance(value, (tuple, list)) and isinstance(first, int):
        items = list(value)
        items[first] = _put(items[first], rest, new, address)
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    raise TapError(f"{address.text!r}: a part of a {type(value).__name__} cannot be replaced", about=(address.text,))
