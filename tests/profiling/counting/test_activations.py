"""Memory of a forward, from the lifetimes of its storages."""

import torch
from torch import nn

from compresskit.profiling.counting.activations import activation_memory
from compresskit.profiling.counting.model_call import ModelCall
from compresskit.profiling.counting.operations import record_operations

FLOAT = 4


class Keeping(nn.Module):
    """Module that holds on to two results, then makes a third."""

    def forward(self, x):
        one = x * 2
        two = one * 2
        three = two * 2
        del two
        return three * one


def test_memory_follows_the_names_that_keep_tensors_alive():
    memory = activation_memory(record_operations(Keeping(), ModelCall.of(torch.rand(100, 1))))
    assert memory.peak == 3 * 100 * FLOAT  # one, two, three; later one, three, product
    assert memory.last_use_peak == 3 * 100 * FLOAT
    chain = nn.Sequential(*(nn.Tanh() for _ in range(5)))
    memory = activation_memory(record_operations(chain, ModelCall.of(torch.rand(100))))
    assert (memory.peak, memory.peak_at) == (2 * 100 * FLOAT, "1")  # each result and the one before
    assert memory.largest_operation == 2 * 100 * FLOAT


def test_views_and_in_place_operations_take_no_memory():
    model = nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), nn.Unflatten(1, (2, 5)))
    record = record_operations(model, ModelCall.of(torch.rand(3, 10)))
    assert activation_memory(record).peak == 0
    assert sum(operation.bytes for operation in record.operations) == 2 * 30 * FLOAT  # the ReLU reads and writes


def test_freeing_at_the_last_use_needs_less_than_eager_mode():
    class Hoarding(nn.Module):
        def forward(self, x):
            results = [x]
            for _ in range(5):
                results.append(results[-1] + 1)
            return results[-1]

    memory = activation_memory(record_operations(Hoarding(), ModelCall.of(torch.rand(100))))
    assert (memory.peak, memory.last_use_peak) == (5 * 100 * FLOAT, 2 * 100 * FLOAT)
