import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compresskit import cli
from compresskit.commands import terminal
from compresskit.errors import Stopped, TrainingError

RECIPE = """\
name: tiny
student: {_target_: torch.nn.Linear, in_features: 2, out_features: 2}
data:
  train: {_target_: tiny_parts.Points}
  batch_size: 4
stages:
  - {name: only, steps: 2, tasks: [mse]}
presets:
  quick: {}
  full: {stages.0.steps: 3}
"""

PARTS = """
import torch

class Points:
    def __init__(self, broken: bool = False):
        self.broken = broken

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if self.broken:
            raise KeyError("a mistake of the user's own")
        return torch.ones(2), torch.ones(2)
"""


@pytest.fixture(autouse=True)
def _tiny(tmp_path, monkeypatch):
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    (tmp_path / "tiny_parts.py").write_text(PARTS)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("tiny_parts", None)


def _run(*arguments):
    return cli.main(["run", "tiny.yaml", "--allow", "tiny_parts", *arguments])


def _python(code, **options):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False, **options
    )


def test_a_run_exits_with_0_and_prints_its_table(capsys):
    assert _run("--out", "there") == 0
    out, err = capsys.readouterr()
    assert re.search(r"student +6 +4", out)  # 2 x 2 weights and 2 biases; 4 multiply-adds
    assert "All of it is in there" in out
    assert "running in there" in err
    assert Path("there/student.safetensors").exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(capsys):
    assert _run("--dry-run", "--preset", "full") == 0
    assert "1. only: 3 steps" in capsys.readouterr().out
    assert not Path("runs").exists()


def test_set_preset_and_resume_reach_the_run(capsys):
    assert _run("--preset", "full", "--set", "seed=7", "--set", "name=other") == 0
    assert "seed: 7" in Path("runs/other/recipe.yaml").read_text()
    assert _run("--preset", "full", "--set", "seed=7", "--set", "name=other", "--resume") == 0
    assert "runs/other is finished already" in capsys.readouterr().err


def test_several_seeds_are_run_and_compared(capsys):
    assert _run("--seeds", "3,4", "--out", "there") == 0
    out, err = capsys.readouterr()
    assert "Mean ± standard deviation over seeds 3 and 4" in out
    assert "seed 4 (2 of 2)" in err
    assert "seed: 4" in Path("there/seed-4/recipe.yaml").read_text()
    assert _run("--seeds", "3,4", "--dry-run") == 0
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0,one"], "compresskit: --seeds 0,one: expected whole numbers with commas between, such as 0,1,2"),
        (["--seeds", "1", "--set", "seed=2"], "compresskit: seed: it is set and several seeds are given as well"),
        (["--preset", "fulll"], "compresskit: tiny.yaml, line 8: presets: no preset 'fulll'; did you mean 'full'?"),
        (["--set", "sede=1"], "compresskit: --set sede=1: the recipe has no 'sede'; did you mean 'seed'"),
        (["--device", "gpu"], "compresskit: device: 'gpu' cannot be used here"),
        (["--resume"], "compresskit: there is no run in runs/tiny to go on with; start it without --resume"),
        (
            ["--set", "data.train.broken=maybe"],
            "compresskit: --set data.train.broken=maybe: data.train: broken must be",
        ),
    ],
)
def test_a_users_mistake_is_one_to_three_lines_and_exit_code_2(capsys, arguments, message):
    assert _run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert len(err.splitlines()) <= 3


def test_a_package_of_the_current_folder_needs_to_be_allowed(capsys):
    assert cli.main(["run", "tiny.yaml"]) == 2
    assert "importing tiny_parts.Points would run code of 'tiny_parts'; if you trust it, add --allow" in (
        capsys.readouterr().err
    )


def test_a_missing_recipe_is_exit_code_2(capsys):
    assert cli.main(["run", "nope.yaml"]) == 2
    assert capsys.readouterr().err.startswith("compresskit: no recipe 'nope.yaml'; ")


@pytest.mark.parametrize("arguments", [["run"], ["run", "tiny.yaml", "--stes", "3"], ["rnu", "tiny.yaml"]])
def test_a_command_line_that_makes_no_sense_is_exit_code_2(capsys, arguments):
    assert cli.main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_users_own_exception_keeps_its_traceback():
    with pytest.raises(KeyError, match="a mistake of the user's own"):
        _run("--set", "data.train.broken=true")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            TrainingError("stage 'only', step 3: the term mse is nan"),
            1,
            "compresskit: stage 'only', step 3: the term mse",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 1, "compresskit: the disk is full: "),
        (OSError(errno.EROFS, "Read-only file system", "runs/x"), 1, "compresskit: the file system is read-only: "),
        (OSError(errno.EFBIG, "File too large", "runs/x"), 1, "compresskit: a file became larger than the system"),
        (KeyboardInterrupt(), 130, "compresskit: stopped by Ctrl-C"),
        (Stopped(signal.SIGTERM), 143, "compresskit: stopped by SIGTERM"),
        (Stopped(signal.SIGUSR1), 138, "compresskit: stopped by SIGUSR1"),
    ],
)
def test_a_run_that_fails_has_an_exit_code_of_its_own(capsys, monkeypatch, error, code, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("compresskit.recipe.running.run.run_recipe", fail)
    assert _run() == code
    assert capsys.readouterr().err.startswith(message)


def test_other_failures_of_the_system_keep_their_traceback(monkeypatch):
    def fail(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "runs/x")

    monkeypatch.setattr("compresskit.recipe.running.run.run_recipe", fail)
    with pytest.raises(PermissionError):
        _run()


@pytest.mark.parametrize("file", ["metrics.jsonl", "checkpoint"])
def test_a_full_disk_is_reported_with_the_command_that_resumes_the_run(capsys, monkeypatch, file):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if file == "checkpoint":
        write = Path.write_bytes
        monkeypatch.setattr(Path, "write_bytes", lambda p, data: fail() if ".pt" in p.name else write(p, data))
    else:
        monkeypatch.setattr("compresskit.distill.session.metrics_log.MetricsLog.append", fail)
    assert _run("--out", "there") == 1
    err = capsys.readouterr().err
    assert "To go on: compresskit run tiny.yaml --preset quick --allow tiny_parts --out there --resume" in err
    assert "compresskit: the disk is full: [Errno 28] No space left on device" in err


def test_help_shows_examples_and_needs_no_torch():
    code = "import sys; from compresskit.cli import main; main(['run', '--help']); print('torch' in sys.modules)"
    done = _python(code)
    assert "compresskit run pynet_qxq --dry-run" in done.stdout
    assert done.stdout.endswith("False\n")


def test_a_reader_that_closes_the_pipe_is_no_error():
    command = f"{sys.executable} -m compresskit run tiny.yaml --allow tiny_parts --dry-run"
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_traceback_of_the_users_code_is_pythons_own_and_exit_code_1():
    command = [sys.executable, "-m", "compresskit", "run", "tiny.yaml", "--allow", "tiny_parts"]
    done = subprocess.run(
        [*command, "--set", "data.train.broken=true"], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert 'tiny_parts.py", line' in done.stderr


def test_a_gpu_is_not_wasted_on_the_quick_preset(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert _run("--resume") == 2  # there is nothing to go on with, but the advice comes first
    assert capsys.readouterr().err.startswith("There is a GPU here: --preset full runs the whole recipe on it.")
    assert _run("--resume", "--preset", "quick") == 2
    assert "--preset full" not in capsys.readouterr().err


def test_recipes_complete_on_the_tab_key():
    assert "tiny.yaml" in terminal.recipe_names("ti")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "meta"], "device: 'meta' cannot be used here: "),
        (["--device", "cpux"], "device: 'cpux' cannot be used here: "),
        (["--allow", "nopkg"], "--allow nopkg: no package 'nopkg' is installed or in the current folder"),
        (["--allow", "../x"], "--allow ../x: expected the name of a package"),
        (["--set", "presets=[1,2]"], "--set presets=[1,2]: presets cannot be changed; choose one with --preset"),
        (["--set", "student._target_=torch.load"], "--set student._target_=torch.load: student: a recipe may not use"),
        (["--set", "student.in_features=-2"], "--set student.in_features=-2: student: torch.nn.Linear refuses"),
        (["--set", "student.bias=no"], "--set student.bias=no: student: bias must be true or false"),
        (
            ["--set", "stages.0.lr=0.1"],
            "--set stages.0.lr=0.1: stages[0]: unknown key 'lr'; it is an option of the stage's",
        ),
        (["--set", f"seed={'9' * 5000}"], "--set seed=999"),
        (["--set", f"stages.0.tasks.0={'conv.' * 2000}x"], "--set stages.0.tasks.0=conv.conv"),
        (["--out", "x" * 300], "the name 'xxx"),
        (["--out", "tiny.yaml/x"], "tiny.yaml/x cannot be made a folder: "),
    ],
)
def test_a_wrong_option_is_named_in_a_few_lines(arguments, message, capsys):
    assert _run(*arguments) == 2
    error = capsys.readouterr().err.removeprefix("compresskit: ")
    assert error.startswith(message)
    assert len(error) < 1500
    assert len(error.splitlines()) <= 3


@pytest.mark.parametrize("name", ["[a]", "{a: 1}", "3", "absent"])
def test_a_preset_extends_a_name(name, capsys):
    Path("tiny.yaml").write_text(f"{RECIPE}  more: {{extends: {name}}}\n")
    assert _run("--preset", "more", "--dry-run") == 2
    assert "tiny.yaml, line 11: presets.more.extends: no preset" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["student", "evaluate", "data.train", "stages", "data.train.transform"])
@pytest.mark.parametrize("command", ["run", "evaluate", "export", "profile"])
def test_no_command_is_called_by_a_recipe_and_a_dry_run_writes_nothing(place, command, capsys):
    Path("evil.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    Path("inner.yaml").write_text(RECIPE.replace("tiny_parts.Points", "evil.Points"))
    node = f"{{_target_: compresskit.commands.{command}.{command}, recipe: inner.yaml, allow: [evil]}}"
    before = sorted(Path().iterdir())
    assert (
        _run("--dry-run", "--set", "data.train={_target_: torchvision.datasets.FakeData}", "--set", f"{place}={node}")
        == 2
    )
    assert f"a recipe may not use compresskit.commands.{command}.{command} here" in capsys.readouterr().err
    assert sorted(Path().iterdir()) == before
