"""Profiling: the cost of running a model, counted without running it, and measured on request.

Files and rooms, in reading order:

- `profiler`: `profile` and `compare`, the whole way from a model to a report.
- `report`, `comparison`: their results: figures, plain data, and a printed table.
- `count`: single figures without a report: `count_macs` and `peak_bytes`.
- `counting/`: a record of one forward, and everything that is computed from it.
- `measuring/`: memory, latency and receptive field of real runs.
- `checking/`: our count against other counters.
- `render`: the table of modules, and the text of notes.
- `files`: results in JSON, CSV and Markdown.
- `input_option`: `--input` on the command line.
"""

from compresskit.profiling.comparison import Comparison
from compresskit.profiling.count import count_macs, peak_bytes
from compresskit.profiling.measuring.receptive_field import footprint
from compresskit.profiling.profiler import compare, profile
from compresskit.profiling.report import ModelProfile

__all__ = ["Comparison", "ModelProfile", "compare", "count_macs", "footprint", "peak_bytes", "profile"]
