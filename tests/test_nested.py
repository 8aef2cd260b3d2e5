"""Tensors in nested values."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compresskit.nested import device_of, held_tensors, map_tensors, tensors_in


@dataclass
class Pair:
    left: Tensor
    right: Tensor


class Holder:
    def __init__(self, value):
        self.value = value


ONE, TWO, THREE = torch.tensor(1), torch.tensor(2), torch.tensor(3)


def _values(tensors):
    return [int(tensor) for tensor in tensors]


def test_tensors_are_found_in_containers_in_order():
    assert _values(tensors_in({"a": [ONE, (TWO, "text")], "b": THREE, "c": {4}})) == [1, 2, 3]


def test_held_tensors_include_those_of_data_classes_and_on_request_of_objects():
    value = [Pair(ONE, TWO), Holder({"x": THREE})]
    assert _values(held_tensors(value)) == [1, 2]
    assert _values(held_tensors(value, objects=True)) == [1, 2, 3]
    assert _values(held_tensors(Holder(nn.Linear(2, 2)), objects=True)) == []  # modules are not searched


def test_a_container_that_holds_itself_is_searched_once():
    circle = [ONE]
    circle.append(circle)
    assert _values(held_tensors([circle, circle])) == [1]


def test_mapped_tensors_keep_their_containers():
    assert map_tensors(lambda tensor: tensor + 1, {"a": [ONE, (TWO, "text")]}) == {"a": [TWO, (THREE, "text")]}


def test_the_device_is_that_of_the_first_tensor():
    assert device_of(nn.Linear(2, 2, device="meta")).type == "meta"
    assert device_of(nn.BatchNorm2d(2, affine=False, device="meta")).type == "meta"  # it has buffers alone
    assert device_of(["text", torch.empty(1, device="meta"), ONE]).type == "meta"
    assert device_of(nn.ReLU()) == device_of([]) == torch.device("cpu")
