"""Adapters: the linear map, every pair of kinds, sizes that change from batch to batch, and pairs that are refused."""

from functools import partial

import pytest
import torch
from torch import Size, nn

from compresskit import Match, ProgressiveDistiller, RecipeError, ShapeError, Stage
from compresskit.distill.objective.adapters import build_adapter
from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.models import Point
from compresskit.distill.objective.terms import bind_match
from compresskit.randomness import own_randomness

ALL = frozenset({"channels", "space"})
SPACE = frozenset({"space"})


def parameters(adapter):
    return [] if adapter.module is None else list(adapter.module.parameters())


def test_equal_shapes_come_back_as_the_very_same_objects():
    for shape in [(2, 3), (2, 5, 3), (2, 3, 4, 4), (2, 3, 2, 4, 4), (2,), (), (1, 2, 3, 4, 5, 6)]:
        student, teacher = torch.zeros(shape), torch.zeros(shape)
        adapter = build_adapter(student.shape, teacher.shape, ALL)
        adapted = adapter(student, teacher)
        assert adapted[0] is student
        assert adapted[1] is teacher
        assert str(adapter) == ""
        assert adapter.module is None


def test_the_linear_map_mixes_the_channels_of_each_position():
    student = torch.tensor([[[[1.0]], [[2.0]]]])
    adapter = build_adapter(student.shape, Size((1, 1, 1, 1)), ALL)
    with torch.no_grad():
        adapter.module.weight.copy_(torch.tensor([3.0, 10.0]).view(1, 2, 1, 1))
        adapter.module.bias.fill_(0.5)
    assert adapter(student, torch.zeros(1, 1, 1, 1))[0].item() == 23.5


PAIRS = [
    ((4, 5), (4, 7), "linear 5→7"),
    ((4, 7), (4, 5), "linear 7→5"),
    ((2, 6, 3), (2, 6, 5), "linear 3→5"),
    ((2, 3, 3), (2, 6, 5), "linear 3→5 + length 3 → 6"),
    ((2, 6, 3), (2, 2, 3), "length 6 → 2"),
    ((2, 4, 3), (2, 16, 5), "linear 3→5 + tokens 2x2 → 4x4"),
    ((2, 3, 8, 8), (2, 5, 8, 8), "1x1 conv 3→5"),
    ((2, 5, 8, 8), (2, 3, 4, 4), "1x1 conv 5→3 + resize to 4x4"),
    ((2, 3, 4, 8), (2, 3, 6, 5), "resize to 6x5"),
    ((2, 3, 2, 4, 4), (2, 4, 4, 2, 4), "1x1x1 conv 3→4 + resize to 4x2x4"),
    ((2, 16, 3), (2, 5, 4, 4), "linear 3→5 + tokens → map 4x4"),
    ((2, 17, 3), (2, 3, 8, 8), "tokens[1:] → map 4x4 + resize to 8x8"),
    ((2, 8, 3), (2, 3, 1, 2), "tokens → map 2x4 + resize to 1x2"),
    ((2, 3, 4, 4), (2, 16, 3), "map → tokens"),
    ((2, 3, 8, 8), (2, 21, 5), "1x1 conv 3→5 + resize to 4x4 + map → tokens[5:]"),
    ((2, 3, 2, 3), (2, 24, 3), "resize to 4x6 + map → tokens"),
    ((2, 3, 1, 1), (2, 5), "1x1 conv 3→5 + map → vector"),
    ((2, 3), (2, 5, 1, 1), "linear 3→5 + vector → map"),
]


@pytest.mark.parametrize(("student", "teacher", "text"), PAIRS)
def test_each_pair_fits_trains_and_says_what_it_does(student, teacher, text):
    own, other = torch.randn(student, requires_grad=True), torch.randn(teacher)
    adapter = build_adapter(own.shape, other.shape, ALL)
    assert str(adapter) == text
    mine, compared = adapter(own, other)
    assert mine.shape == compared.shape
    (mine - compared).square().mean().backward()
    extra = 1 if "tokens[1:] →" in text else 0
    assert own.grad[:, :extra].abs().sum() == 0
    assert (own.grad[:, extra:] != 0).all()
    assert all(parameter.grad.abs().sum() > 0 for parameter in parameters(adapter))
    linear = [student[2 if len(student) == 3 else 1], teacher[2 if len(teacher) == 3 else 1]]
    elements = 0 if linear[0] == linear[1] else linear[0] * linear[1] + linear[1]
    assert sum(parameter.numel() for parameter in parameters(adapter)) == elements


@pytest.mark.parametrize(("student", "teacher", "text"), PAIRS)
def test_a_loss_that_compares_space_alone_keeps_the_student_s_channels(student, teacher, text):
    adapter = build_adapter(Size(student), Size(teacher), SPACE)
    mine, other = adapter(torch.randn(student), torch.randn(teacher))
    assert adapter.module is None
    assert str(adapter) == " + ".join(
        part for part in text.split(" + ") if part[:6] not in ("linear", "1x1 co", "1x1x1 ")
    )
    channels = [2 if tensor.dim() == 3 else 1 for tensor in (mine, other)]
    assert mine.shape[channels[0]] == student[2 if len(student) == 3 else 1]
    assert mine.movedim(channels[0], -1).shape[:-1] == other.movedim(channels[1], -1).shape[:-1]


def test_a_loss_that_compares_channels_alone_keeps_the_student_s_size():
    adapter = build_adapter(Size((2, 3, 4, 4)), Size((2, 9, 5)), {"channels"})
    assert adapter(torch.randn(2, 3, 4, 4), torch.randn(2, 9, 5))[0].shape == (2, 5, 4, 4)


def test_nothing_is_done_for_a_loss_that_needs_nothing_to_agree():
    student, teacher = torch.zeros(2, 3), torch.zeros(5, 8, 8)
    adapter = build_adapter(student.shape, teacher.shape, frozenset())
    assert adapter.module is None
    assert str(adapter) == ""
    adapted = adapter(student, teacher)
    assert adapted[0] is student
    assert adapted[1] is teacher


def test_sizes_are_those_of_each_batch():
    adapter = build_adapter(Size((2, 17, 3)), Size((2, 5, 4, 4)), ALL)
    for batch, grid, side in [(2, 4, 4), (3, 6, 6), (1, 2, 5)]:
        mine, _ = adapter(torch.randn(batch, 1 + grid**2, 3), torch.randn(batch, 5, side, side))
        assert mine.shape == (batch, 5, side, side)


def test_shapes_that_were_equal_when_traced_may_differ_later():
    adapter = build_adapter(Size((2, 3, 4, 4)), Size((2, 3, 4, 4)), ALL)
    assert adapter(torch.randn(2, 3, 5, 4), torch.randn(2, 3, 4, 4))[0].shape == (2, 3, 4, 4)


@pytest.mark.parametrize(
    ("traced", "later", "message"),
    [
        (((2, 3, 4), (2, 3, 6)), ((2, 3, 5), (2, 3, 6)), "channels are not those of the traced batch"),
        (((2, 3, 4), (2, 3, 6)), ((2, 3, 6), (2, 3, 6)), "channels are not those of the traced batch"),
        (((2, 3, 4), (2, 3, 4)), ((2, 3, 5), (2, 3, 4)), "channels are not those of the traced batch"),
        (((2, 17, 3), (2, 3, 4, 4)), ((2, 20, 3), (2, 3, 4, 4)), "19 tokens form no grid with the aspect of 4x4"),
        (((2, 17, 3), (2, 3, 4, 4)), ((2, 1, 3), (2, 3, 4, 4)), "0 tokens form no grid"),
        (((2, 3), (2, 3, 1, 1)), ((2, 3), (2, 3, 2, 2)), "nothing turns a vector into a map"),
        (((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4, 3, 4)), "the batch sizes differ"),
    ],
)
def test_a_batch_unlike_the_traced_one_is_refused(traced, later, message):
    adapter = build_adapter(Size(traced[0]), Size(traced[1]), ALL)
    with pytest.raises(ShapeError, match=message) as caught:
        adapter(*(torch.zeros(shape) for shape in later))
    assert str(caught.value).startswith(f"student {later[0]} and teacher {later[1]}: ")


@pytest.mark.parametrize("agree", [ALL, SPACE], ids=["all", "space"])
@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ((2, 8), (2, 8, 7, 7), "nothing turns a vector into a map; tap a pooled output or give an adapter"),
        ((2, 8, 7, 7), (2, 8), "nothing turns a map into a vector; tap a pooled output or give an adapter"),
        ((2, 8), (2, 1, 8), "nothing turns a vector into tokens; tap a pooled output or give an adapter"),
        ((2, 5, 8), (2, 8), "nothing turns tokens into a vector; tap a pooled output or give an adapter"),
        ((2, 8, 4, 4), (2, 8, 4, 4, 4), "nothing turns a map into a volume; give an adapter"),
        ((2, 8, 2, 2, 2), (2, 8, 8), "nothing turns a volume into tokens; give an adapter"),
        (
            (2, 70, 8),
            (2, 8, 7, 5),
            "70 tokens form no grid with the aspect of 7x5 (at most 5 extra ones are left out); give an",
        ),
        ((2, 17, 8), (2, 21, 8), "17 and 21 tokens are neither two grids nor sequences of which one is a multiple"),
        ((2, 6, 8), (2, 4, 8), "6 and 4 tokens are neither"),
        ((2, 50, 8), (2, 200, 8), "50 and 200 tokens are neither"),
        ((2, 8, 7, 7), (2, 55, 8), "55 tokens form no grid with the aspect of 7x7"),
        ((2, 8, 4, 4), (3, 8, 4, 4), "the batch sizes differ; both must hold the same samples"),
        ((2,), (3,), "1-d tensors are no vectors, tokens, maps or volumes; give an adapter"),
        ((), (3, 4), "0-d tensors are no"),
        ((2, 1, 1, 1, 1, 1), (2, 1), "6-d tensors are no"),
    ],
)
def test_a_pair_that_only_the_user_can_adapt_is_refused(student, teacher, message, agree):
    with pytest.raises(ShapeError) as caught:
        build_adapter(Size(student), Size(teacher), agree, keep=lambda _: pytest.fail("built before the check"))
    assert str(caught.value).startswith(f"student {student} and teacher {teacher}: {message}")


def bound(extra_modules, student, teacher, **options):
    points = [Point("student", ".")], [Point("teacher", ".")]
    return bind_match(Match(".", **options), *points, ([Size(student)], [Size(teacher)]), extra_modules)


def test_matches_of_one_pair_share_the_linear_map_and_nothing_else_is_kept():
    extra_modules = ExtraModules(seed=3, device=torch.device("cpu"))
    shapes = (2, 3, 8, 8), (2, 5, 4, 4)
    terms = [bound(extra_modules, *shapes, loss=loss) for loss in ("mse", "l1", "attention_transfer")]
    assert terms[0].adapter.module is terms[1].adapter.module
    assert list(terms[2].modules()) == []
    assert set(extra_modules.state_dict()["adapter:student:.#0@out -> teacher:.#0@out"]) == {"weight", "bias"}


def test_initial_values_come_from_the_engine_s_seed_alone():
    def weight(seed):
        return bound(ExtraModules(seed, torch.device("cpu")), (2, 3), (2, 5)).adapter.module.weight

    first = weight(3)
    with own_randomness(99):
        assert torch.equal(weight(3), first)
    assert not torch.equal(weight(4), first)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_arrives_at_the_adapter_as_float32(dtype):
    seen = []

    def loss(student, teacher):
        seen.extend([student.dtype, teacher.dtype])
        return (student - teacher).square().mean()

    term = bound(ExtraModules(0, torch.device("cpu")), (2, 17, 3), (2, 5, 8, 8), loss=loss)
    student = torch.randn(2, 17, 3, dtype=dtype, requires_grad=True)
    term.value([student], [torch.randn(2, 5, 8, 8, dtype=dtype)], None, 0, 1).backward()
    assert seen == [torch.float32, torch.float32]
    assert student.grad.isfinite().all()
    assert term.adapter.module.weight.grad.abs().sum() > 0


class Patches(nn.Module):
    """A small transformer's first half: a class token and the patches' embeddings, (n, 1 + h * w, width)."""

    def __init__(self, width):
        super().__init__()
        self.embed = nn.Conv2d(3, width, kernel_size=2, stride=2)
        self.first = nn.Parameter(torch.randn(1, 1, width))

    def forward(self, picture):
        patches = self.embed(picture).flatten(2).mT
        return torch.cat([self.first.expand(len(patches), -1, -1), patches], dim=1)


@pytest.mark.parametrize(
    ("student", "teacher", "loss", "text"),
    [
        (partial(nn.Conv2d, 3, 4, 1), partial(Patches, 6), "mse", "1x1 conv 4→6 + resize to 4x4 + map → tokens[1:]"),
        (partial(Patches, 4), partial(nn.Conv2d, 3, 6, 1), "mse", "linear 4→6 + tokens[1:] → map 4x4 + resize to 8x8"),
        (
            partial(Patches, 4),
            partial(nn.Conv2d, 3, 6, 1),
            "attention_transfer",
            "tokens[1:] → map 4x4 + resize to 8x8",
        ),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_transformer_and_a_convolution_teach_each_other(student, teacher, loss, text, precision):
    stage = Stage(
        "s", matches=[Match(".", loss=loss)], steps=20, optimizer={"_target_": "torch.optim.Adam", "lr": 0.03}
    )
    batch = (torch.randn(4, 3, 8, 8), None)
    distiller = ProgressiveDistiller(teacher(), student(), [stage], precision=precision)
    plan = distiller.plan(batch)
    assert plan.stages[0].terms[0].adapter == text
    values = [record["terms"][f"{loss}(.)"]["value"] for record in distiller.fit([batch]).history]
    assert values[-1] < 0.9 * values[0]


def test_the_plan_shows_the_adapter_and_counts_it_once():
    stage = Stage("s", matches=[Match("."), Match(".", loss="l1")], steps=1)
    plan = ProgressiveDistiller(nn.Conv2d(3, 6, 1), Patches(4), [stage]).plan((torch.randn(2, 3, 8, 8), None))
    assert plan.stages[0].adapter_elements == 4 * 6 + 6
    assert "linear 4→6 + tokens[1:]" in str(plan)


def test_an_adapter_of_the_user_s_is_called_with_the_student_s_tensor_alone():
    class ChannelsLast(nn.Module):
        def forward(self, student):
            return student.movedim(1, -1)

    class Last(nn.Conv2d):
        def forward(self, picture):
            return super().forward(picture).movedim(1, -1)

    stage = Stage("s", matches=[Match(".", adapter=ChannelsLast())], steps=1)
    history = ProgressiveDistiller(Last(3, 4, 1), nn.Conv2d(3, 4, 1), [stage]).fit([(torch.randn(2, 3, 5, 6), None)])
    assert len(history.history) == 1


def test_a_second_adapter_for_the_same_pair_is_refused(batches, net):
    node = {"_target_": "torch.nn.Conv2d", "in_channels": 4, "out_channels": 6, "kernel_size": 3, "padding": 1}
    stages = [Stage("a", matches=[Match("0")], steps=1), Stage("b", matches=[Match("0", adapter=node)], steps=1)]
    with pytest.raises(RecipeError, match="one pair, one adapter"):
        ProgressiveDistiller(net(6, 1), net(4, 2), stages).fit(batches)


def test_models_in_double_precision_get_adapters_in_double_precision(net, losses):
    inputs = torch.randn(4, 3, 8, 8, dtype=torch.double)
    values = losses(net(4, 1).double(), net(3, 2).double(), Match("0"), inputs=inputs)
    assert values[2] < values[0]
