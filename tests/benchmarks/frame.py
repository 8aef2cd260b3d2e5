"""Seconds and memory of one frame: PyNET-QxQ whole and in tiles, a plain transcription of it, and ONNX Runtime.

    python -m tests.benchmarks.frame --height 2048 --width 2048 --threads 1

Each way runs in its own process. CPU seconds are printed beside wall-clock seconds; on a busy machine they are more
reliable.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

WAYS = ("transcription", "whole", "tiles", "onnx runtime")


def measure(way, height, width, threads, memory, norm):
    import torch

    from zoo.frames.memory import return_freed_memory

    return_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    from tests.benchmarks.transcription import ReleasedPyNETQxQ
    from zoo.pynet import PyNETQxQ
    from zoo.raw import CFA

    cfa = CFA.of("qxq")
    mosaic = np.random.default_rng(0).random((height, width), dtype=np.float32)
    ours = PyNETQxQ(instance_norm_level_1=norm).eval()
    if way == "transcription":
        plain = ReleasedPyNETQxQ(norm=norm).eval()
        plain.load_state_dict(ours.state_dict())
        run = _whole(plain, cfa, mosaic)
    elif way == "onnx runtime":
        run = _onnx(ours, cfa, mosaic, threads)
    else:
        run = _bounded(ours, cfa, mosaic, memory if way == "tiles" else 1000.0)
    began, cpu = time.perf_counter(), time.process_time()
    note = run()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{way:14}  {seconds:8.1f} s  {cpu:8.1f} CPU s  {peak:6.2f} GiB  {note}", flush=True)


def _whole(network, cfa, mosaic):
    import torch

    def run():
        with torch.inference_mode():
            network(cfa.pack(torch.from_numpy(mosaic)[None, None]))
        return "whole"

    return run


def _bounded(network, cfa, mosaic, memory):
    from zoo.frames.development import Development, picture_of
    from zoo.frames.levels import Levels
    from zoo.frames.tiled_inference import demosaic_frame

    development = Development(
        module=network,
        levels=Levels(cfa=cfa, black=0.0, white=1.0),
        source="display",
        working="display",
        finish=picture_of("display", "display", 8),
    )

    def run():
        return f"{demosaic_frame(development, mosaic, memory).tiles} tiles"

    return run


def _onnx(network, cfa, mosaic, threads):
    import onnxruntime
    import torch

    from compresskit.export import export

    packed = cfa.pack(torch.from_numpy(mosaic)[None, None])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        samples = [(packed[:, :, :32, :32],), (packed[:, :, :40, :64],)]
        export(network, samples, path, format="onnx", dynamic=True)
        session = onnxruntime.InferenceSession(path, options)

    def run():
        session.run(None, {session.get_inputs()[0].name: packed.numpy()})
        return "whole"

    return run


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=float, default=2.0, help="GiB for the tiles")
    parser.add_argument("--norm", action="store_true", help="with instance norm in level 1")
    parser.add_argument("--ways", nargs="*", default=WAYS, choices=WAYS)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for way in options.ways:
        arguments = (way, options.height, options.width, options.threads, options.memory, options.norm)
        process = context.Process(target=measure, args=arguments)
        process.start()
        process.join()


if __name__ == "__main__":
    main()
