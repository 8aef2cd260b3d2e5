"""The places where a model is worst, as every model shows them: one sheet to be looked at.

A row is a place: at the left the truth and the sensor's mosaic, then each model's picture with its PSNR there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from zoo.raw.scoring.side_by_side import BEST, CELL, CROP, FAINT, GAP, LINE, MARGIN, PAPER, TEXT, enlarge, font, label

PER_PHOTOGRAPH = 2
"""Most places of one photograph, so that a single hard one does not fill the sheet."""


STRIDE = 8
"""Pixels between the squares that are compared."""


@dataclass(frozen=True, slots=True)
class Square:
    """A square part of a photograph."""

    photograph: int
    """The photograph's number in the dataset."""
    top: int
    """Row of the upper edge in pixels."""
    left: int
    """Column of the left edge in pixels."""
    side: int
    """Side in pixels."""
    error: float
    """The first model's mean squared error there."""


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A row of the sheet."""

    name: str
    """The photograph's name."""
    square: Square
    truth: Float[Tensor, "3 h w"]
    """The whole photograph; like all pictures here it is whole, and from 0 to 1."""
    sensed: Float[Tensor, "3 h w"]
    """The mosaic in its colours, zero where a colour was not sensed."""
    pictures: Mapping[str, Float[Tensor, "3 h w"]]
    """Each model's picture, by the model's name."""

    def parts(self) -> dict[str, Float[Tensor, "3 side side"]]:
        """Return the square of each picture, by its heading."""
        square = self.square
        part = (..., slice(square.top, square.top + square.side), slice(square.left, square.left + square.side))
        pictures = {"truth": self.truth, "sensor": self.sensed, **self.pictures}
        return {title: picture[part] for title, picture in pictures.items()}


def worst_squares(photograph: int, error: Float[Tensor, "h w"], *, border: int = 0) -> list[Square]:
    """Return the squares of a photograph with the most squared error, at most two, which do not overlap.

    Args:
        photograph: The photograph's number in the dataset.
        error: The squared error of each pixel.
        border: Pixels at the edge that no square overlaps.
    """
    inside = error[border : error.shape[0] - border, border : error.shape[1] - border]
    side = min(CROP, *inside.shape)
    means = F.avg_pool2d(inside[None, None], side, stride=STRIDE)[0, 0]
    apart = math.ceil(side / STRIDE)
    squares = []
    for _ in range(PER_PHOTOGRAPH):
        row, column = divmod(int(means.argmax()), means.shape[1])
        worst = float(means[row, column])
        if worst == -math.inf:
            break
        squares.append(Square(photograph, border + STRIDE * row, border + STRIDE * column, side, worst))
        means[max(0, row - apart + 1) : row + apart, max(0, column - apart + 1) : column + apart] = -math.inf
    return squares


def draw_sheet(rows: Sequence[SheetRow]) -> Image.Image:
    """Draw the sheet. All rows have the same models."""
    titles = list(rows[0].parts())
    top, height = MARGIN + LINE + GAP, CELL + LINE + GAP
    sheet = Image.new("RGB", (2 * MARGIN - GAP + (CELL + GAP) * len(titles), top + height * len(rows) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        label(draw, MARGIN + (CELL + GAP) * column, title, "")
    for number, row in enumerate(rows):
        _draw_row(sheet, top + height * number, row)
    return sheet


def _draw_row(sheet: Image.Image, top: int, row: SheetRow) -> None:
    draw, below = ImageDraw.Draw(sheet), top + CELL + 1
    truth, sensed, *pictures = row.parts().values()
    for column, part in enumerate((truth, sensed, *pictures)):
        sheet.paste(enlarge(part), (MARGIN + (CELL + GAP) * column, top))
    where = f"{row.name}, row {row.square.top}, column {row.square.left}"
    draw.text((MARGIN, below), where, fill=FAINT, font=font(TEXT - 3))
    errors = [float((part - truth).square().mean()) for part in pictures]
    for column, error in enumerate(errors, start=2):
        text = f"{-10 * math.log10(max(error, 1e-10)):.2f} dB here"
        colour = BEST if error == min(errors) else FAINT
        draw.text((MARGIN + (CELL + GAP) * column, below), text, fill=colour, font=font(TEXT - 3))
