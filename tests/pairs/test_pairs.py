"""Pairs of networks that nobody prepared for this: they train, and both are handed back as they were."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer, mobilenet_v3_small, resnet18, resnet34
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large, lraspp_mobilenet_v3_large

from compresskit import Match, ProgressiveDistiller, Task, curricula
from compresskit.distill.views import Resized
from compresskit.nested import call_model

CLASSES = 4


class UNet(nn.Module):
    """Two levels down, two up, with skips."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(block(before, after) for before, after in zip([3, *widths[:-1]], widths, strict=True))
        self.up = nn.ModuleList([block(6 * width, 2 * width), block(3 * width, width)])
        self.last = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down:
            x = down(x if not skips else nn.functional.max_pool2d(x, 2))
            skips.append(x)
        for up, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = up(torch.cat([nn.functional.interpolate(x, scale_factor=2.0), skip], dim=1))
        return self.last(x)


def block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True))


class Tagger(nn.Module):
    """Tokens through a recurrent layer, whose output is a tuple, to a class for each sequence."""

    def __init__(self, recurrent: type[nn.RNNBase], width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(16, width)
        self.rnn = recurrent(width, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.rnn(self.embedding(tokens))[0][:, -1])


class Tied(nn.Module):
    """A language model whose last layer has the weights of its first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding, self.mix = nn.Embedding(16, width), nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, 16, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.mix(self.embedding(tokens))[0]).mT  # (n, classes, length)


class Twice(nn.Module):
    """One block that runs twice."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, width), nn.Linear(width, CLASSES)
        self.block = nn.Sequential(nn.Linear(width, width), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.block(self.first(x))))


class Two(nn.Module):
    """Two inputs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, width), nn.Linear(5, width)
        self.joined, self.head = nn.Tanh(), nn.Linear(width, CLASSES)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.head(self.joined(self.left(left) + self.right(right)))


def vit(width: int, depth: int) -> VisionTransformer:
    return VisionTransformer(32, 8, depth, 4, width, 2 * width, num_classes=CLASSES)


def bert(width: int, depth: int) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": depth}
    config = transformers.BertConfig(
        vocab_size=16, num_attention_heads=2, max_position_embeddings=16, num_labels=CLASSES, **sizes
    )
    return transformers.BertForSequenceClassification(config)


def images(size: int = 32) -> Tensor:
    return torch.rand(4, 3, size, size)


def tokens() -> Tensor:
    return torch.randint(16, (4, 9))


def labels() -> Tensor:
    return torch.randint(CLASSES, (4,))


def masks() -> Tensor:
    return torch.randint(CLASSES, (4, 64, 64))


def hint(student: str, teacher: str | None = None) -> Match:
    return Match(student, teacher, loss="relative_mse")


@dataclass(frozen=True)
class Pair:
    """Two networks, what of them is matched, in which order, and a batch."""

    teacher: Callable[[], nn.Module]
    student: Callable[[], nn.Module]
    matches: Sequence[Match]
    inputs: Callable[[], Any] = images
    targets: Callable[[], Tensor] = labels
    task: Task = field(default_factory=lambda: Task("cross_entropy"))
    views: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    lr: float = 3e-3


KL = Match(".", loss="kl", temperature=2.0)
LAYERS = [hint(f"layer{k}") for k in (1, 2, 3, 4)]
ENCODER = "encoder.layers.encoder_layer_"
TWO = [hint("joined"), KL]

PAIRS = {
    "resnet34 -> resnet18": Pair(
        lambda: resnet34(num_classes=CLASSES), lambda: resnet18(num_classes=CLASSES), [*LAYERS, KL]
    ),
    "resnet18 -> mobilenet_v3_small": Pair(
        lambda: resnet18(num_classes=CLASSES),
        lambda: mobilenet_v3_small(num_classes=CLASSES),
        [hint("features.1", "layer1"), hint("features.3", "layer2"), hint("features.8", "layer3"), KL],
    ),
    "vit -> smaller vit": Pair(
        lambda: vit(32, 4),
        lambda: vit(16, 2),
        [hint(f"{ENCODER}0", f"{ENCODER}1"), hint(f"{ENCODER}1", f"{ENCODER}3"), KL],
    ),
    "vit -> cnn": Pair(
        lambda: vit(32, 2),
        lambda: resnet18(num_classes=CLASSES),
        [hint("layer1", f"{ENCODER}0"), hint("layer2", "encoder.ln"), KL],
        lr=3e-4,
    ),
    "cnn -> vit": Pair(
        lambda: resnet18(num_classes=CLASSES),
        lambda: vit(16, 2),
        [hint(f"{ENCODER}0", "layer1"), hint("encoder.ln", "layer2"), KL],
    ),
    "u-nets of other widths and resolutions": Pair(
        lambda: UNet(12),
        lambda: UNet(6),
        [hint("down.0"), hint("down.2"), hint("up.1"), Match(".")],
        targets=images,
        task=Task("mse", target=Resized(16)),
        views={"student": Resized(16)},
    ),
    "lstm -> smaller lstm": Pair(
        lambda: Tagger(nn.LSTM, 24), lambda: Tagger(nn.LSTM, 12), [hint("rnn@out[0]"), KL], tokens
    ),
    "lstm -> gru": Pair(lambda: Tagger(nn.LSTM, 24), lambda: Tagger(nn.GRU, 12), [hint("rnn@out[0]"), KL], tokens),
    "segmentation, outputs in a dict": Pair(
        lambda: deeplabv3_mobilenet_v3_large(weights_backbone=None, num_classes=CLASSES),
        lambda: lraspp_mobilenet_v3_large(weights_backbone=None, num_classes=CLASSES),
        [hint("backbone@out.low", "backbone.4"), Match(".@out.out", loss="kl")],
        lambda: images(64),
        masks,
        Task("cross_entropy", ".@out.out"),
    ),
    "a module that runs twice": Pair(
        lambda: Twice(16), lambda: Twice(8), [hint("block#0"), hint("block#1"), KL], lambda: torch.randn(4, 6)
    ),
    "two inputs in a tuple": Pair(lambda: Two(16), lambda: Two(8), TWO, lambda: (torch.randn(4, 6), torch.randn(4, 5))),
    "two inputs in a dict": Pair(
        lambda: Two(16), lambda: Two(8), TWO, lambda: {"right": torch.randn(4, 5), "left": torch.randn(4, 6)}
    ),
    "tied parameters": Pair(lambda: Tied(24), lambda: Tied(12), [hint("mix@out[0]"), KL], tokens, tokens),
    "compiled": Pair(
        lambda: torch.compile(Twice(16), backend="eager"),
        lambda: torch.compile(Twice(8), backend="eager"),
        [hint("block#1"), KL],
        lambda: torch.randn(4, 6),
    ),
    "hugging face encoders": Pair(
        lambda: bert(16, 4),
        lambda: bert(8, 2),
        [hint("bert.encoder.layer.1", "bert.encoder.layer.3"), Match(".@out.logits", loss="kl")],
        lambda: {"input_ids": tokens(), "attention_mask": torch.ones(4, 9, dtype=torch.long)},
        task=Task("cross_entropy", ".@out.logits"),
    ),
}
STEPS = 8


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_a_pair_trains_and_is_handed_back_as_it_was(pair):
    batch = pair.inputs(), pair.targets()
    teacher, student = settled(pair.teacher(), batch[0]), pair.student().eval()
    weights, shapes = contents(teacher), {name: value.shape for name, value in student.state_dict().items()}
    marks = traces(teacher), traces(student)
    stages = curricula.progressive(
        pair.matches, steps=STEPS, tasks=[pair.task], optimizer={"_target_": "torch.optim.Adam", "lr": pair.lr}
    )
    distiller = ProgressiveDistiller(teacher, student, stages, views=pair.views)

    before = contents(student)
    plan = str(distiller.plan(batch))
    assert all(stage.name in plan for stage in stages)
    assert same(before, contents(student))

    result = distiller.fit([batch])
    for stage in stages:
        losses = [total(record) for record in result.history if record["stage"] == stage.name]
        assert sum(losses[-2:]) < 0.97 * sum(losses[:2]), f"{stage.name}: {losses}"
    assert result.student is student
    assert {name: value.shape for name, value in student.state_dict().items()} == shapes
    assert not same(before, contents(student))
    assert same(weights, contents(teacher))
    assert (traces(teacher), traces(student)) == marks


def settled(model: nn.Module, inputs: Any) -> nn.Module:
    """The model with running statistics that fit the batch, as a trained one has them; in training mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches seen: here one
    with torch.no_grad():
        call_model(model.train(), inputs)
    return model


def total(record: Mapping[str, Any]) -> float:
    return sum(term["weight"] * term["value"] for term in record["terms"].values())


def contents(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, those included that a state dict leaves out."""
    return {name: value.clone() for name, value in [*model.named_parameters(), *model.named_buffers()]}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def traces(model: nn.Module) -> list[Any]:
    """Where an engine could leave something: hooks of every kind, attributes, modes and flags."""
    of_modules = [(path, type(module), _plain(module)) for path, module in model.named_modules()]
    of_parameters = [
        (name, id(p), p.requires_grad, p.grad is None, not p._backward_hooks, set(vars(p)))
        for name, p in model.named_parameters(remove_duplicate=False)
    ]
    return [*of_modules, *of_parameters]


def _plain(module: nn.Module) -> dict[str, Any]:
    """The attributes of a module: plain ones by value, what holds others by its size."""
    return {
        name: len(value)
        if isinstance(value, (dict, list, tuple, set))
        else value
        if isinstance(value, (bool, int, float, str))
        else type(value)
        for name, value in vars(module).items()
    }
