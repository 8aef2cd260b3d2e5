"""A whole run in two processes that torchrun starts: the numbers of one process, one folder, each message once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from compresskit.recipe.running.run import run_recipe


def _run(recipe, *arguments):
    """Return the exit code, the output and the messages of `torchrun -m compresskit run`."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command = [*launch, "compresskit", "run", recipe, "--allow", "toy_parts", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=100, check=False)
    return done.returncode, done.stdout, done.stderr


def test_two_processes_give_the_numbers_of_one(edited, weights):
    recipe = edited("p: 0.2", "p: 0.0")
    run_recipe(recipe, out="one")
    code, stdout, stderr = _run(str(recipe), "--out", "two")
    assert code == 0, stderr
    for part in ("teacher", ".", "alone"):
        torch.testing.assert_close(weights("two", part), weights("one", part), atol=1e-6, rtol=1e-6)
    assert stderr.count("part 2 of 3") == stderr.count("where the time went") // 3 == 1
    assert stdout.count("All of it is in two") == 1
    assert json.loads(Path("two/environment.json").read_text())[0]["processes"] == 2


def test_a_mistake_is_reported_once(toy):
    code, _, stderr = _run(str(toy), "--set", "stages.0.stps=3")
    assert code != 0
    assert stderr.count("compresskit: ") == stderr.count("unknown key 'stps'; did you mean 'steps'") == 1
