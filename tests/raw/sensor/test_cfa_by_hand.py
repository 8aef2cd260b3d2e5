"""Colour filter arrays against mosaics written by hand: the code computed none of the expected values."""

import pytest
import torch

from zoo.raw import CFA

TILES = {
    "bayer-grbg": "GR BG",
    "bayer-rggb": "RG GB",
    "bayer-bggr": "BG GR",
    "bayer-gbrg": "GB RG",
    "quad-grbg": "GGRR GGRR BBGG BBGG",
    "quad-rggb": "RRGG RRGG GGBB GGBB",
    "quad-bggr": "BBGG BBGG GGRR GGRR",
    "quad-gbrg": "GGBB GGBB RRGG RRGG",
    "nona-grbg": "GGGRRR GGGRRR GGGRRR BBBGGG BBBGGG BBBGGG",
    "nona-rggb": "RRRGGG RRRGGG RRRGGG GGGBBB GGGBBB GGGBBB",
    "nona-bggr": "BBBGGG BBBGGG BBBGGG GGGRRR GGGRRR GGGRRR",
    "nona-gbrg": "GGGBBB GGGBBB GGGBBB RRRGGG RRRGGG RRRGGG",
    "qxq-grbg": "GGGGRRRR GGGGRRRR GGGGRRRR GGGGRRRR BBBBGGGG BBBBGGGG BBBBGGGG BBBBGGGG",
    "qxq-rggb": "RRRRGGGG RRRRGGGG RRRRGGGG RRRRGGGG GGGGBBBB GGGGBBBB GGGGBBBB GGGGBBBB",
    "qxq-bggr": "BBBBGGGG BBBBGGGG BBBBGGGG BBBBGGGG GGGGRRRR GGGGRRRR GGGGRRRR GGGGRRRR",
    "qxq-gbrg": "GGGGBBBB GGGGBBBB GGGGBBBB GGGGBBBB RRRRGGGG RRRRGGGG RRRRGGGG RRRRGGGG",
}

# red is 100 + place, green 200 + place, blue 300 + place; the place counts along the rows
MOSAICS = {
    "bayer-grbg": [[200, 101, 202, 103], [304, 205, 306, 207]],
    "bayer-rggb": [[100, 201, 102, 203], [204, 305, 206, 307]],
    "bayer-bggr": [[300, 201, 302, 203], [204, 105, 206, 107]],
    "bayer-gbrg": [[200, 301, 202, 303], [104, 205, 106, 207]],
    "quad-grbg": [[200, 201, 102, 103], [204, 205, 106, 107], [308, 309, 210, 211], [312, 313, 214, 215]],
    "quad-rggb": [[100, 101, 202, 203], [104, 105, 206, 207], [208, 209, 310, 311], [212, 213, 314, 315]],
    "quad-bggr": [[300, 301, 202, 203], [304, 305, 206, 207], [208, 209, 110, 111], [212, 213, 114, 115]],
    "quad-gbrg": [[200, 201, 302, 303], [204, 205, 306, 307], [108, 109, 210, 211], [112, 113, 214, 215]],
    "nona-grbg": [
        [200, 201, 202, 103, 104, 105],
        [206, 207, 208, 109, 110, 111],
        [212, 213, 214, 115, 116, 117],
        [318, 319, 320, 221, 222, 223],
        [324, 325, 326, 227, 228, 229],
        [330, 331, 332, 233, 234, 235],
    ],
    "nona-bggr": [
        [300, 301, 302, 203, 204, 205],
        [306, 307, 308, 209, 210, 211],
        [312, 313, 314, 215, 216, 217],
        [218, 219, 220, 121, 122, 123],
        [224, 225, 226, 127, 128, 129],
        [230, 231, 232, 133, 134, 135],
    ],
    "qxq-grbg": [
        [200, 201, 202, 203, 104, 105, 106, 107],
        [208, 209, 210, 211, 112, 113, 114, 115],
        [216, 217, 218, 219, 120, 121, 122, 123],
        [224, 225, 226, 227, 128, 129, 130, 131],
        [332, 333, 334, 335, 236, 237, 238, 239],
        [340, 341, 342, 343, 244, 245, 246, 247],
        [348, 349, 350, 351, 252, 253, 254, 255],
        [356, 357, 358, 359, 260, 261, 262, 263],
    ],
    "qxq-gbrg": [
        [200, 201, 202, 203, 304, 305, 306, 307],
        [208, 209, 210, 211, 312, 313, 314, 315],
        [216, 217, 218, 219, 320, 321, 322, 323],
        [224, 225, 226, 227, 328, 329, 330, 331],
        [132, 133, 134, 135, 236, 237, 238, 239],
        [140, 141, 142, 143, 244, 245, 246, 247],
        [148, 149, 150, 151, 252, 253, 254, 255],
        [156, 157, 158, 159, 260, 261, 262, 263],
    ],
}

# one tile, its pixels numbered along the rows: its top-left, top-right, bottom-left and bottom-right block
QUARTERS = {
    "bayer": ([[0]], [[1]], [[2]], [[3]]),
    "quad": ([[0, 1], [4, 5]], [[2, 3], [6, 7]], [[8, 9], [12, 13]], [[10, 11], [14, 15]]),
    "nona": (
        [[0, 1, 2], [6, 7, 8], [12, 13, 14]],
        [[3, 4, 5], [9, 10, 11], [15, 16, 17]],
        [[18, 19, 20], [24, 25, 26], [30, 31, 32]],
        [[21, 22, 23], [27, 28, 29], [33, 34, 35]],
    ),
    "qxq": (
        [[0, 1, 2, 3], [8, 9, 10, 11], [16, 17, 18, 19], [24, 25, 26, 27]],
        [[4, 5, 6, 7], [12, 13, 14, 15], [20, 21, 22, 23], [28, 29, 30, 31]],
        [[32, 33, 34, 35], [40, 41, 42, 43], [48, 49, 50, 51], [56, 57, 58, 59]],
        [[36, 37, 38, 39], [44, 45, 46, 47], [52, 53, 54, 55], [60, 61, 62, 63]],
    ),
}

# the quarters that are blue, green of red's rows, red, green of blue's rows
PLANES = {"grbg": (2, 0, 1, 3), "rggb": (3, 1, 0, 2), "bggr": (0, 2, 3, 1), "gbrg": (1, 3, 2, 0)}


def numbered(height, width):
    place = torch.arange(height * width).view(1, 1, height, width)
    return torch.cat([100 + place, 200 + place, 300 + place], dim=1)


@pytest.mark.parametrize("name", TILES)
def test_every_array_sees_the_letters_of_its_tile(name):
    rows = TILES[name].split()
    seen = torch.tensor([["RGB".index(letter) + 1 for letter in 2 * row] for row in rows])
    flat = torch.tensor([1, 2, 3]).view(1, 3, 1, 1).expand(1, 3, len(rows), 2 * len(rows))
    assert torch.equal(CFA.of(name).mosaic(flat)[0, 0], seen)
    assert torch.equal(CFA.of(name).masks(*seen.shape), torch.stack([seen == 1, seen == 2, seen == 3]))
    assert CFA.of(name).tile == tuple(rows)


@pytest.mark.parametrize("name", MOSAICS)
def test_a_mosaic_holds_the_value_of_its_own_place(name):
    expected = torch.tensor([[MOSAICS[name]]])
    assert torch.equal(CFA.of(name).mosaic(numbered(*expected.shape[2:])), expected)


@pytest.mark.parametrize("phase", PLANES)
@pytest.mark.parametrize("name", QUARTERS)
def test_packed_planes_are_the_blocks_of_the_tile(name, phase):
    side = 2 * len(QUARTERS[name][0])
    mosaic = torch.arange(side**2).view(1, 1, side, side)
    planes = torch.tensor([QUARTERS[name][quarter] for quarter in PLANES[phase]])
    cfa = CFA.of(f"{name}-{phase}")
    assert torch.equal(cfa.pack(mosaic)[0], planes)
    assert torch.equal(cfa.unpack(planes[None]), mosaic)
    # a second tile at the right, a hundred more: its blocks lie beside the first tile's
    assert torch.equal(cfa.pack(torch.cat([mosaic, mosaic + 100], dim=3))[0], torch.cat([planes, planes + 100], dim=2))
