import pytest
import torch
from PIL import Image

from compresskit.data import SampleId
from compresskit.errors import DataError, RecipeError, ShapeError
from zoo.raw import CFA, PhotographCrops, PhotographFrames, Sensor
from zoo.raw.photographs.photographs import turn


def test_a_sample_is_a_packed_mosaic_and_the_picture_that_it_shows(folder):
    crops = PhotographCrops(folder, size=48, crops_per_photograph=4, cfa="quad-rggb")
    assert len(crops) == 12
    for index in range(len(crops)):
        packed, picture = crops[index]
        assert (packed.shape, packed.dtype) == ((4, 24, 24), torch.float32)
        assert (picture.shape, picture.dtype) == ((3, 48, 48), torch.float32)
        assert torch.equal(CFA.of("quad-rggb").unpack(packed[None]), CFA.of("quad-rggb").mosaic(picture[None]))


def test_a_sample_is_a_function_of_seed_index_and_epoch(folder):
    crops, again = (PhotographCrops(folder, size=48, sensor=Sensor(shot=0.01)) for _ in range(2))
    crops[SampleId(5, epoch=1, seed=3)]  # earlier samples do not matter
    sample = crops[SampleId(7, epoch=2, seed=3)]
    assert all(map(torch.equal, sample, again[SampleId(7, epoch=2, seed=3)]))
    for other in (SampleId(7, epoch=1, seed=3), SampleId(7, epoch=2, seed=4), SampleId(6, epoch=2, seed=3)):
        assert not torch.equal(sample[1], again[other][1])


def test_the_same_crops_come_again_after_so_many_variants(folder):
    crops = PhotographCrops(folder, size=48, variants=2)
    first, second, third = (crops[SampleId(3, epoch=epoch)][1] for epoch in range(3))
    assert torch.equal(first, third)
    assert not torch.equal(first, second)


def test_a_crop_lies_inside_the_photograph_of_its_index(folder):
    crops = PhotographCrops(folder, size=96, crops_per_photograph=3, flips=False)
    photograph = crops.photographs[0]  # 96 x 120: only the column is free
    for index in range(3):
        picture = crops[index][1]
        assert any(torch.equal(photograph[:, :, left : left + 96], picture) for left in range(25))


def test_crops_are_shown_in_all_eight_flips_and_turns(tmp_path, paint):
    Image.fromarray(paint(24, 24)).save(tmp_path / "p.png")
    crops = PhotographCrops(tmp_path, size=24)
    seen = [crops[SampleId(0, epoch=epoch)][1] for epoch in range(80)]
    ways = [turn(crops.photographs[0], way) for way in range(8)]
    assert {next(way for way in range(8) if torch.equal(ways[way], picture)) for picture in seen} == set(range(8))
    upright = PhotographCrops(tmp_path, size=24, flips=False)
    assert all(torch.equal(upright[SampleId(0, epoch=epoch)][1], ways[0]) for epoch in range(20))


def test_more_candidates_show_more_detail(tmp_path, paint):
    picture = paint(64, 256)
    picture[:, 64:] = 128  # three quarters are flat
    Image.fromarray(picture).save(tmp_path / "p.png")

    def flat(candidates):
        crops = PhotographCrops(tmp_path, size=32, crops_per_photograph=60, candidates=candidates)
        return sum(float(crops[index][1].std()) < 0.01 for index in range(60))

    assert flat(1) > 30
    assert flat(6) < 20


def test_the_sensor_changes_the_mosaic_and_not_the_picture(folder):
    clean = PhotographCrops(folder, size=48)[4]
    noisy = PhotographCrops(folder, size=48, sensor=Sensor(shot=0.01, read=0.001))[4]
    assert torch.equal(clean[1], noisy[1])
    assert 0.01 < float((clean[0] - noisy[0]).std()) < 0.2


def test_frames_are_whole_photographs_cut_to_multiples_of_24(folder):
    frames = PhotographFrames(folder, cfa="nona")
    assert frames.names == ["a", "b", "c"]
    assert frames.sizes == [(96, 120), (120, 120), (96, 144)]
    for index, (height, width) in enumerate(frames.sizes):
        packed, picture = frames[index]
        assert packed.shape == (4, height // 2, width // 2)
        assert torch.equal(picture, frames.photographs[index][:, :height, :width])
        assert torch.equal(packed, CFA.of("nona").pack(CFA.of("nona").mosaic(picture[None]))[0])


def test_frames_have_the_same_noise_each_time(folder):
    frames = PhotographFrames(folder, sensor=Sensor(shot=0.01))
    assert torch.equal(frames[1][0], frames[1][0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 100}, ShapeError, "crops of CFA(qxq-grbg): height and width must be multiples of 8, got 100x100"),
        ({"size": 100, "cfa": "nona"}, ShapeError, "nearest: 96x96 or 102x102"),
        ({"size": 112}, DataError, "a.png is 96x120 pixels (height x width), smaller than 112x112"),
        ({"crops_per_photograph": 0}, RecipeError, "crops_per_photograph must be a whole number of at least 1, got 0"),
        ({"cfa": "qxqx"}, RecipeError, "there is no CFA 'qxqx'; did you mean 'qxq'?"),
        ({"unusable": "ignore"}, RecipeError, "unusable must be 'refuse' or 'skip', got 'ignore'"),
    ],
)
def test_an_impossible_option_is_refused(options, error, message, folder):
    with pytest.raises(error) as caught:
        PhotographCrops(folder, **({"size": 48} | options))
    assert message in str(caught.value)


def test_a_limit_takes_the_first_photographs(folder):
    assert PhotographFrames(folder, limit=2).names == ["a", "b"]
    with pytest.raises(RecipeError, match="limit must be a whole number of at least 1, or none, got 0"):
        PhotographFrames(folder, limit=0)
