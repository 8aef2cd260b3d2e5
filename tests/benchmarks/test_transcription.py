"""What is measured against computes the same."""

import pytest
import torch

from tests.benchmarks.transcription import ReleasedPyNETQxQ
from zoo.pynet import PyNETQxQ


@pytest.mark.parametrize("norm", [True, False])
def test_the_plain_transcription_is_the_same_network(norm):
    torch.manual_seed(0)
    ours, plain = PyNETQxQ(2, instance_norm_level_1=norm).eval(), ReleasedPyNETQxQ(2, norm=norm).eval()
    plain.load_state_dict(ours.state_dict())
    packed = torch.rand(2, 4, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(plain(packed), ours(packed), atol=1e-6, rtol=0)
