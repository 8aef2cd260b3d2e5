"""The way from a loss to a trained stage, in reading order.

- `bound_stage`: a stage bound to models and a batch: objective, learners, trainable parameters.
- `trainable`: which parameters and buffers may change, and the block in which nothing else does.
- `optimizers`: the optimizer with its parameter groups, and the learning-rate scheduler.
- `loop`: one optimizer step, `StageLoop.train_step`: forward, backward, clip, step, record. Gradients are clipped here.
- `gradients`: their norm, a cheap check that they are finite, and the norm of each term's own gradient.
- `data_parallel`: the objective under DDP, for several processes.
- `ema`: averaged weights, and their exchange for an evaluation.
- `validation`: the terms on validation data, and the user's `evaluate`.
- `early_stopping`: best weights, and the end of a stage without progress.
- `autotune`: a measurement that replaces `auto` in precision, memory format and compilation.
"""
