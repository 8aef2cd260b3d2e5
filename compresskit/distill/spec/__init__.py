"""The stages, matches, tasks and addresses that a user writes. Plain data that checks itself; no model runs here.

- `address`: `PATH[#CALL][@in|@out][SELECTOR…]`, the address of a tensor, and the names of models
- `match`: Match, Task and Splice: the terms of a stage's loss
- `schedules`: weights, options and learning rates that change over a stage
- `goal`: `max psnr`: a metric and the direction that is better
- `stage`: Stage, and its length in optimizer steps
- `inherit`: Inherit: a student's initial weights from a teacher
- `misplaced`: arguments given to the wrong object: the message says where they belong
- `describe`: any of these as text that is the same in every process, to tell one run from another
"""
