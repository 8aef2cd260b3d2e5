"""Ctrl-C between two steps, never in the middle of one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Interrupt:
    """Flag that Ctrl-C sets."""

    requested: bool = False
    """True if Ctrl-C was pressed since the block began."""


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Let the first Ctrl-C only set a flag inside the block; the second one interrupts at once.

    Signals reach only the main thread; in another thread the flag is never set and nothing is changed.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def remember(signum: int, frame: FrameType | None) -> None:
        if interrupt.requested:
            signal.default_int_handler(signum, frame)
        interrupt.requested = True

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
