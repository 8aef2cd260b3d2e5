"""Counting: the cost of one forward, computed from a record of its operations and usually without running the model.

Files, in reading order:

- `model_call`: inputs of one call; tensors without values are enough.
- `copies`: copies of a model without values, with zeros or with its weights, and a guard around the model itself.
- `operations`: the record of a forward: operations, storages and module calls.
- `formulas`: multiply-accumulates of one operation.
- `elementwise`: FLOPs of one operation outside of matrix products.
- `workspace`: memory that a convolution borrows on a CPU.
- `tracing_modes`: ways to record a forward: on the meta device, with fake tensors, in a real run.
- `failures`: error messages for a forward that fails.
- `sizes`: sizes of pictures that a model takes.
- `parameters`: parameters and buffers, tied ones once.
- `dead_code`: modules that no output depends on.
- `layers`: figures of each module.
- `activations`: peak memory, from the lifetimes of storages.
"""
