"""Tensors in nested values."""

from collections import UserDict, namedtuple
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compresskit import Match, ProgressiveDistiller, Stage
from compresskit.nested import device_of, held_tensors, map_tensors, tensors_in


@dataclass
class Pair:
    left: Tensor
    right: Tensor


Sides = namedtuple("Sides", ["left", "right"])


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


def test_mappings_of_any_kind_and_named_tuples_are_containers():
    nested = UserDict(sides=Sides(ONE, [TWO]), rest=(THREE, "text", None))  # some collators return a UserDict
    assert _values(tensors_in(nested)) == [1, 2, 3]
    assert map_tensors(int, nested) == {"sides": Sides(1, [2]), "rest": (3, "text", None)}


def test_inputs_made_in_inference_mode_are_trained_on():
    with torch.inference_mode():
        inputs = torch.randn(4, 3)
    stage = Stage("s", matches=[Match(".")], steps=3, optimizer={"_target_": "torch.optim.SGD", "lr": 0.1})
    history = ProgressiveDistiller(nn.Linear(3, 2), nn.Linear(3, 2), [stage]).fit([inputs]).history
    losses = [record["terms"]["mse(.)"]["value"] for record in history]
    assert losses[2] < losses[0]
