"""Numbers for people: powers of 1000 for counts, of 1024 for bytes."""


def count_text(count: float) -> str:
    """Three figures and a power of 1000: `27.9 G`."""
    for size, letter in ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{_three(count / size)} {letter}"
    return f"{count:g}"


def bytes_text(count: float) -> str:
    """Three figures and a power of 1024: `19.0 MiB`."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power:
            return f"{_three(count / (1 << power))} {unit}"
    return f"{count:g} B"


def share_text(part: float, whole: float) -> str:
    """`12.3 %`, and nothing where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else ""


def _three(value: float) -> str:
    """Three figures, or all before the point."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"
