"""Measuring: figures of real runs of a copy.

Files, in reading order:

- `machine`: the machine of a real run: its description, its free memory, and the end of its work.
- `memory`: peak memory, as the allocator reports it.
- `latency`: durations of calls, of several models in turn.
- `receptive_field`: reach of one position of the input, probed with NaN.
"""
