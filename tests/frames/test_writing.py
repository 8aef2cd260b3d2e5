import errno

import numpy as np
import pytest
import tifffile
from PIL import Image

from compresskit.errors import DataError
from zoo.frames.writing import check_writable, write
from zoo.raw.photographs import read

COLOURS = np.random.default_rng(0).integers(0, 2**16, (150, 37, 3)).astype(np.uint16)


def test_a_16_bit_png_is_read_back(tmp_path):
    write(tmp_path / "a.png", COLOURS)
    picture = read.read_picture(tmp_path / "a.png", read.read_header(tmp_path / "a.png"))
    assert np.array_equal(picture, COLOURS)


@pytest.mark.parametrize("picture", [COLOURS.astype(np.uint8), COLOURS[..., 0], COLOURS[..., 0].astype(np.uint8)])
def test_pillow_reads_every_kind_of_png(tmp_path, picture):
    write(tmp_path / "a.png", picture)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), picture)


@pytest.mark.parametrize("picture", [COLOURS, COLOURS[..., 0], COLOURS[:1, :1]])
def test_tiff_and_npy_are_read_back(tmp_path, picture):
    write(tmp_path / "a.tiff", picture)
    write(tmp_path / "a.npy", picture / np.float32(65535))
    assert np.array_equal(tifffile.imread(tmp_path / "a.tiff").reshape(picture.shape), picture)
    assert np.array_equal(np.load(tmp_path / "a.npy"), picture / np.float32(65535))


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.npy"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, name):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zoo.frames.writing._chunk", full)
    monkeypatch.setattr("tifffile.imwrite", full)
    monkeypatch.setattr("numpy.save", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / name, COLOURS)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_and_an_impossible_folder_are_refused_first(tmp_path):
    check_writable(tmp_path / "new" / "a.png", overwrite=False)
    assert (tmp_path / "new").is_dir()
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match="exists already; add --overwrite to replace it"):
        check_writable(tmp_path / "a.png", overwrite=False)
    check_writable(tmp_path / "a.png", overwrite=True)
    with pytest.raises(DataError, match="cannot be made a folder: File exists"):
        check_writable(tmp_path / "a.png" / "b.png", overwrite=False)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(DataError, match="cannot be written to"):
        check_writable(tmp_path / "a.png", overwrite=False)
