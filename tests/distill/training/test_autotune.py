"""The measurement that replaces "auto"."""

import copy

import pytest
import torch

from compresskit import Match, ProgressiveDistiller, Stage, Task
from compresskit.distill.training import autotune


def test_auto_uses_the_faster_candidate_and_a_resumed_run_the_same(
    monkeypatch, tmp_path, capsys, fit_perceptron, term_values
):
    def compared(candidates, *_):
        other = candidates[1]
        return [1.0, 0.5 if other.precision == "bf16" and not other.compile else 0.99]

    monkeypatch.setattr(autotune, "_compared", compared)
    auto = {"compile": "auto", "memory_format": "auto"}
    result = fit_perceptron("auto", out=tmp_path, **auto)
    notes = capsys.readouterr().err
    assert "auto: precision bf16: 2.00 x as fast, taken" in notes
    assert "auto: compile true: 1.01 x as fast, left off" in notes
    assert torch.equal(term_values(result), term_values(fit_perceptron("bf16", memory_format="channels_last")))
    monkeypatch.setattr(autotune, "_compared", lambda *_: pytest.fail("measured again"))
    fit_perceptron("auto", out=tmp_path, **auto)


def test_the_measurement_leaves_nothing_on_the_models(convolutions, convolutions_stage, maps):
    teacher, student = convolutions(1), convolutions(2)
    before = copy.deepcopy(student.state_dict())
    random = torch.get_rng_state()
    distiller = ProgressiveDistiller(
        teacher, student, [convolutions_stage], device="cpu", precision="auto", memory_format="auto"
    )
    notes = []
    assert distiller.resolve_auto(maps[0], note=notes.append).is_resolved
    assert [note.split(":")[1].strip() for note in notes] == ["precision bf16", "memory_format channels_last"]
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert student.training
    assert all(parameter.grad is None for parameter in student.parameters())


def test_a_candidate_that_fails_is_left_off_and_leaves_no_gradient(convolutions, maps):
    class OnlyWide(convolutions):
        def forward(self, x):
            output = super().forward(x)
            if torch.is_autocast_enabled("cpu"):
                raise ValueError("not in bf16\nat all")
            return output

    notes = []
    student = OnlyWide(2)
    stage = Stage("s", matches=[Match("second")], tasks=[Task("mse", student=".@out.y")], steps=1)
    distiller = ProgressiveDistiller(convolutions(1), student, [stage], device="cpu", precision="auto")
    assert distiller.resolve_auto(maps[0], note=notes.append).precision == "fp32"
    assert notes == ["auto: precision bf16: not here (not in bf16)"]
    assert all(parameter.grad is None for parameter in student.parameters())


def test_the_former_name_of_resolve_auto_works():
    assert ProgressiveDistiller.settle is ProgressiveDistiller.resolve_auto
