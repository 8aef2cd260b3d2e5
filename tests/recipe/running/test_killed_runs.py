"""A whole run that is killed while the student learns, and resumed: the result is that of an undisturbed run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compresskit.recipe.running.run import run_recipe

CHANGES = ["stages.1.steps=30"]


def _start(*arguments, delay=0.02):
    command = [sys.executable, "-m", "compresskit", "run", "toy.yaml", "--allow", "toy_parts", *arguments]
    for change in CHANGES:
        command += ["--set", change]
    environment = {**os.environ, "POINTS_DELAY": str(delay), "OMP_NUM_THREADS": "1"}
    with Path("stderr.txt").open("w") as stderr:
        return subprocess.Popen(command, env=environment, stderr=stderr, start_new_session=True)


def _wait_for_stage_two(process, folder):
    """Wait until the student's first stage is saved, and a little into the second one."""
    for _ in range(1000):
        if list(Path(folder).glob("checkpoints/*-001.pt")):
            time.sleep(0.5)
            break
        assert process.poll() is None, Path("stderr.txt").read_text()
        time.sleep(0.05)
    assert process.poll() is None, "the run ended before it could be disturbed"


@pytest.fixture
def undisturbed(toy):
    assert toy.exists()
    run_recipe(toy, out="undisturbed", overrides=CHANGES)
    return "undisturbed"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_resumes_to_the_same_weights_bit_for_bit(undisturbed, workers, same_weights):
    process = _start("--out", "killed", "--set", f"data.workers={workers}")
    _wait_for_stage_two(process, "killed")
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not Path("killed/student.safetensors").exists()
    run_recipe("toy.yaml", out="killed", overrides=CHANGES, resume=True)
    assert same_weights(undisturbed, "killed")
    assert Path("killed/summary.json").read_text() == Path("undisturbed/summary.json").read_text()
    assert not list(Path("killed").rglob("*.part"))


def test_sigterm_to_a_run_and_its_workers_saves_it_and_the_same_command_goes_on(undisturbed, same_weights):
    arguments = ["--out", "stopped", "--auto-resume", "--set", "data.workers=1"]
    process = _start(*arguments)
    _wait_for_stage_two(process, "stopped")
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    stderr = Path("stderr.txt").read_text()
    assert "stopped by SIGTERM in stage 'output' after step" in stderr
    assert "compresskit: stopped by SIGTERM" in stderr
    assert "To go on: compresskit run toy.yaml" in stderr
    assert "Traceback" not in stderr
    assert _start(*arguments, delay=0).wait(timeout=100) == 0, Path("stderr.txt").read_text()
    assert same_weights(undisturbed, "stopped")


def test_ctrl_c_saves_the_run_shows_the_resume_command_and_exits_with_130(undisturbed, same_weights):
    process = _start("--out", "stopped")
    _wait_for_stage_two(process, "stopped")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    stderr = Path("stderr.txt").read_text()
    assert (
        "To go on: compresskit run toy.yaml --preset quick --set stages.1.steps=30 --allow toy_parts --out " in stderr
    )
    assert "Traceback" not in stderr
    assert len(list(Path("stopped/checkpoints").iterdir())) == 2
    run_recipe("toy.yaml", out="stopped", overrides=CHANGES, resume=True)
    assert same_weights(undisturbed, "stopped")
