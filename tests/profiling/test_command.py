"""`compresskit profile`: arguments in, a table, files and an exit code out."""

import csv
import json
from pathlib import Path

import pytest
import torch

from compresskit import cli

CONV = "torch.nn.Conv2d(3, 4, 3)"
MACS = 4 * 6 * 6 * 27


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _profile(*arguments):
    return cli.main(["profile", *arguments])


def test_one_model_prints_its_table_its_totals_and_the_convention(capsys):
    assert _profile(CONV, "--input", "1x3x8x8") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out  # no colours in a pipe
    assert "Conv2d, 1x3x8x8 float32" in out
    assert f"MACs: {MACS:,}, {MACS / 64:,.0f} a pixel" in out
    assert "cross-check: torch agrees; thop agrees; fvcore agrees" in out
    assert "1 MAC = 1 multiply + 1 add; FLOPs = 2 x MACs" in out


def test_several_models_print_a_comparison(capsys):
    assert _profile(CONV, "torch.nn.Conv2d(3, 2, 3)", "--input", "1x3x8x8", "--no-check") == 0
    out = capsys.readouterr().out
    assert CONV in out  # the class alone would not tell them apart
    assert "50 %, 2x fewer" in out
    assert "cross-check" not in out


def test_files_hold_exact_numbers(capsys):
    files = ["--json", "a.json", "--csv", "a.csv", "--markdown", "a.md"]
    assert _profile("torch.nn.Sequential", CONV, "--input", "1x3x8x8", "--no-check", *files) == 0
    written = json.loads(Path("a.json").read_text())
    assert written["schema"] == 1
    assert written["convention"].startswith("1 MAC = 1 multiply + 1 add")
    one = written["models"]["Conv2d"]
    assert (one["totals"]["macs"], one["totals"]["parameters"], one["route"]) == (MACS, 4 * 27 + 4, "meta")
    assert {"layers", "operations", "uncounted", "crosscheck", "latency", "memory", "warnings", "inputs"} <= one.keys()
    rows = list(csv.DictReader(Path("a.csv").read_text().splitlines()))
    assert [(row["model"], row["macs"]) for row in rows] == [("Sequential", "0"), ("Conv2d", str(MACS))]
    assert rows[1]["output_shape"] == "1x4x6x6"
    assert "| MACs | 0 | 3,888 |" in Path("a.md").read_text()
    capsys.readouterr()
    assert _profile(CONV, "--input", "1x3x8x8", "--no-check", "--json", "b.json", "--markdown", "b.md") == 0
    assert json.loads(Path("b.json").read_text())["totals"]["flops"] == 2 * MACS
    assert "| Conv2d | Conv2d | 1x4x6x6 |" in Path("b.md").read_text()


def test_modules_are_shown_to_a_depth_or_the_largest_first(capsys):
    model = "torchvision.models.resnet18"
    arguments = ("--input", "1x3x32x32", "--no-check")
    assert _profile(model, *arguments, "--depth", "2") == 0
    assert "    conv1" not in capsys.readouterr().out.partition("layer1")[0]
    assert _profile(model, *arguments, "--depth", "9", "--sort", "parameters", "--top", "2") == 0
    table = capsys.readouterr().out.partition("parameters:")[0]
    assert [line.split()[0] for line in table.splitlines()[4:7]] == ["ResNet", "layer4", "layer4.1"]


def test_strict_exits_with_1_if_an_operation_is_uncounted(capsys):
    assert _profile("torch.nn.Bilinear(2, 3, 4)", "--input", "5x2", "--input", "5x3", "--no-check", "--strict") == 1
    out, err = capsys.readouterr()
    assert "uncounted: _trilinear (1 call)" in out
    assert err == "compresskit: --strict: _trilinear is not counted\n"
    assert _profile(CONV, "--input", "1x3x8x8", "--strict") == 0


def test_megapixels_and_a_batch_in_a_file(capsys):
    torch.save([torch.rand(1, 3, 8, 8)], "batch.pt")
    assert _profile("torch.nn.Conv2d(3, 1, 1)", "--input", "@batch.pt", "--megapixels", "12", "--no-check") == 0
    assert "MACs: 36,000,000, 3 a pixel" in capsys.readouterr().out


def test_a_recipe_provides_the_inputs_of_its_models(capsys):
    assert _profile("digits#student", "--no-check") == 0
    out = capsys.readouterr().out
    assert "counted on the meta device" in out
    assert _profile("digits#teacher", "digits#student", "--no-check", "--latency", "--max-seconds", "0.1") == 0
    assert "latency, median" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([CONV], "Conv2d: no inputs were given; its signature is forward(input)"),
        ([CONV, "--input", "1x3x8y8"], "--input '1x3x8y8': expected a shape such as 1x4x64x64"),
        ([CONV, "--input", "1x3x8x8:float33"], "--input '1x3x8x8:float33': no type 'float33'; did you mean 'float32'"),
        ([CONV, "--input", "@none.pt"], "--input @none.pt: there is no such file"),
        ([CONV, "--input", "1x3x8x8", "--sort", "mac"], "--sort: no order 'mac'; did you mean 'macs'"),
        ([CONV, "--input", "1x3x8x8", "--device", "abacus"], "--device abacus: "),
        ([CONV, "--input", "1x3x8x8", "--megapixels", "0"], "--megapixels must be more than 0, got 0"),
        (
            [CONV, "--input", "1x3x8x8", "--no-check", "--json", "no/a.json"],
            "no/a.json cannot be written: there is no folder no",
        ),
        ([CONV, CONV, "--input", "1x3x8x8"], "MODEL 'torch.nn.Conv2d(3, 4, 3)' is named twice"),
        (["torch.nn.Conv3", "--input", "1x3"], "torch.nn.Conv3: torch.nn has no 'Conv3'; did you mean 'Conv3d'"),
        (
            ["torch.nn.Conv2d(3, 4, kernel=3)", "--input", "1x3"],
            "torch.nn.Conv2d(3, 4, kernel=3): torch.nn.Conv2d has no",
        ),
        (["digits#studnet"], "digits#studnet: the recipe has no model 'studnet'; did you mean 'student'?"),
        (["nope.yaml#student"], "no recipe 'nope.yaml'"),
        (
            ["torch.nn.Linear(1, print(2))", "--input", "1"],
            "MODEL 'torch.nn.Linear(1, print(2))': expected a dotted name",
        ),
    ],
)
def test_a_mistake_of_the_user_prints_one_to_three_lines_and_exits_with_2(capsys, arguments, message):
    assert _profile(*arguments) == 2
    _, err = capsys.readouterr()
    assert err.startswith(f"compresskit: {message}")
    assert len(err.splitlines()) <= 3


def test_a_link_is_written_through_and_not_replaced(capsys):
    Path("link.json").symlink_to("target.json")
    assert _profile(CONV, "--input", "1x3x8x8", "--no-check", "--json", "link.json") == 0
    assert Path("link.json").is_symlink()  # /dev/stdout is one, and must stay
    assert json.loads(Path("target.json").read_text())["totals"]["macs"] == MACS
    capsys.readouterr()
