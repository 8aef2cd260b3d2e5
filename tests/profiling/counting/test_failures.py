"""A sentence for each way in which a forward fails."""

import pytest
import torch
from torch import nn

from compresskit import profile
from compresskit.errors import CompressKitError


@pytest.mark.parametrize(
    ("model", "inputs", "sentence"),
    [
        (nn.Sequential(nn.Identity(), nn.Conv2d(4, 2, 3)), torch.rand(1, 3, 8, 8), "^`1` takes 4 channels, got 3"),
        (nn.Sequential(nn.Conv1d(4, 2, 3)), torch.rand(1, 3, 8), "^`0` takes 4 channels, got 3"),
        (nn.Linear(4, 2), torch.rand(3, 5), r"^Linear takes 4 features, got 5 \(input 3x5\)"),
        (nn.Linear(4, 2), (), r"^Linear: no inputs were given; its signature is forward\(input\)"),
        (nn.Linear(4, 2), {"inptu": torch.rand(4)}, r"^Linear: .*'input'.*; its signature is forward\(input\)"),
        (
            nn.Sequential(nn.LazyLinear(3)),
            torch.rand(1, 3),
            "^Sequential: 0 is lazy and has no weights yet; .*--materialize",
        ),
        (nn.Sequential(nn.Embedding(4, 2)), torch.rand(3), r"fails at `0` \(.*line.*\): .*(indices|Long|int)"),
    ],
)
def test_a_mistake_in_the_inputs_is_explained_in_a_sentence(model, inputs, sentence):
    with pytest.raises(CompressKitError, match=sentence) as error:
        profile(model, inputs)
    assert len(str(error.value).splitlines()) <= 3


def test_bugs_of_the_model_keep_their_exception():
    class Broken(nn.Module):
        def forward(self, x):
            return x.nonsense

    with pytest.raises(AttributeError, match="nonsense"):
        profile(Broken(), torch.rand(1))
