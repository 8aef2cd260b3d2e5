"""Images with the answers of several classifiers below them: a column for each image, a row for each model."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CELL, GAP, MARGIN, LINE, TEXT = 64, 8, 24, 24, 17
"""In pixels: side of an enlarged image, space between two images, margin, height of a line and of its letters."""


PAPER, INK, RIGHT, WRONG = "#ffffff", "#1c1e22", "#0a7d38", "#c0392b"


def draw_answers(
    images: Sequence[Float[Tensor, "c h w"]], truth: Sequence[str], answers: Mapping[str, Sequence[str]]
) -> Image.Image:
    """Draw the images with their classes and the models' answers below them; wrong answers are red.

    Args:
        images: Images in grey or in three colours, from 0 to 1; further channels are not shown.
        truth: Name of each image's class.
        answers: Name of the class that a model chooses for each image, by model.
    """
    font = ImageFont.load_default(TEXT)
    names = round(max(font.getlength(name) for name in ("truth", *answers))) + 2 * GAP
    columns = [MARGIN + names + (CELL + GAP) * number for number in range(len(images))]
    size = (columns[-1] + CELL + MARGIN, 2 * MARGIN + CELL + GAP + LINE * (1 + len(answers)))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for image, column in zip(images, columns, strict=True):
        sheet.paste(_enlarge(image), (column, MARGIN))
    for row, (name, classes) in enumerate({"truth": truth, **answers}.items()):
        height = MARGIN + CELL + GAP + row * LINE
        draw.text((MARGIN, height), name, fill=INK, font=font)
        for answer, right, column in zip(classes, truth, columns, strict=True):
            colour = INK if row == 0 else RIGHT if answer == right else WRONG
            draw.text((column + CELL // 2, height), answer, fill=colour, font=font, anchor="ma")
    return sheet


def _enlarge(image: Tensor) -> Image.Image:
    colours = image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1)
    values = (colours.clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).contiguous().numpy()
    return Image.fromarray(values).resize((CELL, CELL), Image.Resampling.NEAREST)
