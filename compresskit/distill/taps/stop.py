"""The early end of a forward, even where the model catches every exception."""

from threading import get_ident
from typing import Any, NoReturn

from torch.compiler import is_compiling
from torch.nn.modules.module import register_module_forward_pre_hook


class Stopped(BaseException):
    """A signal that the rest of the forward is not needed. Not an `Exception`, because models may catch those.

    Each stop raises a new object: a stored one would hold its traceback, which holds all activations of the forward.
    """

    def __init__(self, by: "Stop") -> None:
        self.by = by


class Stop:
    """Early end of a forward: call the object to end the forward that runs in this thread, then `finish` outside it.

    A model may catch even `Stopped`, by `except:` or `suppress(BaseException)`. A guard therefore raises it again in
    every module that the thread calls before `finish`, so that none of them runs. The guard is set in the first
    forward, and in a later one if the model caught the exception in the forward before.
    """

    def __init__(self) -> None:
        self._raised = 0
        self._guarded = True
        self._guard: Any = None
        self._thread = 0

    @property
    def requested(self) -> bool:
        """True from the call of this object until `finish`."""
        return self._raised > 0

    def __call__(self) -> NoReturn:
        """End the forward."""
        if not is_compiling():  # a compiled graph holds only what its outputs need
            if self._guarded:
                self._thread = get_ident()
                self._guard = register_module_forward_pre_hook(self._raise_again)
            self._raised += 1
        raise Stopped(self)

    def finish(self, *, by_stop: bool) -> None:
        """Remove the guard after a forward.

        Args:
            by_stop: Whether `Stopped` came out of the forward; else the model caught it, or never got as far.
        """
        if self._guard is not None:
            self._guard.remove()
            self._guard = None
        if self._raised:
            self._guarded = self._raised > 1 or not by_stop
            self._raised = 0

    def _raise_again(self, *_: Any) -> None:
        if get_ident() == self._thread:
            self._raised += 1
            raise Stopped(self)
