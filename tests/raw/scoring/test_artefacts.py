import pytest
import torch
from skimage.color import rgb2lab

from compresskit.errors import ShapeError
from zoo.raw.scoring.artefacts import false_colour, lab, zipper


def test_lab_equals_scikit_images():
    picture = torch.rand(2, 3, 6, 7)
    expected = torch.from_numpy(rgb2lab(picture.double().numpy(), channel_axis=1))
    torch.testing.assert_close(lab(picture), expected, atol=0.02, rtol=0)


def test_white_grey_and_black_are_on_the_axis_of_lightness():
    greys = torch.tensor([1.0, 0.5, 0.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    # 0.5 is linear 0.2140, whose cube root is 0.5982: 116 * 0.5982 - 16
    expected = torch.tensor([[100.0, 53.39, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]).double()
    torch.testing.assert_close(lab(greys)[0, :, 0], expected, atol=0.01, rtol=0)


def test_a_pixel_that_stands_out_counts_and_so_do_the_pixels_whose_reference_it_is():
    truth = torch.full((1, 3, 7, 7), 0.5)
    estimate = truth.clone()
    estimate[..., 3, 3] = 0.6
    # all neighbours are equally similar, so the left one counts: (3, 3) differs from it, and (3, 4) from (3, 3)
    assert float(zipper(estimate, truth)) == pytest.approx(100 * 2 / 25)


def test_the_reference_is_the_most_similar_neighbour_of_the_truth():
    truth = torch.zeros(1, 3, 5, 6)
    truth[..., :3] = 0.2
    truth[..., 3:] = 0.8  # an upright edge
    moved = truth.clone()
    moved[..., 1:4, 3] = 0.2  # it lies a pixel further right in the middle rows
    # column 3 resembles its right neighbour, column 4 its left one: in three rows they now differ. The dark columns 1
    # and 2 resemble their left neighbours and still do. Three rows of the columns 1 to 4 count
    assert float(zipper(moved, truth)) == pytest.approx(100 * 6 / 12)


def test_a_softer_edge_and_a_change_of_all_pixels_are_no_zipper():
    truth = torch.zeros(1, 3, 6, 8)
    truth[..., 4:] = 1.0
    assert float(zipper(truth, truth)) == 0
    assert float(zipper(0.8 * truth + 0.1, truth)) == 0


def test_false_colour_is_the_distance_of_a_and_b():
    grey = torch.full((1, 3, 4, 4), 0.5)
    tinted = grey.clone()
    tinted[:, 0] = 0.6
    a, b = (lab(tinted) - lab(grey))[0, 1:, 0, 0].tolist()
    assert a > 5
    assert float(false_colour(tinted, grey)) == pytest.approx((a**2 + b**2) ** 0.5)
    half = torch.cat([tinted[..., :2], grey[..., 2:]], dim=3)
    assert float(false_colour(half, grey)) == pytest.approx((a**2 + b**2) ** 0.5 / 2)


def test_lightness_alone_is_no_false_colour():
    grey = torch.full((1, 3, 4, 4), 0.5)
    assert float(false_colour(grey + 0.2, grey)) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("metric", [zipper, false_colour])
def test_figures_are_per_picture_without_the_border(metric):
    truth = torch.rand(2, 3, 20, 24)
    estimate = torch.rand(2, 3, 20, 24)
    estimate[1, :, 4:-4, 4:-4] = truth[1, :, 4:-4, 4:-4]
    first, second = metric(estimate, truth, border=4)
    assert float(second) == 0
    assert float(first) == pytest.approx(float(metric(estimate[:1, :, 4:-4, 4:-4], truth[:1, :, 4:-4, 4:-4])))


def test_a_picture_without_neighbours_has_no_zipper_figure():
    with pytest.raises(ShapeError, match="a border of 0 leaves 2x8 of a picture; at least 3x3"):
        zipper(torch.rand(1, 3, 2, 8), torch.rand(1, 3, 2, 8))
