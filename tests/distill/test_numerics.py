"""Precision, layout and compilation: the same stage, computed in another way."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, RecipeError, Stage, Task
from compresskit.distill.precision import Precision
from compresskit.distill.training import autotune
from compresskit.distill.training.optimizers import make_optimizer
from compresskit.errors import CheckpointError, TrainingError

SGD = {"_target_": "torch.optim.SGD", "lr": 0.02}


class Net(nn.Module):
    """Layers with and without in-place operations, and one of its own after the last tap."""

    def __init__(self, seed, width=4):
        torch.manual_seed(seed)
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.late = nn.BatchNorm2d(width)
        self.strides: set[bool] = set()

    def forward(self, x):
        if not torch.compiler.is_compiling():
            self.strides.add(x.is_contiguous(memory_format=torch.channels_last))
        return {"y": self.late(self.second(self.act(self.norm(self.first(x)))))}


@pytest.fixture
def batches():
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(n, 3, 8, 8, generator=draw), torch.randn(n, 4, 8, 8, generator=draw)) for n in (4, 4, 3)]


@pytest.fixture
def quick_compile(monkeypatch):
    """The compiler without its last part, which takes a C++ compiler and most of the time."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    yield
    torch._dynamo.reset()


def stage(steps=7, **options):
    matches = [Match("norm"), Match("second@in"), Match("second", loss="l1")]
    return Stage("s", matches=matches, tasks=[Task("mse", student="second")], steps=steps, optimizer=SGD, **options)


def fit(batches, teacher=None, student=None, **options):
    distiller = ProgressiveDistiller(teacher or Net(1), student or Net(2), [stage()], device="cpu", **options)
    return distiller.fit(batches)


def losses(result):
    return torch.tensor([[term["value"] for term in record["terms"].values()] for record in result.history])


@pytest.mark.usefixtures("quick_compile")
def test_compiled_models_are_tapped_though_another_of_their_class_was_compiled_without_hooks(batches):
    teacher, student = Net(1), Net(2)
    torch.compile(teacher.eval())(batches[0][0])
    torch.compile(student)(batches[0][0])
    late = copy.deepcopy(student.late.state_dict())
    plain = fit(batches, copy.deepcopy(teacher), copy.deepcopy(student))
    compiled = fit(batches, teacher, student, compile=True)
    torch.testing.assert_close(losses(compiled), losses(plain), rtol=1e-4, atol=1e-5)
    for name, value in student.late.state_dict().items():  # behind the last tap nothing ran
        assert torch.equal(value, late[name])
    assert not any(module._forward_hooks for module in student.modules())


@pytest.mark.usefixtures("quick_compile")
def test_a_model_that_is_no_one_graph_is_an_error_that_says_so(batches):
    class Broken(Net):
        def forward(self, x):
            torch._dynamo.graph_break()
            return super().forward(x)

    with pytest.raises(RecipeError, match="compile: the student is no one graph; leave compile off"):
        fit(batches, student=Broken(2), compile=True)


@pytest.mark.usefixtures("quick_compile")
def test_a_compiler_that_does_not_work_is_not_taken_for_a_graph_break(monkeypatch, batches):
    def backend(*_):
        raise RuntimeError("no g++")

    monkeypatch.setattr(torch, "compile", partial(torch.compile.func, backend=backend))
    with pytest.raises(RecipeError, match=r"the teacher cannot be compiled here; leave compile off \(no g"):
        fit(batches, compile=True)


@pytest.mark.usefixtures("quick_compile")
def test_a_model_that_makes_a_new_graph_each_time_goes_on_as_it_is_written(batches):
    class Counts(Net):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x)

    few = torch._dynamo.config.patch(recompile_limit=2)
    with few, pytest.warns(UserWarning, match="each batch makes another graph of the student"):
        counted = fit(batches, student=Counts(2), compile=True)
    torch.testing.assert_close(losses(counted), losses(fit(batches)), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_whole_compiler_gives_the_same_losses(batches):
    torch._dynamo.reset()
    torch.testing.assert_close(losses(fit(batches, compile=True)), losses(fit(batches)), rtol=1e-4, atol=1e-5)


def test_channels_last_is_a_layout_inside_the_run_only(batches):
    teacher, student = Net(1), Net(2)
    laid_out = fit(batches, teacher, student, memory_format="channels_last")
    torch.testing.assert_close(losses(laid_out), losses(fit(batches)), rtol=1e-4, atol=1e-5)
    assert True in teacher.strides
    assert student.first.weight.is_contiguous()
    assert not student.first.weight.is_contiguous(memory_format=torch.channels_last)


def strides(model):
    return {name: tensor.stride() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("own", [torch.contiguous_format, torch.channels_last])
def test_every_weight_lies_afterwards_as_it_lay_before(batches, own):
    class Deep(Net):
        """With a volume, which has no such layout, and kernels whose layout is both at once."""

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
    averaged = Stage("s", tasks=[Task("mse", student=".@out.y")], steps=2, ema=0.5)
    distiller = ProgressiveDistiller(None, student, [averaged], device="cpu", memory_format="channels_last")
    average = distiller.fit(batches).student
    assert average is not student
    assert strides(student) == strides(average) == before


def vectors():
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 6, generator=draw), torch.randn(8, 3, generator=draw)) for _ in range(3)]


def linear(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))


def fit_linear(precision, *, steps=8, evaluate=None, batches=None, **options):
    one = Stage("s", matches=[Match("0"), Match(".")], tasks=[Task("mse")], steps=steps, optimizer=SGD, clip=1.0)
    distiller = ProgressiveDistiller(linear(1), linear(2), [one, one], device="cpu", precision=precision, **options)
    return distiller.fit(batches or vectors(), evaluate=evaluate)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_nearly_the_same_in_float32_weights(precision):
    half, full = fit_linear(precision), fit_linear("fp32")
    torch.testing.assert_close(losses(half), losses(full), rtol=0.05, atol=0.01)
    assert not torch.equal(losses(half), losses(full))
    assert {parameter.dtype for parameter in half.student.parameters()} == {torch.float32}


def test_a_scale_that_is_too_large_is_lowered_and_its_steps_are_left_out(monkeypatch):
    monkeypatch.setattr(
        "compresskit.distill.training.loop.GradScaler", partial(torch.amp.GradScaler, init_scale=2.0**30)
    )
    first = linear(2)[0].weight
    seen = []
    found = fit_linear("fp16", steps=40, evaluate=lambda model: seen.append(model[0].weight.clone()) or {})
    assert all(torch.isfinite(parameter).all() for parameter in found.student.parameters())
    assert not torch.equal(seen[0], first)
    assert losses(found)[-1, -1] < losses(found)[0, -1]


def test_fp16_that_is_not_finite_at_any_scale_is_an_error():
    inputs, targets = vectors()[0]
    with pytest.raises(TrainingError, match="stage 's', step"):
        fit_linear("fp16", steps=100, batches=[(inputs * 1e30, targets)])


class StopsAtTheSecond:
    calls = 0

    def __call__(self, _):
        self.calls += 1
        if self.calls == 2:
            raise InterruptedError
        return {}


def test_a_run_in_fp16_resumes_exactly(tmp_path):
    whole = fit_linear("fp16")
    with pytest.raises(InterruptedError):
        fit_linear("fp16", evaluate=StopsAtTheSecond(), out=tmp_path)
    resumed = fit_linear("fp16", out=tmp_path)
    for ours, theirs in zip(resumed.student.parameters(), whole.student.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(CheckpointError, match="its precision differs"):
        fit_linear("bf16", out=tmp_path)


def test_auto_takes_what_measured_faster_and_a_resumed_run_obeys(monkeypatch, tmp_path, capsys):
    def compared(candidates, *_):
        other = candidates[1]
        return [1.0, 0.5 if other.precision == "bf16" and not other.compile else 0.99]

    monkeypatch.setattr(autotune, "_compared", compared)
    auto = {"compile": "auto", "memory_format": "auto"}
    distilled = fit_linear("auto", out=tmp_path, **auto)
    told = capsys.readouterr().err
    assert "auto: precision bf16: 2.00 x as fast, taken" in told
    assert "auto: compile true: 1.01 x as fast, left off" in told
    assert torch.equal(losses(distilled), losses(fit_linear("bf16", memory_format="channels_last")))
    monkeypatch.setattr(autotune, "_compared", lambda *_: pytest.fail("measured again"))
    fit_linear("auto", out=tmp_path, **auto)


def test_the_probe_measures_and_leaves_no_mark(batches):
    teacher, student = Net(1), Net(2)
    before = copy.deepcopy(student.state_dict())
    random = torch.get_rng_state()
    distiller = ProgressiveDistiller(teacher, student, [stage()], device="cpu", precision="auto", memory_format="auto")
    notes = []
    found = distiller.resolve_auto(batches[0], note=notes.append)
    assert found.is_resolved
    assert [note.split(":")[1].strip() for note in notes] == ["precision bf16", "memory_format channels_last"]
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert student.training
    assert all(parameter.grad is None for parameter in student.parameters())


def test_what_fails_in_the_probe_is_not_taken_and_leaves_no_gradient(batches):
    class OnlyWide(Net):
        def forward(self, x):
            found = super().forward(x)
            if torch.is_autocast_enabled("cpu"):
                raise ValueError("not in bf16\nat all")
            return found

    notes = []
    student = OnlyWide(2)
    whole = Stage("s", matches=[Match("second")], tasks=[Task("mse", student=".@out.y")], steps=1)
    distiller = ProgressiveDistiller(Net(1), student, [whole], device="cpu", precision="auto")
    assert distiller.resolve_auto(batches[0], note=notes.append).precision == "fp32"
    assert notes == ["auto: precision bf16: not here (not in bf16)"]
    assert all(parameter.grad is None for parameter in student.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("fp61",), "precision: unknown 'fp61'; did you mean 'fp16'"),
        (("fp32", "yes"), "compile must be true, false or auto, got 'yes'"),
        (("fp32", False, "chanels_last"), "memory_format: unknown 'chanels_last'; did you mean 'channels_last'?"),
    ],
)
def test_bad_values_are_answered(options, message):
    with pytest.raises(RecipeError) as error:
        Precision(*options)
    assert message in str(error.value)


def test_tf32_is_refused_where_there_is_no_gpu():
    with pytest.raises(RecipeError, match="tf32 is a GPU's, and this run is on cpu"):
        ProgressiveDistiller(
            None, linear(1), [Stage("s", tasks=[Task("mse")], steps=1)], device="cpu", precision="tf32"
        )


@pytest.mark.parametrize(
    ("optimizer", "fused"),
    [
        (None, True),
        (SGD, True),
        ({**SGD, "foreach": True}, None),
        ({**SGD, "fused": False}, False),
        ({"_target_": "torch.optim.Rprop"}, None),
    ],
)
def test_an_optimizer_is_fused_where_it_can_be_and_nothing_else_was_asked_for(optimizer, fused):
    one = Stage("s", tasks=[Task("mse")], steps=1, optimizer=optimizer)
    made = make_optimizer(one, dict(linear(1).named_parameters()), {}, (), fused=True)
    assert made.param_groups[0].get("fused") is fused
