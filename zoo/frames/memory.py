"""The memory that a demosaicing module takes, and its return to the system after each tile."""

import ctypes
import math

import torch
from torch import nn

from compresskit.errors import CompressKitError
from compresskit.profiling import peak_bytes
from zoo.frames.reach import MULTIPLE
from zoo.raw.sensor.cfa import CFA

SCRATCH = 1.6
"""Factor from the bytes of all tensors to those of the process: operations have memory of their own.

Measured in a process that calls `return_freed_memory`; in others it is larger."""


SIDE = 480
"""Side in pixels, roughly, of the picture on which a module's memory is counted."""


UNKNOWN = 2000.0
"""Bytes a pixel of a module that needs values to run, such as one that calls NumPy."""


MMAP_THRESHOLD = -3
"""glibc's M_MMAP_THRESHOLD, from malloc.h."""


LARGE = 2**20
"""Size in bytes from which a block is taken from the system by itself."""


def bytes_per_pixel(module: nn.Module, cfa: CFA) -> float:
    """Estimate the bytes that a process needs for each pixel that the module makes at once."""
    unit = math.lcm(cfa.period, MULTIPLE)
    side = -(-SIDE // unit) * unit
    packed = cfa.to_input(torch.empty(1, 1, side, side, device="meta"))
    try:
        return SCRATCH * peak_bytes(module, packed) / side**2
    except CompressKitError:
        return UNKNOWN


def return_freed_memory() -> None:
    """Make the C library take large blocks from the system one by one, so that each goes back when it is freed.

    By default it keeps freed memory in pieces into which the next tile's tensors do not fit: PyNET-QxQ on 2048 x 2048
    pixels with 1.2 GiB took 1.68 GiB, and takes 1.13 GiB with this call. It changes the whole process, so programs
    call it and libraries do not. Only glibc has it; elsewhere nothing happens.
    """
    try:
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, LARGE)
    except (AttributeError, OSError, TypeError):
        return
