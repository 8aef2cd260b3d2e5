import re
import sys
from pathlib import Path

import torch

import compresskit
from compresskit import recipe
from compresskit.recipe.building.components import build_components
from compresskit.recipe.reading.load import load_recipe

ROOT = Path(compresskit.__file__).parent
OBJECTS = ("distill/", "losses/", "evaluation.py", "errors.py", "randomness.py", "installation.py")
"""The files of what a recipe is made into, and those that stand by: errors, seeds, the import path."""


def _path_in_the_map() -> set[str]:
    files, room = set(), ""
    for line in recipe.__doc__.splitlines():
        if name := re.match(r"- `(\w+)/`", line):
            room = name[1]
        elif name := re.match(r"    - → `(\w+)`", line):
            files.add(f"recipe/{room}/{name[1]}.py")
        elif name := re.match(r"- → `compresskit\.([\w.]+)`", line):
            files.add(f"{name[1].replace('.', '/')}.py")
    return files


def _files_entered(function) -> set[str]:
    """Return the files of compresskit whose functions run; imports do not count."""
    files = set()

    def note(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and frame.f_code.co_name != "<module>" and path.is_relative_to(ROOT):
            files.add(path.relative_to(ROOT).as_posix())

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return files


def test_the_path_of_a_recipe_from_file_to_objects_is_the_one_in_the_map(toy):
    changes = ["student.weights=student.pth", "stages.0.steps=5"]
    torch.save(build_components(load_recipe(toy)).student.state_dict(), "student.pth")
    entered = _files_entered(lambda: build_components(load_recipe(toy, "longer", changes)))
    assert {file for file in entered if not file.startswith(OBJECTS)} == _path_in_the_map()
    assert len(_path_in_the_map()) <= 12
