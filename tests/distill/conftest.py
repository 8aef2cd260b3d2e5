"""Models, batches and helpers for several folders of engine tests. A folder or file may override a model or batches."""

from functools import partial

import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, Stage, Task


@pytest.fixture
def state():
    """A function that copies a model's state."""
    return lambda model: {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def changed():
    """A function (earlier state, model) that returns the names of the tensors that have changed."""
    return lambda before, model: {
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }


@pytest.fixture
def marks():
    """A function that returns everything that a run could leave behind on a model, besides its trained values."""

    def marks(model, *, gradients=True):
        modules = [
            (name, module.training, len(module._forward_hooks), len(module._forward_pre_hooks), set(vars(module)))
            for name, module in model.named_modules()
        ]
        return modules + [(name, p.requires_grad, gradients and p.grad is None) for name, p in model.named_parameters()]

    return marks


@pytest.fixture
def sgd():
    """A plain optimizer, so that a step can be computed by hand."""
    return {"_target_": "torch.optim.SGD", "lr": 0.1}


@pytest.fixture
def sgd_with_momentum():
    """An optimizer with a state."""
    return {"_target_": "torch.optim.SGD", "lr": 0.05, "momentum": 0.9}


@pytest.fixture
def losses(sgd):
    """A function that trains for three steps on one batch and returns the sum of the terms at each step."""

    def fit(teacher, student, *matches, inputs):
        stage = Stage("s", matches=matches, steps=3, optimizer=sgd)
        history = ProgressiveDistiller(teacher, student, [stage]).fit([inputs]).history
        return [sum(term["value"] for term in record["terms"].values()) for record in history]

    return fit


@pytest.fixture
def term_values():
    """A function that returns the values of a result's terms as a tensor: a row for each step."""
    return lambda result: torch.tensor(
        [[term["value"] for term in record["terms"].values()] for record in result.history]
    )


@pytest.fixture
def frequent_checkpoints(monkeypatch):
    """Checkpoints after every step."""
    monkeypatch.setattr("compresskit.distill.session.run_folder.CHECKPOINT_SECONDS", 0.0)


class _FailingLoader:
    def __init__(self, batches, count):
        self.batches, self.left = batches, count

    def __iter__(self):
        for batch in self.batches:
            self.left -= 1
            if self.left < 0:
                raise SystemExit
            yield batch


@pytest.fixture
def failing_loader():
    """A function (batches, count) that returns a loader which raises SystemExit after as many batches of all epochs."""
    return _FailingLoader


class _InterruptsSecondCall:
    calls = 0

    def __call__(self, _student):
        self.calls += 1
        if self.calls == 2:
            raise InterruptedError
        return {}


@pytest.fixture
def interrupts_second_call():
    """An evaluation that raises InterruptedError when it is called for the second time."""
    return _InterruptsSecondCall()


@pytest.fixture
def quick_compile(monkeypatch):
    """The compiler without its last part, which needs a C++ compiler and most of the time."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    yield
    torch._dynamo.reset()


def _classifier(width, seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 5),
    )


@pytest.fixture
def net():
    """A function (width, seed) that builds a small classifier of images."""
    return _classifier


@pytest.fixture
def teacher():
    """A classifier of images."""
    return _classifier(6, seed=1)


@pytest.fixture
def student():
    """A narrower classifier of images."""
    return _classifier(4, seed=2)


@pytest.fixture
def batches():
    """Batches of images and labels; the epoch ends in a smaller batch."""
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(n, 3, 8, 8, generator=generator), torch.randint(0, 5, (n,), generator=generator))
        for n in (6, 6, 6, 3)
    ]


class _Convolutions(nn.Module):
    """Layers with and without in-place operations, and one after the last tap of `convolutions_stage`."""

    def __init__(self, seed, width=4):
        torch.manual_seed(seed)
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.late = nn.BatchNorm2d(width)
        self.channels_last: set[bool] = set()

    def forward(self, x):
        if not torch.compiler.is_compiling():
            self.channels_last.add(x.is_contiguous(memory_format=torch.channels_last))
        return {"y": self.late(self.second(self.act(self.norm(self.first(x)))))}


@pytest.fixture
def convolutions():
    """The class, with a seed as its argument, of a network from an image to a map."""
    return _Convolutions


@pytest.fixture
def convolutions_stage(sgd):
    """A stage with taps before and after an in-place operation of `convolutions`."""
    matches = [Match("norm"), Match("second@in"), Match("second", loss="l1")]
    tasks = [Task("mse", student="second")]
    return Stage("s", matches=matches, tasks=tasks, steps=7, optimizer=sgd | {"lr": 0.02})


@pytest.fixture
def maps():
    """Batches of images and of maps for `convolutions`."""
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(n, 3, 8, 8, generator=draw), torch.randn(n, 4, 8, 8, generator=draw)) for n in (4, 4, 3)]


def _perceptron(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))


@pytest.fixture
def perceptron():
    """A function of a seed that builds a network from a vector to a vector."""
    return _perceptron


@pytest.fixture
def vectors():
    """Batches of vectors and of their targets for `perceptron`."""
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 6, generator=draw), torch.randn(8, 3, generator=draw)) for _ in range(3)]


@pytest.fixture
def fit_perceptron(vectors, sgd):
    """A function that distils a perceptron in two equal stages and returns the result."""

    def fit(precision, *, steps=8, evaluate=None, batches=vectors, **options):
        matches, optimizer = [Match("0"), Match(".")], sgd | {"lr": 0.02}
        stage = Stage("s", matches=matches, tasks=[Task("mse")], steps=steps, optimizer=optimizer, clip=1.0)
        teacher, student = _perceptron(1), _perceptron(2)
        distiller = ProgressiveDistiller(teacher, student, [stage, stage], device="cpu", precision=precision, **options)
        return distiller.fit(batches, evaluate=evaluate)

    return fit
