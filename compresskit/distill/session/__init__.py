"""One call of `fit`, in reading order.

- `session`: the state of a run, and the loop over stages and steps: load, step, log, validate, save, stop.
- `initial_weights`: the student's initial weights from a teacher.
- `plan`: every stage bound to one batch before training: the plan that users print, and the look-ahead of `fit`.
- `plan_text`: the plan as data and as text.
- `run_folder`: which run a folder holds, and how a call continues it.
- `folder_lock`: one run a folder.
- `checkpoint`: files from which a run continues exactly, and the fingerprint that tells runs apart.
- `metrics_log`: `metrics.jsonl`, one line a step.
- `history`: the records that `fit` returns, bounded in memory.
- `progress`: bars on a terminal, plain lines elsewhere.
- `callbacks`: functions of the user's, called where a run, a stage, a step or an evaluation begins and ends.
- `interrupt`: Ctrl-C, SIGTERM and SIGUSR1 between two steps.
- `results`: what `fit` returns.
"""
