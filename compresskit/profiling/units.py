"""Numbers as people read them: powers of 1000 for counts, of 1024 for bytes, and shapes."""

from collections.abc import Sequence


def count_text(count: float) -> str:
    """Write a count with three figures and a power of 1000: `27.9 G`."""
    for size, letter in ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{_three_figures(count / size)} {letter}"
    return f"{count:g}"


def bytes_text(count: float) -> str:
    """Write bytes with three figures and a power of 1024: `19.0 MiB`."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power:
            return f"{_three_figures(count / (1 << power))} {unit}"
    return f"{count:g} B"


def share_text(part: float, whole: float) -> str:
    """Write a share as `12.3 %`; nothing if the whole is 0."""
    return f"{100 * part / whole:.1f} %" if whole else ""


def shape_text(shape: Sequence[int]) -> str:
    """Write a shape as `1x4x64x64`; one without axes is `scalar`."""
    return "x".join(map(str, shape)) or "scalar"


def _three_figures(value: float) -> str:
    """Write three figures, or all those before the point."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"
