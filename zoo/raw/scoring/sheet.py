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

from zoo.raw.scoring.side_by_side import BEST, CELL, CROP, FAINT, GAP, LINE, MARGIN, PAPER, TEXT, enlarged, font, label

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


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the sheet."""

    name: str
    """The photograph's."""
    place: Place
    truth: Float[Tensor, "3 h w"]
    """The whole photograph, as all pictures here, from 0 to 1."""
    sensed: Float[Tensor, "3 h w"]
    """The mosaic in its colours, zero where a colour was not sensed."""
    pictures: Mapping[str, Float[Tensor, "3 h w"]]
    """Each model's, by its name."""

    def parts(self) -> dict[str, Float[Tensor, "3 side side"]]:
        """What is to be seen, by its heading."""
        place = self.place
        part = (..., slice(place.top, place.top + place.side), slice(place.left, place.left + place.side))
        shown = {"truth": self.truth, "sensor": self.sensed, **self.pictures}
        return {title: picture[part] for title, picture in shown.items()}


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
    titles = list(entries[0].parts())
    top, row = MARGIN + LINE + GAP, CELL + LINE + GAP
    sheet = Image.new("RGB", (2 * MARGIN - GAP + (CELL + GAP) * len(titles), top + row * len(entries) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        label(draw, MARGIN + (CELL + GAP) * column, title, "")
    for number, entry in enumerate(entries):
        _draw_row(sheet, top + row * number, entry)
    return sheet


def _draw_row(sheet: Image.Image, top: int, entry: Entry) -> None:
    draw, below = ImageDraw.Draw(sheet), top + CELL + 1
    truth, sensed, *pictures = entry.parts().values()
    for column, part in enumerate((truth, sensed, *pictures)):
        sheet.paste(enlarged(part), (MARGIN + (CELL + GAP) * column, top))
    where = f"{entry.name}, row {entry.place.top}, column {entry.place.left}"
    draw.text((MARGIN, below), where, fill=FAINT, font=font(TEXT - 3))
    errors = [float((part - truth).square().mean()) for part in pictures]
    for column, error in enumerate(errors, start=2):
        text = f"{-10 * math.log10(max(error, 1e-10)):.2f} dB here"
        colour = BEST if error == min(errors) else FAINT
        draw.text((MARGIN + (CELL + GAP) * column, below), text, fill=colour, font=font(TEXT - 3))
