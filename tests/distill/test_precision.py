"""Precision, memory format and compilation: the same stage, computed in another way."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, RecipeError, Stage, Task
from compresskit.distill.precision import Precision
from compresskit.errors import CheckpointError, TrainingError


@pytest.fixture
def fit(maps, convolutions, convolutions_stage):
    """A function that distils one network of convolutions into another and returns the result."""

    def fit(teacher=None, student=None, **options):
        models = teacher or convolutions(1), student or convolutions(2)
        return ProgressiveDistiller(*models, [convolutions_stage], device="cpu", **options).fit(maps)

    return fit


@pytest.mark.usefixtures("quick_compile")
def test_compiled_models_are_tapped_even_if_their_class_was_compiled_before_without_hooks(
    maps, convolutions, fit, term_values
):
    teacher, student = convolutions(1), convolutions(2)
    torch.compile(teacher.eval())(maps[0][0])
    torch.compile(student)(maps[0][0])
    late = copy.deepcopy(student.late.state_dict())
    plain = fit(copy.deepcopy(teacher), copy.deepcopy(student))
    compiled = fit(teacher, student, compile=True)
    torch.testing.assert_close(term_values(compiled), term_values(plain), rtol=1e-4, atol=1e-5)
    for name, value in student.late.state_dict().items():  # nothing ran behind the last tap
        assert torch.equal(value, late[name])
    assert not any(module._forward_hooks for module in student.modules())


@pytest.mark.usefixtures("quick_compile")
def test_a_model_that_is_not_one_graph_is_refused(convolutions, fit):
    class Broken(convolutions):
        def forward(self, x):
            torch._dynamo.graph_break()
            return super().forward(x)

    with pytest.raises(RecipeError, match="compile: the student is no one graph; leave compile off"):
        fit(student=Broken(2), compile=True)


@pytest.mark.usefixtures("quick_compile")
def test_a_compiler_that_does_not_work_is_not_reported_as_a_graph_break(monkeypatch, fit):
    def backend(*_):
        raise RuntimeError("no g++")

    monkeypatch.setattr(torch, "compile", partial(torch.compile.func, backend=backend))
    with pytest.raises(RecipeError, match=r"the teacher cannot be compiled here; leave compile off \(no g"):
        fit(compile=True)


@pytest.mark.usefixtures("quick_compile")
def test_a_model_that_makes_a_new_graph_each_time_continues_uncompiled(convolutions, fit, term_values):
    class Counts(convolutions):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x)

    few = torch._dynamo.config.patch(recompile_limit=2)
    with few, pytest.warns(UserWarning, match="each batch makes another graph of the student"):
        counted = fit(student=Counts(2), compile=True)
    torch.testing.assert_close(term_values(counted), term_values(fit()), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_whole_compiler_gives_the_same_losses(fit, term_values):
    torch._dynamo.reset()
    torch.testing.assert_close(term_values(fit(compile=True)), term_values(fit()), rtol=1e-4, atol=1e-5)


def test_channels_last_is_a_layout_inside_the_run_only(convolutions, fit, term_values):
    teacher, student = convolutions(1), convolutions(2)
    result = fit(teacher, student, memory_format="channels_last")
    torch.testing.assert_close(term_values(result), term_values(fit()), rtol=1e-4, atol=1e-5)
    assert True in teacher.channels_last
    assert student.first.weight.is_contiguous()
    assert not student.first.weight.is_contiguous(memory_format=torch.channels_last)


def strides(model):
    return {name: tensor.stride() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("own", [torch.contiguous_format, torch.channels_last])
def test_every_weight_has_its_own_layout_again_after_the_run(maps, own, convolutions):
    class Deep(convolutions):
        """A network with a volume, which has no such layout, and kernels whose layout is both at once."""

        def __init__(self, seed):
            super().__init__(seed)
            self.volume = nn.Conv3d(1, 1, 1)
            self.point, self.depth = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, groups=4, padding=1)

        def forward(self, x):
            return {"y": self.depth(self.point(self.volume(super().forward(x)["y"][:, None])[:, 0]))}

    student = Deep(2)
    for layer in (student.first, student.point, student.depth):
        layer.to(memory_format=own)
    before = strides(student)
    stage = Stage("s", tasks=[Task("mse", student=".@out.y")], steps=2, ema=0.5)
    distiller = ProgressiveDistiller(None, student, [stage], device="cpu", memory_format="channels_last")
    average = distiller.fit(maps).student
    assert average is not student
    assert strides(student) == strides(average) == before


def test_bf16_forwards_keep_weights_in_float32(teacher, student, batches):
    stage = Stage("s", matches=[Match("3")], tasks=[Task("cross_entropy")], steps=2)
    history = ProgressiveDistiller(teacher, student, [stage], precision="bf16").fit(batches).history
    assert all(p.dtype == torch.float32 for p in student.parameters())
    assert len(history) == 2


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_nearly_the_same_in_float32_weights(precision, fit_perceptron, term_values):
    half, full = fit_perceptron(precision), fit_perceptron("fp32")
    torch.testing.assert_close(term_values(half), term_values(full), rtol=0.05, atol=0.01)
    assert not torch.equal(term_values(half), term_values(full))
    assert {parameter.dtype for parameter in half.student.parameters()} == {torch.float32}


def test_a_scale_that_is_too_large_is_lowered_and_its_steps_are_skipped(
    monkeypatch, perceptron, fit_perceptron, term_values
):
    monkeypatch.setattr(
        "compresskit.distill.training.loop.GradScaler", partial(torch.amp.GradScaler, init_scale=2.0**30)
    )
    first = perceptron(2)[0].weight
    weights = []
    result = fit_perceptron("fp16", steps=40, evaluate=lambda model: weights.append(model[0].weight.clone()) or {})
    assert all(torch.isfinite(parameter).all() for parameter in result.student.parameters())
    assert not torch.equal(weights[0], first)
    assert term_values(result)[-1, -1] < term_values(result)[0, -1]


def test_fp16_that_is_not_finite_at_any_scale_is_an_error(vectors, fit_perceptron):
    inputs, targets = vectors[0]
    with pytest.raises(TrainingError, match="stage 's', step"):
        fit_perceptron("fp16", steps=100, batches=[(inputs * 1e30, targets)])


def test_a_run_in_fp16_resumes_exactly(tmp_path, fit_perceptron, interrupts_second_call):
    whole = fit_perceptron("fp16")
    with pytest.raises(InterruptedError):
        fit_perceptron("fp16", evaluate=interrupts_second_call, out=tmp_path)
    resumed = fit_perceptron("fp16", out=tmp_path)
    for ours, theirs in zip(resumed.student.parameters(), whole.student.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(CheckpointError, match="its precision differs"):
        fit_perceptron("bf16", out=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("fp61",), "precision: unknown 'fp61'; did you mean 'fp16'"),
        (("fp32", "yes"), "compile must be true, false or auto, got 'yes'"),
        (("fp32", False, "chanels_last"), "memory_format: unknown 'chanels_last'; did you mean 'channels_last'?"),
    ],
)
def test_an_unknown_value_is_refused_with_the_nearest(options, message):
    with pytest.raises(RecipeError) as error:
        Precision(*options)
    assert message in str(error.value)


def test_tf32_is_refused_without_a_gpu(perceptron):
    stage = Stage("s", tasks=[Task("mse")], steps=1)
    with pytest.raises(RecipeError, match="tf32 is a GPU's, and this run is on cpu"):
        ProgressiveDistiller(None, perceptron(1), [stage], device="cpu", precision="tf32")
