"""bfloat16 against float32 on this CPU: training steps and frames of PyNET-QxQ and PyNET, in turns.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bf16

Width 16, no instance norm, one thread. The first line is a convolution alone: no network gains more than that, and it
depends on the processor's units. AVX512_BF16 has twice the products of float32, AMX sixteen times.
"""

import time
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tests.benchmarks.interleaved import interval
from zoo.frames.development import Development, picture_of
from zoo.frames.levels import Levels
from zoo.pynet import PyNET, PyNETQxQ
from zoo.raw import CFA, LMMSEPhase

ROUNDS = 9


def convolution(features, weight, *, half):
    dtype = torch.bfloat16 if half else torch.float32
    with torch.no_grad():
        F.conv2d(features.to(dtype), weight.to(dtype))


def training_step(network, packed, target, *, half):
    network.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        picture = network(packed)
    (picture.float() - target).square().mean().backward()


def frame(network, numbers, *, half):
    levels = Levels(cfa=CFA.of("qxq"), black=0.0, white=1.0)
    ways = {"source": "display", "working": "display", "finish": picture_of("display", "display", 8), "half": half}
    return Development(module=network.eval(), levels=levels, **ways)(numbers)


def compare(name, step):
    seconds = {False: [], True: []}
    for half in seconds:
        step(half=half)
    for _ in range(ROUNDS):
        for half, times in seconds.items():
            began = time.perf_counter()
            step(half=half)
            times.append(time.perf_counter() - began)
    low, middle, high = interval([full / half for full, half in zip(*seconds.values(), strict=True)])
    print(f"{name}: {middle:.2f} x as fast  [{low:.2f}, {high:.2f}]  fastest {min(seconds[True]):.3f} s")


def corrected():
    """A skip with coefficients of about the size of fitted ones."""
    skip = LMMSEPhase()
    nn.init.normal_(skip.coefficients, std=0.05)
    nn.init.zeros_(skip.offsets)
    skip.fitted = True
    return skip


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print({name: value for name, value in torch.cpu.get_capabilities().items() if name.endswith("bf16")})
    features = torch.rand(2, 64, 72, 72).contiguous(memory_format=torch.channels_last)
    compare("a 9x9 convolution alone", partial(convolution, features, torch.rand(16, 64, 9, 9)))
    no_norm = {"instance_norm": False, "instance_norm_level_1": False}
    networks = {
        "PyNET-QxQ": PyNETQxQ(16, instance_norm_level_1=False),
        "PyNET-QxQ with a skip": PyNETQxQ(16, instance_norm_level_1=False, skip=corrected()),
        "PyNET": PyNET(16, **no_norm),
        "PyNET with a skip": PyNET(16, **no_norm, skip=corrected()),
    }
    numbers = np.random.default_rng(0).random((512, 512), dtype=np.float32)
    for name, network in networks.items():
        step = partial(training_step, network, torch.rand(2, 4, 64, 64), torch.rand(2, 3, 128, 128))
        compare(f"{name}, forward and backward, 2 x 128 x 128", step)
        if "QxQ" in name:
            compare(f"{name}, a frame of 512 x 512", partial(frame, network, numbers))


if __name__ == "__main__":
    main()
