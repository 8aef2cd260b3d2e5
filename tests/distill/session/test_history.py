"""The records that `fit` returns: all of them with a folder, thinned without, and never many in memory."""

import json
import tracemalloc
from itertools import pairwise

import pytest
import torch
from torch import nn

from compresskit import ProgressiveDistiller, Stage, Task
from compresskit.distill.session.history import ThinnedLines
from compresskit.distill.session.metrics_log import MetricsLog

BATCH = [(torch.randn(2, 3), torch.tensor([0, 1]))]


def fit(steps, out=None):
    stage = Stage("s", tasks=[Task("cross_entropy")], steps=steps)
    return ProgressiveDistiller(None, nn.Linear(3, 3), [stage], out=out, device="cpu").fit(BATCH)


@pytest.mark.parametrize("folder", [True, False])
def test_a_history_is_a_sequence_of_records(tmp_path, folder):
    history = fit(7, tmp_path if folder else None).history
    assert len(history) == 7
    assert [record["step"] for record in history] == list(range(7))
    assert history[0]["step"] == 0
    assert history[-1]["step"] == 6
    assert [record["step"] for record in history[2:6:2]] == [2, 4]
    assert history == list(history)
    assert history[:] == history
    assert history != history[:3]
    with pytest.raises(IndexError):
        history[7]


def test_with_a_folder_the_history_is_the_log(tmp_path):
    history = fit(5, tmp_path).history
    assert history == [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]


def test_an_empty_history_is_empty():
    assert len(MetricsLog(None).history()) == 0
    assert list(MetricsLog(None).history()) == []


@pytest.mark.parametrize("count", [1, 2, 7, 8, 100, 1001])
def test_thinned_lines_keep_the_first_and_the_last_at_equal_distances_within_their_bytes(count):
    lines = ThinnedLines(limit=80)
    for number in range(count):
        lines.append(number, b"%010d" % number)
    numbers = [number for number, _ in lines.lines()]
    assert numbers[0] == 0
    assert numbers[-1] == count - 1
    distances = {later - earlier for earlier, later in pairwise(numbers[:-1])}
    assert len(distances) <= 1
    assert min(count, 5) <= len(numbers) <= 9
    assert all(int(line) == number for number, line in lines.lines())


def test_evaluations_are_thinned_by_themselves_and_stay():
    log = MetricsLog(None)
    for step in range(40_000):
        metrics = {"metrics": {"psnr": 30.0}} if step % 1000 == 999 else {}
        log.append({"global_step": step, "filler": "x" * 300, **metrics})
    history = log.history()
    assert [record["global_step"] for record in history if "metrics" in record] == list(range(999, 40_000, 1000))
    steps = [record["global_step"] for record in history]
    assert steps == sorted(steps)
    assert 2_000 < len(steps) < 8_000


@pytest.mark.parametrize("folder", [True, False])
def test_the_memory_of_a_log_does_not_grow_with_its_steps(tmp_path, folder):
    log = MetricsLog(tmp_path / "metrics.jsonl" if folder else None)
    log.open()
    terms = {"mse(.)": {"value": 0.123456789, "weight": 1.0}}
    tracemalloc.start()
    for step in range(15_000):
        log.append({"stage": "s", "step": step, "global_step": step, "terms": terms, "lr": 1e-3, "samples_per_s": 1e3})
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    log.close()
    assert grown < 4e6
    assert log.history()[-1]["step"] == 14_999
    assert folder == (len(log.history()) == 15_000)
