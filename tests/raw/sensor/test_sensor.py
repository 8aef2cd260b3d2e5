import numpy as np
import pytest
import torch

from compresskit.errors import RecipeError
from zoo.raw import Sensor


def generator():
    return np.random.default_rng(0)


def test_without_noise_only_the_steps_of_the_levels_remain():
    mosaic = torch.tensor([0.0, 0.25, 0.5, 1.0])
    span = 1023 - 64
    expected = torch.tensor([0.0, round(0.25 * span) / span, round(0.5 * span) / span, 1.0])
    torch.testing.assert_close(Sensor()(mosaic, generator()), expected)


@pytest.mark.parametrize("value", [0.2, 0.5, 0.7])
def test_the_variance_is_shot_times_value_plus_read(value):
    sensor = Sensor(shot=0.002, read=0.0004, bits=16, black=6000, white=65535)
    noise = sensor(torch.full((1, 1, 300, 300), value), generator()) - value
    assert float(noise.var()) == pytest.approx(0.002 * value + 0.0004, rel=0.03)
    assert abs(float(noise.mean())) < 1e-3


def test_it_saturates_at_white_and_keeps_noise_below_black():
    sensed = Sensor(read=0.01)(torch.tensor([0.0, 1.0]).repeat(1000), generator())
    assert float(sensed.max()) == 1.0
    assert float(sensed.min()) == pytest.approx(-64 / (1023 - 64))  # digital zero


def test_the_generator_alone_decides_the_noise():
    sensor, mosaic = Sensor(shot=(1e-4, 1e-2), read=None), torch.rand(1, 1, 8, 8)
    assert torch.equal(sensor(mosaic, generator()), sensor(mosaic, generator()))
    assert not torch.equal(sensor(mosaic, generator()), sensor(mosaic, np.random.default_rng(1)))


def test_a_range_gives_each_sample_its_own_noise():
    draws, white = generator(), torch.full((1, 1, 64, 64), 0.5)
    spreads = [float(Sensor(shot=[1e-4, 1e-2])(white, draws).std()) for _ in range(40)]
    assert 0.006 < min(spreads) < 0.012
    assert 0.045 < max(spreads) < 0.075


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shot": -1.0}, "shot must be a variance"),
        ({"shot": [0.0, 0.1]}, "shot must be a variance"),
        ({"shot": [0.1]}, "shot must be a variance"),
        ({"read": -1.0}, "read must be a variance of at least 0, or none, got -1.0"),
        ({"read": None}, "read: none follows shot, which must then be above 0"),
        ({"white": 1024}, "black must be below white, white below 2 ** bits; got 64, 1024 and 10 bits"),
    ],
)
def test_an_impossible_sensor_is_refused(options, message):
    with pytest.raises(RecipeError) as caught:
        Sensor(**options)
    assert message in str(caught.value)
