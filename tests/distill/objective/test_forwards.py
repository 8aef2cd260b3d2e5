"""The forwards of a step, and the trace before it: models that write into inputs, run other branches or hide graphs."""

import functools

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from compresskit import Match, ProgressiveDistiller, Stage, TapError

X = torch.randn(4, 3)


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.head = nn.Linear(3, width), nn.Linear(width, 2)

    def forward(self, x):
        return self.head(self.first(x))


class Centres(Net):
    """A model that writes into its input."""

    def forward(self, x):
        x -= 1.0
        return super().forward(x)


def test_a_model_that_writes_into_its_inputs_changes_them_neither_for_others_nor_for_later_steps(losses):
    teacher, student, inputs = Centres(4), Centres(4), X.clone()
    with torch.no_grad():
        expected = (student(X.clone()) - teacher(X.clone())).square().mean().item()
    values = losses(teacher, student, Match("."), inputs=inputs)
    assert values[0] == pytest.approx(expected, rel=1e-5)
    assert values[2] < values[1] < values[0]
    assert torch.equal(inputs, X)


class Auxiliary(Net):
    """A model with a branch that runs in training mode only."""

    def __init__(self, width):
        super().__init__(width)
        self.branch = nn.Linear(3, 2)

    def forward(self, x):
        return (super().forward(x), self.branch(x)) if self.training else super().forward(x)


def test_a_branch_that_runs_in_training_mode_only_learns(losses):
    values = losses(Net(4), Auxiliary(4), Match(".@out[1]", "."), Match("branch", "."), inputs=X)
    assert values[2] < values[0]


def test_a_teacher_under_inference_mode_can_be_imitated():
    class Sealed(nn.Linear):
        @torch.inference_mode()
        def forward(self, x):
            return super().forward(x)

    stage = Stage("s", matches=[Match(".")], steps=1)
    ProgressiveDistiller(Sealed(3, 3), nn.Linear(3, 3), [stage]).fit([X])


class Detached(Net):
    def __init__(self, width):
        super().__init__(width)
        self.aside = nn.Identity()

    def forward(self, x):
        self.aside(self.first(x).detach())
        return super().forward(x)


@pytest.mark.parametrize("tap", ["aside", ".@in"])
def test_a_tap_that_no_parameter_feeds_is_an_error_also_beside_others(tap, losses):
    with pytest.raises(TapError, match="no gradient reaches a parameter from this tap"):
        losses(Detached(4), Detached(4), Match(tap), Match("."), inputs=X)


class Checkpointed(nn.Module):
    """A model whose block runs under reentrant checkpointing, which keeps no graph of it."""

    def __init__(self, how):
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Tanh()), nn.Linear(3, 2)
        calls = {"module": self.block, "method": self.block.forward, "closure": lambda x: 2 * self.block(x)}
        self.how = {**calls, "partial": functools.partial(self.block.__call__)}[how]

    def forward(self, x):
        return self.head(checkpoint(self.how, self.stem(x), use_reentrant=True))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize("how", ["module", "method", "closure", "partial"])
def test_parameters_under_reentrant_checkpointing_feed_the_modules_after_them(how):
    stage = Stage("s", matches=[Match(".")], train="upstream", steps=1)
    teacher = nn.Sequential(nn.Linear(3, 2))
    plan = ProgressiveDistiller(teacher, Checkpointed(how), [stage]).plan(X)
    assert {name.partition(".")[0] for name in plan.stages[0].trains} == {"stem", "block", "head"}
