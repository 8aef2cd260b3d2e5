import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from compresskit.errors import RecipeError, ShapeError
from compresskit.losses import charbonnier, fourier_amplitude, gradient, ms_ssim, ssim


def test_charbonnier_by_hand():
    student, target = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.0])
    torch.testing.assert_close(charbonnier(student, target, epsilon=4.0), torch.tensor((5.0 + 4.0) / 2))


def test_charbonnier_is_l1_far_from_zero_and_smooth_at_it():
    student = torch.zeros(3, requires_grad=True)
    charbonnier(student, torch.zeros(3)).backward()
    assert student.grad is not None
    assert (student.grad == 0).all()
    torch.testing.assert_close(charbonnier(torch.ones(4), torch.zeros(4)), torch.tensor(1.0), atol=1e-6, rtol=0)


def test_charbonnier_refuses_other_shapes_and_an_epsilon_of_zero():
    with pytest.raises(ShapeError, match="charbonnier: shapes must be equal"):
        charbonnier(torch.zeros(2, 1, 4, 4), torch.zeros(2, 3, 4, 4))
    with pytest.raises(RecipeError, match="epsilon must be above 0, got 0"):
        charbonnier(torch.zeros(2), torch.zeros(2), epsilon=0)


def test_ssim_of_equal_images_is_zero():
    image = torch.rand(2, 3, 16, 20)
    assert ssim(image, image).abs() < 1e-6


def test_ssim_of_flat_images_is_its_luminance_term():
    dark, bright = torch.full((1, 1, 12, 12), 0.2), torch.full((1, 1, 12, 12), 0.6)
    expected = 1 - (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    torch.testing.assert_close(ssim(dark, bright), torch.tensor(expected), atol=1e-5, rtol=0)


def test_ssim_agrees_with_scikit_image():
    student, target = torch.rand(2, 3, 24, 31)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    theirs = np.asarray(structural_similarity(student.numpy(), target.numpy(), data_range=1, channel_axis=0, **options))
    torch.testing.assert_close(1 - ssim(student[None], target[None]).item(), theirs.item(), atol=1e-5, rtol=0)


def test_ssim_depends_on_contrast_only_through_the_data_range():
    student, target = torch.rand(2, 1, 1, 16, 16)
    torch.testing.assert_close(ssim(255 * student, 255 * target, data_range=255.0), ssim(student, target))


def test_ssim_keeps_single_precision_under_autocast_and_has_a_gradient():
    student, target = torch.rand(2, 1, 3, 16, 16)
    expected = ssim(student, target)
    student.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = ssim(student, target)
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected)
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


def test_ssim_refuses_other_shapes_and_small_images():
    with pytest.raises(ShapeError, match=r"at least 11 x 11 pixels, got \(1, 3, 10, 20\)"):
        ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))
    with pytest.raises(ShapeError, match="ssim: shapes must be equal"):
        ssim(torch.zeros(1, 1, 12, 12), torch.zeros(1, 3, 12, 12))
    with pytest.raises(RecipeError, match="data_range must be above 0, got 0"):
        ssim(torch.zeros(1, 1, 12, 12), torch.zeros(1, 1, 12, 12), data_range=0)


def test_ssim_of_a_bright_flat_image_is_not_lost_in_rounding():
    bright = torch.full((1, 1, 12, 12), 3000.3)
    assert ssim(bright, bright).abs() < 1e-6


@pytest.mark.parametrize("contrast", [1.0, 1e2, 1e3, 1e4, 1e5, 1e6])
def test_ssim_is_not_lost_in_rounding_at_contrasts_far_beyond_the_data_range(contrast):
    halves = contrast * torch.rand(2, 8, 1, 1, 2).repeat_interleave(20, dim=-1)
    student, image = halves.expand(2, 8, 1, 40, 40)
    precise = ssim(student.double(), image.double())
    torch.testing.assert_close(ssim(student, image).double(), precise, atol=1e-4, rtol=0)
    assert ssim(image, image) == 0


def test_ms_ssim_of_flat_images_is_their_luminance_at_the_last_scale():
    dark, bright = torch.full((1, 2, 176, 180), 0.2), torch.full((1, 2, 176, 180), 0.6)
    luminance = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    torch.testing.assert_close(ms_ssim(dark, bright), torch.tensor(1 - luminance**0.1333), atol=1e-5, rtol=0)


def test_ms_ssim_of_checkerboards_is_their_structure_at_the_first_scale():
    squares = (torch.arange(176)[:, None] + torch.arange(176)) % 2 * 2 - 1.0  # gone at half the size
    weak, strong = 0.5 + 0.1 * squares[None, None], 0.5 + 0.3 * squares[None, None]
    structure = (2 * 0.1 * 0.3 + 9e-4) / (0.1**2 + 0.3**2 + 9e-4)
    torch.testing.assert_close(ms_ssim(weak, strong), torch.tensor(1 - structure**0.0448), atol=1e-5, rtol=0)


def test_ms_ssim_of_an_image_and_its_negative_is_finite_and_near_one():
    noise = [torch.rand(1, 1, 176 // 2**k, 176 // 2**k).repeat_interleave(2**k, 2) for k in range(5)]
    image = sum(part.repeat_interleave(2**k, 3) for k, part in enumerate(noise)) / 5  # detail at every scale
    student = (1 - image).requires_grad_()
    loss = ms_ssim(student, image)
    loss.backward()
    floor = 1e-4 ** (0.0448 + 0.2856 + 0.3001 + 0.2363 + 0.1333)  # at every scale they are opposites
    torch.testing.assert_close(loss.detach(), torch.tensor(1 - floor), atol=1e-6, rtol=0)
    assert student.grad.isfinite().all()


def test_ms_ssim_refuses_small_images():
    with pytest.raises(ShapeError, match=r"ms_ssim: .* of at least 176 x 176 pixels, got \(1, 3, 175, 300\)"):
        ms_ssim(torch.zeros(1, 3, 175, 300), torch.zeros(1, 3, 175, 300))
    with pytest.raises(RecipeError, match="ms_ssim: data_range must be above 0, got 0"):
        ms_ssim(torch.zeros(1, 1, 176, 176), torch.zeros(1, 1, 176, 176), data_range=0)


def test_gradient_by_hand():
    edge = torch.tensor([[[[0.0, 1.0], [0.0, 4.0]]]])  # across: 1 and 4; down: 0 and 3
    torch.testing.assert_close(gradient(edge, torch.zeros_like(edge)), torch.tensor((5 / 2 + 3 / 2) / 2))
    assert gradient(edge + 0.5, edge) == 0  # brightness does not count


def test_gradient_needs_neighbours():
    with pytest.raises(
        ShapeError, match=r"gradient: it needs images \(n, c, h, w\) of at least 2 x 2 pixels, got \(1, 1, 1, 5\)"
    ):
        gradient(torch.zeros(1, 1, 1, 5), torch.zeros(1, 1, 1, 5))


def test_fourier_amplitude_by_hand():
    black, point, flat = (
        torch.zeros(1, 1, 2, 2),
        torch.tensor([[[[4.0, 0.0], [0.0, 0.0]]]]),
        torch.full((1, 1, 2, 2), 3.0),
    )
    torch.testing.assert_close(fourier_amplitude(point, black), torch.tensor(2.0))  # 4 / sqrt(4) at each frequency
    torch.testing.assert_close(fourier_amplitude(flat, black), torch.tensor(6.0 / 4))  # 12 / sqrt(4) at frequency 0


def test_fourier_amplitude_ignores_a_shift():
    image = torch.rand(2, 3, 7, 8)
    assert fourier_amplitude(image.roll((2, 3), dims=(2, 3)), image) < 1e-6


@pytest.mark.parametrize("loss", [ssim, ms_ssim, gradient, fourier_amplitude])
def test_tensors_that_are_not_images_are_refused(loss):
    with pytest.raises(ShapeError, match=rf"{loss.__name__}: it needs images \(n, c, h, w\) .* got \(200, 200\)"):
        loss(torch.zeros(200, 200), torch.zeros(200, 200))
