"""A batch to a loss: the student and its teachers run once a step, and a stage's terms compare their tensors.

- `models`: the student, the teachers and their views of a batch; taps in them
- `globs`: matches with a glob in their address, one for each module that fits
- `trace`: shapes and parameters behind each tap, found by one forward a fit
- `extra_modules`: adapters and losses with parameters, which train beside the student
- `resizing`: one size to another, without parameters
- `adapters`: one tensor's channels and size to another's
- `classes`: the same classes on both sides of a loss on logits
- `positions`: the positions that a loss compares: masks, and their number
- `terms`: a match or a task with its loss
- `hybrid`: splices: one model run with tensors of another
- `forwards`: each model once a step
- `objective`: the weighted sum of a stage's terms
"""
