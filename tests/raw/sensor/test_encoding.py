import torch

from zoo.raw.sensor.encoding import convert, to_display, to_linear


def test_the_display_curve_has_srgbs_values_and_its_inverse():
    linear = torch.tensor([0.0, 0.0031308, 0.18, 0.5, 1.0])
    expected = torch.tensor([0.0, 0.04045, 0.46135, 0.73536, 1.0])
    torch.testing.assert_close(to_display(linear), expected, atol=1e-4, rtol=0)
    values = torch.linspace(-0.1, 2, 300, dtype=torch.float64)
    torch.testing.assert_close(to_linear(to_display(values)), values, atol=1e-7, rtol=0)
    assert convert(linear, "linear", "linear") is linear
