"""`compresskit demosaic`, from the command line to the files."""

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from compresskit import cli
from zoo.frames import tiled_inference
from zoo.pynet import PyNET, PyNETQxQ
from zoo.raw import CFA, NormalisedConvolution
from zoo.raw.methods.methods import METHODS
from zoo.raw.photographs.read import read_header, read_picture

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(autouse=True)
def _commands(tmp_path, monkeypatch):
    """Register the commands of pyproject.toml, whatever the installed package's metadata say."""

    def entry_points(*, group):
        return [EntryPoint(name, value, group) for name, value in PROJECT["entry-points"][group].items()]

    monkeypatch.setattr(cli, "entry_points", entry_points)
    monkeypatch.chdir(tmp_path)


def demosaic(*arguments):
    return cli.main(["demosaic", *map(str, arguments)])


def words(text):
    return text.split()


def picture(path):
    return read_picture(Path(path), read_header(Path(path)))


@pytest.fixture
def photograph(paint):
    picture = paint(72, 100, 1)
    Image.fromarray(picture).save("a.png")
    return picture


@pytest.fixture
def released():
    """A checkpoint like the published one: prefixed names, instance norm, no recipe."""
    torch.manual_seed(0)
    network = PyNETQxQ(2).eval()
    torch.nn.init.normal_(network.conv_l0_d1.conv2d.weight, std=0.3)
    torch.save({f"module.{name}": tensor for name, tensor in network.state_dict().items()}, "released.pth")
    return network


def psnr(one, other):
    inside = (slice(8, -8), slice(8, -8))
    return -10 * np.log10(((one[inside].astype(float) - other[inside]) ** 2).mean() / 255**2)


ARRAYS = ["bayer-rggb", "quad-bggr", "nona", "qxq-gbrg"]
COMBINATIONS = (
    [(method, "quad-bggr") for method in METHODS] + [("nc", cfa) for cfa in ARRAYS] + [("lmmse", cfa) for cfa in ARRAYS]
)


@pytest.mark.parametrize(("method", "cfa"), sorted(set(COMBINATIONS)))
def test_every_method_restores_a_photograph_in_every_array(photograph, method, cfa, capsys, monkeypatch):
    monkeypatch.setattr("zoo.raw.methods.methods.LMMSEPhase", _quick_lmmse)
    assert demosaic("a.png", "-o", "out", "--mosaic", "--method", method, "--cfa", cfa) == 0
    assert f"out/a_{method}.png  100x72, {CFA.of(cfa).name}, {method}, whole" in capsys.readouterr().out
    flat = photograph.mean((0, 1))[None, None].repeat(72, 0).repeat(100, 1)
    assert psnr(picture(f"out/a_{method}.png"), photograph) > psnr(flat, photograph) + 3


def _quick_lmmse(cfa):
    from zoo.raw import LMMSEPhase

    return LMMSEPhase(cfa, radius=3, samples=4096)


def test_levels_balance_and_defects_of_a_sensors_mosaic():
    # a grey wall under light that is half as red and a quarter as blue
    cfa = CFA.of("quad-rggb")
    light = torch.tensor([0.2, 0.4, 0.1])[None, :, None, None].expand(1, 3, 21, 30)
    numbers = np.round(64 + 959 * cfa.mosaic(light[:, :, :20, :28])[0, 0].numpy()).astype(np.uint16)
    defects = np.zeros(numbers.shape, np.uint8)
    defects[6, 7] = 1
    numbers[6, 7] = 1023
    Image.fromarray(numbers).save("wall.png")
    Image.fromarray(defects).save("map.png")
    options = words("--cfa quad-rggb --black 64 --white 1023 --white-balance 2,1,4 --defects map.png --method nc")
    assert demosaic("wall.png", "-o", "out", "--linear", "--bits", 16, *options) == 0
    np.testing.assert_allclose(picture("out/wall_nc.png") / 65535, 0.4, atol=1e-3)
    assert demosaic("wall.png", "-o", "out", "--to", "npy", *options) == 0
    encoded = 1.055 * 0.4 ** (1 / 2.4) - 0.055
    np.testing.assert_allclose(np.load("out/wall_nc.npy"), encoded, atol=1e-3)


def test_a_bayer_mosaic_has_the_sensors_own_numbers():
    cfa = CFA.of("quad-grbg")
    colours = torch.tensor([0.2, 0.4, 0.9])[None, :, None, None].expand(1, 3, 24, 24)
    np.save("flat.npy", (64 + 900 * cfa.mosaic(colours)[0, 0].numpy()).astype(np.float32))
    options = words("--cfa quad --black 64 --white 964 --white-balance 2,1,4 --method nc --bayer rggb")
    assert demosaic("flat.npy", "-o", "out", *options) == 0
    bayer = np.asarray(Image.open("out/flat_nc_bayer-rggb.png"))
    assert bayer.dtype == np.uint16
    np.testing.assert_allclose(bayer[0::2, 0::2], 64 + 900 * 0.2, atol=1)
    np.testing.assert_allclose(bayer[0::2, 1::2], 64 + 900 * 0.4, atol=1)
    np.testing.assert_allclose(bayer[1::2, 1::2], 64 + 900 * 0.9, atol=1)  # balanced, blue would lie far above white


def test_full_pixels_stay_white_and_black_ones_black():
    Image.fromarray(np.full((16, 16), 1023, np.uint16)).save("full.png")
    Image.fromarray(np.full((16, 16), 64, np.uint16)).save("dark.png")
    options = words("--cfa qxq --black 64 --white 1023 --white-balance 1.9,1,1.5 --method nc")
    assert demosaic("full.png", "dark.png", "-o", "out", *options) == 0
    assert (picture("out/full_nc.png") == 255).all()
    assert (picture("out/dark_nc.png") == 0).all()


@pytest.mark.parametrize("phase", ["grbg", "rggb", "bggr", "gbrg"])
def test_a_network_sees_its_own_phase_whatever_the_sensors_phase(released, phase):
    numbers = CFA.of("qxq").mosaic(torch.rand(1, 3, 64, 80))[0, 0].numpy()
    np.save("own.npy", numbers)
    top, left = {"grbg": (0, 0), "rggb": (0, 4), "bggr": (4, 0), "gbrg": (4, 4)}[phase]
    np.save("cut.npy", numbers[top:, left:])
    options = ["--weights", "released.pth", "--encoded", "--domain", "display", "--to", "npy"]
    assert demosaic("cut.npy", "-o", "out", "--cfa", f"qxq-{phase}", *options) == 0
    assert np.load("out/cut_student.npy").shape == (64 - top, 80 - left, 3)
    if phase == "grbg":
        with torch.no_grad():
            whole = released(CFA.of("qxq").pack(torch.from_numpy(numbers)[None, None]))[0].movedim(0, -1)
        np.testing.assert_allclose(np.load("out/cut_student.npy"), whole, atol=1e-5)


@pytest.mark.usefixtures("released")
def test_published_weights_in_tiles_make_the_whole_frames_picture(monkeypatch, capsys):
    numbers = np.random.default_rng(0).random((330, 301)).astype(np.float32)
    np.save("a.npy", numbers)
    options = ["--weights", "released.pth", "--cfa", "qxq", "--to", "npy"]
    assert demosaic("a.npy", "-o", "whole", *options) == 0
    monkeypatch.setattr(tiled_inference, "bytes_per_pixel", lambda *_: 2**29 / 304 / 288)
    assert demosaic("a.npy", "-o", "tiles", "--memory", 1.0, *options) == 0
    assert "a_student.npy  301x330, qxq-grbg, student, 2 tiles" in capsys.readouterr().out
    np.testing.assert_allclose(np.load("tiles/a_student.npy"), np.load("whole/a_student.npy"), atol=1e-5)


def test_pynet_in_tiles_is_reported_as_approximate(monkeypatch, capsys):
    torch.manual_seed(0)
    torch.save(PyNET(2).state_dict(), "pynet.pth")
    np.save("a.npy", np.random.default_rng(0).random((64, 700)).astype(np.float32))
    options = ["--weights", "pynet.pth", "--cfa", "qxq", "--method", "teacher"]
    assert demosaic("a.npy", "-o", "whole", *options) == 0
    monkeypatch.setattr(tiled_inference, "bytes_per_pixel", lambda *_: 2**29 / 640 / 64)
    monkeypatch.setattr(tiled_inference, "OVERLAP", 64)
    assert demosaic("a.npy", "-o", "tiles", "--memory", 1.0, *options) == 0
    assert "2 tiles, approximate" in capsys.readouterr().out
    whole, tiles = picture("whole/a_teacher.png"), picture("tiles/a_teacher.png")
    assert np.abs(whole.astype(int) - tiles).mean() < 5


MISTAKES = [
    ("a.npy -o out --method nc", "a.npy does not say which array its sensor has: add --cfa"),
    ("n.npy -o out --method nc --cfa qxq", "n: 1 of 256 values are NaN or infinite; map them as defects"),
    ("s.npy -o out --method nc --cfa qxq", "a frame of 3x90 pixels is smaller than one tile of its array, 8x8"),
    ("d.npy -o out --method nc --cfa qxq", "does not say which numbers are black and white: add --black and --white"),
    ("d.npy -o out --method nc --cfa qxq --black 0 --white 1023", "are above the white level 1023, up to "),
    ("a.npy -o out --method nc --cfa qxqx", "there is no CFA 'qxqx'; did you mean 'qxq'?"),
    ("a.npy -o out --method nc --cfa qxq-rgbg", "there is no CFA phase 'rgbg'; did you mean"),
    ("a.npy -o out --method nx --cfa qxq", "--method: there is no 'nx'"),
    (
        "a.npy -o out --cfa quad",
        "the method is for CFA(qxq-grbg), the mosaic is of CFA(quad-grbg)",
    ),
    ("a.npy -o out --weights zoo:pynt --cfa qxq", "the package 'zoo' has no weights 'pynt'; did you mean 'pynet'"),
    (
        "a.npy -o out --weights released.pth --cfa quad",
        "the method is for CFA(qxq-grbg), the mosaic is of CFA(quad-grbg)",
    ),
    ("a.npy -o out --weights gone.pth --cfa qxq", "no file 'gone.pth'"),
    ("a.npy a.npy -o out --method nc --cfa qxq", "a.npy and a.npy would both be written to out/a_nc.png"),
    ("a.npy -o a.npy --method nc --cfa qxq", "a.npy cannot be made a folder"),
    ("gone.npy -o out --method nc --cfa qxq", "gone.npy does not exist"),
    ("a.npy -o out --method nc --cfa qxq --size 4x4", "binary mosaics need both --packing and --size"),
    ("a.npy -o out --method nc --cfa qxq --packing raw10 --size 4x4", "has a header"),
    ("r.raw -o out --method nc --cfa qxq --packing raw10 --size 4by4", "--size is width x height in pixels"),
    ("r.raw -o out --method nc --cfa qxq", "has no header: say how it is packed"),
    ("a.npy -o out --method nc --cfa qxq --white-balance 1,2", "--white-balance is three gains"),
    ("a.npy -o out --method nc --cfa qxq --encoded --white-balance 2,1,2", "white balance is for linear values"),
    ("a.npy -o out --method nc --cfa qxq --device gpu", "--device gpu: Expected one of cpu, cuda"),
    ("a.npy -o out --method nc --cfa qxq --bits 12", "--bits is 8 or 16, got 12"),
    (
        "big.npy -o out --method nc --cfa qxq --memory 0.4",
        "0.4 GiB are too few: the smallest tile, 64x64 pixels, takes 0.50 GiB",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
@pytest.mark.usefixtures("released")
def test_mistakes_are_one_sentence_and_leave_nothing(arguments, message, capsys):
    rng = np.random.default_rng(0)
    np.save("a.npy", rng.random((16, 16)).astype(np.float32))
    np.save("n.npy", np.where(np.arange(256).reshape(16, 16) == 9, np.nan, 0.5))
    np.save("s.npy", rng.random((3, 90)))
    np.save("d.npy", rng.integers(0, 4001, (16, 16)).astype(np.uint16))
    np.save("big.npy", np.full((600, 600), 100, np.uint8))
    Path("r.raw").write_bytes(bytes(20))
    assert demosaic(*arguments.split()) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.strip().splitlines()) == 1
    assert not Path("out").exists() or list(Path("out").iterdir()) == []


@pytest.mark.usefixtures("photograph")
def test_a_file_is_replaced_only_with_overwrite(capsys):
    arguments = ("a.png", "-o", "out", "--mosaic", "--method", "nc", "--cfa", "bayer")
    assert demosaic(*arguments) == 0
    before = Path("out/a_nc.png").read_bytes()
    Path("out/a_nc.png").write_bytes(before[:-1])
    assert demosaic(*arguments) == 2
    assert "exists already; add --overwrite" in capsys.readouterr().err
    assert demosaic(*arguments, "--overwrite") == 0
    assert Path("out/a_nc.png").read_bytes() == before


@pytest.mark.usefixtures("photograph")
def test_a_full_disk_exits_with_1_and_leaves_no_part(monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.frames.writing._chunk", full)
    assert demosaic("a.png", "-o", "out", "--mosaic", "--method", "nc") == 1
    assert "the disk is full" in capsys.readouterr().err
    assert list(Path("out").iterdir()) == []


def test_the_user_overrides_the_files_array_and_is_told_so(tmp_path, dng, capsys):
    pytest.importorskip("rawpy")
    dng(tmp_path / "a.dng", np.full((64, 96), 500, np.uint16), ("GR", "BG"), orientation=6)
    assert demosaic("a.dng", "-o", "out", "--method", "nc", "--cfa", "quad") == 0
    assert "a.dng: taken as quad-grbg, though the file says bayer-grbg" in capsys.readouterr().err
    assert picture("out/a_nc.png").shape == (96, 64, 3)  # upright


def test_a_frame_that_is_very_dark_causes_a_warning(capsys):
    np.save("a.npy", np.full((16, 16), 1000, np.uint16))
    assert demosaic("a.npy", "-o", "out", "--method", "nc", "--cfa", "qxq", "--black", 0, "--white", 65535) == 0
    assert "its brightest value is 1.5% of the way from black to white" in capsys.readouterr().err


@pytest.mark.usefixtures("photograph")
def test_a_run_with_weights_supplies_its_recipe():
    torch.manual_seed(0)
    network = PyNETQxQ(2, instance_norm_level_1=False, skip=NormalisedConvolution("qxq"))
    Path("run").mkdir()
    save_file(network.state_dict(), "run/student.safetensors")
    Path("run/recipe.yaml").write_text(
        "student: {_target_: zoo.pynet.PyNETQxQ, width: 2, instance_norm_level_1: false, "
        "skip: {_target_: zoo.raw.NormalisedConvolution}}\ndata: {train: {_target_: zoo.raw.PhotographCrops}}\n"
    )
    for weights, folder in (("run", "one"), ("run/student.safetensors", "two")):
        assert demosaic("a.png", "-o", folder, "--mosaic", "--weights", weights) == 0
    assert demosaic("a.png", "-o", "skip", "--mosaic", "--method", "nc") == 0
    assert Path("one/a_student.png").read_bytes() == Path("two/a_student.png").read_bytes()
    assert np.array_equal(picture("one/a_student.png"), picture("skip/a_nc.png"))  # untrained, it is its skip


@pytest.mark.usefixtures("_units")
@pytest.mark.parametrize("precision", ["bf16", "auto"])
def test_bf16_makes_nearly_the_same_picture(precision, photograph, capsys):
    torch.manual_seed(0)
    network = PyNETQxQ(4, instance_norm_level_1=False)
    torch.nn.init.normal_(network.conv_l0_d1.conv2d.weight, std=0.3)
    torch.save(network.state_dict(), "released.pth")
    options = ("a.png", "--mosaic", "--weights", "released.pth")
    assert demosaic(*options, "-o", "fp32") == demosaic(*options, "-o", "bf16", "--precision", precision) == 0
    assert capsys.readouterr().out.count(", bf16, ") == 1
    full, half = picture("fp32/a_student.png"), picture("bf16/a_student.png")
    assert not np.array_equal(full, half)
    assert psnr(half, photograph) == pytest.approx(psnr(full, photograph), abs=0.02)


@pytest.mark.usefixtures("_units", "photograph")
def test_a_conventional_method_has_no_bf16(capsys):
    assert demosaic("a.png", "--mosaic", "--method", "nc", "--cfa", "quad-rggb", "-o", "o", "--precision", "bf16") == 2
    assert "--precision bf16 is for networks, and nc is none" in capsys.readouterr().err


@pytest.mark.usefixtures("photograph", "released")
def test_a_processor_without_units_works_in_float32(monkeypatch, capsys):
    monkeypatch.setattr("zoo.frames.method.has_bfloat16_units", lambda: False)
    options = ("a.png", "--mosaic", "--weights", "released.pth")
    assert demosaic(*options, "-o", "fp32") == demosaic(*options, "-o", "bf16", "--precision", "bf16") == 0
    output = capsys.readouterr()
    assert ", bf16, " not in output.out
    assert "no bfloat16 units, so the network runs in float32" in output.err
    assert np.array_equal(picture("fp32/a_student.png"), picture("bf16/a_student.png"))


@pytest.fixture
def _units(monkeypatch):
    """A processor with bfloat16 units."""
    monkeypatch.setattr("zoo.frames.method.has_bfloat16_units", lambda: True)
