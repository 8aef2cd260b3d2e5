from collections import UserDict, namedtuple

import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, Stage
from compresskit.nested import device_of, map_tensors, tensors_in

Pair = namedtuple("Pair", ["left", "right"])


def test_mappings_of_any_kind_and_named_tuples_are_containers():
    one, two, three = torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0)
    nested = UserDict(pair=Pair(one, [two]), rest=(three, "text", None))  # collators return a UserDict
    assert [tensor.item() for tensor in tensors_in(nested)] == [1.0, 2.0, 3.0]
    doubled = map_tensors(lambda tensor: 2 * tensor, nested)
    assert doubled == {"pair": Pair(torch.tensor(2.0), [torch.tensor(4.0)]), "rest": (torch.tensor(6.0), "text", None)}


def test_a_model_without_parameters_is_on_the_device_of_its_buffers():
    assert device_of(nn.BatchNorm1d(2, affine=False, device="meta")).type == "meta"
    assert device_of(nn.Identity()).type == device_of([]).type == "cpu"


def test_inputs_made_in_inference_mode_are_trained_on():
    with torch.inference_mode():
        inputs = torch.randn(4, 3)
    stage = Stage("s", matches=[Match(".")], steps=3, optimizer={"_target_": "torch.optim.SGD", "lr": 0.1})
    history = ProgressiveDistiller(nn.Linear(3, 2), nn.Linear(3, 2), [stage]).fit([inputs]).history
    losses = [record["terms"]["mse(.)"]["value"] for record in history]
    assert losses[2] < losses[0]
