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
        return self.head(self.mix(self.embedding(tokens))[0])


class Registers(nn.Module):
    """A vision transformer with a class token and some registers before its patches."""

    def __init__(self, width: int, registers: int) -> None:
        super().__init__()
        self.extra = 1 + registers
        self.embed = nn.Conv2d(3, width, kernel_size=8, stride=8)
        self.first = nn.Parameter(torch.randn(1, self.extra, width))
        self.block = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.embed(x).flatten(2).mT
        return self.head(self.block(torch.cat([self.first.expand(len(x), -1, -1), patches], dim=1))[:, 0])


class Towers(nn.Module):
    """Pictures and captions into one space, as in CLIP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(3, width, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 8)
        )
        self.words, self.text = nn.Embedding(16, width), nn.Linear(width, 8)

    def forward(self, image: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        return {"image": self.image(image), "text": self.text(self.words(tokens).mean(1))}


def info_nce(towers: tuple[Tensor, Tensor], _: Tensor) -> Tensor:
    image, text = (nn.functional.normalize(side, dim=1) for side in towers)
    return nn.functional.cross_entropy(10 * image @ text.T, torch.arange(len(image)))


class Detector(nn.Module):
    """Scores of classes at each place, of a list of pictures of any sizes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.ReLU())
        self.scores = nn.Conv2d(width, CLASSES, 1)

    def forward(self, pictures: list[Tensor]) -> Tensor:
        sides = [max(picture.shape[side] for picture in pictures) for side in (1, 2)]
        batch = torch.zeros(len(pictures), 3, *sides)
        for place, picture in zip(batch, pictures, strict=True):
            place[:, : picture.shape[1], : picture.shape[2]] = picture
        return self.scores(self.backbone(batch))


def at_boxes(scores: Tensor, boxes: list[Tensor]) -> Tensor:
    """Cross entropy at the place of each box (row, column, class), however many a picture has."""
    found = [(scores[n, :, row, column], label) for n, of in enumerate(boxes) for row, column, label in of]
    return nn.functional.cross_entropy(torch.stack([s for s, _ in found]), torch.stack([y for _, y in found]))


class LowRank(nn.Module):
    """A frozen layer and a trained one of low rank beside it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.base = nn.Linear(6, width).requires_grad_(requires_grad=False)
        self.down, self.up = nn.Linear(6, 2, bias=False), nn.Linear(2, width, bias=False)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.base(x) + self.up(self.down(x))))


def gpt2(width: int, layers: int) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=16,
        n_positions=16,
        n_embd=width,
        n_layer=layers,
        n_head=2,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


def t5(width: int, layers: int) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        vocab_size=16,
        d_model=width,
        d_kv=8,
        d_ff=32,
        num_layers=layers,
        num_heads=2,
        use_cache=False,
        decoder_start_token_id=0,
    )
    return transformers.T5ForConditionalGeneration(config)


def padded() -> dict[str, Tensor]:
    mask = (torch.arange(9) < torch.tensor([[9], [4], [6], [2]])).long()
    return {"input_ids": tokens() * mask, "attention_mask": mask}


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
    "hugging face gpt-2, padded": Pair(
        lambda: gpt2(16, 4),
        lambda: gpt2(8, 2),
        [
            Match("transformer.h.0", "transformer.h.1", loss="relative_mse", mask="attention_mask"),
            Match(".@out.logits", loss="kl", mask="attention_mask"),
        ],
        padded,
        tokens,
        Task("cross_entropy", ".@out.logits[:, :-1]", lambda ids: ids[:, 1:], mask="attention_mask[:, 1:]"),
    ),
    "hugging face t5, padded": Pair(
        lambda: t5(16, 2),
        lambda: t5(8, 1),
        [
            Match("encoder.block.0@out[0]", loss="relative_mse", mask="attention_mask"),
            Match(".@out.logits", loss="jsd"),
        ],
        lambda: {**padded(), "decoder_input_ids": tokens()[:, :5]},
        lambda: tokens()[:, :5],
        Task("cross_entropy", ".@out.logits", ignore_index=0),
    ),
    "hugging face bert, padded": Pair(
        lambda: bert(16, 4),
        lambda: bert(8, 2),
        [
            Match("bert.encoder.layer.1", "bert.encoder.layer.3", loss="relative_mse", mask="attention_mask"),
            Match(".@out.logits", loss="reverse_kl"),
        ],
        padded,
        task=Task("cross_entropy", ".@out.logits"),
    ),
    "vision transformers with registers": Pair(
        lambda: Registers(16, 4),
        lambda: Registers(8, 0),
        [Match("block@out[:, 1:]", "block@out[:, 5:]", loss="relative_mse"), KL],
    ),
    "two towers": Pair(
        lambda: Towers(16),
        lambda: Towers(8),
        [Match(".@out.image", loss="cosine"), Match(".@out.text", loss="cosine")],
        lambda: (images(), tokens()),
        task=Task(info_nce, [".@out.image", ".@out.text"]),
    ),
    "a detector of a list of pictures": Pair(
        lambda: Detector(16),
        lambda: Detector(8),
        [hint("backbone"), KL],
        lambda: ([*images(32)[:2], *images(24)[:2]],),
        lambda: [
            torch.tensor([[0, 1, 2]]),
            torch.tensor([[1, 1, 0], [2, 3, 1]]),
            torch.empty(0, 3).long(),
            torch.ones(1, 3).long(),
        ],
        Task(at_boxes),
    ),
    "a student of low rank": Pair(lambda: Twice(16), lambda: LowRank(16), [KL], lambda: torch.randn(4, 6), lr=2e-2),
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


@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization", "ignore:.*quant_min", "ignore:.*_aminmax")
def test_a_student_prepared_for_int8_trains_though_no_batch_has_run_through_it_yet():
    from torch.ao import quantization

    teacher, student = block(3, 8), nn.Sequential(quantization.QuantStub(), *block(3, 8), quantization.DeQuantStub())
    student.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    quantization.prepare_qat(student.train(), inplace=True)
    sizes = {name: buffer.shape for name, buffer in student.named_buffers()}
    weights, batch = contents(teacher), (images(16), None)
    distiller = ProgressiveDistiller(teacher, student, curricula.progressive([Match(".")], steps=STEPS, tasks=[]))
    distiller.plan(batch)
    assert {name: buffer.shape for name, buffer in student.named_buffers()} == sizes
    history = distiller.fit([batch]).history
    assert total(history[-1]) < total(history[0])
    assert same(weights, contents(teacher))
    assert student[1].weight_fake_quant.activation_post_process.min_val.shape == (8,)
