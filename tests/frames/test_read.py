"""Mosaics from files: numbers from hand-made bytes, and one sentence for each mistake."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from compresskit.errors import DataError
from zoo.frames.mipi import Layout
from zoo.frames.read import read_defects, read_mosaic, simulate_mosaic
from zoo.raw import CFA

NUMBERS = np.random.default_rng(3).integers(0, 1024, (10, 14)).astype(np.uint16)


def test_raw10_by_hand(tmp_path):
    # 1023, 2, 513, 0: upper eight bits 255, 0, 128, 0; lower two 3, 2, 1, 0, the first pixel's in the lowest place
    (tmp_path / "a.raw").write_bytes(bytes([255, 0, 128, 0, 0b00_01_10_11]))
    frame = read_mosaic(tmp_path / "a.raw", layout=Layout("raw10", 4, 1))
    assert frame.values.tolist() == [[1023, 2, 513, 0]]
    assert (frame.black, frame.white, frame.cfa) == (None, 1023, None)


def test_raw12_by_hand(tmp_path):
    # 0xABC and 0x123: AB, 12, then 3 above C
    (tmp_path / "a.raw12").write_bytes(bytes([0xAB, 0x12, 0x3C]))
    frame = read_mosaic(tmp_path / "a.raw12", layout=Layout("raw12", 2, 1))
    assert frame.values.tolist() == [[0xABC, 0x123]]
    assert frame.white == 4095


def test_raw16_with_a_stride_may_lack_the_last_rows_padding(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes([1, 2, 3, 0, 99, 99, 5, 0, 6, 1]))
    frame = read_mosaic(tmp_path / "a.bin", layout=Layout("raw16", 2, 2, stride=6))
    assert frame.values.tolist() == [[0x0201, 3], [5, 0x0106]]
    assert frame.values.dtype == np.uint16


def test_a_row_may_end_within_a_group(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes([1, 2, 3, 4, 0] * 2 + [5, 6, 7, 8, 0] * 2))
    frame = read_mosaic(tmp_path / "a.raw", layout=Layout("raw10", 6, 2))
    assert frame.values.tolist() == [[4, 8, 12, 16, 4, 8], [20, 24, 28, 32, 20, 24]]


def packed(numbers, bits):
    """Return numbers as bits one after the other, the lowest first."""
    whole = sum(number << bits * place for place, number in enumerate(numbers))
    return whole.to_bytes(-(-bits * len(numbers) // 8), "little")


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_bits_one_after_the_other(tmp_path, bits):
    rows = np.random.default_rng(bits).integers(0, 2**bits, (3, 7)).tolist()
    (tmp_path / "a.raw").write_bytes(b"".join(packed(row, bits) for row in rows))
    frame = read_mosaic(tmp_path / "a.raw", layout=Layout(f"raw{bits}p", 7, 3))
    assert frame.values.tolist() == rows
    assert frame.white == 2**bits - 1


def test_raw14_by_hand(tmp_path):
    # the upper eight bits of each, then the lower six: 1 in the lowest bits, then 2, 4 and 8
    low = 1 | 2 << 6 | 4 << 12 | 8 << 18
    (tmp_path / "a.raw14").write_bytes(bytes([255, 1, 0, 128, *low.to_bytes(3, "little")]))
    frame = read_mosaic(tmp_path / "a.raw14", layout=Layout("raw14", 4, 1))
    assert frame.values.tolist() == [[255 << 6 | 1, 1 << 6 | 2, 4, 128 << 6 | 8]]
    assert frame.white == 16383


def test_raw8_and_big_endian_raw16(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes([1, 2, 3, 255]))
    assert read_mosaic(tmp_path / "a.raw", layout=Layout("raw8", 2, 2)).values.tolist() == [[1, 2], [3, 255]]
    assert read_mosaic(tmp_path / "a.raw", layout=Layout("raw16be", 2, 1)).values.tolist() == [[0x0102, 0x03FF]]


def test_a_header_and_a_footer_are_skipped(tmp_path):
    (tmp_path / "a.dat").write_bytes(b"HEAD" + bytes([1, 2, 3, 4, 5, 6]) + b"FOOTER")
    for footer in (6, None):
        frame = read_mosaic(tmp_path / "a.dat", layout=Layout("raw8", 3, 2, header=4, footer=footer))
        assert frame.values.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert frame.remarks == ("the last 6 bytes are taken as a footer",)
    with pytest.raises(DataError, match=r"has 16 bytes, 4 of them to skip; 3x2 pixels .* or --skip"):
        read_mosaic(tmp_path / "a.dat", layout=Layout("raw8", 3, 2, header=4))
    with pytest.raises(DataError, match="has 16 bytes"):
        read_mosaic(tmp_path / "a.dat", layout=Layout("raw8", 3, 2, header=14, footer=None))


@pytest.mark.parametrize(
    ("content", "levels"),
    [
        (b"P5\n# a comment\n3 2\n1023\n" + struct.pack(">6H", 1, 2, 3, 1000, 1001, 1023), (None, 1023)),
        (b"P5 3 2 65535 " + struct.pack(">6H", 1, 2, 3, 1000, 1001, 1023), (None, None)),
        (b"P2\n3 2 # size\n1023\n1 2 3\n1000 1001 # the rest\n1023\n", (None, 1023)),
    ],
)
def test_a_pgm_has_the_numbers_and_the_white_level_of_its_file(tmp_path, content, levels):
    (tmp_path / "a.pgm").write_bytes(content)
    frame = read_mosaic(tmp_path / "a.pgm")
    assert frame.values.tolist() == [[1, 2, 3], [1000, 1001, 1023]]
    assert (frame.black, frame.white) == levels


def test_a_pgm_of_8_bits_states_both_levels_and_further_pictures_are_mentioned(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 255\n\x05\xff" * 2)
    frame = read_mosaic(tmp_path / "a.pgm")
    assert (frame.values.tolist(), frame.black, frame.white) == ([[5, 255]], 0, 255)
    assert frame.remarks == ("holds more than one picture; the first is read",)


def test_a_tiff_in_which_0_is_white_is_inverted_and_a_turned_one_stands_upright(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", 65535 - NUMBERS, photometric="miniswhite", extratags=[(274, "H", 1, 5, True)])
    frame = read_mosaic(tmp_path / "a.tif")
    assert np.array_equal(frame.values, NUMBERS)
    assert np.array_equal(frame.upright(frame.values), NUMBERS.T)
    assert "states that 0 is white: its numbers are taken from 65535" in frame.remarks[0]


def _npy(path, numbers):
    np.save(path, numbers)


def _png(path, numbers):
    Image.fromarray(numbers).save(path)


@pytest.mark.parametrize(("name", "save"), [("a.npy", _npy), ("a.png", _png), ("a.tif", tifffile.imwrite)])
def test_16_bit_values_are_read_as_stored_and_state_no_levels(tmp_path, name, save):
    save(tmp_path / name, NUMBERS)
    frame = read_mosaic(tmp_path / name)
    assert np.array_equal(frame.values, NUMBERS)
    assert (frame.name, frame.black, frame.white, frame.domain) == ("a", None, None, "linear")


def test_eight_bits_and_floats_state_their_levels(tmp_path):
    _png(tmp_path / "a.png", NUMBERS.astype(np.uint8))
    np.save(tmp_path / "a.npy", (NUMBERS / 1023).astype(">f4"))
    assert (read_mosaic(tmp_path / "a.png").black, read_mosaic(tmp_path / "a.png").white) == (0, 255)
    frame = read_mosaic(tmp_path / "a.npy")
    assert (frame.black, frame.white) == (0, 1)
    np.testing.assert_array_equal(frame.values, (NUMBERS / 1023).astype(np.float32))


@pytest.mark.parametrize(
    "pattern",
    [
        ("RG", "GB"),
        ("GR", "BG"),
        ("RRGG", "RRGG", "GGBB", "GGBB"),
        ("BBBBGGGG",) * 4 + ("GGGGRRRR",) * 4,  # LibRaw refuses this one
    ],
)
def test_a_dng_states_its_array_levels_balance_and_turn(tmp_path, dng, pattern):
    pytest.importorskip("rawpy")
    values = np.random.default_rng(0).integers(64, 1024, (64, 96)).astype(np.uint16)
    frame = read_mosaic(dng(tmp_path / "a.dng", values, pattern, orientation=6))
    assert np.array_equal(frame.values, values)
    assert frame.cfa == CFA(pattern)
    assert (frame.black, frame.white, frame.turn) == (64, 1023, 3)
    assert frame.gains == pytest.approx((2.0, 1.0, 1.6))


def test_the_message_for_a_camera_file_without_rawpy_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rawpy", None)
    (tmp_path / "a.dng").touch()
    with pytest.raises(DataError, match=r"a.dng: camera files need rawpy: pip install 'compresskit\[camera\]'"):
        read_mosaic(tmp_path / "a.dng")


def test_a_photograph_is_seen_through_the_array(tmp_path):
    picture = np.zeros((3, 4, 3), np.uint8)
    picture[..., 0], picture[..., 1], picture[..., 2] = 10, 20, 30
    Image.fromarray(picture).save(tmp_path / "a.png")
    frame = simulate_mosaic(tmp_path / "a.png", CFA.of("bayer-rggb"))
    assert frame.values.tolist() == [[10, 20, 10, 20], [20, 30, 20, 30], [10, 20, 10, 20]]
    assert (frame.black, frame.white, frame.domain, frame.cfa) == (0, 255, "display", CFA.of("bayer-rggb"))


def test_a_map_of_defects_is_true_where_it_is_not_zero(tmp_path):
    _png(tmp_path / "a.png", np.array([[0, 255], [1, 0]], np.uint8))
    assert read_defects(tmp_path / "a.png").tolist() == [[False, True], [True, False]]


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def huge_png():
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 16, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def huge_npy():
    head = b"{'descr': '<u2', 'fortran_order': False, 'shape': (100000, 100000), }"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


WRONG = [
    ("a.png", huge_png(), "claims to be 100000x100000 pixels, 10,000 megapixels; at most 500 are read"),
    ("a.npy", huge_npy(), "is damaged, or not what its ending says"),
    ("a.png", huge_png()[:20], "is damaged, or not what its ending says"),
    ("a.png", b"no picture", "is damaged, or not what its ending says"),
    ("a.tif", b"no picture", "is damaged, or not what its ending says"),
    ("a.npy", b"no array", "is damaged, or not what its ending says"),
    ("a.raw", bytes(7), "has no header: say how it is packed and its size"),
    ("a.pgm", b"P5 4 4 255\n" + bytes(15), "is damaged: it ends after 15 of 16 pixels"),
    ("a.pgm", b"P5 1 1 100\n\x65", "has numbers above 100"),
    ("a.pgm", b"P6 1 1 255\n123", "is no mosaic: P6 is not the grey of a PGM"),
    ("a.pgm", b"P5 100000 100000 255\n", "claims to be 100000x100000 pixels"),
    ("a.pgm", b"P2 2 1 255\n1 x", "is damaged"),
    ("a.nef", b"no camera", "is damaged: .*; and no mosaic has the ending '.nef'"),
    ("a.xyz", b"", r"no mosaic has the ending '.xyz'; known: .npy, .png"),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG)
def test_a_file_that_is_no_mosaic_is_refused_with_its_name(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_mosaic(tmp_path / name)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"b.png does not exist"):
        read_mosaic(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"is a folder"):
        read_mosaic(tmp_path)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout("raw10", 8, 3), "has 20 bytes; 8x3 pixels in raw10 with a stride of 10 take 30"),
        (Layout("raw10", 8, 2, stride=9), "takes 10 bytes, more than the stride of 9"),
        (Layout("raw16", 100_000, 100_000), "claims to be 100000x100000 pixels"),
    ],
)
def test_a_layout_that_does_not_fit_the_file_is_refused(tmp_path, layout, message):
    (tmp_path / "a.raw").write_bytes(bytes(20))
    with pytest.raises(DataError, match=message):
        read_mosaic(tmp_path / "a.raw", layout=layout)


def test_colour_pictures_are_no_mosaics(tmp_path):
    colours = np.zeros((8, 8, 3), np.uint8)
    _png(tmp_path / "a.png", colours)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb")
    np.save(tmp_path / "a.npy", colours)
    with pytest.raises(DataError, match="its pixels are RGB, not grey; see --mosaic"):
        read_mosaic(tmp_path / "a.png")
    with pytest.raises(DataError, match="no mosaic but a picture of 3 colours; see --mosaic"):
        read_mosaic(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"it holds uint8 of shape \(8, 8, 3\), not \(height, width\)"):
        read_mosaic(tmp_path / "a.npy")


def test_an_array_that_would_run_code_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{1}, {2}], object), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects in dtype"):
        read_mosaic(tmp_path / "a.npy")
