"""The former address of `compresskit.schedules`, which recipes and run folders may hold."""

from compresskit.distill.spec.schedules import WarmupCosine

__all__ = ["WarmupCosine"]
