"""What the README and the documentation show is true: examples run, excerpts are excerpts, links lead somewhere."""

import re
import sys
from pathlib import Path

import pytest

from compresskit import cli
from compresskit.losses import CATALOGUE
from zoo.raw.photographs.photographs import BUNDLED

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
INCLUDED = re.compile(r'--8<-- "(.+)"\n|--8<--\n(.+)\n--8<--\n')  # the documentation's two ways to show a file


def _blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def _pages_with(language):
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES if _blocks(page, language)]


@pytest.mark.parametrize("page", _pages_with("python"))
def test_python_examples_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "example"}
    for number, code in enumerate(_blocks(page, "python"), start=1):
        if not INCLUDED.fullmatch(code):
            exec(compile(code, f"{page.name}, example {number}", "exec"), names)


def test_the_task_of_ones_own_runs_as_the_recipe_beside_it(tmp_path, monkeypatch, capsys):
    page = ROOT / "docs" / "measure-your-task.md"
    module = [
        code for code in _blocks(page, "python") if re.search(r"^class (Discs|Segmentation|Threshold)", code, re.M)
    ]
    (recipe,) = [text for text in _blocks(page, "text") if text.startswith("name: discs")]
    monkeypatch.chdir(tmp_path)
    Path("discs.py").write_text("\n".join(module), encoding="utf-8")
    Path("discs.yaml").write_text(recipe, encoding="utf-8")
    short = ["--set", "pretrain.0.steps=2", "--set", "stages.0.steps=2"]
    assert cli.main(["run", "discs.yaml", "--allow", "discs", *short]) == 0
    assert cli.main(["evaluate", "runs/discs", "--allow", "discs"]) == 0
    printed = capsys.readouterr().out
    sys.modules.pop("discs")
    shown = [line for text in _blocks(page, "text") for line in text.splitlines()]
    for heading in ("IOU (%)   AREA-ERROR (px)   parameters     MACs", "IOU (%)   AREA-ERROR (px)   minus student"):
        assert heading in printed
        assert any(heading in line for line in shown)
    for condition in ("as in training, 60 samples", "more noise, 60 samples"):
        assert condition in printed.splitlines()
        assert condition in shown


def test_python_files_that_are_shown_are_the_examples_that_the_integration_tests_run():
    blocks = [code for page in PAGES for code in _blocks(page, "python")]
    shown = [ROOT / (included[1] or included[2]) for included in map(INCLUDED.fullmatch, blocks) if included]
    tests = (ROOT / "tests" / "integrations" / "test_frameworks.py").read_text(encoding="utf-8")
    assert sorted(shown) == EXAMPLES
    assert [example for example in EXAMPLES if f'"{example.stem}"' not in tests] == []


@pytest.mark.parametrize("page", _pages_with("yaml"))
def test_yaml_is_an_excerpt_of_a_shipped_recipe(page):
    shipped = [recipe.read_text(encoding="utf-8") for recipe in RECIPES]
    for block in _blocks(page, "yaml"):
        included = INCLUDED.fullmatch(block)
        assert ROOT / included[1] in RECIPES if included else any(block in recipe for recipe in shipped), block


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_links_to_files_lead_to_files(page):
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", prose)
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_table_of_losses_lists_the_catalogue():
    page = (ROOT / "docs" / "concepts" / "matches.md").read_text(encoding="utf-8")
    table = page.partition("| loss | compares |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(CATALOGUE)


@pytest.mark.parametrize("side", BUNDLED)
def test_the_table_of_bundled_photographs_names_them_all(side):
    page = (ROOT / "docs" / "pynet-qxq.md").read_text(encoding="utf-8")
    listed = re.search(rf"^\| `{side}` \| (.*) \|$", page, re.MULTILINE)[1]
    assert set(re.findall(r"(\w+)(?: \([^)]*\))?(?:, |$)", listed)) == {
        Path(file).stem.partition("_")[0] for file in BUNDLED[side]
    }
