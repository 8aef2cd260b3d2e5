"""Taps: the address of a tensor inside any module, and hooks that read it and then vanish.

    PATH[#CALL][@in|@out][SELECTOR…]      layer3 · rnn@out[0] · .@out.logits · block#1 · attention@in.query

A `Taps` is a mapping from address to tensor. Its hooks exist only inside the `with` block, it stops the forward as
soon as it holds all it was asked for, and a tap that captured nothing is an error.
"""

import inspect
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from torch import Tensor, nn

from compresskit.errors import RecipeError, TapError, close_names

_ADDRESS = re.compile(r"(?P<path>[^#@\[\s]+)(#(?P<call>-?\d+))?(@(?P<port>in|out)(?![A-Za-z0-9_]))?(?P<selectors>.*)")
_SELECTOR = re.compile(r"\.(?P<name>[A-Za-z_]\w*)|\[(?P<index>-?\d+)\]|\[(?P<quote>['\"])(?P<key>.+?)(?P=quote)\]")


@dataclass(frozen=True, slots=True)
class Address:
    """One parsed address. `str(address)` is what the user wrote."""

    text: str
    path: str
    call: int | None = None
    """Which call of a module that runs several times; negative counts from the end, None expects a single call."""
    port: str = "out"
    selectors: tuple[int | str, ...] = ()

    def __str__(self) -> str:
        return self.text


def parse_address(text: str) -> Address:
    """Read an address.

    Raises:
        TapError: The text does not follow the grammar.
    """
    match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise TapError(f"{text!r} is no address; write PATH[#CALL][@in|@out][SELECTOR…], as in 'layer3' or 'rnn@out[0]'")
    selectors, position = [], 0
    while position < len(match["selectors"]):
        part = _SELECTOR.match(match["selectors"], position)
        if part is None:
            wrong = match["selectors"][position:]
            raise TapError(f"address {text!r}: cannot read {wrong!r}; selectors are [0], .name or ['key'] after @in or @out")
        selectors.append(int(part["index"]) if part["index"] else part["name"] or part["key"])
        position = part.end()
    call = None if match["call"] is None else int(match["call"])
    return Address(text, match["path"], call, match["port"] or "out", tuple(selectors))


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own module below `torch.compile`.

    Raises:
        RecipeError: The model is wrapped for parallel training, whose hooks and gradient exchange would be bypassed.
    """
    while isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
        model = inner
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise RecipeError(f"the model is wrapped in {type(model).__name__}; give the bare module (model.module)")
    return model


def find_module(model: nn.Module, address: Address) -> nn.Module:
    """The module that `address` names inside the unwrapped `model`.

    Raises:
        TapError: There is none; the message names the nearest paths.
    """
    if address.path == ".":
        return model
    modules = dict(model.named_modules(remove_duplicate=False))
    if address.path not in modules:
        paths = [path for path in modules if path]
        raise TapError(f"{type(model).__name__} has no module {address.path!r}{close_names(address.path, paths)}")
    return modules[address.path]


def call_model(model: nn.Module, inputs: Any) -> Any:
    """`model(*inputs)` for a tuple or list, `model(**inputs)` for a mapping, else `model(inputs)`."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


class _Complete(BaseException):
    """All taps are filled, so the rest of the forward is not needed. Not an Exception: models may catch those."""


@dataclass(eq=False)
class Taps(Mapping[str, Tensor]):
    """The tensors at some addresses of a model, read by hooks that exist only inside the `with` block.

    Args:
        model: Any module; `torch.compile`d ones are read through the module below.
        addresses: What to capture. Checked at once.
        stop: End the forward once everything is captured. An address that counts calls from the end needs the whole.
        clone: Addresses that a later in-place operation overwrites; these are copied when captured.

    Raises:
        TapError: An address names no module; a capture found no tensor, several calls where one was expected, or a
            tensor that was overwritten in place after it was captured.
    """

    model: nn.Module
    addresses: Iterable[str]
    stop: bool = True
    clone: Collection[str] = ()
    calls: dict[str, int] = field(default_factory=dict, init=False)
    """How often the module of each address ran in the last forward (up to where it stopped)."""

    def __post_init__(self) -> None:
        self.model = unwrap(self.model)
        self._addresses = {text: parse_address(text) for text in self.addresses}
        self._modules = {text: find_module(self.model, address) for text, address in self._addresses.items()}
        self._handles: list[Any] = []
        self._captures: dict[str, deque[Capture]] = {}
        self._pending: set[str] = set()
        self._complete = _Complete()

    def __enter__(self) -> Self:
        for text, address in self._addresses.items():
            module = self._modules[text]
            if address.port == "in":
                handle = module.register_forward_pre_hook(partial(self._on_input, address), with_kwargs=True)
            else:
                handle = module.register_forward_hook(partial(self._on_output, address))
            self._handles.append(handle)
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
        if not self._addresses:
            return self
        try:
            call_model(self.model, inputs)
        except _Complete as complete:
            if complete is not self._complete:  # the business of another engine around this one
                raise
        for address in self._addresses.values():
            self._check_captured(address)
        return self

    def __getitem__(self, text: str) -> Tensor:
        capture = self._captures[text][0]
        if capture.overwritten:
            raise TapError(
                f"the tensor at {text!r} was overwritten in place after it was captured (ReLU(inplace=True)?); tap the "
                "module that overwrites it, or build that one with inplace=False"
            )
        return capture.tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._captures)

    def __len__(self) -> int:
        return len(self._captures)

    def peek(self, text: str) -> Tensor:
        """The tensor as it is now, even if it was overwritten: for its shape and its history, not its values."""
        return self._captures[text][0].tensor

    def overwritten(self) -> frozenset[str]:
        """The addresses whose tensor was changed in place after the capture."""
        return frozenset(text for text, captures in self._captures.items() if captures[0].overwritten)

    def _on_input(self, address: Address, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        first = address.selectors[:1]
        if first and isinstance(first[0], str):
            self._keep(address, _bound_arguments(module, args, kwargs), address.selectors)
        else:
            self._keep(address, args or tuple(kwargs.values()), address.selectors or (0,))

    def _on_output(self, address: Address, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        self._keep(address, output, address.selectors)

    def _keep(self, address: Address, value: Any, selectors: tuple[int | str, ...]) -> None:
        number = self.calls[address.text]
        self.calls[address.text] += 1
        if address.call is None and number > 0:
            raise TapError(f"{address.path!r} runs more than once in a forward; say which call: {address.path}#0, …#-1")
        if address.call is not None and 0 <= address.call != number:
            return
        tensor = _select(value, selectors, address)
        tensor = tensor.clone() if address.text in self.clone else tensor
        self._captures[address.text].append(Capture(tensor, tensor._version))  # noqa: SLF001  (torch has no public name)
        if address.call is None or address.call >= 0:  # a call counted from the end is known only at the end
            self._pending.discard(address.text)
        if self.stop and not self._pending:
            raise self._complete

    def _check_captured(self, address: Address) -> None:
        ran = self.calls[address.text]
        if ran == 0:
            raise TapError(f"the tap {address.text!r} captured nothing: its module did not run in this forward")
        if len(self._captures[address.text]) < max(1, -(address.call or 0)):
            raise TapError(f"the tap {address.text!r} captured nothing: its module ran {ran} times, there is no such call")


@dataclass(frozen=True, slots=True)
class Capture:
    """A tensor and the version it had, which tells whether something wrote into it since."""

    tensor: Tensor
    version: int

    @property
    def overwritten(self) -> bool:
        return self.tensor._version != self.version  # noqa: SLF001


def _bound_arguments(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by their names in the module's `forward`."""
    try:
        return dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):  # a forward without a readable signature: only what was passed by name has one
        return kwargs


def _select(value: Any, selectors: tuple[int | str, ...], address: Address) -> Tensor:
    for selector in selectors:
        value = _step(value, selector, address)
    if not isinstance(value, Tensor):
        inside = _describe(value)
        raise TapError(f"{address.text!r} is {inside}, not a tensor; select one, as in {address.text}[0] or …@{address.port}.name")
    return value


def _step(value: Any, selector: int | str, address: Address) -> Any:
    if isinstance(selector, str) and not isinstance(value, Mapping) and hasattr(value, selector):
        return getattr(value, selector)
    try:
        return value[selector]
    except (KeyError, IndexError, TypeError):
        shown = f"[{selector}]" if isinstance(selector, int) else f".{selector}"
        raise TapError(f"{address.text!r}: there is no {shown} in {_describe(value)}") from None


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with keys {', '.join(map(str, list(value)[:8]))}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
