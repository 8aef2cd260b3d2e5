"""Masks: a padded batch has the loss and the gradient of its sequences without padding, however a step is split."""

import copy

import pytest
import torch
from torch import nn

from compresskit import DataError, Match, ProgressiveDistiller, RecipeError, ShapeError, Stage, Task
from compresskit.losses import CATALOGUE, kl
from compresskit.recipe.reading.stage_nodes import describe_stages, parse_stages

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}
LENGTHS = (5, 2, 7, 3)
WIDTH, CLASSES = 6, 4
LOSSES = [name for name, entry in CATALOGUE.items() if entry.by_position and name != "cross_entropy"]
OPTIONS = {"variational": {"channels": CLASSES}}
SPLIT = [name for name in LOSSES if not CATALOGUE[name].relational]


class Tokens(nn.Module):
    """A model that works token by token."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, CLASSES)).double()

    def forward(self, x, attention_mask=None):
        assert attention_mask is None or attention_mask.shape == x.shape[:2]
        return self.body(x)


def sequences():
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(length, WIDTH, generator=generator).double(),
            torch.randint(0, CLASSES, (length,), generator=generator),
        )
        for length in LENGTHS
    ]


def padded(samples):
    """Return samples as one batch of the length of the longest, with junk behind the others."""
    longest = max(len(x) for x, _ in samples)
    inputs = torch.full((len(samples), longest, WIDTH), 9.0).double()
    labels = torch.full((len(samples), longest), 3)
    mask = torch.zeros(len(samples), longest, dtype=torch.long)
    for row, (x, y) in enumerate(samples):
        inputs[row, : len(x)], labels[row, : len(x)], mask[row, : len(x)] = x, y, 1
    return {"x": inputs, "attention_mask": mask}, labels


def step(batches, term, **options):
    """Return a student after one step, the value of the step's term, and the validation on the same batches."""
    student = Tokens(2)
    terms = {"matches": [term]} if isinstance(term, Match) else {"tasks": [term]}
    stage = Stage("s", steps=1, optimizer=SGD, **terms, **options)
    result = ProgressiveDistiller(Tokens(1), student, [stage], device="cpu").fit(batches, batches)
    (value,) = result.history[0]["terms"].values()
    return torch.cat([p.flatten() for p in student.parameters()]).detach(), value["value"], result.stages[0].validation


def expected(name):
    """Return the loss over the tokens of all sequences as rows."""
    samples = sequences()
    rows = {"x": torch.cat([x for x, _ in samples])}, torch.cat([y for _, y in samples])
    if name == "cross_entropy":
        return step([rows], Task(name))
    return step([rows], Match(".", loss=name, **OPTIONS.get(name, {})))


def agree(ours, theirs):
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-6, rtol=0)
    assert ours[1] == pytest.approx(theirs[1], abs=1e-6)
    assert ours[2] == pytest.approx(theirs[2], abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_padded_batch_has_the_loss_of_its_sequences_without_padding(name):
    term = Match(".", loss=name, mask="attention_mask", **OPTIONS.get(name, {}))
    agree(step([padded(sequences())], term), expected(name))


@pytest.mark.parametrize("mask", ["attention_mask", None])
@pytest.mark.parametrize("name", SPLIT)
def test_tokens_count_the_same_however_the_sequences_are_split(name, mask):
    term = Match(".", loss=name, mask=mask, **OPTIONS.get(name, {}))
    alone = [padded([sample]) for sample in sequences()]
    agree(step(alone, term, accumulate=4), expected(name))
    pairs = [padded(sequences()[:2]), padded(sequences()[2:])]
    if mask is not None:
        agree(step(pairs, term, accumulate=2), expected(name))


@pytest.mark.parametrize("task", [Task("cross_entropy", mask="attention_mask"), Task("cross_entropy", ignore_index=-1)])
def test_labels_that_do_not_count_are_left_out_of_the_mean_of_a_step(task):
    def marked(samples):
        inputs, labels = padded(samples)
        return inputs, labels if task.mask else labels.masked_fill(inputs["attention_mask"] == 0, -1)

    agree(step([marked(sequences())], task), expected("cross_entropy"))
    agree(step([marked(sequences()[:1]), marked(sequences()[1:])], task, accumulate=2), expected("cross_entropy"))


def test_labels_of_maps_are_counted_where_the_task_says_which_do_not_count():
    torch.manual_seed(0)
    student, images = nn.Conv2d(3, 4, 1), torch.randn(3, 3, 5, 5)
    labels = torch.randint(0, 4, (3, 5, 5))
    labels[0, :4] = labels[2, 0] = 255
    weights = []
    for batches in ([(images, labels)], [(images[:1], labels[:1]), (images[1:], labels[1:])]):
        own = copy.deepcopy(student)
        stage = Stage("s", tasks=[Task("cross_entropy", ignore_index=255)], steps=1, optimizer=SGD, accumulate=2)
        ProgressiveDistiller(None, own, [stage], device="cpu").fit(batches)
        weights.append(own.weight.detach())
    torch.testing.assert_close(*weights)


class Images(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.conv(x)


def value_of(term, inputs, targets=None, teacher=None, student=None):
    stage = Stage("s", steps=1, **({"matches": [term]} if isinstance(term, Match) else {"tasks": [term]}))
    plan = ProgressiveDistiller(teacher or Images(1), student or Images(2), [stage]).plan((inputs, targets))
    return plan.stages[0].terms[0].value


@pytest.mark.parametrize(
    "mask",
    [
        "targets > 0",
        "targets >= 1.0",
        "targets != 0",
        lambda batch: batch["targets"] > 0,
        lambda batch: batch[1] > 0,
        lambda batch: (batch["targets"] > 0)[:, None],
        lambda batch: (batch["inputs"][:, 0] * 0 + batch["targets"]) > 0,
    ],
)
def test_a_mask_is_a_text_or_a_function_of_the_batch(mask):
    inputs, targets = torch.randn(2, 3, 4, 4), torch.randint(0, 2, (2, 4, 4))
    kept = targets > 0
    rows = [model(inputs).movedim(1, -1)[kept] for model in (Images(2), Images(1))]
    value = value_of(Match(".", loss="kl", mask=mask), inputs, targets)
    assert value == pytest.approx(kl(*rows).item(), rel=1e-5)


def test_a_mask_of_samples_covers_all_their_positions():
    inputs, keep = torch.randn(3, 3, 4, 4), torch.tensor([True, False, True])
    value = value_of(Match(".", mask="keep"), inputs, {"keep": keep})
    assert value == pytest.approx((Images(2)(inputs) - Images(1)(inputs))[keep].square().mean().item(), rel=1e-5)


def test_a_task_of_any_kind_may_have_a_mask():
    inputs, targets = torch.randn(2, 3, 4, 4), torch.randn(2, 4, 4, 4)
    mask = torch.rand(2, 4, 4) > 0.5
    by_hand = (Images(2)(inputs) - targets).movedim(1, -1)[mask].abs().mean().item()
    value = value_of(Task("l1", mask="mask", target=lambda t: t["image"]), inputs, {"image": targets, "mask": mask})
    assert value == pytest.approx(by_hand, rel=1e-5)


def test_a_loss_of_your_own_gets_rows_or_the_mask():
    inputs, mask = torch.randn(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[0, 0] = True
    shapes = []

    def on_rows(student, teacher):
        shapes.append((tuple(student.shape), tuple(teacher.shape)))
        return (student - teacher).square().mean()

    def on_maps(student, teacher, *, mask):
        shapes.append((tuple(student.shape), tuple(mask.shape)))
        return ((student - teacher).square().mean(1) * mask).sum() / mask.sum()

    values = [value_of(Match(".", loss=loss, mask="mask"), inputs, {"mask": mask}) for loss in (on_rows, on_maps)]
    assert shapes[0] == ((4, 4), (4, 4))
    assert shapes[-1] == ((2, 4, 4, 4), (2, 4, 4))
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_where_nothing_is_kept_the_term_is_zero_and_teaches_nothing():
    student, inputs = Images(2), torch.randn(2, 3, 4, 4)
    before = student.conv.weight.clone()
    stage = Stage("s", matches=[Match(".", loss="kl", mask="mask")], steps=2, optimizer=SGD, accumulate=2)
    batches = [(inputs, {"mask": torch.zeros(2, 4, 4, dtype=torch.bool)})] * 2
    result = ProgressiveDistiller(Images(1), student, [stage], device="cpu").fit(batches, batches)
    assert [record["terms"]["kl(.)"]["value"] for record in result.history] == [0.0, 0.0]
    assert result.stages[0].validation == {"kl(.)": 0.0, "loss": 0.0}
    assert torch.equal(student.conv.weight, before)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        ("masc", DataError, "mask 'masc': the batch has no 'masc'; did you mean 'mask'?"),
        (lambda batch: batch["mask"].float(), DataError, "true and false, or of 1 and 0 .* this one is torch.float32"),
        (lambda _: None, DataError, "this one is NoneType"),
        ("mask[:, 1:]", ShapeError, r"mask has shape \(2, 3, 4\), and the loss compares positions \(2, 4, 4\)"),
        ("mask[:, 9:]", DataError, r"\[:, 9:\] selects nothing"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask, error, message):
    with pytest.raises(error, match=message):
        value_of(Match(".", mask=mask), torch.randn(2, 3, 4, 4), {"mask": torch.ones(2, 4, 4).bool()})


@pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if entry.by_position is False])
def test_losses_that_compare_more_than_positions_take_no_mask(name):
    if CATALOGUE[name].several or name in ("perceptual", "ms_ssim"):
        return
    with pytest.raises(RecipeError, match=f"{name} does not compare position by position"):
        value_of(Match(".", loss=name, mask="targets"), torch.randn(3, 3, 12, 12), torch.ones(3, 12, 12).bool())


@pytest.mark.parametrize("mask", ["1mask", "mask !=", "a@out", "mask != x", 3, {"key": 1}, "mask[a]"])
def test_what_is_no_mask_is_refused_at_once(mask):
    with pytest.raises(RecipeError, match="mask"):
        Match(".", mask=mask)


def test_lengths_that_are_not_known_are_refused_where_batches_share_a_mean():
    class Halves(Tokens):
        def forward(self, x, attention_mask=None):
            return super().forward(x, attention_mask)[:, ::2]

    batches = [padded(sequences()[:1]), padded(sequences()[1:3])]
    stage = Stage("s", matches=[Match(".", loss="kl")], steps=1, accumulate=2)
    with pytest.raises(ShapeError, match="not known how many positions each has: say which count, as in mask="):
        ProgressiveDistiller(Halves(1), Halves(2), [stage], device="cpu").fit(batches)


def test_queries_of_a_detector_count_by_its_pictures_however_many_channels_these_have():
    class Queries(nn.Module):
        def __init__(self, seed):
            super().__init__()
            torch.manual_seed(seed)
            self.body = nn.Linear(3, 4)

        def forward(self, pictures):
            return self.body(torch.stack([p.mean((1, 2)) for p in pictures]))[:, None].repeat(1, 5, 1)

    pictures = [torch.randn(3, 6, 4 + n) for n in range(5)]
    students = []
    for parts, options in (([pictures], {}), ([pictures[:3], pictures[3:]], {"accumulate": 2})):
        students.append(Queries(2))
        stage = Stage("s", matches=[Match(".", loss="kl")], steps=1, optimizer=SGD, **options)
        ProgressiveDistiller(Queries(1), students[-1], [stage], device="cpu").fit([((part,), None) for part in parts])
    torch.testing.assert_close(students[0].body.weight, students[1].body.weight)


def test_a_recipe_writes_a_mask_as_text():
    term = {"student": ".", "loss": "kl", "mask": "labels[:, 1:] != -100"}
    task = {"loss": "cross_entropy", "mask": "attention_mask"}
    stages = parse_stages([{"name": "s", "steps": 1, "matches": [term], "tasks": [task]}])
    described = describe_stages(stages)[0]
    assert described["matches"][0]["mask"] == "labels[:, 1:] != -100"
    assert described["tasks"][0]["mask"] == "attention_mask"


class Maps(nn.Module):
    """A score of each class at each pixel."""

    def __init__(self, seed=1):
        super().__init__()
        torch.manual_seed(seed)
        self.head = nn.Conv2d(2, 3, 1)

    def forward(self, x):
        return self.head(x)


def test_a_mask_of_one_channel_over_maps_counts_the_same_in_a_split_step():
    torch.manual_seed(0)
    x, y, keep = torch.randn(4, 2, 6, 6), torch.randint(0, 3, (4, 6, 6)), torch.rand(4, 1, 6, 6) < 0.5
    task = Task("cross_entropy", mask=lambda parts: parts["targets"]["keep"], target=lambda targets: targets["y"])
    states = []
    for batches, accumulate in (([slice(0, 4)], 1), ([slice(0, 1), slice(1, 4)], 2)):
        student = Maps()
        stage = Stage("s", tasks=[task], steps=1, accumulate=accumulate, optimizer=SGD)
        data = [(x[rows], {"y": y[rows], "keep": keep[rows]}) for rows in batches]
        ProgressiveDistiller(None, student, [stage]).fit(data, data)
        states.append(student.head.weight.detach().clone())
    torch.testing.assert_close(states[1], states[0])


def test_a_mask_of_samples_does_not_weigh_maps_of_other_sizes_as_if_they_were_equal():
    term = Match(".", loss="mse", mask=lambda parts: torch.ones(len(parts["inputs"]), 1, 1, 1, dtype=torch.bool))
    stage = Stage("s", matches=[term], steps=1, accumulate=2, optimizer=SGD)
    distiller = ProgressiveDistiller(Maps(2), Maps(), [stage])
    with pytest.raises(ShapeError, match="batches of other lengths share a mean"):
        distiller.fit([torch.randn(2, 2, 8, 8), torch.randn(2, 2, 16, 16)])
