import copy
import warnings
from typing import Any

import pytest
import torch

from compresskit.errors import DataError
from zoo.raw import CFA, LMMSEPhase, NormalisedConvolution, PhotographCrops, PhotographFrames, Sensor


def small(**options):
    return LMMSEPhase("quad", radius=3, samples=8000, **options)


def error(model, packed, picture):
    inside = (..., slice(8, -8), slice(8, -8))
    return float(((model(packed[None]) - picture)[inside] ** 2).mean())


def test_in_white_noise_without_colour_the_best_guess_is_the_pixel_itself():
    pictures = [torch.rand(1, 64, 64).expand(3, 64, 64) for _ in range(4)]
    model = small()
    model.fit(pictures)
    centre = torch.zeros(7, 7)
    centre[3, 3] = 1
    torch.testing.assert_close(model.coefficients, centre.view(1, -1).expand(48, -1), atol=1e-3, rtol=0)
    torch.testing.assert_close(model.offsets, torch.zeros(48), atol=1e-3, rtol=0)


def test_it_is_the_least_squares_solution_for_each_place_of_the_tile():
    picture, cfa = torch.rand(3, 32, 32, dtype=torch.float64), CFA.of("bayer")
    model = LMMSEPhase(cfa, radius=1, ridge=0.0, samples=40000).double()
    model.fit([picture])
    # all places of the picture where a window fits, in all eight ways, are all that the fit can draw
    mosaic = cfa.mosaic(picture[None])[0, 0]
    restored = model(cfa.pack(mosaic[None, None]))[0]
    # red at the top-left greens: the residual is nearly at right angles to what the filter sees
    rows, columns = range(2, 30, 2), range(2, 30, 2)
    seen = torch.stack([mosaic[y - 1 : y + 2, x - 1 : x + 2].flatten() for y in rows for x in columns])
    residual = torch.stack([picture[0, y, x] - restored[0, y, x] for y in rows for x in columns])
    assert float((seen.T @ residual / len(residual)).abs().max()) < 0.03
    assert float(residual.var()) == pytest.approx(1 / 12, rel=0.25)  # independent colours: nothing to gain


def test_flat_colours_are_restored(sense):
    pictures = list(torch.rand(40, 3, 1, 1).expand(40, 3, 32, 32))
    model = small()
    model.fit(pictures)
    fresh = torch.tensor([0.3, 0.5, 0.7])[None, :, None, None].expand(1, 3, 32, 32)
    torch.testing.assert_close(model(sense("quad", fresh)), fresh, atol=2e-3, rtol=0)


def test_it_is_far_above_normalised_convolution_on_photographs_of_other_scenes():
    model = LMMSEPhase("qxq", samples=16384)
    model.fit_to(PhotographCrops("bundled:train"))
    ratios = [
        error(NormalisedConvolution("qxq"), packed, picture) / error(model, packed, picture)
        for packed, picture in PhotographFrames("bundled:test")
    ]
    assert min(ratios) > 1.6  # 2 dB


def test_a_fit_is_deterministic_and_needs_no_gradient(folder):
    crops = PhotographCrops(folder, size=48, cfa="quad")
    one, other = small(), small()
    one.fit_to(crops)
    torch.rand(3)
    other.fit_to(crops)
    assert torch.equal(one.coefficients, other.coefficients)
    assert not any(parameter.requires_grad for parameter in one.parameters())


def test_qxq_has_43_392_coefficients():
    assert sum(parameter.numel() for parameter in LMMSEPhase("qxq").parameters()) == 43_392


def test_a_fit_to_noisy_mosaics_is_better_on_noisy_mosaics(folder):
    sensor = Sensor(shot=0.02, read=0.005)
    clean, aware = small(), small()
    clean.fit_to(PhotographCrops(folder, size=48, cfa="quad"))
    aware.fit_to(PhotographCrops(folder, size=48, cfa="quad", sensor=sensor))
    packed, picture = PhotographFrames(folder, cfa="quad", sensor=sensor)[1]
    errors = [float(((model(packed[None])[0] - picture) ** 2).mean()) for model in (clean, aware)]
    assert errors[1] < 0.8 * errors[0]


def test_a_missing_fit_is_an_error_that_names_the_remedy():
    with pytest.raises(DataError, match=r"no filters yet: call fit_to\(dataset\) first, or load a fitted state"):
        small()(torch.rand(1, 4, 8, 8))


def test_shapes_can_be_traced_without_a_fit():
    model = copy.deepcopy(LMMSEPhase("qxq")).to("meta")
    assert model(torch.empty(2, 4, 32, 48, device="meta")).shape == (2, 3, 64, 96)


def test_a_saved_fit_is_loaded(folder):
    fitted, loaded = small(), small()
    fitted.fit_to(PhotographCrops(folder, size=48, cfa="quad"))
    loaded.load_state_dict(fitted.state_dict())
    packed = torch.rand(1, 4, 16, 16)
    assert torch.equal(loaded(packed), fitted(packed))
    loaded.load_state_dict(small().state_dict())
    with pytest.raises(DataError, match="no filters yet"):
        loaded(packed)


@pytest.mark.parametrize("cfa", ["bayer", "quad", "nona-rggb", "qxq"])
def test_a_mosaic_of_one_tile_is_enough(cfa):
    model = LMMSEPhase(cfa, samples=2000)
    model.fit([torch.rand(3, 64, 64)])
    side = model.cfa.period
    assert model(torch.rand(1, 4, side // 2, side // 2)).shape == (1, 3, side, side)


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_trace_and_an_export_are_right_for_other_inputs_and_sizes(folder):
    model = small()
    model.fit_to(PhotographCrops(folder, size=48, cfa="quad"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.trace.* is deprecated", category=FutureWarning)
        traced: Any = torch.jit.trace(model, torch.rand(2, 4, 16, 24))
    sizes = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    exported = torch.export.export(model, (torch.rand(2, 4, 16, 24),), dynamic_shapes=(sizes,)).module()
    packed = torch.rand(3, 4, 32, 8)
    torch.testing.assert_close(traced(packed), model(packed))
    torch.testing.assert_close(exported(packed), model(packed))


def test_data_without_photographs_are_refused():
    with pytest.raises(DataError, match="list has no `photographs` and `sensor`"):
        small().fit_to([1, 2])
    with pytest.raises(DataError, match="cannot be fitted to no photographs"):
        small().fit([])
    with pytest.raises(DataError, match="photographs of at least 12x12 pixels, got one of 8x40"):
        small().fit([torch.rand(3, 8, 40)])
