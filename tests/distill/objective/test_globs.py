"""One match for each module whose path fits a glob, and tasks of several taps."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compresskit import Match, ProgressiveDistiller, RecipeError, Stage, TapError, Task


class Blocks(nn.Module):
    def __init__(self, count, name="blocks"):
        super().__init__()
        setattr(self, name, nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(count)))
        self.name, self.head = name, nn.Linear(4, 3)

    def forward(self, x):
        for block in getattr(self, self.name):
            x = block(x)
        return self.head(x)


def terms(*matches, teacher=None, count=3):
    distiller = ProgressiveDistiller(teacher or Blocks(4), Blocks(count), [Stage("s", matches=matches, steps=1)])
    return [term.name for term in distiller.plan((torch.randn(2, 4), None)).stages[0].terms]


def test_a_star_stands_for_one_part_of_a_path():
    assert terms(Match("blocks.*")) == ["mse(blocks.0)", "mse(blocks.1)", "mse(blocks.2)"]
    assert terms(Match("blocks.*.1@in")) == [f"mse(blocks.{n}.1@in)" for n in range(3)]
    assert terms(Match("bl*.1"), Match(".")) == ["mse(blocks.1)", "mse(.)"]
    assert terms(Match("*.*.*"))[:2] == ["mse(blocks.0.0)", "mse(blocks.0.1)"]


def test_the_stars_of_the_teacher_stand_for_the_same():
    teacher = Blocks(4, "layers")
    names = terms(Match("blocks.*@out[:, 1:]", "layers.*@out[:, 1:]", loss="cosine"), teacher=teacher, count=2)
    assert names == [f"cosine(blocks.{n}@out[:, 1:], layers.{n}@out[:, 1:])" for n in range(2)]
    assert terms(Match("blocks.*", "big:layers.3"), teacher={"big": teacher}, count=1) == [
        "mse(blocks.0, big:layers.3)"
    ]


@pytest.mark.parametrize(
    ("match", "error", "message"),
    [
        (Match("block.*"), TapError, "no module of Blocks fits 'block.*'; did you mean 'blocks.2'"),
        (Match("blocks.0", "blocks.*"), RecipeError, "the teacher's address has more stars than the student's"),
        (Match(["blocks.*", "head"], loss=torch.dist), RecipeError, "one tap a side, not in a list"),
        (Match("blocks.*"), TapError, "Blocks has no module 'blocks.1'"),
    ],
)
def test_a_glob_that_fits_nothing_is_refused(match, error, message):
    with pytest.raises(error, match=message):
        terms(match, teacher=Blocks(1))


class Clip(nn.Module):
    """A model of two towers."""

    def __init__(self):
        super().__init__()
        self.image, self.text = nn.Linear(4, 3), nn.Linear(5, 3)

    def forward(self, image, text):
        return self.image(image), self.text(text)


def info_nce(towers, target):
    image, text = (F.normalize(side, dim=1) for side in towers)
    return F.cross_entropy(image @ text.T, target)


def test_a_task_may_read_several_taps():
    student, inputs, target = Clip(), (torch.randn(3, 4), torch.randn(3, 5)), torch.arange(3)
    expected = info_nce(student(*inputs), target).item()
    stage = Stage("s", tasks=[Task(info_nce, student=["image", "text"])], steps=4, train="upstream")
    result = ProgressiveDistiller(None, student, [stage], device="cpu").fit([(inputs, target)])
    values = [record["terms"]["info_nce(image + text, target)"]["value"] for record in result.history]
    assert values[0] == pytest.approx(expected)
    assert values[-1] < values[0]


def test_a_loss_of_one_tensor_refuses_several_taps():
    with pytest.raises(RecipeError, match="student: cross_entropy compares one tap with a target, got 2"):
        Task("cross_entropy", student=["a", "b"])
