"""A function for the tests of this folder."""

import pytest

from compresskit.distill.taps.taps import Taps


@pytest.fixture
def read():
    """A function (model, address, *inputs) that returns the tensor at an address."""

    def read(model, address, *inputs, stop=True, clone=()):
        with Taps(model, [address], stop=stop, clone=clone) as taps:
            return taps.forward(inputs)[address]

    return read
