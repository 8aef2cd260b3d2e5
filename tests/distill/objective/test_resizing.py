"""Changes of a tensor's size to that of another, computed by hand."""

import pytest
import torch
from torch import Tensor, nn

from compresskit import Match, ProgressiveDistiller, ShapeError, Stage
from compresskit.distill.objective.adapters import build_adapter

ALL = {"channels", "space"}


def adapted(student: Tensor, teacher_shape):
    """Return the student's tensor, adapted to a teacher's tensor of that shape."""
    teacher = torch.zeros(teacher_shape)
    return build_adapter(student.shape, teacher.shape, ALL)(student, teacher)[0]


def test_a_map_that_shrinks_is_averaged_over_areas():
    student = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])[None, None]
    assert adapted(student, (1, 1, 1, 2)).tolist() == [[[[3.5, 5.5]]]]


def test_a_map_that_grows_is_interpolated_linearly():
    student = torch.tensor([[[[0.0, 4.0]]]])
    assert adapted(student, (1, 1, 1, 4)).tolist() == [[[[0.0, 1.0, 3.0, 4.0]]]]  # at -1/4, 1/4, 3/4, 5/4 of a pixel


def test_a_map_that_becomes_lower_and_wider_is_averaged_one_way_and_interpolated_the_other():
    student = torch.tensor([[1.0, 3.0], [5.0, 9.0]])[None, None]
    assert adapted(student, (1, 1, 1, 4)).tolist() == [[[[3.0, 3.75, 5.25, 6.0]]]]
    assert adapted(student.mT, (1, 1, 4, 1)).flatten().tolist() == [3.0, 3.75, 5.25, 6.0]


def test_fine_stripes_become_grey_and_not_coarse_stripes():
    stripes = torch.tensor([0.0, 1.0]).repeat(8)[None, None, :, None].expand(1, 1, 16, 3)
    assert torch.equal(adapted(stripes, (1, 1, 4, 5)), torch.full((1, 1, 4, 5), 0.5))


def test_a_volume_is_averaged_along_its_depth():
    student = torch.tensor([2.0, 4.0])[None, None, :, None, None]
    assert adapted(student, (1, 1, 1, 1, 1)).tolist() == [[[[[3.0]]]]]


def test_a_sequence_is_averaged_or_interpolated_along_its_length():
    student = torch.tensor([[[0.0, 10.0], [4.0, 30.0]]])  # two tokens of two channels
    assert adapted(student, (1, 1, 2)).tolist() == [[[2.0, 20.0]]]
    assert adapted(student, (1, 4, 2)).tolist() == [[[0.0, 10.0], [1.0, 15.0], [3.0, 25.0], [4.0, 30.0]]]


def test_square_numbers_of_tokens_are_grids():
    student = torch.arange(16.0)[None, :, None]  # rows 0 1 2 3, 4 5 6 7, …
    assert adapted(student, (1, 4, 1)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert torch.equal(
        adapted(adapted(student, (1, 4, 1)), (1, 16, 1))[0, [0, 3, 12, 15], 0], adapted(student, (1, 4, 1)).flatten()
    )


@pytest.mark.parametrize(
    ("student", "teacher", "slices"),
    [
        (17, 21, "@out[:, 1:] on the student's side and @out[:, 5:] on the teacher's side"),
        (21, 17, "@out[:, 5:] on the student's side and @out[:, 1:] on the teacher's side"),
        (197, 201, "@out[:, 1:] on the student's side and @out[:, 5:] on the teacher's side"),
        (16, 17, "@out[:, 1:] on the teacher's side"),
        (50, 201, "@out[:, 1:] on the student's side and @out[:, 5:] on the teacher's side"),
        (50, 200, "@out[:, 1:] on the student's side and @out[:, 4:] on the teacher's side"),
        (24, 26, "@out[:, 2:] on the teacher's side"),
        (24, 100, "@out[:, 76:] on the teacher's side"),
    ],
)
def test_tokens_that_are_no_grid_are_refused_with_the_slices_to_write(student, teacher, slices):
    with pytest.raises(ShapeError) as caught:
        build_adapter(torch.Size((2, student, 3)), torch.Size((2, teacher, 3)), ALL)
    assert f"by a slice, {slices}, or give an adapter" in str(caught.value)


class Tokens(nn.Module):
    """Some tokens of its own before those of the input."""

    def __init__(self, extra):
        super().__init__()
        self.extra = nn.Parameter(torch.randn(1, extra, 3))
        self.body = nn.Linear(3, 3)

    def forward(self, patches):
        return torch.cat([self.extra.expand(len(patches), -1, -1), self.body(patches)], dim=1)


def test_with_the_slices_patches_are_compared_with_patches():
    teacher, student = Tokens(5), Tokens(1)
    student.body.load_state_dict(teacher.body.state_dict())
    stage = Stage("s", matches=[Match(".@out[:, 1:]", ".@out[:, 5:]"), Match(".@out[:, 0]", ".@out[:, 4]")], steps=1)
    plan = ProgressiveDistiller(teacher, student, [stage]).plan((torch.randn(2, 16, 3), None))
    patches, first = plan.stages[0].terms
    assert (patches.student, patches.teacher, patches.value, patches.adapter) == ("2x16x3", "2x16x3", 0.0, "")
    assert first.value == pytest.approx((student.extra[0, 0] - teacher.extra[0, 4]).square().mean().item())


def test_tokens_fill_a_map_row_by_row():
    student = torch.arange(6.0)[None, :, None]
    assert adapted(student, (1, 1, 2, 3)).tolist() == [[[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]]


def test_a_map_is_read_as_tokens_row_by_row():
    student = torch.tensor([[[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], [[6.0, 7.0, 8.0], [9.0, 10.0, 11.0]]]])
    assert adapted(student, (1, 6, 2)).tolist() == [[[k, k + 6.0] for k in range(6)]]


@pytest.mark.parametrize("extra", [1, 2, 5])
def test_extra_tokens_of_the_student_are_left_out(extra):
    student = torch.cat([torch.full((1, extra, 1), 99.0), torch.arange(36.0)[None, :, None]], dim=1)
    assert torch.equal(adapted(student, (1, 1, 6, 6)), torch.arange(36.0).view(1, 1, 6, 6))


@pytest.mark.parametrize("extra", [1, 5])
def test_a_student_s_map_is_compared_with_the_teacher_s_patches_without_its_extra_tokens(extra):
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, extra + 16, 3)
    adapter = build_adapter(student.shape, teacher.shape, ALL)
    mine, other = adapter(student, teacher)
    assert torch.equal(other, teacher[:, extra:])
    assert torch.equal(mine[1, 7], student[1, :, 1, 3])  # token 7 of a row-major 4x4 grid: row 1, column 3
    assert str(adapter) == f"map → tokens[{extra}:]"


def test_tokens_of_a_finer_grid_are_averaged_per_cell_of_the_map():
    student = torch.arange(8.0)[None, :, None]  # rows 0 1 2 3 and 4 5 6 7, as the teacher's 1x2 has twice the width
    assert adapted(student, (1, 1, 1, 2)).tolist() == [[[[2.5, 4.5]]]]


def test_the_map_is_resized_before_it_becomes_tokens_of_a_coarser_grid():
    student = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])[None, None]
    assert adapted(student, (1, 2, 1)).tolist() == [[[3.5], [5.5]]]


def test_a_1x1_map_and_a_vector_become_each_other():
    assert adapted(torch.tensor([[[[1.0]], [[2.0]]]]), (1, 2)).tolist() == [[1.0, 2.0]]
    assert adapted(torch.tensor([[1.0, 2.0]]), (1, 2, 1, 1)).tolist() == [[[[1.0]], [[2.0]]]]
    assert adapted(torch.tensor([[1.0, 2.0]]), (1, 2, 1, 1, 1)).shape == (1, 2, 1, 1, 1)


@pytest.mark.parametrize("size", [4, 16])
def test_a_stage_resizes_maps_of_another_size_to_the_teacher_s(size):
    teacher = nn.Conv2d(3, 2, 1)
    student = nn.Sequential(nn.Upsample((size, size)), nn.Conv2d(3, 2, 1))
    stage = Stage("s", matches=[Match(".")], steps=2)
    history = ProgressiveDistiller(teacher, student, [stage]).fit([(torch.randn(2, 3, 8, 8), None)]).history
    assert len(history) == 2
