"""Learning-rate schedules that recipes name: `{_target_: compresskit.schedules.WarmupCosine, warmup: 0.1}`."""

from compresskit.distill.spec.schedules import WarmupCosine

__all__ = ["WarmupCosine"]
