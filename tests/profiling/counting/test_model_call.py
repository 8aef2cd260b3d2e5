"""Inputs of one call."""

import torch

from compresskit.profiling.counting.model_call import ModelCall


def test_values_for_a_real_run_do_not_change_the_global_generator():
    before = torch.get_rng_state()
    shapes = (torch.empty(2, 3, device="meta"), torch.empty(4, dtype=torch.int64, device="meta"))
    values, ids = ModelCall.of(shapes).to("cpu").tensors()
    assert 0 <= values.min() <= values.max() < 1
    assert ids.tolist() == [0, 0, 0, 0]
    assert torch.equal(before, torch.get_rng_state())
