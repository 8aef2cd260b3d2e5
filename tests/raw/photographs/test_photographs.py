import pickle
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from compresskit.errors import DataError, RecipeError
from zoo.raw import Photographs


def write_png_16(path, picture):
    """A 16-bit PNG, which Pillow cannot write."""
    height, width, _ = picture.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in picture)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_pictures_come_in_the_order_of_their_paths_from_subfolders_too(folder):
    (folder / "b").mkdir()
    (folder / "a.png").rename(folder / "b" / "z.png")
    (folder / ".hidden.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either")
    photographs = Photographs(folder)
    assert photographs.names == ["b/z", "b", "c"]
    assert photographs.sizes == [(96, 120), (128, 128), (104, 150)]
    assert [tuple(picture.shape) for picture in photographs] == [(3, 96, 120), (3, 128, 128), (3, 104, 150)]


@pytest.mark.parametrize(
    ("name", "options"),
    [("p.png", {}), ("p.webp", {"lossless": True}), ("p.tif", {}), ("p.TIFF", {"compression": "tiff_lzw"})],
)
def test_8_bit_formats_give_the_values_over_255(name, options, tmp_path, paint):
    picture = paint(20, 30)
    Image.fromarray(picture).save(tmp_path / name, **options)
    expected = torch.from_numpy(picture).permute(2, 0, 1) / 255
    torch.testing.assert_close(Photographs(tmp_path)[0], expected)


def test_a_jpeg_is_near_its_original(tmp_path):
    smooth = np.broadcast_to(np.arange(0, 240, 8, dtype=np.uint8)[:, None, None], (30, 40, 3))
    Image.fromarray(smooth.copy()).save(tmp_path / "p.jpg", quality=95)
    expected = torch.from_numpy(smooth.copy()).permute(2, 0, 1) / 255
    torch.testing.assert_close(Photographs(tmp_path)[0], expected, atol=0.02, rtol=0)


def test_16_bit_values_are_kept_to_the_last_bit(tmp_path):
    picture = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    write_png_16(tmp_path / "a.png", picture)
    tifffile.imwrite(tmp_path / "b.tif", picture, photometric="rgb")
    tifffile.imwrite(tmp_path / "c.tif", picture, photometric="rgb", compression="zlib")
    tifffile.imwrite(tmp_path / "d.tif", picture, photometric="rgb", byteorder=">", tile=(16, 16))
    expected = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1) / 65535
    photographs = Photographs(tmp_path)
    assert len(photographs) == 4
    for photograph in photographs:
        assert torch.equal(photograph, expected)


def test_separate_planes_of_16_bits_are_refused(tmp_path):
    planes = np.zeros((3, 20, 30), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "p.tif", planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(DataError, match=r"p\.tif is a TIFF of separate planes of 16 bits; save it with interleaved"):
        Photographs(tmp_path)


def test_an_alpha_channel_is_left_out(tmp_path, paint):
    picture = paint(20, 30)
    Image.fromarray(np.dstack([picture, np.full((20, 30), 9, np.uint8)])).save(tmp_path / "p.png")
    torch.testing.assert_close(Photographs(tmp_path)[0], torch.from_numpy(picture).permute(2, 0, 1) / 255)


def test_a_photograph_taken_upright_stands_upright(tmp_path, paint):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(paint(24, 40)).save(tmp_path / "p.jpg", exif=exif)
    photographs = Photographs(tmp_path)
    assert photographs.sizes == [(40, 24)]
    assert photographs[0].shape == (3, 40, 24)


def test_a_crop_is_a_part_of_the_picture(folder):
    photographs = Photographs(folder)
    assert torch.equal(photographs.crop(1, 10, 20, 30, 40), photographs[1][:, 10:40, 20:60])


def test_photographs_beyond_the_memory_are_decoded_at_each_access(folder):
    resident, decoded = Photographs(folder), Photographs(folder, memory=0.0)
    for one, other in zip(resident, decoded, strict=True):
        assert torch.equal(one, other)


def test_a_pickle_has_no_pictures_and_its_copy_decodes_the_same_ones(folder):
    photographs = Photographs(folder)
    pickled = pickle.dumps(photographs)
    assert len(pickled) < 5000
    assert torch.equal(pickle.loads(pickled)[2], photographs[2])


def test_the_bundled_sides_show_different_scenes():
    train, test = Photographs("bundled:train"), Photographs("bundled:test")
    scenes = [{name.removesuffix("_left").removesuffix("_right") for name in side.names} for side in (train, test)]
    assert not scenes[0] & scenes[1]
    assert len(train) >= 5
    assert len(test) >= 3


def cut(path, _paint=None):
    path.write_bytes(path.read_bytes()[:-400])


def grey(path, paint):
    Image.fromarray(paint(128, 128)).convert("L").save(path)


def small(path, paint):
    Image.fromarray(paint(128, 60)).save(path)


def nonsense(path, _paint=None):
    path.write_bytes(b"nonsense")


SPOILT = [
    (cut, "b.png cannot be"),
    (nonsense, "b.png cannot be read as a photograph"),
    (grey, "b.png is not a colour photograph (its mode is L)"),
    (small, "b.png is 128x60 pixels (height x width), smaller than 96x96"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_an_unusable_photograph_is_named(spoil, message, folder, paint):
    spoil(folder / "b.png", paint)
    with pytest.raises(DataError) as caught:
        Photographs(folder, smallest=96)
    assert message in str(caught.value)
    assert "unusable: skip" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spoil", [spoil for spoil, _ in SPOILT])
def test_an_unusable_photograph_can_be_skipped_with_a_warning(spoil, folder, paint):
    spoil(folder / "b.png", paint)
    with pytest.warns(UserWarning, match="left out: .*b.png"):
        photographs = Photographs(folder, smallest=96, unusable="skip")
    assert photographs.names == ["a", "c"]
    assert photographs[1].shape == (3, 104, 150)


def test_a_jpeg_cut_short_is_refused_too(tmp_path, paint):
    Image.fromarray(paint(128, 128)).save(tmp_path / "p.jpg")
    cut(tmp_path / "p.jpg")
    with pytest.raises(DataError, match=r"p\.jpg cannot be decoded"):
        Photographs(tmp_path)


def test_a_damaged_photograph_beyond_the_memory_is_named_at_its_first_access(folder, tmp_path, paint):
    Image.fromarray(paint(128, 128)).save(tmp_path / "d.jpg")
    cut(tmp_path / "d.jpg")
    photographs = Photographs(folder, memory=0.0)
    with pytest.raises(DataError, match=r"d\.jpg cannot be decoded"):
        photographs[photographs.names.index("d")]


def test_several_unusable_photographs_are_counted(folder):
    for name in "abc":
        nonsense(folder / f"{name}.png")
    with pytest.raises(DataError, match="2 more files cannot be used either"):
        Photographs(folder)
    with pytest.warns(UserWarning, match="left out"), pytest.raises(DataError, match="none of the 3 photographs"):
        Photographs(folder, unusable="skip")


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("nowhere", DataError, "the folder of photographs 'nowhere' does not exist"),
        ("bundled:trian", RecipeError, "there are no photographs 'bundled:trian'; did you mean 'bundled:train'"),
    ],
)
def test_a_source_that_does_not_exist_is_named(source, error, message):
    with pytest.raises(error) as caught:
        Photographs(source)
    assert message in str(caught.value)


def test_an_empty_folder_and_a_file_are_no_source(folder):
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"there are no photographs in .*empty"):
        Photographs(folder / "empty")
    with pytest.raises(DataError, match=r"a\.png' is a file"):
        Photographs(folder / "a.png")


@pytest.mark.usefixtures("unchecked_shapes")
def test_an_unknown_domain_is_refused(folder):
    with pytest.raises(RecipeError, match="there is no domain 'linaer'; did you mean 'linear'"):
        Photographs(folder, domain="linaer")
