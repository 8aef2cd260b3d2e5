"""What each of two processes does, for test_processes.py: runs every case, and writes what it found as JSON."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from compresskit import CompressKitError, Match, ProgressiveDistiller, Stage, Task
from compresskit.data import SampleLoader
from compresskit.distill.processes import init_processes, launched
from compresskit.distill.session import run_folder
from compresskit.errors import TrainingError

PICTURES = torch.randn(21, 3, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(21) % 4


class Samples:
    variants = 1

    def __len__(self):
        return len(PICTURES)

    def __getitem__(self, index):
        return PICTURES[int(index)], LABELS[int(index)]


class Student(nn.Module):
    """With what goes wrong where processes go apart: running statistics, dropout, a layer that no term reaches."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.3)
        self.scores = nn.Linear(4, 4)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return self.scores(self.dropout(self.norm(self.first(x)).mean((2, 3))))


class Fickle(nn.Module):
    """Runs a layer up to its fourth forward only, or only from there on; the first three just look."""

    def __init__(self, *, late=False):
        super().__init__()
        self.always, self.sometimes, self.calls, self.late = nn.Linear(108, 4), nn.Linear(108, 4), 0, late

    def forward(self, x):
        self.calls += 1
        x = x.flatten(1)
        return self.always(x) + (self.sometimes(x) if (self.calls > 2) == self.late else 0)


def plain(width):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4)
    )


def made(build, seed):
    torch.manual_seed(seed)
    return build()


def teacher():
    return made(lambda: plain(8), 0)


def stages(**options):
    tasks = [Task("cross_entropy")]
    return [
        Stage("hint", matches=[Match("first", "0")], train="upstream", steps=3, **options),
        Stage("all", matches=[Match(".", loss="kl")], tasks=tasks, steps=7, clip=1.0, **options),
    ]


def plain_stages(**options):
    hint = Stage("hint", matches=[Match("0")], train="upstream", steps=3, **options)
    return [hint, *stages(**options)[1:]]


def place():
    """The rank of this process, and how many there are."""
    return launched() if not dist.is_initialized() else (dist.get_rank(), dist.get_world_size())


def batches(sizes=(3, 4, 1)):
    pictures, labels = (whole[: sum(sizes)].split(sizes) for whole in (PICTURES, LABELS))
    return list(zip(pictures, labels, strict=True))


def weights(model):
    return [value for parameter in model.parameters() for value in parameter.flatten().tolist()]


def state(model):
    return [value for tensor in model.state_dict().values() for value in tensor.double().flatten().tolist()]


def marks(model):
    return [
        (name, sorted(vars(module)), module.training, [(p.requires_grad, sorted(vars(p))) for p in module.parameters()])
        for name, module in model.named_modules()
    ]


def learned(loader, **options):
    """A student without anything that depends on how a batch is parted; each process's own initial weights differ."""
    student = made(lambda: plain(4), 1 + place()[0])
    result = ProgressiveDistiller(teacher(), student, plain_stages(**options), device="cpu").fit(loader)
    losses = [term["value"] for record in result.history for term in record["terms"].values()]
    return weights(student), losses


def sample_loader():
    return learned(SampleLoader(Samples(), 4))


def accumulated():
    return learned(SampleLoader(Samples(), 2), accumulate=4)


def one_list():
    return learned(batches())


def own_lists():
    rank, processes = place()
    return learned([(x[rank::processes], y[rank::processes]) for x, y in batches((4, 6))])


def distributed_sampler():
    rank, processes = place()
    data = TensorDataset(PICTURES[:20], LABELS[:20])
    sampler = DistributedSampler(data, processes, rank, shuffle=False)
    return learned(DataLoader(data, batch_size=4 // processes, sampler=sampler))


def apart():
    """What two processes might come to differ in, and what they leave on the student."""
    student = made(Student, 1)
    before = marks(student)
    ProgressiveDistiller(teacher(), student, stages(ema=0.9), device="cpu").fit(SampleLoader(Samples(), 4))
    return state(student), marks(student) == before


def best():
    student = made(Student, 1)
    options = {"every": 2, "best": "min loss"}
    distiller = ProgressiveDistiller(teacher(), student, stages(**options), device="cpu")
    result = distiller.fit(
        SampleLoader(Samples(), 4), SampleLoader(Samples(), 5), lambda _: {"asked": float(place()[0])}
    )
    return state(student), result.stages[-1].validation, result.stages[-1].metrics


class LoaderError(Exception):
    pass


class Stopping(SampleLoader):
    """Fails after some batches."""

    left = 6

    def batches(self, *position):
        for batch in super().batches(*position):
            self.left -= 1
            if self.left < 0:
                raise LoaderError
            yield batch


def resumed():
    run_folder.CHECKPOINT_SECONDS, usual = 0.0, run_folder.CHECKPOINT_SECONDS
    found = []
    for folder, loaders in {"whole": [SampleLoader], "parts": [Stopping, SampleLoader]}.items():
        for loader in loaders:
            student = made(Student, 1)
            distiller = ProgressiveDistiller(teacher(), student, stages(), device="cpu", out=f"{FOLDER}/{folder}")
            try:
                result = distiller.fit(loader(Samples(), 4))
            except LoaderError:
                continue
            found.append([state(student), [record["terms"] for record in result.history]])
    run_folder.CHECKPOINT_SECONDS = usual
    return found


def cached():
    student = made(Student, 1)
    cache = {"budget": "1MB", "folder": f"{FOLDER}/cache"}
    distiller = ProgressiveDistiller(teacher(), student, stages(), device="cpu", cache=cache)
    result = distiller.fit(SampleLoader(Samples(), 7))
    return state(student), [stage.recalled for stage in result.stages]


def uncached():
    student = made(Student, 1)
    ProgressiveDistiller(teacher(), student, stages(), device="cpu").fit(SampleLoader(Samples(), 7))
    return state(student)


def cached_in_memory():
    distiller = ProgressiveDistiller(teacher(), made(Student, 1), stages(), device="cpu", cache={"budget": "1MB"})
    try:
        distiller.fit(SampleLoader(Samples(), 7))
    except CompressKitError as error:
        return str(error)
    return "not refused"


def refused(student):
    stage = Stage("s", matches=[Match(".", loss="kl")], steps=6)
    try:
        ProgressiveDistiller(teacher(), student, [stage], device="cpu").fit(batches())
    except TrainingError as error:
        return str(error)
    return "not refused"


def fickle():
    return refused(Fickle())


def late():
    return refused(Fickle(late=True))


def validated():
    """By a loader that gives each process its part, and by one that gives all of them the same."""
    rank, processes = place()
    data = TensorDataset(PICTURES[:20], LABELS[:20])
    parted = DataLoader(
        data, batch_size=4 // processes, sampler=DistributedSampler(data, processes, rank, shuffle=False)
    )
    found = []
    for loader in (parted, batches()):
        student = made(lambda: plain(4), 1)
        result = ProgressiveDistiller(teacher(), student, plain_stages(), device="cpu").fit(batches(), loader)
        found.append(result.stages[-1].validation)
    return found


def gradient_norms():
    student = made(lambda: plain(4), 1)
    stages = plain_stages(gradient_norms=2)
    result = ProgressiveDistiller(teacher(), student, stages, device="cpu").fit(batches())
    return [[term.get("gradient_norm") for term in record["terms"].values()] for record in result.history]


def fickle_wrapped():
    student = made(Fickle, 1)
    wrapped = DistributedDataParallel(student, find_unused_parameters=True)
    stage = Stage("s", matches=[Match(".", loss="kl")], steps=6)
    result = ProgressiveDistiller(teacher(), wrapped, [stage], device="cpu").fit(batches())
    return weights(student), result.student is wrapped


def own_loop():
    """Gradients of the first stage's adapter and layer, and of two backwards of which the second one exchanges."""
    rank, processes = place()
    student = made(Student, 1)
    wrapped = DistributedDataParallel(student)
    distiller = ProgressiveDistiller(teacher(), wrapped, stages(), device="cpu")
    inputs, targets = PICTURES[:8][rank::processes], LABELS[:8][rank::processes]
    with distiller.stage(0, (inputs, targets)) as objective:
        parameters = objective.parameters()
        objective(inputs, targets)[0].backward()
        once = [parameter.grad.clone() for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        with wrapped.no_sync():
            objective(inputs, targets)[0].backward()
        objective(inputs, targets)[0].backward()
        twice = [parameter.grad / 2 for parameter in parameters]
        with torch.no_grad():
            objective(inputs, targets)
    return [[value for gradient in found for value in gradient.flatten().tolist()] for found in (once, twice)]


CASES = (sample_loader, accumulated, one_list, own_lists, distributed_sampler, apart, best, resumed)
CASES += (cached, uncached, cached_in_memory, fickle, late, fickle_wrapped, validated, gradient_norms, own_loop)

if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    torch.set_num_threads(1)
    found = {"joining_often": [learned(batches()) for _ in range(3)], "joined": dist.is_initialized()}
    with init_processes(torch.device("cpu")):
        found |= {case.__name__: case() for case in CASES}
        (FOLDER / f"{dist.get_rank()}.json").write_text(json.dumps(found))
    os._exit(0)  # gloo's threads end slowly
