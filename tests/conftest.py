"""Every test starts from the same random state and on one thread, so that neither order nor machine matters."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
