"""Fingerprints: equal for equal models and samples, different for all others."""

import pytest
import torch
from torch import nn

from compresskit.distill.cache.fingerprints import model_fingerprint, sample_checksums


class Scaled(nn.Module):
    """A model that reads attributes which are not in its state."""

    def __init__(self, buffer=1.0, tensor=1.0, number=1.0):
        super().__init__()
        self.register_buffer("buffer", torch.tensor(buffer), persistent=False)
        self.tensor = torch.tensor(tensor)
        self.number = number
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.buffer * self.tensor * self.number


def test_models_differ_by_attributes_outside_their_state_but_not_by_counters():
    same = Scaled()
    same(torch.ones(1))
    assert model_fingerprint(same, {".calls"}) == model_fingerprint(Scaled(), {".calls"})
    others = [Scaled(buffer=2.0), Scaled(tensor=2.0), Scaled(number=2.0)]
    assert len({model_fingerprint(teacher, {".calls"}) for teacher in (same, *others)}) == 4


@pytest.mark.parametrize("options", [{"nhead": 4}, {"activation": "gelu"}, {"norm_first": True}])
def test_models_differ_by_their_whole_numbers_and_functions(options):
    usual = {"d_model": 16, "nhead": 2, "dim_feedforward": 8}
    one, other = (nn.TransformerEncoderLayer(**usual | changes) for changes in ({}, options))
    other.load_state_dict(one.state_dict())
    assert model_fingerprint(one) != model_fingerprint(other)


def test_checksums_tell_samples_apart_and_nothing_else():
    batch = {"image": torch.randn(3, 2, 4), "level": torch.tensor(0.5), "mode": "a"}
    first = sample_checksums(batch, 3)
    assert len(set(first)) == 3
    moved = {"mode": "a", "level": torch.tensor(0.5), "image": batch["image"][[2, 0, 1]]}
    assert sample_checksums(moved, 3) == [first[2], first[0], first[1]]
    for change in ({"mode": "b"}, {"level": torch.tensor(0.25)}):
        assert not set(sample_checksums({**batch, **change}, 3)) & set(first)
