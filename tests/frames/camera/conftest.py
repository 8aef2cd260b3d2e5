"""DNG files of any shape, written tag by tag after Adobe's specification, and lossless JPEG after ITU-T T.81."""

import struct

import numpy as np
import pytest

from zoo.frames.levels import Input
from zoo.frames.read import read_mosaic

XTRANS = ("GGRGGB", "GGBGGR", "BRGRBG", "GGBGGR", "GGRGGB", "RBGBRG")
QUAD = ("RRGG", "RRGG", "GGBB", "GGBB")
QXQ = ("GGGGRRRR",) * 4 + ("BBBBGGGG",) * 4
ARRAYS = {
    "rggb": ("RG", "GB"),
    "gbrg": ("GB", "RG"),
    "quad": QUAD,
    "nona": ("GGGBBB",) * 3 + ("RRRGGG",) * 3,
    "qxq": QXQ,
    "xtrans": XTRANS,
    "flat": ("RGGB", "GBRG"),  # a tile that is not square
}


@pytest.fixture
def write():
    """A function that writes a DNG and returns its path."""
    return write_dng


@pytest.fixture
def read_linear():
    """A function that returns a frame as stored, and its values from black to white without white balance."""
    return _read_linear


@pytest.fixture(params=sorted(ARRAYS))
def array(request):
    """A colour filter array, row by row."""
    return ARRAYS[request.param]


def _read_linear(path, **stated):
    frame, levels = Input(gains=(1.0, 1.0, 1.0), **stated).read(path, None)
    return read_mosaic(path), levels.apply(frame.values).clamp(0, 1).numpy()


def write_dng(path, *pages, order="<"):
    """Write a DNG of pages, each a dictionary of `page`'s arguments; the first may be one alone."""
    path.write_bytes(tiff([page(order=order, **arguments) for arguments in pages], order))
    return path


def page(
    values,
    cfa=("RG", "GB"),
    *,
    order="<",
    compression=1,
    bits=16,
    rows=None,
    tile=None,
    black=(64,),
    black_tile=(1, 1),
    white=1023,
    area=None,
    neutral=(0.5, 1.0, 0.625),
    orientation=1,
    photometric=32803,
    components=1,
    **tags,
):
    """Return the tags and the strips or tiles of a page; further tags are named `tag_NUMBER`."""
    height, width = values.shape[:2]
    rows = rows or height
    stored = {
        254: ("I", [0]),
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits] * (1 if values.ndim == 2 else values.shape[2])),
        259: ("H", [compression]),
        262: ("H", [photometric]),
        271: ("A", b"Unit\0"),
        272: ("A", b"Test\0"),
        274: ("H", [orientation]),
        277: ("H", [1 if values.ndim == 2 else values.shape[2]]),
        50706: ("B", [1, 4, 0, 0]),
        50708: ("A", b"Unit Test\0"),
        50713: ("H", black_tile),
        50714: ("R", black),
        50717: ("I", [white]),
        50721: ("S", np.eye(3).flatten()),
        50778: ("H", [21]),
    }
    if neutral is not None:
        stored[50728] = ("R", neutral)
    if area is not None:
        stored[50829] = ("I", area)
    if photometric == 32803:
        stored[33421] = ("H", [len(cfa), len(cfa[0])])
        stored[33422] = ("B", ["RGBCMYW".index(letter) for row in cfa for letter in row])
    stored |= {int(name.removeprefix("tag_")): value for name, value in tags.items()}
    if tile is None:
        parts = [values[start : start + rows] for start in range(0, height, rows)]
        stored[278] = ("I", [rows])
    else:
        tall, wide = tile
        padded = np.pad(values, ((0, -height % tall), (0, -width % wide)), mode="edge")
        corners = [(top, left) for top in range(0, height, tall) for left in range(0, width, wide)]
        parts = [padded[top : top + tall, left : left + wide] for top, left in corners]
        stored[322], stored[323] = ("I", [wide]), ("I", [tall])
    if compression == 7:
        blocks = [lossless_jpeg(part, bits, components) for part in parts]
    else:
        blocks = [part.astype(order + "u2").tobytes() for part in parts]
    return stored, blocks, (273, 279) if tile is None else (324, 325)


def tiff(pages, order="<"):
    """Return a TIFF of pages one after the other, each with its strips or tiles behind its tags."""
    content = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    for number, (stored, blocks, (places, lengths)) in enumerate(pages):
        stored[lengths] = ("I", [len(block) for block in blocks])
        stored[places] = ("I", [0] * len(blocks))
        start = len(content) + len(_directory(stored, len(content), 0, order))
        stored[places] = ("I", [start + sum(map(len, blocks[:at])) for at in range(len(blocks))])
        data = b"".join(blocks)
        data += b"\0" * (-(start + len(data)) % 2)
        following = start + len(data) if number + 1 < len(pages) else 0
        content += _directory(stored, len(content), following, order) + data
    return content


TYPES = {"B": 1, "A": 2, "H": 3, "I": 4, "R": 5, "U": 7, "S": 10, "D": 12}


def _directory(stored, start, following, order):
    entries, behind = b"", b""
    end = start + 2 + 12 * len(stored) + 4
    for tag, (kind, numbers) in sorted(stored.items()):
        data, count = _numbers(kind, numbers, order), len(numbers)
        value = data.ljust(4, b"\0")
        if len(data) > 4:
            value = struct.pack(order + "I", end + len(behind))
            behind += data + b"\0" * (len(data) % 2)
        entries += struct.pack(order + "HHI", tag, TYPES[kind], count) + value
    return struct.pack(order + "H", len(stored)) + entries + struct.pack(order + "I", following) + behind


def _numbers(kind, numbers, order):
    if kind in "BAU":
        return bytes(numbers)
    if kind in "RS":
        pairs = [part for number in numbers for part in (round(number * 10000), 10000)]
        return struct.pack(f"{order}{len(pairs)}{'I' if kind == 'R' else 'i'}", *pairs)
    return struct.pack(f"{order}{len(numbers)}{kind.lower() if kind == 'D' else kind}", *numbers)


def lossless_jpeg(values, bits=16, components=1):
    """Return the JPEG of a mosaic (process 14, predictor 1), with Huffman codes of five bits."""
    height, width = values.shape
    samples = values.astype(np.int64).reshape(height, width // components, components)
    predicted = np.empty_like(samples)
    predicted[:, 1:], predicted[1:, 0] = samples[:, :-1], samples[:-1, 0]
    predicted[0, 0] = 1 << (bits - 1)
    codes = []
    for difference in (((samples - predicted + 32768) & 0xFFFF) - 32768).flatten().tolist():
        length = abs(difference).bit_length()
        codes.append(f"{length:05b}")
        if length:
            codes.append(f"{difference if difference > 0 else difference + (1 << length) - 1:0{length}b}")
    text = "".join(codes)
    text += "1" * (-len(text) % 8)
    data = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")
    tables = bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    frame = struct.pack(">BHHB", bits, height, width // components, components)
    frame += b"".join(bytes([number, 0x11, 0]) for number in range(components))
    scan = bytes([components, *(part for number in range(components) for part in (number, 0)), 1, 0, 0])
    segments = ((0xC4, tables), (0xC3, frame), (0xDA, scan))
    head = b"".join(struct.pack(">BBH", 255, marker, len(part) + 2) + part for marker, part in segments)
    return b"\xff\xd8" + head + data + b"\xff\xd9"


def gain_map(gains, *, area, pitch=(1, 1), spacing=None, origin=(0.0, 0.0), planes=(0, 1)):
    """Return a list of corrections with one gain map, as bytes."""
    gains = np.asarray(gains, float)
    rows, columns = gains.shape
    spacing = spacing or (1 / max(rows - 1, 1), 1 / max(columns - 1, 1))
    body = struct.pack(">10I", *area, *planes, *pitch, rows, columns)
    body += struct.pack(">4dI", *spacing, *origin, 1) + gains.astype(">f4").tobytes()
    return struct.pack(">IIIII", 1, 9, 0x01030000, 0, len(body)) + body
