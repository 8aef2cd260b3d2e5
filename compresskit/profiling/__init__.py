"""What a model costs to run: counted without running it, and measured on request.

In reading order: `record` and `recorder` (what one forward does), `formulas` and `elementwise` (what an operation
costs), `twins` and `routes` (how a forward is seen without touching the model), `layers`, `parameters`, `activations`,
`dead_code` (what is read off a record), `crosscheck` (other counters' opinion), `latency`, `memory`, `receptive` (real
runs), `report`, `profiler`, `compare` (what users see), `grids`, `notes`, `table`, `files` (how it looks).
"""

from compresskit.profiling.compare import Comparison, compare
from compresskit.profiling.count import count_macs
from compresskit.profiling.profiler import profile
from compresskit.profiling.report import ModelProfile

__all__ = ["Comparison", "ModelProfile", "compare", "count_macs", "profile"]
