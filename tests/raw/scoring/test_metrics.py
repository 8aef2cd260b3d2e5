import pytest
import torch
from skimage.metrics import structural_similarity

from compresskit.errors import ShapeError
from zoo.raw.scoring.metrics import ms_ssim, psnr, ssim


def noisy(height, width, count=2):
    truth = torch.rand(count, 3, height, width)
    return (truth + 0.1 * torch.randn_like(truth)).clamp(0, 1), truth


def test_an_error_of_a_tenth_everywhere_is_20_db():
    truth = torch.full((2, 3, 8, 8), 0.5)
    estimate = truth + torch.tensor([0.1, 0.01])[:, None, None, None]
    torch.testing.assert_close(psnr(estimate, truth), torch.tensor([20.0, 40.0]).double(), atol=1e-4, rtol=0)


def test_psnr_takes_the_error_of_all_colours_together():
    truth = torch.zeros(1, 3, 4, 4)
    estimate = truth.clone()
    estimate[:, 0] = 0.3  # mean square 0.03
    assert float(psnr(estimate, truth)) == pytest.approx(15.2288, abs=1e-3)


def test_equal_pictures_have_an_infinite_psnr():
    assert torch.isinf(psnr(torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4))).all()


def test_pixels_in_the_border_do_not_count():
    truth = torch.rand(1, 3, 40, 48)
    estimate = torch.rand(1, 3, 40, 48)
    estimate[..., 5:-5, 5:-5] = truth[..., 5:-5, 5:-5]
    assert torch.isinf(psnr(estimate, truth, border=5)).all()
    assert float(ssim(estimate, truth, border=5)) == pytest.approx(1.0)
    assert torch.isfinite(psnr(estimate, truth, border=4)).all()


def test_values_beyond_black_and_white_are_clipped():
    truth = torch.tensor([0.0, 1.0]).repeat(32).view(1, 1, 8, 8).expand(1, 3, 8, 8)
    assert torch.isinf(psnr(3 * truth - 1, truth)).all()


def test_ssim_equals_scikit_images():
    estimate, truth = noisy(40, 50)
    expected = [
        structural_similarity(
            one.numpy(),
            other.numpy(),
            data_range=1.0,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for one, other in zip(estimate, truth, strict=True)
    ]
    torch.testing.assert_close(ssim(estimate, truth), torch.tensor(expected, dtype=torch.float32), atol=1e-4, rtol=0)


def test_ms_ssim_is_one_for_equal_pictures_and_falls_with_noise():
    estimate, truth = noisy(178, 176)
    torch.testing.assert_close(ms_ssim(truth, truth), torch.ones(2))
    worse = (truth + 0.3 * torch.randn_like(truth)).clamp(0, 1)
    assert (ms_ssim(worse, truth) < ms_ssim(estimate, truth)).all()
    assert (ms_ssim(estimate, truth) < 1).all()


@pytest.mark.parametrize("metric", [psnr, ssim, ms_ssim])
def test_figures_are_per_picture_and_do_not_depend_on_the_batch(metric):
    estimate, truth = noisy(176, 176, count=3)
    one_by_one = torch.cat([metric(estimate[i : i + 1], truth[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(metric(estimate, truth), one_by_one)


@pytest.mark.parametrize(
    ("metric", "shape", "border", "message"),
    [
        (psnr, (1, 3, 8, 8), 4, "a border of 4 leaves 0x0 of a picture; at least 1x1"),
        (ssim, (1, 3, 20, 40), 5, "leaves 10x30 of a picture; at least 11x11"),
        (ms_ssim, (1, 3, 175, 200), 0, "leaves 175x200 of a picture; at least 176x176"),
    ],
)
def test_a_picture_too_small_is_refused(metric, shape, border, message):
    with pytest.raises(ShapeError) as caught:
        metric(torch.rand(shape), torch.rand(shape), border=border)
    assert message in str(caught.value)


def test_pictures_of_different_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"estimate \(1, 3, 8, 8\) and truth \(1, 3, 8, 9\)"):
        psnr(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 9))
