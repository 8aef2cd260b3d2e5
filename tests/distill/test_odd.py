"""Odd models: what they do to themselves or to their inputs must neither go wrong in silence nor fail in riddles."""

import functools

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from compresskit import DataError, Match, ProgressiveDistiller, RecipeError, Stage, TapError

X = torch.randn(4, 3)


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.head = nn.Linear(3, width), nn.Linear(width, 2)

    def forward(self, x):
        return self.head(self.first(x))


def losses(teacher, student, *matches, inputs=X, **options):
    stage = Stage("s", matches=matches, steps=3, optimizer={"_target_": "torch.optim.SGD", "lr": 0.1})
    history = ProgressiveDistiller(teacher, student, [stage], **options).fit([inputs]).history
    return [sum(term["value"] for term in record["terms"].values()) for record in history]


class Centres(Net):
    """Writes into its input."""

    def forward(self, x):
        x -= 1.0
        return super().forward(x)


def test_a_model_that_writes_into_its_inputs_spoils_them_neither_for_others_nor_for_later_steps():
    teacher, student, inputs = Centres(4), Centres(4), X.clone()
    with torch.no_grad():
        expected = (student(X.clone()) - teacher(X.clone())).square().mean().item()
    found = losses(teacher, student, Match("."), inputs=inputs)
    assert found[0] == pytest.approx(expected, rel=1e-5)
    assert found[2] < found[1] < found[0]
    assert torch.equal(inputs, X)


class Detached(Net):
    def __init__(self, width):
        super().__init__(width)
        self.aside = nn.Identity()

    def forward(self, x):
        self.aside(self.first(x).detach())
        return super().forward(x)


@pytest.mark.parametrize("tap", ["aside", ".@in"])
def test_a_term_from_which_no_gradient_can_flow_is_an_error_also_beside_others(tap):
    with pytest.raises(TapError, match="no gradient reaches a parameter from this tap"):
        losses(Detached(4), Detached(4), Match(tap), Match("."))


class Checkpointed(nn.Module):
    """Its blocks run under reentrant checkpointing, which keeps no graph of them."""

    def __init__(self, how):
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Tanh()), nn.Linear(3, 2)
        calls = {"module": self.block, "method": self.block.forward, "closure": lambda x: 2 * self.block(x)}
        self.how = {**calls, "partial": functools.partial(self.block.__call__)}[how]

    def forward(self, x):
        return self.head(checkpoint(self.how, self.stem(x), use_reentrant=True))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize("how", ["module", "method", "closure", "partial"])
def test_what_runs_under_reentrant_checkpointing_is_found_to_feed_what_comes_behind(how):
    stage = Stage("s", matches=[Match(".")], train="upstream", steps=1)
    teacher = nn.Sequential(nn.Linear(3, 2))
    plan = ProgressiveDistiller(teacher, Checkpointed(how), [stage]).plan(X)
    assert {name.partition(".")[0] for name in plan.stages[0].trains} == {"stem", "block", "head"}


def meta():
    with torch.device("meta"):
        return Net(4)


def inference():
    with torch.inference_mode():
        return Net(4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (meta, "student: first.weight is on the meta device and has no values"),
        (inference, "student: first.weight was made in torch.inference_mode"),
        (lambda: nn.Sequential(nn.LazyLinear(2)), "student: 0.weight has no shape yet (a lazy module)"),
    ],
)
def test_a_model_without_usable_weights_is_refused_at_once(make, message):
    with pytest.raises(RecipeError) as caught:
        losses(Net(4), make(), Match("."))
    assert message in str(caught.value)


def test_a_teacher_that_shares_a_norm_with_its_student_is_refused():
    norm = nn.BatchNorm1d(2, affine=False)
    with pytest.raises(RecipeError, match="shares parameters or buffers with the student"):
        losses(nn.Sequential(nn.Linear(3, 2), norm), nn.Sequential(nn.Linear(3, 2), norm), Match("."))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_fit_trains_also_where_gradients_are_off(context):
    teacher, student = Net(4), Net(3)
    with context():
        found = losses(teacher, student, Match("."))
    assert found[2] < found[0]


class Auxiliary(Net):
    """Has a branch that runs in training mode only."""

    def __init__(self, width):
        super().__init__(width)
        self.branch = nn.Linear(3, 2)

    def forward(self, x):
        return (super().forward(x), self.branch(x)) if self.training else super().forward(x)


def test_a_branch_that_runs_in_training_mode_only_learns_too():
    found = losses(Net(4), Auxiliary(4), Match(".@out[1]", "."), Match("branch", "."))
    assert found[2] < found[0]


def test_models_in_double_precision_get_adapters_in_it():
    found = losses(Net(4).double(), Net(3).double(), Match("first"), inputs=X.double())
    assert found[2] < found[0]


def test_a_plan_of_a_loader_says_that_it_wants_a_batch():
    distiller = ProgressiveDistiller(Net(4), Net(4), [Stage("s", matches=[Match(".")], steps=1)])
    with pytest.raises(DataError, match=r"one batch is wanted, got a DataLoader; if it gives batches: next\(iter"):
        distiller.plan(DataLoader([X]))
