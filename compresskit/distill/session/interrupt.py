"""Ctrl-C, SIGTERM and SIGUSR1 between two steps, never in the middle of one.

Schedulers of clusters send the latter two before they end a job. Python delivers signals to the main thread only, so in
another thread nothing here does anything.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from compresskit.errors import Stopped

_SCHEDULERS = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGUSR1") if name in signal.Signals.__members__)


@dataclass
class Interrupt:
    """Flag that a signal sets."""

    signal: int | None = None
    """The first signal since the block began."""

    @property
    def requested(self) -> bool:
        """True if there was a signal since the block began."""
        return self.signal is not None


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Let signals only set a flag inside the block; a second Ctrl-C interrupts at once.

    SIGTERM and SIGUSR1 stay ignored where they are, and go to a handler of the caller's own where there is one.
    """
    interrupt = Interrupt()
    process = os.getpid()

    def remember(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != process and signum != signal.SIGINT:  # a child that was forked inside the block
            _end(signum)
        if interrupt.requested and signum == signal.SIGINT:
            signal.default_int_handler(signum, frame)
        interrupt.signal = interrupt.signal or signum

    with _handled(remember, signal.SIGINT, *_SCHEDULERS):
        yield interrupt


@contextmanager
def stopped_by_schedulers() -> Iterator[None]:
    """Raise `Stopped` inside the block on SIGTERM and SIGUSR1, at once, as Ctrl-C raises KeyboardInterrupt."""
    process = os.getpid()

    def stop(signum: int, _: FrameType | None) -> None:
        if os.getpid() != process:
            _end(signum)
        raise Stopped(signum)

    with _handled(stop, *_SCHEDULERS):
        yield


def error_of(signum: int) -> KeyboardInterrupt:
    """Return the exception for a signal that stopped a run."""
    return KeyboardInterrupt() if signum == signal.SIGINT else Stopped(signum)


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None], *signals: signal.Signals) -> Iterator[None]:
    """Install a handler inside the block for those signals that the caller neither ignores nor handles."""
    before: dict[signal.Signals, Any] = {}
    _ours.append(handler)
    try:
        if threading.current_thread() is threading.main_thread():
            before = {signum: signal.getsignal(signum) for signum in signals}
            before = {signum: old for signum, old in before.items() if _is_free(signum, old)}
            for signum in before:
                signal.signal(signum, handler)
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)
        _ours.remove(handler)


_ours: list[Any] = []
"""The handlers of all blocks that are open."""


def _is_free(signum: signal.Signals, handler: Any) -> bool:
    """Return whether a signal's handler may be replaced. None is one that Python did not install."""
    if signum == signal.SIGINT:
        return handler is not None
    return handler == signal.SIG_DFL or handler in _ours


def _end(signum: int) -> None:
    """End this process as the signal would have."""
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
