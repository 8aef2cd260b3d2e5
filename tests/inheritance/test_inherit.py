"""A student's weights from its teacher: hand cases, exactness at equal widths, and exactly zero channels left out."""

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer, mobilenet_v2, resnet18, resnet34
from torchvision.models.resnet import Bottleneck, ResNet

from compresskit import RecipeError, ShapeError, TapError, inherit
from zoo.pynet import PyNET, PyNETQxQ


def largest(weight, count):
    return weight.flatten(1).norm(dim=1).topk(count).indices.sort().values


class Block(nn.Module):
    """A net with a residual, a concatenation, a depthwise convolution, a shuffle, norms and a linear layer."""

    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.body = nn.Conv2d(width, width, 3, padding=1)
        self.side = nn.Conv2d(width, width, 1)
        self.depthwise = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.up = nn.Conv2d(2 * width, 4 * width, 1)
        self.last = nn.Conv2d(width, width, 1)
        self.head = nn.Linear(width * 16 * 16, 5)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        x = x + self.body(x)
        x = self.depthwise(torch.cat([x, self.side(x)], 1)).relu()
        x = nn.functional.pixel_shuffle(self.up(x), 2)
        return self.head(self.last(x).flatten(1))


def narrow(width):
    return ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=width, num_classes=5)


def randomized(model):
    """Return the model with random values in all tensors, so that zeros and ones hide nothing."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) * 0.2 + 0.1)
    return model.eval()


def test_the_largest_filters_of_the_first_convolution_decide_the_inputs_of_the_second():
    teacher = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    student = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3))
    report = inherit(teacher, student)
    kept = largest(teacher[0].weight, 2)
    assert torch.equal(student[0].weight, teacher[0].weight[kept])
    assert torch.equal(student[0].bias, teacher[0].bias[kept])
    assert torch.equal(student[2].weight, teacher[2].weight[:, kept])
    assert torch.equal(student[2].bias, teacher[2].bias)
    assert report.tensors[0].kept[0] == tuple(kept.tolist())
    assert "2 of 4" in str(report)
    assert report.initial == {}


def test_a_single_channel_is_chosen_too():
    teacher = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    student = nn.Sequential(nn.Linear(3, 1), nn.ReLU(), nn.Linear(1, 2))
    inherit(teacher, student)
    kept = largest(teacher[0].weight, 1)
    assert torch.equal(student[0].weight, teacher[0].weight[kept])
    assert torch.equal(student[2].weight, teacher[2].weight[:, kept])


def test_a_pixel_shuffle_to_one_single_channel_is_reported_and_not_guessed():
    student = Block(1)
    before = student.up.weight.clone()
    report = inherit(Block(6), student, inputs=torch.rand(1, 3, 8, 8))
    assert set(report.initial) == {"up.weight", "up.bias", "last.weight"}
    assert torch.equal(student.up.weight, before)


def test_importance_may_be_another_function():
    teacher, student = (nn.Sequential(nn.Linear(3, n), nn.ReLU(), nn.Linear(n, 2)) for n in (4, 2))
    inherit(teacher, student, importance=lambda filters: -torch.arange(len(filters)))
    assert torch.equal(student[0].weight, teacher[0].weight[:2])


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (lambda: Block(4), torch.rand(2, 3, 8, 8)),
        (lambda: PyNETQxQ(2), torch.rand(1, 4, 16, 16)),
        (lambda: PyNET(2), torch.rand(1, 4, 32, 32)),
        (resnet18, torch.rand(1, 3, 64, 64)),
        (mobilenet_v2, torch.rand(1, 3, 64, 64)),
        (lambda: VisionTransformer(32, 8, 2, 4, 32, 64), torch.rand(1, 3, 32, 32)),
    ],
    ids=["block", "pynet_qxq", "pynet", "resnet18", "mobilenet", "vit"],
)
def test_a_student_of_equal_widths_becomes_its_teacher(make, inputs):
    teacher, student = randomized(make()), randomized(make())
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    report = inherit(teacher, student, inputs=inputs)
    assert report.initial == {}
    assert torch.equal(student(inputs), teacher(inputs))
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize(
    ("wide", "small", "inputs"),
    [
        (lambda: Block(8), lambda: Block(4), torch.rand(2, 3, 8, 8)),
        (lambda: Block(6), lambda: Block(2), torch.rand(2, 3, 8, 8)),
        (lambda: narrow(64), lambda: narrow(32), torch.rand(1, 3, 64, 64)),
        (
            lambda: PyNETQxQ(8, instance_norm_level_1=False),
            lambda: PyNETQxQ(4, instance_norm_level_1=False),
            torch.rand(1, 4, 16, 16),
        ),
    ],
    ids=["half", "third", "resnet", "pynet_qxq"],
)
def test_leaving_out_channels_that_are_exactly_zero_changes_nothing(wide, small, inputs):
    teacher, student = wide().eval().double(), small().eval().double()
    inputs = inputs.double()
    report = inherit(teacher, student, inputs=inputs)
    assert all(tensor.status == "inherited" for tensor in report.tensors)
    with torch.no_grad():  # all that was not chosen becomes zero
        for tensor in report.tensors:
            if tensor.kept and not tensor.name.endswith("running_var"):
                own = teacher.state_dict()[tensor.source]
                places = torch.meshgrid(*map(torch.tensor, tensor.kept), indexing="ij")
                rest = torch.ones_like(own, dtype=torch.bool)
                rest[places] = False
                rest = rest & ~torch.isin(torch.arange(len(own)), torch.tensor(tensor.kept[0])).reshape(
                    -1, *[1] * (own.ndim - 1)
                )
                own[rest] = 0
    torch.testing.assert_close(student(inputs), teacher(inputs))


def test_batch_statistics_follow_their_channels():
    teacher, student = (nn.Sequential(nn.Conv2d(3, n, 3), nn.BatchNorm2d(n), nn.Conv2d(n, 2, 1)) for n in (6, 3))
    teacher[1].running_mean.copy_(torch.arange(6.0))
    inherit(teacher, student)
    assert torch.equal(student[1].running_mean, largest(teacher[0].weight, 3).float())


def test_narrower_heads_take_channels_of_their_own_head():
    teacher, student = (VisionTransformer(32, 8, 2, 4, width, 2 * width) for width in (32, 16))
    report = inherit(teacher, student)
    assert report.initial == {}
    kept = next(t.kept[0] for t in report.tensors if t.name.endswith("layer_0.self_attention.in_proj_weight"))
    assert [row // 8 for row in kept] == [row // 4 for row in range(48)]


def test_fewer_heads_are_whole_heads():
    teacher, student = VisionTransformer(32, 8, 2, 4, 32, 64), VisionTransformer(32, 8, 2, 2, 16, 64)
    report = inherit(teacher, student)
    kept = next(t.kept[0] for t in report.tensors if t.name.endswith("layer_0.self_attention.in_proj_weight"))
    heads = [row // 8 for row in kept[::8]]
    assert list(kept) == [8 * head + index for head in heads for index in range(8)]
    assert [head - 4 for head in heads[2:4]] == heads[:2]
    assert [head - 8 for head in heads[4:]] == heads[:2]


def test_every_second_layer_of_a_deeper_teacher():
    teacher, student = VisionTransformer(32, 8, 4, 4, 32, 64), VisionTransformer(32, 8, 2, 4, 32, 64)
    report = inherit(teacher, student, names={"encoder.layers.encoder_layer_1": "encoder.layers.encoder_layer_2"})
    assert report.initial == {}
    own, source = student.encoder.layers.encoder_layer_1, teacher.encoder.layers.encoder_layer_2
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), source.parameters(), strict=True))
    assert any("encoder_layer_3" in name for name in report.left_out)


def test_a_shallower_resnet_inherits_all_its_layers():
    teacher, student = resnet34(), resnet18()
    report = inherit(teacher, student)
    assert report.initial == {}
    assert torch.equal(student.layer4[1].conv2.weight, teacher.layer4[1].conv2.weight)


def test_pynet_qxq_inherits_level_1_of_pynet_and_nothing_that_is_fed_otherwise():
    teacher, student = PyNET(4), PyNETQxQ(2)
    report = inherit(teacher, student)
    assert set(report.initial) == {"conv_t0.upchannel.weight", "conv_t0.upchannel.bias", "conv_l0_d1.conv2d.weight"}
    assert "conv_t0.upchannel" in report.initial["conv_l0_d1.conv2d.weight"]
    kept = next(t.kept for t in report.tensors if t.name == "conv_l1_d3.conv_3a.conv2d.weight")
    assert max(kept[1]) < 4  # the inputs from level 1, not those from below


def test_another_number_of_classes_and_other_kernels_keep_their_initial_values():
    teacher, student = (
        nn.Sequential(nn.Conv2d(3, n, k), nn.ReLU(), nn.Flatten(), nn.LazyLinear(c))
        for n, k, c in ((4, 3, 10), (4, 5, 3))
    )
    for model in (teacher, student):
        model(torch.rand(1, 3, 32, 32))
    report = inherit(teacher, student, inputs=torch.rand(1, 3, 32, 32))
    assert set(report.initial) >= {"0.weight", "3.weight", "3.bias"}
    assert all(report.initial.values())


def test_an_operator_that_is_not_understood_keeps_its_widths():
    teacher, student = (nn.Sequential(nn.Linear(3, n), nn.LSTM(n, n)) for n in (8, 4))
    report = inherit(teacher, student, inputs=torch.rand(5, 3))
    assert "not understood" in report.initial["0.weight"]


def test_a_name_that_no_model_has_is_an_error():
    with pytest.raises(TapError, match="no module 'nope'"):
        inherit(nn.Linear(2, 2), nn.Linear(2, 2), names={"nope": ""})


@pytest.mark.parametrize(
    ("teacher", "options", "error", "message"),
    [
        ("resnet18", {}, RecipeError, "the teacher must be a torch module, got str"),
        (nn.Linear(3, 4), {"inputs": torch.zeros(2, 5)}, ShapeError, "Linear does not take the inputs: mat1 and mat2"),
        (nn.Sequential(nn.Linear(3, 4)), {"names": {"1": "0"}}, TapError, "the student has no module '1'"),
    ],
)
def test_a_wrong_argument_is_refused_with_the_reason(teacher, options, error, message):
    with pytest.raises(error, match=message):
        inherit(teacher, nn.Sequential(nn.Linear(3, 2)), **options)
