"""Memory that the process gives back as soon as it is free."""

import ctypes

MMAP_THRESHOLD = -3
"""glibc's name for the parameter, from malloc.h."""


LARGE = 2**20
"""Bytes."""


def give_back_at_once() -> None:
    """Have the C library take large blocks from the system one by one, so that each goes back when it is freed.

    By itself it keeps what it has freed, in pieces that the next tile's tensors do not fit into: for PyNET-QxQ a third
    more memory. It is a choice for a whole process, so programs make it and libraries do not. Only glibc has it;
    elsewhere nothing happens.
    """
    try:
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, LARGE)
    except (AttributeError, OSError, TypeError):
        return
