"""The distillation engine: it runs stages over any teacher and student.

In reading order, each room before the rooms that use it:

- `spec`: the addresses, matches, tasks and stages that a user writes
- `curricula`: functions that turn a few match points into stages
- `taps`: a tensor inside any module, read or replaced
- `objective`: from a batch to a loss: models, adapters, terms, their weighted sum
- `training`: from a loss to a trained stage: trainable parameters, the training step, validation, early stopping
- `cache`: the outputs of frozen teachers, stored between epochs
- `session`: one call of `fit`: the plan, checkpoints, the run's folder, logs
- `distiller`: `ProgressiveDistiller`, the user's entry: `plan`, `fit`, `stage`
- `own_loop`: one stage inside the user's own loop

Shared by the rooms:

- `execution`: seed, device, precision and processes of a run, as one object
- `batches`: the batches of one optimizer step, and the position in the data
- `samples`: the number of samples in a nested batch, and a part of them
- `views`: functions from a batch's inputs to one model's inputs
- `precision`: autocast, TF32, memory format, compilation
- `processes`: the processes that share a run
- `timing`: seconds by phase, and a profiler's trace of some steps
- `schedules`: `WarmupCosine` under the name that older recipes use
"""
