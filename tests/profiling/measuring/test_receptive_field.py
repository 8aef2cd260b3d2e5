"""Receptive fields by hand."""

import pytest
import torch
from torch import nn

from compresskit import profile
from compresskit.errors import DataError
from compresskit.profiling import footprint
from compresskit.profiling.counting.model_call import ModelCall
from compresskit.profiling.measuring.receptive_field import measure_receptive_field
from zoo.pynet import PyNETQxQ


def _field(*layers, channels=1):
    model = nn.Sequential(*layers)
    return measure_receptive_field(model, ModelCall.of(torch.empty(1, channels, 20, 20, device="meta")))


def _conv(kernel, **options):
    return nn.Conv2d(1, 1, kernel, padding=kernel // 2, **options)


@pytest.mark.parametrize(
    ("layers", "field"),
    [
        ([_conv(3), _conv(5)], "7x7"),
        ([_conv(3, dilation=2), nn.ReLU(), nn.MaxPool2d(3, 1, 1)], "7x7"),
        ([nn.Conv2d(1, 1, (3, 5), padding=(1, 2))], "3x5"),
        ([nn.Conv2d(1, 1, 5), nn.Conv2d(1, 1, 3)], "7x7"),  # the output loses its borders
        ([_conv(1)], "1x1"),
        ([nn.Upsample(scale_factor=2), _conv(3)], "2x2"),  # one position reaches four of twice as many
        ([_conv(3, stride=2), _conv(3)], "8x8"),  # a position reaches three outputs or four: four times the stride
        ([_conv(9) for _ in range(10)], "81x81"),  # larger than the first sizes that are tried
    ],
)
def test_receptive_fields_by_hand(layers, field):
    assert str(_field(*layers)) == field


@pytest.mark.parametrize(
    ("layer", "cause"),
    [
        (nn.InstanceNorm2d(1), "InstanceNorm2d 1"),
        (nn.GroupNorm(1, 1), "GroupNorm 1"),
        (nn.Softmax(-1), "Softmax 1"),
        (nn.Flatten(), "the output is not a picture"),
    ],
)
def test_a_module_that_mixes_the_whole_picture_is_named(layer, cause):
    field = _field(_conv(3), layer)
    assert field.is_global
    assert str(field) == f"global ({cause})"


def test_batch_norm_with_stored_statistics_mixes_nothing():
    assert str(_field(_conv(3), nn.BatchNorm2d(1), _conv(3))) == "5x5"


def test_a_field_beyond_the_largest_picture_is_not_called_global():
    field = measure_receptive_field(
        nn.Sequential(*(_conv(31) for _ in range(4))), ModelCall.of(torch.empty(1, 1, 32, 32)), max_seconds=0
    )
    assert (field.cause, str(field)) == (None, "beyond 32x32")


def test_a_receptive_field_needs_a_picture():
    with pytest.raises(DataError, match="--receptive-field needs an input with height and width"):
        measure_receptive_field(nn.Linear(2, 2), ModelCall.of(torch.rand(2)))


def test_pynets_student_reaches_116_packed_pixels_and_instance_norm_the_whole_picture():
    x = torch.empty(1, 4, 64, 64, device="meta")
    field = profile(PyNETQxQ(width=1, instance_norm_level_1=False), x, receptive_field=True).receptive_field
    assert (field.rows, field.columns, field.input_rows, field.input_columns) == (232, 232, 116, 116)
    field = profile(PyNETQxQ(width=1), x, receptive_field=True).receptive_field
    assert str(field) == "global (InstanceNorm2d conv_l1_d5.conv_3a.instance)"


def test_a_footprint_is_a_mask_of_the_positions_that_depend_on_a_stripe():
    picture = torch.rand(1, 1, 8, 12)
    before = picture.clone()
    with torch.no_grad():
        mask = footprint(nn.Sequential(_conv(3), nn.Upsample(scale_factor=2)), picture, -1, 4, length=2)
    assert mask.tolist() == [6 <= column < 14 for column in range(24)]  # columns 3 to 6, each twice
    assert torch.equal(picture, before)


def test_a_footprint_sees_through_comparisons_by_changes_of_values():
    def compares(picture):
        return (picture > 0.5).float()

    picture = torch.rand(1, 1, 4, 6)
    assert not footprint(compares, picture, -2, 1).any()
    assert footprint(compares, picture, -2, 1, changes=3).tolist() == [False, True, False, False]
