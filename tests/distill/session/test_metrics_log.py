import json
from zlib import crc32

import pytest
import torch
from torch import nn

from compresskit import ProgressiveDistiller, Stage, Task
from compresskit.distill.session import metrics_log
from compresskit.distill.session.metrics_log import LogMark, MetricsLog

RECORDS = [{"global_step": step, "lr": 0.1 * step, "terms": {"mse": {"value": 1 / 3}}} for step in range(5)]
LINES = [f"{json.dumps(record)}\n" for record in RECORDS]


@pytest.fixture
def seconds(monkeypatch):
    """A clock that stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(metrics_log.time, "monotonic", lambda: now[0])
    return now


def test_records_are_written_together_and_at_the_latest_with_the_first_one_after_a_tenth_of_a_second(tmp_path, seconds):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.open()
    for record in RECORDS[:3]:
        log.append(record)
    assert path.read_text() == LINES[0]
    seconds[0] += 0.2
    log.append(RECORDS[3])
    assert path.read_text() == "".join(LINES[:4])
    log.close()


@pytest.mark.usefixtures("seconds")
def test_a_checkpoint_finds_every_record_in_the_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.open()
    for record in RECORDS:
        log.append(record)
    assert log.flush() == (path.stat().st_size, crc32(path.read_bytes()))
    assert path.read_text() == "".join(LINES)
    log.close()
    assert path.read_text() == "".join(LINES)


@pytest.mark.usefixtures("seconds")
def test_a_log_that_is_cut_back_goes_on_behind_the_cut_and_has_every_record_when_it_is_closed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(LINES))
    log = MetricsLog(path, LogMark(len(LINES[0]) + len(LINES[1]), steps=2))
    log.open()
    assert log.history() == RECORDS[:2]
    log.append(RECORDS[3])
    log.append(RECORDS[4])
    log.close()
    assert path.read_text() == "".join(LINES[:2] + LINES[3:])


def test_a_run_that_fails_has_logged_every_step_before(tmp_path):
    calls = []

    def loss(student, _target):
        calls.append(student)
        if len(calls) > 20:  # the look-ahead has called it, too
            raise LookupError("no more")
        return student.sum()

    distiller = ProgressiveDistiller(None, nn.Linear(1, 1), [Stage("s", tasks=[Task(loss)], steps=50)], out=tmp_path)
    with pytest.raises(LookupError, match="no more"):
        distiller.fit([(torch.ones(1, 1), torch.ones(1, 1))])
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) > 15
    assert steps == list(range(len(steps)))
    assert len(calls) - len(steps) == 2  # the look-ahead, and the step that failed


def test_a_log_that_is_shorter_than_its_mark_is_not_filled_up(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(LINES[0])
    log = MetricsLog(path, LogMark(len("".join(LINES[:3])), crc32("".join(LINES[:3]).encode()), 3))
    log.open()
    log.append(RECORDS[3])
    size, checksum = log.flush()
    log.close()
    assert path.read_text() == LINES[0] + LINES[3]
    assert (size, checksum) == (path.stat().st_size, crc32(path.read_bytes()))
