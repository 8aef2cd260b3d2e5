"""bfloat16 against float32 on this CPU: training steps and frames of PyNET-QxQ and PyNET, in turns.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bf16

Width 16, no instance norm, one thread. The first line is a convolution alone: no network gains more than that, and it
depends on the processor's units. AVX512_BF16 has twice the products of float32, AMX eight times.
"""

import time
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from compresskit.distill.precision import Precision
from tests.benchmarks.interleaved import interval
from zoo.frames.development import Development, picture_of
from zoo.frames.levels import Levels
from zoo.frames.method import has_bfloat16_units
from zoo.pynet import PyNET, PyNETQxQ
from zoo.raw import CFA

ROUNDS = 11
FULL, HALF = Precision(), Precision("bf16")


def convolution(precision, features, weight):
    dtype = precision.autocast_dtype or torch.float32
    with torch.no_grad():
        F.conv2d(features.to(dtype), weight.to(dtype))


def training_step(network, precision, packed, target):
    network.zero_grad()
    with precision.applied_to(network):
        with precision.autocast("cpu"):
            picture = network(packed)
        (picture.float() - target).abs().mean().backward()


def frame(network, precision, numbers):
    levels = Levels(cfa=CFA.of("qxq"), black=0.0, white=1.0)
    finish = picture_of("display", "display", 8)
    ways = {"source": "display", "working": "display", "finish": finish, "half": precision is HALF}
    return Development(module=network.eval(), levels=levels, **ways)(numbers)


def compare(name, step, target=None):
    seconds = {FULL: [], HALF: []}
    for precision in seconds:
        step(precision)
    for _ in range(ROUNDS):
        for precision, times in seconds.items():
            began = time.perf_counter()
            step(precision)
            times.append(time.perf_counter() - began)
    low, middle, high = interval([full / half for full, half in zip(*seconds.values(), strict=True)])
    print(f"{name}: {middle:.2f} x as fast  [{low:.2f}, {high:.2f}]" + (f"  (target {target})" if target else ""))


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print("amx:", torch.cpu.get_capabilities().get("amx_bf16", False), " bfloat16 units:", has_bfloat16_units())
    features = torch.rand(2, 64, 72, 72).contiguous(memory_format=torch.channels_last)
    compare("a 9x9 convolution alone", partial(convolution, features=features, weight=torch.rand(16, 64, 9, 9)))
    packed, target = torch.rand(2, 4, 64, 64), torch.rand(2, 3, 128, 128)
    networks = {
        "PyNET-QxQ": PyNETQxQ(16, instance_norm_level_1=False),
        "PyNET": PyNET(16, instance_norm=False, instance_norm_level_1=False),
    }
    numbers = np.random.default_rng(0).random((512, 512), dtype=np.float32)
    for name, network in networks.items():
        compare(
            f"{name}, forward and backward",
            lambda precision, network=network: training_step(network, precision, packed, target),
            3.0,
        )
        compare(
            f"{name}, a frame of 512 x 512",
            lambda precision, network=network: frame(network, precision, numbers),
            3.5 if name == "PyNET-QxQ" else None,
        )


if __name__ == "__main__":
    main()
