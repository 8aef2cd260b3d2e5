import numpy as np
import pytest
import torch

from compresskit.data import SampleId
from compresskit.errors import RecipeError, ShapeError
from zoo.raw import CFA, LMMSEPhase, PhotographCrops, PhotographFrames, Sensor
from zoo.raw.sensor.imperfections import apply_defects, apply_gains, crosstalk, unequal_greens

EXACT = {"black": 0, "white": 65535, "bits": 16}


def generator():
    return np.random.default_rng(0)


def colours(cfa, red, green, blue, side=24):
    return CFA.of(cfa).mosaic(torch.tensor([red, green, blue])[None, :, None, None].expand(1, 3, side, side))


def test_crosstalk_gives_a_quarter_of_the_share_to_each_neighbour():
    mosaic = torch.zeros(1, 1, 8, 8)
    mosaic[..., 3, 4] = 1.0
    expected = torch.zeros(8, 8)
    expected[3, 4] = 0.8
    expected[2, 4] = expected[4, 4] = expected[3, 3] = expected[3, 5] = 0.05
    torch.testing.assert_close(crosstalk(mosaic, CFA.of("bayer"), 0.2)[0, 0], expected)


def test_crosstalk_tints_the_outer_pixels_of_a_block_and_not_the_inner_ones():
    seen = crosstalk(colours("qxq", 0.0, 1.0, 0.0), CFA.of("qxq"), 0.04)[0, 0]
    # the tile at row 8, column 8 begins with a green block, whose neighbours are all red or blue, so black
    expected = torch.tensor(
        [[0.98, 0.99, 0.99, 0.98], [0.99, 1.0, 1.0, 0.99], [0.99, 1.0, 1.0, 0.99], [0.98, 0.99, 0.99, 0.98]]
    )
    torch.testing.assert_close(seen[8:12, 8:12], expected)
    torch.testing.assert_close(seen[:4, :4], expected)  # and at the sensor's corner


@pytest.mark.parametrize("cfa", ["bayer-rggb", "quad", "nona-gbrg", "qxq-bggr"])
def test_greens_of_red_rows_are_brighter_by_the_difference(cfa):
    cfa = CFA.of(cfa)
    seen = unequal_greens(colours(cfa, 0.2, 0.5, 0.8), cfa, 0.02)
    blue, of_red, red, of_blue = cfa.pack(seen)[0]
    for plane, value in ((blue, 0.8), (of_red, 0.505), (red, 0.2), (of_blue, 0.495)):
        torch.testing.assert_close(plane, torch.full_like(plane, value))


def test_gains_belong_to_places_of_the_tile():
    gains = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    seen = apply_gains(torch.ones(1, 1, 4, 6), gains, CFA.of("bayer"))[0, 0]
    assert seen.tolist() == [[1, 2, 1, 2, 1, 2], [3, 4, 3, 4, 3, 4]] * 2
    with pytest.raises(ShapeError, match="must be 8x8, one for each place in the tile, got 2x2"):
        apply_gains(torch.ones(1, 1, 8, 8), gains, CFA.of("qxq"))


def test_stuck_pixels_are_black_or_white():
    dead, hot = torch.tensor([True, False, False]), torch.tensor([False, True, False])
    seen = apply_defects(torch.full((1, 1, 1, 3), 0.5), dead.view(1, 1, 1, 3), hot.view(1, 1, 1, 3))
    assert seen.flatten().tolist() == [0.0, 1.0, 0.5]


def test_a_sensor_has_crosstalk_unequal_greens_and_gains_in_this_order():
    gains = (1 + 0.01 * torch.arange(16.0).view(4, 4)).tolist()
    sensor = Sensor(crosstalk=0.04, green_imbalance=0.02, gains=gains, **EXACT)
    cfa, mosaic = CFA.of("quad"), colours("quad", 0.2, 0.4, 0.6)
    expected = apply_gains(unequal_greens(crosstalk(mosaic, cfa, 0.04), cfa, 0.02), torch.tensor(gains), cfa)
    torch.testing.assert_close(sensor(mosaic, generator(), cfa), expected, atol=1e-4, rtol=0)


def test_drawn_gains_repeat_with_the_tile_and_have_their_deviation():
    sensor = Sensor(gains=0.02, **EXACT)
    seen = sensor(torch.full((1, 1, 24, 24), 0.5), generator(), CFA.of("qxq"))[0, 0]
    torch.testing.assert_close(seen[:8, :8], seen[16:, 8:16])
    assert float(seen[:8, :8].std()) == pytest.approx(0.5 * 0.02, rel=0.25)  # 64 draws


def test_rows_have_an_offset_of_their_own():
    seen = Sensor(rows=0.05, **EXACT)(torch.full((1, 1, 400, 8), 0.5), generator())[0, 0]
    torch.testing.assert_close(seen, seen[:, :1].expand(-1, 8))
    assert float(seen[:, 0].std()) == pytest.approx(0.05, rel=0.15)


def test_the_share_of_stuck_pixels_is_that_of_the_sensor():
    seen = Sensor(defects=0.1, **EXACT)(torch.full((1, 1, 200, 200), 0.5), generator())
    assert float((seen == 0).float().mean()) == pytest.approx(0.05, rel=0.1)
    assert float((seen == 1).float().mean()) == pytest.approx(0.05, rel=0.1)


def test_each_sample_draws_its_own_value_from_a_range():
    draws, sensor = generator(), Sensor(crosstalk=[0.0, 0.2], **EXACT)
    corners = [float(sensor(colours("qxq", 0.0, 1.0, 0.0), draws, CFA.of("qxq"))[0, 0, 0, 0]) for _ in range(30)]
    assert 0.9 < min(corners) < 0.93 < 0.97 < max(corners) < 1.0  # 1 - share / 2


def test_noise_does_not_depend_on_imperfections_that_are_off():
    mosaic = torch.rand(1, 1, 8, 8)
    plain = Sensor(shot=1e-3)(mosaic, generator())
    assert torch.equal(plain, Sensor(shot=1e-3)(mosaic, generator(), CFA.of("qxq")))


def test_random_numbers_depend_on_the_sample_and_the_epoch_alone(folder):
    sensor = Sensor(shot=(1e-4, 1e-2), read=None, crosstalk=(0.0, 0.1), gains=0.02, rows=0.01, defects=0.01)
    crops = PhotographCrops(folder, size=48, sensor=sensor)
    one, again, later = crops[SampleId(1, 2, 3)], crops[SampleId(1, 2, 3)], crops[SampleId(1, 3, 3)]
    assert torch.equal(one[0], again[0])
    assert not torch.equal(one[0], later[0])
    frames = PhotographFrames(folder, sensor=sensor)
    assert torch.equal(frames[0][0], frames[0][0])


def test_a_fit_to_an_uneven_sensor_is_better_on_its_mosaics(folder):
    sensor = Sensor(crosstalk=0.3, green_imbalance=0.2, **EXACT)
    model, blind = (LMMSEPhase("quad", radius=3, samples=8000) for _ in range(2))
    model.fit_to(PhotographCrops(folder, size=48, cfa="quad", sensor=sensor))
    blind.fit_to(PhotographCrops(folder, size=48, cfa="quad"))
    packed, picture = PhotographFrames(folder, cfa="quad", sensor=sensor)[1]
    inside = (slice(None), slice(8, -8), slice(8, -8))
    errors = [(fit(packed[None])[0] - picture)[inside].square().mean() for fit in (model, blind)]
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crosstalk": 1.5}, "crosstalk must be from 0 to 1, or a range (low, high), got 1.5"),
        ({"crosstalk": [0.2, 0.1]}, "crosstalk must be from 0 to 1, or a range (low, high), got [0.2, 0.1]"),
        ({"green_imbalance": [0.1]}, "green_imbalance must be a number or a range (low, high), got [0.1]"),
        ({"gains": -0.1}, "gains must be a deviation of at least 0, or rows of a gain for each place, got -0.1"),
        ({"gains": [[1.0, 1.0], [1.0]]}, "rows of a gain for each place, got [[1.0, 1.0], [1.0]]"),
        ({"rows": -1.0}, "rows must be at least 0 and defects from 0 to 1"),
        ({"defects": 2.0}, "rows must be at least 0 and defects from 0 to 1"),
    ],
)
def test_an_impossible_sensor_is_refused(options, message):
    with pytest.raises(RecipeError) as caught:
        Sensor(**options)
    assert message in str(caught.value)


def test_an_uneven_sensor_without_the_array_is_refused():
    with pytest.raises(RecipeError, match="crosstalk, green_imbalance or gains needs the CFA"):
        Sensor(gains=0.01)(torch.rand(1, 1, 8, 8), generator())
