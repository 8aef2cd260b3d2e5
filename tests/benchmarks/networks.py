"""PyNET-QxQ and PyNET against plain transcriptions of them, and in channels_last: processor seconds, in turns.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.networks

Forward alone and forward with backward, planes of 64 x 64, two in a batch, float32, with and without instance norm.
Each figure is the median over rounds of the ratio to the transcription, with a 95 % bootstrap interval. Here the
transcription of PyNET-QxQ puts its mosaic together in torch, so that it can be trained; everything else is the plain
transcription.
"""

import copy
import time
from functools import partial

import torch

from tests.benchmarks import transcription
from tests.benchmarks.interleaved import report_ratio
from zoo.pynet import PyNET, PyNETQxQ
from zoo.raw import CFA

ROUNDS = 15


class Trainable(transcription.ReleasedPyNETQxQ):
    def forward(self, x):
        own, cfa = transcription.mosaic_of, CFA.of("qxq")
        transcription.mosaic_of = lambda packed: cfa.unpack(torch.from_numpy(packed)).numpy()
        try:
            return super().forward(x)
        finally:
            transcription.mosaic_of = own


def students(norm):
    return Trainable(norm=norm), PyNETQxQ(instance_norm_level_1=norm)


def teachers(norm):
    plain = transcription.ReleasedPyNET(norm=norm, norm_1=norm)
    return plain, PyNET(instance_norm=norm, instance_norm_level_1=norm)


def seconds(step):
    began = time.process_time()
    step()
    return time.process_time() - began


def forward(model, planes):
    with torch.no_grad():
        model(planes)


def forward_and_backward(model, planes):
    model(planes).square().mean().backward()


def measure(name, plain, ours, planes):
    plain.load_state_dict(ours.state_dict())
    last = copy.deepcopy(ours).to(memory_format=torch.channels_last)
    with torch.no_grad():
        print(
            f"{name}: outputs within {max((other(planes) - ours(planes)).abs().max() for other in (plain, last)):.1e}"
        )
    ways = {"transcription": plain, "ours": ours, "ours, channels_last": last}
    for step in (forward, forward_and_backward):
        durations = {way: [] for way in ways}
        for model in ways.values():
            step(model, planes)
        for _ in range(ROUNDS):
            for way, model in ways.items():
                durations[way].append(seconds(partial(step, model, planes)))
        base = durations.pop("transcription")
        for way, times in durations.items():
            report_ratio(f"  {step.__name__}, {way}", times, base, block=1)


def main():
    torch.manual_seed(0)
    planes = torch.rand(2, 4, 64, 64)
    for network, pair in (("PyNET-QxQ", students), ("PyNET", teachers)):
        for norm in (True, False):
            measure(f"{network}, instance norm {norm}", *pair(norm), planes)


if __name__ == "__main__":
    main()
