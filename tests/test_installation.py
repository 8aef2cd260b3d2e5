import os
import subprocess
import sys
from pathlib import Path

import pytest

from compresskit.installation import HOME, without_current_folder

RECIPE = """
student: {_target_: timm.create_model, model_name: resnet18}
data: {train: {_target_: zoo.classify.Digits}}
stages: [{name: one, steps: 1, tasks: [cross_entropy]}]
"""
MODULES = ("timm", "evil", "lmdb", "accimage", "h5py", "colour_demosaicing", "huggingface_hub", "typer", "yaml")
STARTS = {
    "module": [sys.executable, "-m", "compresskit"],
    "interpreter": [sys.executable, "-c", "import sys; from compresskit.cli import main; sys.exit(main())"],
}


@pytest.fixture
def folder(tmp_path):
    for name in MODULES:
        (tmp_path / f"{name}.py").write_text(f"from pathlib import Path\nPath('ran').write_text({name!r})\n")
    (tmp_path / "r.yaml").write_text(RECIPE)
    return tmp_path


@pytest.mark.parametrize(("start", "path"), [("module", []), ("module", ["PLACE"]), ("interpreter", ["", "."])])
def test_nothing_is_imported_from_the_current_folder(folder, start, path):
    entries = [str(folder) if entry == "PLACE" else entry for entry in path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*entries, str(HOME)])}
    command = [*STARTS[start], "run", "r.yaml", "--dry-run"]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert not (folder / "ran").exists(), (folder / "ran").read_text()
    assert "no package 'timm' is installed" in run.stderr or run.returncode == 0


def test_an_allowed_package_is_imported_from_the_current_folder(folder):
    (folder / "r.yaml").write_text(RECIPE.replace("timm.create_model, model_name: resnet18", "evil.network"))
    command = [*STARTS["module"], "run", "r.yaml", "--dry-run", "--allow", "evil"]
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=100, check=False)
    assert (folder / "ran").read_text() == "evil"


def test_the_import_path_is_as_before_after_the_block(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), ".", *before, str(tmp_path / "absent")])
    with without_current_folder():
        assert sys.path == [*before, str(tmp_path / "absent")]
    assert sys.path[:3] == ["", str(tmp_path), "."]
    monkeypatch.chdir(HOME)
    with without_current_folder():
        assert Path(sys.path[-1]) == HOME
