import numpy as np
import torch

from zoo.raw import CFA
from zoo.raw.scoring.side_by_side import CELL, CROP, Panel, draw_side_by_side, where_models_differ


def test_the_enlarged_part_lies_where_the_better_models_differ():
    truth = torch.rand(3, 300, 400)
    wrong, poor = truth.clone(), torch.rand(3, 300, 400)
    wrong[:, 120:208, 200:288] += 0.2
    panels = [Panel("right", truth, 50.0), Panel("wrong", wrong, 49.0), Panel("poor", poor, 10.0)]
    assert where_models_differ(truth, panels, border=8) == (120, 200, CROP)


def test_errors_are_drawn_below_their_pictures_on_one_scale():
    truth = torch.full((3, 120, 120), 0.5)
    sensed = CFA.named().separate(CFA.named().mosaic(truth[None]))[0]
    panels = [Panel("exact", truth, 90.0), Panel("wrong", truth + 0.1, 20.0)]
    image = draw_side_by_side("grey", truth, sensed, panels)
    row = np.asarray(image)[-CELL // 2]
    assert row[-2 * CELL].sum() < 30
    assert row[-CELL // 2].sum() > 600
