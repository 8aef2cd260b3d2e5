"""Demosaicing results side by side: one image a photograph, to be looked at.

At the left is the photograph, with a frame around the part that is enlarged. Then comes that part: above, the truth and
each model's picture; below, the sensor's mosaic and each model's error, all on one scale that stands beside them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CROP, ZOOM = 88, 3
"""Side in pixels of the part, if the photograph is large enough, and the factor by which it is enlarged."""


CELL, GAP, MARGIN = CROP * ZOOM, 10, 24


LINE, TEXT = 22, 17


PAPER, INK, FAINT, BEST, MARK = "#ffffff", "#1c1e22", "#70747c", "#0a7d38", "#ffd000"


CLOSE = 3.0
"""Difference in dB: a model further behind the best differs from it everywhere, which says nothing about a place."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One model's result for a photograph."""

    name: str
    picture: Float[Tensor, "3 h w"]
    """The model's picture, from 0 to 1."""
    psnr: float
    """PSNR of the whole photograph in dB."""


def draw_side_by_side(
    title: str,
    truth: Float[Tensor, "3 h w"],
    sensed: Float[Tensor, "3 h w"],
    panels: Sequence[Panel],
    *,
    border: int = 0,
) -> Image.Image:
    """Draw the image that this module describes.

    Args:
        title: The photograph's name.
        truth: The photograph, from 0 to 1.
        sensed: The mosaic in its colours, zero where a colour was not sensed; see `CFA.separate`.
        panels: The models' results, in the order to be drawn.
        border: Pixels at the photograph's edge that the part does not overlap.
    """
    top, left, side = where_models_differ(truth, panels, border=border)
    part = (..., slice(top, top + side), slice(left, left + side))
    errors = [((panel.picture - truth) ** 2).mean(0).sqrt()[part] for panel in panels]
    # the median model sets the scale: one poor baseline would make the others' errors black
    highest = _round_up(float(torch.stack(errors).flatten(1).quantile(0.99, dim=1).median()))
    rows = (MARGIN + 2 * LINE + GAP, MARGIN + 2 * LINE + CELL + 2 * GAP)
    columns = [MARGIN + (CELL + GAP) * column for column in range(len(panels) + 2)]
    image = Image.new("RGB", (columns[-1] + CELL + MARGIN, rows[1] + CELL + MARGIN), PAPER)
    draw = ImageDraw.Draw(image)

    _overview(image, (columns[0], rows[0]), truth, (top, left, side))
    label(draw, columns[0], title, f"{truth.shape[2]} x {truth.shape[1]} pixels")
    _legend(image, (columns[0], rows[1]), highest)
    image.paste(enlarge(truth[part]), (columns[1], rows[0]))
    image.paste(enlarge(sensed[part]), (columns[1], rows[1]))
    label(draw, columns[1], "truth", "and what the sensor saw")
    best = max(panel.psnr for panel in panels)
    for panel, error, column in zip(panels, errors, columns[2:], strict=True):
        here = -10 * math.log10(max(float((error**2).mean()), 1e-10))
        figures = f"{panel.psnr:.2f} dB, here {here:.2f}"
        label(draw, column, panel.name, figures, colour=BEST if panel.psnr == best else FAINT)
        image.paste(enlarge(panel.picture[part]), (column, rows[0]))
        image.paste(enlarge(_heat(error / highest)), (column, rows[1]))
    return image


def where_models_differ(
    truth: Float[Tensor, "3 h w"], panels: Sequence[Panel], *, border: int = 0
) -> tuple[int, int, int]:
    """Return top, left and side of the part where the better models, up to 3 dB below the best, differ most."""
    best = max(panel.psnr for panel in panels)
    errors = [((panel.picture - truth) ** 2).mean(0) for panel in panels if panel.psnr >= best - CLOSE]
    errors = errors if len(errors) > 1 else [((panel.picture - truth) ** 2).mean(0) for panel in panels]
    inside = torch.stack(errors)[:, border : truth.shape[1] - border, border : truth.shape[2] - border]
    side = min(CROP, *inside.shape[1:])
    local = F.avg_pool2d(inside[:, None], side, stride=8)[:, 0].sqrt()
    spread = local.amax(0) - local.amin(0)
    row, column = divmod(int(spread.argmax()), spread.shape[1])
    return border + 8 * row, border + 8 * column, side


def _overview(image: Image.Image, corner: tuple[int, int], truth: Tensor, part: tuple[int, int, int]) -> None:
    height, width = truth.shape[1:]
    scale = CELL / max(height, width)
    small = _as_image(truth).resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)
    top, left, side = (round(length * scale) for length in part)
    frame = (left, top, left + side, top + side)
    ImageDraw.Draw(small).rectangle(frame, outline=MARK, width=3)
    image.paste(small, corner)


def _legend(image: Image.Image, corner: tuple[int, int], highest: float) -> None:
    left, top = corner
    draw = ImageDraw.Draw(image)
    ramp = _as_image(_heat(torch.linspace(0, 1, CELL)[None].expand(18, -1)))
    image.paste(ramp, (left, top + LINE))
    draw.text((left, top - 3), "error", fill=INK, font=font())
    draw.text((left, top + LINE + 22), "0", fill=FAINT, font=font())
    draw.text((left + CELL, top + LINE + 22), f"{highest:.0%} of white and more", fill=FAINT, font=font(), anchor="ra")
    for number, line in enumerate(("root mean square of the colours,", "the same scale in all pictures")):
        draw.text((left, top + (3 + number) * LINE), line, fill=FAINT, font=font(15))


def label(draw: ImageDraw.ImageDraw, left: int, name: str, figures: str, *, colour: str = FAINT) -> None:
    """Draw a column's heading, small enough to fit, and a line below it."""
    size = TEXT
    while size > 9 and draw.textlength(name, font=font(size)) > CELL:
        size -= 1
    draw.text((left, MARGIN), name, fill=INK, font=font(size))
    draw.text((left, MARGIN + LINE), figures, fill=colour, font=font())


def font(size: int = TEXT) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font of all text, in a size in pixels."""
    return ImageFont.load_default(size)


def enlarge(part: Float[Tensor, "3 h w"]) -> Image.Image:
    """Enlarge a small part of a picture, so that each of its pixels is a square."""
    return _as_image(part).resize((CELL, CELL), Image.Resampling.NEAREST)


def _as_image(picture: Tensor) -> Image.Image:
    return Image.fromarray((picture.clamp(0, 1) * 255).round().byte().movedim(0, -1).contiguous().numpy())


def _heat(share: Float[Tensor, "h w"]) -> Float[Tensor, "3 h w"]:
    from matplotlib import colormaps

    colours = np.asarray(colormaps["magma"](share.clamp(0, 1).numpy()))
    return torch.from_numpy(colours[..., :3]).float().movedim(-1, 0)


def _round_up(error: float) -> float:
    """Round up to the next even percent, so that the scale reads well."""
    return max(0.02, math.ceil(error * 50) / 50)
