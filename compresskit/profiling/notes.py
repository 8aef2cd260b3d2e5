"""What tables do not say, in lines: totals, memory, what nobody counted, verdicts, warnings, the convention."""

from collections.abc import Iterator

from compresskit.profiling.compare import Comparison
from compresskit.profiling.counting.formulas import CONVENTION
from compresskit.profiling.measuring.latency import Latency
from compresskit.profiling.report import ModelProfile
from compresskit.profiling.units import bytes_text, count_text, share_text

_ROUTES = {
    "meta": "counted on the meta device, without running the model",
    "fake": "counted with fake tensors, without running the model: it names a device",
}


def profile_notes(profile: ModelProfile) -> list[str]:
    """The lines under the table of one model."""
    return [
        *_titled(
            ("parameters", _parameters(profile)),
            ("MACs", _macs(profile)),
            ("FLOPs", _flops(profile)),
            ("memory", _memory(profile)),
            ("receptive field", "" if profile.receptive_field is None else str(profile.receptive_field)),
            ("latency", "" if profile.latency is None else latency_text(profile.latency)),
            ("machine", "" if profile.latency is None else str(profile.latency.machine)),
            ("uncounted", _uncounted(profile) or "nothing"),
            ("dead code", _dead(profile)),
            ("cross-check", "; ".join(map(str, profile.crosscheck))),
            ("warning", "; ".join(_warnings(profile))),
        ),
        _ROUTES.get(profile.route, f"counted in a real run on {profile.route}: the model's Python looks at values"),
        CONVENTION,
    ]


def comparison_notes(comparison: Comparison) -> list[str]:
    """The lines under the table of several models: what is remarkable about any of them."""
    lines = []
    for name, one in comparison.profiles.items():
        lines += _titled(
            (f"{name}, uncounted", _uncounted(one)),
            (f"{name}, dead code", _dead(one)),
            (f"{name}, cross-check", "; ".join(map(str, one.crosscheck))),
            (f"{name}, warning", "; ".join(_warnings(one))),
        )
    latency = comparison.reference.latency
    machine = [] if latency is None else [f"machine: {latency.machine}; {latency.calls} calls of each in turn"]
    return [*lines, *(f"warning: {text}" for text in comparison.warnings), *machine, CONVENTION]


def latency_text(latency: Latency) -> str:
    """The median and the spread of a latency, in milliseconds."""
    return (
        f"{latency.median:.4g} ms median of {latency.calls} calls on {latency.device} "
        f"(10 % below {latency.p10:.4g}, 10 % above {latency.p90:.4g}, the first call {latency.first:.4g})"
    )


def _titled(*lines: tuple[str, str]) -> Iterator[str]:
    return (f"{title}: {text}" for title, text in lines if text)


def _parameters(profile: ModelProfile) -> str:
    found = profile.parameters
    types = ", ".join(f"{bytes_text(size)} {dtype}" for dtype, size in found.dtypes.items())
    parts = [f"{found.total:,}", f"{found.frozen:,} of them frozen" if found.frozen else "", types]
    parts.append(f"{found.zeros:,} are zero" if found.zeros else "")
    parts.append(f"tied: {'; '.join(' = '.join(names) for names in found.tied)}" if found.tied else "")
    parts.append(f"{found.buffers:,} more in buffers ({bytes_text(found.buffer_bytes)})" if found.buffers else "")
    return ", ".join(part for part in parts if part)


def _macs(profile: ModelProfile) -> str:
    per_pixel = profile.macs_per_pixel
    return f"{profile.macs:,}" + ("" if per_pixel is None else f", {per_pixel:,.0f} a pixel")


def _flops(profile: ModelProfile) -> str:
    moved = f", {bytes_text(profile.bytes)} moved un-fused" if profile.bytes else ""
    intensity = "" if profile.intensity is None else f", {profile.intensity:.1f} FLOPs a byte"
    return f"{count_text(profile.flops)}, of them {count_text(profile.elementwise)} element-wise{moved}{intensity}"


def _memory(profile: ModelProfile) -> str:
    found = profile.activations
    at = f" in {found.peak_at}" if found.peak_at else ""
    parts = [
        f"{bytes_text(profile.given_bytes)} weights and inputs",
        f"activations at most {bytes_text(found.peak)}{at}, {bytes_text(found.cpu_peak)} on this CPU",
        f"{bytes_text(found.last_use_peak)} if each is freed at its last use",
        f"{bytes_text(found.largest_operation)} for the largest operation",
    ]
    if profile.memory is not None:
        parts.append(f"measured {bytes_text(profile.memory.peak)} by {profile.memory.method}")
    return "; ".join(parts)


def _uncounted(profile: ModelProfile) -> str:
    return ", ".join(
        f"{name} ({calls} {'call' if calls == 1 else 'calls'})" for name, calls in profile.uncounted.items()
    )


def _dead(profile: ModelProfile) -> str:
    if not profile.dead_macs:
        return ""
    names = ", ".join(part.module for part in profile.dead if part.macs) or "some operations"
    share = share_text(profile.dead_macs, profile.macs) if profile.dead_macs >= profile.macs / 1000 else "< 0.1 %"
    return f"{names}: computed, and no output depends on it ({profile.dead_macs:,} MACs, {share})"


def _warnings(profile: ModelProfile) -> list[str]:
    return [*profile.warnings, *(profile.latency.warnings if profile.latency is not None else ())]
