"""What a model costs to run."""

from compresskit.profiling.count import count_macs

__all__ = ["count_macs"]
