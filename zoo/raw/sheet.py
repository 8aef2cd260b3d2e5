"""The places where a model is worst, with what every model makes of them: one sheet to be looked at.

A row is a place: at the left the truth and what the sensor saw, then each model's picture with its PSNR there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from zoo.raw.pictures import BEST, CELL, CROP, FAINT, GAP, LINE, MARGIN, PAPER, TEXT, enlarged, font, label

PER_PHOTOGRAPH = 2
"""Most places of one photograph, so that a single hard one does not fill the sheet."""
STRIDE = 8
"""Pixels between the places looked at."""


@dataclass(frozen=True, slots=True)
class Place:
    """A square part of a photograph."""

    photograph: int
    """Its number in the dataset."""
    top: int
    left: int
    side: int
    """All three in pixels."""
    error: float
    """The first model's mean squared error there."""


Entry = tuple[str, Place, Float[Tensor, "3 h w"], Float[Tensor, "3 h w"], Mapping[str, Float[Tensor, "3 h w"]]]
"""A row of the sheet: the photograph's name, the place, the truth, what the sensor saw, and each model's picture."""


def worst_places(photograph: int, error: Float[Tensor, "h w"], *, border: int = 0) -> list[Place]:
    """The squares of a photograph with the most squared error, at most two, which do not overlap.

    Args:
        photograph: Its number, to be noted.
        error: The squared error of each pixel.
        border: Pixels at the edge where no square is to lie.
    """
    inside = error[border : error.shape[0] - border, border : error.shape[1] - border]
    side = min(CROP, *inside.shape)
    means = F.avg_pool2d(inside[None, None], side, stride=STRIDE)[0, 0]
    apart = math.ceil(side / STRIDE)
    found = []
    for _ in range(PER_PHOTOGRAPH):
        row, column = divmod(int(means.argmax()), means.shape[1])
        worst = float(means[row, column])
        if worst == -math.inf:
            break
        found.append(Place(photograph, border + STRIDE * row, border + STRIDE * column, side, worst))
        means[max(0, row - apart + 1) : row + apart, max(0, column - apart + 1) : column + apart] = -math.inf
    return found


def draw_sheet(entries: Sequence[Entry]) -> Image.Image:
    """The sheet; all entries have the same models."""
    titles = ["truth", "sensor", *entries[0][-1]]
    top, row = MARGIN + LINE + GAP, CELL + LINE + GAP
    sheet = Image.new("RGB", (2 * MARGIN - GAP + (CELL + GAP) * len(titles), top + row * len(entries) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        label(draw, MARGIN + (CELL + GAP) * column, title, "")
    for number, entry in enumerate(entries):
        _draw_row(sheet, top + row * number, entry)
    return sheet


def _draw_row(sheet: Image.Image, top: int, entry: Entry) -> None:
    name, place, truth, sensed, pictures = entry
    part = (..., slice(place.top, place.top + place.side), slice(place.left, place.left + place.side))
    draw = ImageDraw.Draw(sheet)
    for column, picture in enumerate((truth, sensed, *pictures.values())):
        sheet.paste(enlarged(picture[part]), (MARGIN + (CELL + GAP) * column, top))
    draw.text(
        (MARGIN, top + CELL + 1), f"{name}, row {place.top}, column {place.left}", fill=FAINT, font=font(TEXT - 3)
    )
    errors = [float((picture - truth)[part].square().mean()) for picture in pictures.values()]
    for column, error in enumerate(errors, start=2):
        text = f"{-10 * math.log10(max(error, 1e-10)):.2f} dB here"
        colour = BEST if error == min(errors) else FAINT
        draw.text((MARGIN + (CELL + GAP) * column, top + CELL + 1), text, fill=colour, font=font(TEXT - 3))
