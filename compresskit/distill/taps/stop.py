"""The end of a forward in its midst, also of one whose model catches everything."""

from threading import get_ident
from typing import Any, NoReturn

from torch.compiler import is_compiling
from torch.nn.modules.module import register_module_forward_pre_hook


class Stopped(BaseException):
    """The rest of the forward is not needed. Not an Exception: models may catch those.

    Raised anew each time: an exception that is kept keeps its traceback, and that all activations of the forward.
    """

    def __init__(self, by: "Stop") -> None:
        self.by = by


class Stop:
    """`stop()` ends the forward that runs in this thread; whoever began it calls `ended()` when it has.

    A model may catch even this, by `except:` or `suppress(BaseException)`. In the first forward, and in later ones if
    that happened in the last, every module that the thread would call until `ended()` raises it again, so none runs.
    """

    def __init__(self) -> None:
        self._raised = 0
        self._wary = True
        self._guard: Any = None
        self._thread = 0

    @property
    def requested(self) -> bool:
        """Whether the forward should have ended."""
        return self._raised > 0

    def __call__(self) -> NoReturn:
        """End the forward."""
        if not is_compiling():  # a graph has no more in it than its outputs need
            if self._wary:
                self._thread = get_ident()
                self._guard = register_module_forward_pre_hook(self._again)
            self._raised += 1
        raise Stopped(self)

    def ended(self, *, by_stop: bool) -> None:
        """Take note that the forward has ended: by what was raised here, or in another way."""
        if self._guard is not None:
            self._guard.remove()
            self._guard = None
        if self._raised:
            self._wary = self._raised > 1 or not by_stop
            self._raised = 0

    def _again(self, *_: Any) -> None:
        if get_ident() == self._thread:
            self._raised += 1
            raise Stopped(self)
