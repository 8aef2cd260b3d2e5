"""Docstrings open as they do in the libraries that people know: functions with a verb, the rest with a noun."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(file for package in ("compresskit", "zoo") for file in (ROOT / package).rglob("*.py"))
CLAUSES = {"What", "Whether", "Of", "As", "Inside", "Where", "How", "All", "That", "Which"}


def docstrings(file: Path) -> list[tuple[int, str]]:
    """Return the line and text of every string that stands as a statement: docstrings, and those of attributes."""
    return [
        (node.lineno, node.value.value)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_open_with_a_verb_or_a_noun_and_not_with_a_clause(file):
    clauses = [f"{file.name}:{line}: {text[:60]}" for line, text in docstrings(file) if text.split()[0] in CLAUSES]
    assert not clauses


@pytest.mark.parametrize("room", sorted({file.parent for file in FILES}), ids=lambda room: str(room.relative_to(ROOT)))
def test_a_room_lists_all_its_files(room):
    text = (room / "__init__.py").read_text()
    names = {file.stem for file in room.glob("*.py")} - {"__init__", "__main__"}
    names |= {folder.name for folder in room.iterdir() if (folder / "__init__.py").exists()}
    assert not {name for name in names if not re.search(rf"[`.]{name}/?`", text)}


@pytest.mark.parametrize("room", sorted({file.parent for file in FILES}), ids=lambda room: str(room.relative_to(ROOT)))
def test_a_room_holds_few_files_and_a_file_few_lines(room):
    files = list(room.glob("*.py"))
    assert len(files) <= 17
    assert not [file.name for file in files if len(file.read_text().splitlines()) > 400]
