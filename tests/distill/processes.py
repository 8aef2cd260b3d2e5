"""The cases of test_processes.py.

As a script it is one of two processes: it runs every case and writes the results as JSON.
"""

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

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}
PICTURES = torch.randn(21, 3, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(21) % 4


class Samples:
    variants = 1

    def __len__(self):
        return len(PICTURES)

    def __getitem__(self, index):
        return PICTURES[int(index)], LABELS[int(index)]


class Student(nn.Module):
    """A model in which processes could differ: running statistics, dropout, a layer that no term reaches."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.3)
        self.scores = nn.Linear(4, 4)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return self.scores(self.dropout(self.norm(self.first(x)).mean((2, 3))))


class Irregular(nn.Module):
    """A model that runs one layer in its first two forwards only, or only after them; the first one looks ahead."""

    def __init__(self, *, late=False):
        super().__init__()
        self.always, self.sometimes, self.calls, self.late = nn.Linear(108, 4), nn.Linear(108, 4), 0, late

    def forward(self, x):
        self.calls += 1
        x = x.flatten(1)
        return self.always(x) + (self.sometimes(x) if (self.calls > 2) == self.late else 0)


def plain_model(width):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4)
    )


def with_seed(build, seed):
    """Return the model of `build`, whose initial weights depend on `seed` alone."""
    torch.manual_seed(seed)
    return build()


def teacher():
    return with_seed(lambda: plain_model(8), 0)


def stages(**options):
    tasks = [Task("cross_entropy")]
    return [
        Stage("hint", matches=[Match("first", "0")], train="upstream", steps=3, **options),
        Stage("all", matches=[Match(".", loss="kl")], tasks=tasks, steps=7, clip=1.0, **options),
    ]


def plain_stages(**options):
    hint = Stage("hint", matches=[Match("0")], train="upstream", steps=3, **options)
    return [hint, *stages(**options)[1:]]


def rank_and_size():
    """Return the rank of this process and the number of processes."""
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


def train(loader, **options):
    """Train a student whose terms do not depend on the split of a batch; each process starts with other weights."""
    student = with_seed(lambda: plain_model(4), 1 + rank_and_size()[0])
    result = ProgressiveDistiller(teacher(), student, plain_stages(**options), device="cpu").fit(loader)
    losses = [term["value"] for record in result.history for term in record["terms"].values()]
    return weights(student), losses


def sample_loader():
    return train(SampleLoader(Samples(), 4))


def accumulation():
    return train(SampleLoader(Samples(), 2), accumulate=4)


def one_list():
    return train(batches())


def boxes_of_images(*, even=False):
    """Return the error about targets that are not one for each sample, in a list that all processes share."""
    boxes = [torch.rand(len(x) if even and not number else len(x) + 2, 6) for number, (x, _) in enumerate(batches())]
    stage = Stage("s", tasks=[Task(lambda scores, boxes: scores.mean() + boxes.mean())], steps=3)
    student = with_seed(lambda: plain_model(4), 1)
    try:
        data = [(x, targets) for (x, _), targets in zip(batches(), boxes, strict=True)]
        ProgressiveDistiller(None, student, [stage], device="cpu").fit(data)
    except CompressKitError as error:
        return str(error)
    return "not refused"


def boxes():
    return boxes_of_images(), boxes_of_images(even=True)


class Detector(nn.Module):
    """A model of a list of pictures, each of a size of its own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, pictures):
        return torch.stack([self.first(picture).mean((1, 2)) for picture in pictures])


def lists_of_pictures():
    student = with_seed(Detector, 1)
    stage = Stage("s", tasks=[Task("cross_entropy")], steps=3, accumulate=2, optimizer=SGD)
    data = [(([*x[:, :, : 3 + len(x)]],), y) for x, y in batches((3, 4, 1, 3))]
    result = ProgressiveDistiller(None, student, [stage], device="cpu").fit(data, data)
    losses = [term["value"] for record in result.history for term in record["terms"].values()]
    return weights(student), losses + list(result.stages[-1].validation.values())


class Tokens(nn.Module):
    """A model that works token by token."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))

    def forward(self, x, attention_mask):
        return self.body(x) * attention_mask[..., None]


def masked_tokens():
    """Train on padded sequences: each process has another number of tokens that count."""
    generator = torch.Generator().manual_seed(0)
    data = []
    for lengths in ((5, 1, 3), (2, 7), (6,), (1, 1, 4, 2)):
        mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
        inputs = {"x": torch.randn(*mask.shape, 6, generator=generator), "attention_mask": mask}
        labels = torch.randint(0, 4, mask.shape, generator=generator)
        data.append((inputs, labels.masked_fill(mask == 0, -100)))
    student = with_seed(Tokens, 1)
    matches = [Match(".", loss="kl", mask="attention_mask"), Match("body.1", mask="attention_mask")]
    stage = Stage("s", matches, [Task("cross_entropy")], steps=4, accumulate=2, optimizer=SGD, gradient_norms=1)
    result = ProgressiveDistiller(with_seed(Tokens, 2), student, [stage], device="cpu").fit(data, data)
    losses = [term["value"] for record in result.history for term in record["terms"].values()]
    return weights(student), losses + list(result.stages[0].validation.values())


def own_lists():
    rank, processes = rank_and_size()
    return train([(x[rank::processes], y[rank::processes]) for x, y in batches((4, 6))])


def distributed_sampler():
    rank, processes = rank_and_size()
    data = TensorDataset(PICTURES[:20], LABELS[:20])
    sampler = DistributedSampler(data, processes, rank, shuffle=False)
    return train(DataLoader(data, batch_size=4 // processes, sampler=sampler))


def dropout_and_statistics():
    """Train with dropout, running statistics and averages; return the weights and whether the student is as it was."""
    student = with_seed(Student, 1)
    before = marks(student)
    ProgressiveDistiller(teacher(), student, stages(ema=0.9), device="cpu").fit(SampleLoader(Samples(), 4))
    return state(student), marks(student) == before


def best_weights():
    student = with_seed(Student, 1)
    options = {"every": 2, "best": "min loss"}
    distiller = ProgressiveDistiller(teacher(), student, stages(**options), device="cpu")
    result = distiller.fit(
        SampleLoader(Samples(), 4), SampleLoader(Samples(), 5), lambda _: {"rank": float(rank_and_size()[0])}
    )
    return state(student), result.stages[-1].validation, result.stages[-1].metrics


class LoaderError(Exception):
    pass


class FailingLoader(SampleLoader):
    """A loader that fails after some batches."""

    left = 6

    def batches(self, *position):
        for batch in super().batches(*position):
            self.left -= 1
            if self.left < 0:
                raise LoaderError
            yield batch


def resume():
    run_folder.CHECKPOINT_SECONDS, usual = 0.0, run_folder.CHECKPOINT_SECONDS
    results = []
    for folder, loaders in {"whole": [SampleLoader], "parts": [FailingLoader, SampleLoader]}.items():
        for loader in loaders:
            student = with_seed(Student, 1)
            distiller = ProgressiveDistiller(teacher(), student, stages(), device="cpu", out=f"{FOLDER}/{folder}")
            try:
                result = distiller.fit(loader(Samples(), 4))
            except LoaderError:
                continue
            results.append([state(student), [record["terms"] for record in result.history]])
    run_folder.CHECKPOINT_SECONDS = usual
    return results


def cache_in_folder():
    student = with_seed(Student, 1)
    cache = {"budget": "1MB", "folder": f"{FOLDER}/cache"}
    distiller = ProgressiveDistiller(teacher(), student, stages(), device="cpu", cache=cache)
    result = distiller.fit(SampleLoader(Samples(), 7))
    return state(student), [stage.recalled for stage in result.stages]


def no_cache():
    student = with_seed(Student, 1)
    ProgressiveDistiller(teacher(), student, stages(), device="cpu").fit(SampleLoader(Samples(), 7))
    return state(student)


def cache_in_memory():
    distiller = ProgressiveDistiller(teacher(), with_seed(Student, 1), stages(), device="cpu", cache={"budget": "1MB"})
    try:
        distiller.fit(SampleLoader(Samples(), 7))
    except CompressKitError as error:
        return str(error)
    return "not refused"


def training_error(student):
    stage = Stage("s", matches=[Match(".", loss="kl")], steps=6)
    try:
        ProgressiveDistiller(teacher(), student, [stage], device="cpu").fit(batches())
    except TrainingError as error:
        return str(error)
    return "not refused"


def gradient_missing():
    return training_error(Irregular())


def gradient_added():
    return training_error(Irregular(late=True))


def validation():
    """Validate with a loader that gives each process its part, and with one that gives all of them the same."""
    rank, processes = rank_and_size()
    data = TensorDataset(PICTURES[:20], LABELS[:20])
    part_loader = DataLoader(
        data, batch_size=4 // processes, sampler=DistributedSampler(data, processes, rank, shuffle=False)
    )
    results = []
    for loader in (part_loader, batches()):
        student = with_seed(lambda: plain_model(4), 1)
        result = ProgressiveDistiller(teacher(), student, plain_stages(), device="cpu").fit(batches(), loader)
        results.append(result.stages[-1].validation)
    return results


def gradient_norms():
    student = with_seed(lambda: plain_model(4), 1)
    stages = plain_stages(gradient_norms=2)
    result = ProgressiveDistiller(teacher(), student, stages, device="cpu").fit(batches())
    return [[term.get("gradient_norm") for term in record["terms"].values()] for record in result.history]


def unused_parameters():
    student = with_seed(Irregular, 1)
    wrapped = DistributedDataParallel(student, find_unused_parameters=True)
    stage = Stage("s", matches=[Match(".", loss="kl")], steps=6)
    result = ProgressiveDistiller(teacher(), wrapped, [stage], device="cpu").fit(batches())
    return weights(student), result.student is wrapped


def own_loop():
    """Return the gradients of one backward, and half those of two backwards with one exchange, in the second."""
    rank, processes = rank_and_size()
    student = with_seed(Student, 1)
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
    return [[value for gradient in gradients for value in gradient.flatten().tolist()] for gradients in (once, twice)]


CASES = (
    sample_loader,
    accumulation,
    one_list,
    own_lists,
    boxes,
    lists_of_pictures,
    masked_tokens,
    distributed_sampler,
    dropout_and_statistics,
    best_weights,
    resume,
    cache_in_folder,
    no_cache,
    cache_in_memory,
    gradient_missing,
    gradient_added,
    unused_parameters,
    validation,
    gradient_norms,
    own_loop,
)

if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    torch.set_num_threads(1)
    results = {"several_fits": [train(batches()) for _ in range(3)], "initialized": dist.is_initialized()}
    with init_processes(torch.device("cpu")):
        results |= {case.__name__: case() for case in CASES}
        (FOLDER / f"{dist.get_rank()}.json").write_text(json.dumps(results))
    os._exit(0)  # gloo's threads end slowly
