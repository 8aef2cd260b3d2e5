"""PyNET-QxQ against a plain transcription of it, and in channels_last: processor seconds, one after the other in turns.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.networks

Forward alone and forward with backward, planes of 64 x 64, two at a time, float32. The transcription's mosaic is put
together in torch here, so that it can be trained; all else is as plain as it is.
"""

import time
from statistics import median

import torch

from tests.benchmarks import transcription
from zoo.pynet import PyNETQxQ
from zoo.raw import CFA

ROUNDS = 9


class Trainable(transcription.ReleasedPyNETQxQ):
    def forward(self, x):
        own, cfa = transcription.mosaic_of, CFA.of("qxq")
        transcription.mosaic_of = lambda packed: cfa.unpack(torch.from_numpy(packed)).numpy()
        try:
            return super().forward(x)
        finally:
            transcription.mosaic_of = own


def seconds(step):
    began = time.process_time()
    step()
    return time.process_time() - began


def main():
    torch.manual_seed(0)
    planes = torch.rand(2, 4, 64, 64)
    for norm in (True, False):
        ours, plain = PyNETQxQ(instance_norm_level_1=norm), Trainable(norm=norm)
        plain.load_state_dict(ours.state_dict())
        last = PyNETQxQ(instance_norm_level_1=norm).to(memory_format=torch.channels_last)
        last.load_state_dict(ours.state_dict())
        with torch.no_grad():
            worst = max((model(planes) - ours(planes)).abs().max().item() for model in (plain, last))
        ways = {"transcription": plain, "ours": ours, "ours, channels_last": last}
        for what in ("forward", "forward and backward"):
            found = {name: [] for name in ways}
            for _ in range(ROUNDS):
                for name, model in ways.items():
                    if what == "forward":
                        with torch.no_grad():
                            found[name].append(seconds(lambda model=model: model(planes)))
                    else:
                        found[name].append(seconds(lambda model=model: model(planes).square().mean().backward()))
            base = median(found["transcription"])
            told = ", ".join(f"{name} {median(times) / base:.3f}" for name, times in found.items())
            print(f"instance norm {norm}, {what}: {told}; outputs within {worst:.1e}")


if __name__ == "__main__":
    main()
