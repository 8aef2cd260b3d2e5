"""Numbers as people read them: powers of 1000 for counts and budgets, of 1024 for memory; and shapes."""

from collections.abc import Mapping, Sequence

BYTE_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
"""Bytes of the units in which a budget can be written, in capitals."""

_COUNTS = {"P": 10**15, "T": 10**12, "G": 10**9, "M": 10**6, "k": 10**3}
_MEMORY = {"TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
_BUDGETS = {"TB": 10**12, "GB": 10**9, "MB": 10**6, "KB": 10**3}


def count_text(count: float) -> str:
    """Write a count with three figures and a power of 1000: `27.9 G`."""
    return _scaled(count, _COUNTS) or f"{count:g}"


def bytes_text(count: float) -> str:
    """Write bytes of memory with three figures and a power of 1024: `19.0 MiB`."""
    return _scaled(count, _MEMORY) or f"{count:g} B"


def budget_text(count: float) -> str:
    """Write bytes in the powers of 1000 that budgets are usually written in, without trailing zeros: `8 GB`."""
    figures, _, unit = _scaled(count, _BUDGETS).partition(" ")
    return f"{float(figures):g} {unit}" if unit else f"{count:.0f} B"


def share_text(part: float, whole: float) -> str:
    """Write a share as `12.3 %`; nothing if the whole is 0."""
    return f"{100 * part / whole:.1f} %" if whole else ""


def shape_text(shape: Sequence[int]) -> str:
    """Write a shape as `1x4x64x64`; one without axes is `scalar`."""
    return "x".join(map(str, shape)) or "scalar"


def _scaled(count: float, units: Mapping[str, int]) -> str:
    """Write three figures and the largest unit that fits; nothing if the count is below all units."""
    for unit, size in units.items():
        if count >= 0.9995 * size:  # what rounds to 1.00 of this unit, not to 1000 of the one below
            return f"{_three_figures(count / size)} {unit}"
    return ""


def _three_figures(value: float) -> str:
    """Write three figures, or all those before the point."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"
