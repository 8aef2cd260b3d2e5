"""Damage never becomes a picture: lengths against the file, what LibRaw says, and mutated files."""

import contextlib
import resource
import struct

import numpy as np
import pytest

from compresskit.errors import DataError
from tests.frames.camera.conftest import XTRANS, gain_map
from zoo.frames.levels import Input
from zoo.frames.read import read_mosaic

pytest.importorskip("rawpy")

VALUES = np.random.default_rng(0).integers(64, 1024, (64, 96)).astype(np.uint16)
LAYOUTS = {
    "plain": {},
    "strips": {"rows": 8},
    "tiles": {"tile": (32, 32)},
    "jpeg": {"compression": 7},
    "jpeg of two components": {"compression": 7, "components": 2},
    "jpeg tiles": {"compression": 7, "tile": (32, 32)},
}


@pytest.fixture(params=sorted(LAYOUTS))
def whole(tmp_path, write, request):
    """A sound file."""
    return write(tmp_path / "a.dng", {"values": VALUES, **LAYOUTS[request.param]})


def test_a_sound_file_has_the_numbers_that_were_written(whole):
    assert np.array_equal(read_mosaic(whole).values, VALUES)


@pytest.mark.parametrize("share", [0.02, 0.25, 0.5, 0.75, 0.95, 0.999])
def test_a_file_that_is_cut_off_is_damaged(whole, share):
    content = whole.read_bytes()
    whole.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"a.dng is damaged"):
        read_mosaic(whole)


def entry(content, tag):
    """Return where a tag's entry begins."""
    (count,) = struct.unpack_from("<H", content, 8)
    return next(at for at in range(10, 10 + 12 * count, 12) if struct.unpack_from("<H", content, at)[0] == tag)


@pytest.mark.parametrize("change", ["beyond", "far beyond", "too long"])
def test_pixels_that_lie_beyond_the_files_end_are_damage(whole, change):
    content = bytearray(whole.read_bytes())
    tiled = b"".join([struct.pack("<HH", 324, 4)]) in content[:600]
    places, lengths = (324, 325) if tiled else (273, 279)
    at = entry(content, lengths if change == "too long" else places)
    count, value = struct.unpack_from("<II", content, at + 4)
    at = at + 8 if count == 1 else value + 4 * (count - 1)
    number = {"beyond": len(content) - 40, "far beyond": 2**31, "too long": 2**30}[change]
    struct.pack_into("<I", content, at, number)
    whole.write_bytes(content)
    with pytest.raises(
        DataError, match=r"a.dng is damaged: part \d+ of \d+ of its pixels|a.dng is damaged: its strips"
    ):
        read_mosaic(whole)


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.7, 0.99])
def test_a_jpeg_that_breaks_off_is_damaged_though_the_lengths_fit(tmp_path, monkeypatch, kept):
    from tests.frames.camera import conftest

    def cut(*arguments):
        whole_jpeg = lossless_jpeg(*arguments)
        return whole_jpeg[: max(2, int(kept * len(whole_jpeg)))]

    lossless_jpeg = conftest.lossless_jpeg
    monkeypatch.setattr(conftest, "lossless_jpeg", cut)
    path = conftest.write_dng(tmp_path / "a.dng", {"values": VALUES, "compression": 7})
    with pytest.raises(DataError, match=r"a.dng is damaged: part 1 of 1 of its pixels is a JPEG"):
        read_mosaic(path)


def test_pixels_that_libraw_leaves_unwritten_are_found_by_a_second_read(tmp_path, write):
    # LibRaw decodes the first of several strips of lossless JPEG
    path = write(tmp_path / "a.dng", {"values": VALUES, "compression": 7, "rows": 16})
    with pytest.raises(DataError, match=r"a.dng is damaged, or LibRaw does not know its layout"):
        read_mosaic(path)


def test_a_jpeg_with_wrong_codes_is_damaged_because_libraw_says_so(tmp_path, write):
    path = write(tmp_path / "a.dng", {"values": VALUES, "compression": 7, "bits": 10})
    content = bytearray(path.read_bytes())
    content[-2000] ^= 0x80  # the numbers after it leave the range of ten bits
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a.dng is damaged: LibRaw says"):
        read_mosaic(path)


@pytest.mark.parametrize(("tag", "number"), [(256, 64), (257, 32)])
def test_a_size_that_the_lengths_contradict_is_damage(whole, tag, number):
    content = bytearray(whole.read_bytes())
    struct.pack_into("<I", content, entry(content, tag) + 8, number)
    whole.write_bytes(content)
    with pytest.raises(DataError, match=r"a.dng is damaged|a.dng cannot be read"):
        read_mosaic(whole)


@pytest.mark.parametrize("layout", ["plain", "strips", "jpeg"])
def test_a_width_that_is_one_less_is_damage_where_no_tile_is_padded(tmp_path, write, layout):
    path = write(tmp_path / "a.dng", {"values": VALUES, **LAYOUTS[layout], "tag_256": ("I", [95])})
    with pytest.raises(DataError, match=r"a.dng is damaged"):
        read_mosaic(path)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"area": (0, 0, 65, 96)}, "its active area"),
        ({"area": (9, 0, 9, 96)}, "its active area"),
        ({"black": (64, 65, 66)}, "it states 3 black levels"),
        ({"tag_50716": ("S", [1.0] * 63)}, "tag 50716 has 63 black levels for 64"),
        ({"tag_33422": ("B", [0, 1, 1])}, "its array states 3 colours"),
        ({"tag_51009": ("U", gain_map([[1.0]], area=(0, 0, 64, 96))[:-5])}, "a list of corrections breaks off"),
    ],
)
def test_tags_that_contradict_each_other_are_damage(tmp_path, write, tags, message):
    path = write(tmp_path / "a.dng", {"values": VALUES, **tags})
    with pytest.raises(DataError, match=rf"a.dng is damaged: {message}"):
        read_mosaic(path)


def originals(tmp_path, write):
    pages = [{"values": VALUES, **layout} for layout in LAYOUTS.values()]
    gains = gain_map([[1.0, 2.0], [2.0, 1.0]], area=(0, 0, 64, 96))
    pages.append({"values": VALUES, "cfa": XTRANS, "area": (3, 5, 60, 90), "tag_51009": ("U", gains)})
    pages.append({"values": VALUES, "black": range(60, 76), "black_tile": (4, 4), "tag_50716": ("S", [0.5] * 64)})
    return [write(tmp_path / f"{number}.dng", page).read_bytes() for number, page in enumerate(pages)]


def mutate(content, rng):
    """Return a damaged copy: cut, with bits flipped among the tags or the pixels, or with a hostile number in a tag."""
    content = bytearray(content)
    way = rng.integers(4)
    if way == 0:
        return content[: rng.integers(1, len(content))]
    if way < 3:
        last = 10 + 12 * content[8] if way == 1 else len(content)
        for at in rng.integers(0, last, rng.integers(1, 6)):
            content[at] ^= 1 << rng.integers(8)
        return content
    at = 10 + 12 * rng.integers(content[8]) + rng.choice([2, 4, 8])
    content[at : at + 4] = struct.pack("<I", rng.choice([0, 1, 3, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1]))
    return content


@pytest.mark.parametrize("part", range(4))
def test_200_mutated_files_are_refused_in_a_sentence_or_read_the_same_twice(tmp_path, write, part):
    files = originals(tmp_path, write)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(part * 50, part * 50 + 50):
        path = tmp_path / "mutated.dng"
        path.write_bytes(mutate(files[number % len(files)], np.random.default_rng(number)))
        frames = []
        for _ in range(2):
            with contextlib.suppress(DataError):
                frames.append(Input().read(path, None)[0].values)
        assert len(frames) in (0, 2), number
        assert not frames or np.array_equal(*frames), number
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 2**20  # kilobytes
