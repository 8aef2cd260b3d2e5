import copy
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compresskit import CompressKitError, Match, ProgressiveDistiller, RecipeError, Stage, Task, curricula
from compresskit.errors import CheckpointError, TrainingError

SGD = {"_target_": "torch.optim.SGD", "lr": 0.05, "momentum": 0.9}


def net(width, seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 5),
    )


@pytest.fixture
def teacher():
    return net(6, seed=1)


@pytest.fixture
def student():
    return net(4, seed=2)


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    sizes = (6, 6, 6, 3)  # the epoch ends in a smaller batch
    return [
        (torch.randn(n, 3, 8, 8, generator=generator), torch.randint(0, 5, (n,), generator=generator)) for n in sizes
    ]


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(before, model):
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def marks(model):
    """All that a run could leave behind on a model, besides its trained values."""
    return [
        (name, module.training, len(module._forward_hooks), len(module._forward_pre_hooks), set(vars(module)))
        for name, module in model.named_modules()
    ] + [(name, p.requires_grad, p.grad is None) for name, p in model.named_parameters()]


def test_one_stage_equals_distillation_written_by_hand(teacher, student, batches):
    by_hand = copy.deepcopy(student)
    kl = Match(".", loss="kl", weight=0.7, temperature=3.0)
    stage = Stage("all", matches=[kl], tasks=[Task("cross_entropy")], steps=10, optimizer=SGD)
    student[5].p = by_hand[5].p = 0.0
    history = ProgressiveDistiller(teacher, student, [stage]).fit(batches).history

    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.05, momentum=0.9)
    teacher.eval()
    by_hand.train()
    for step, record in enumerate(history):
        inputs, targets = batches[step % len(batches)]
        with torch.no_grad():
            soft = F.log_softmax(teacher(inputs) / 3.0, dim=1)
        logits = by_hand(inputs)
        imitation = F.kl_div(F.log_softmax(logits / 3.0, dim=1), soft, reduction="batchmean", log_target=True) * 9.0
        supervised = F.cross_entropy(logits, targets)
        optimizer.zero_grad()
        (0.7 * imitation + supervised).backward()
        optimizer.step()
        assert record["terms"]["kl(.)"]["value"] == pytest.approx(imitation.item(), rel=1e-5)
        assert record["terms"]["cross_entropy(., target)"]["value"] == pytest.approx(supervised.item(), rel=1e-5)
    for ours, theirs in zip(student.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_accumulating_a_whole_epoch_equals_one_big_batch_even_when_its_tail_is_ragged(batches):
    torch.manual_seed(0)
    small = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    big = copy.deepcopy(small)
    stage = Stage("all", tasks=[Task("cross_entropy")], steps=3, accumulate=3, optimizer=SGD)
    ProgressiveDistiller(None, small, [stage]).fit(batches)
    first = tuple(torch.cat(parts) for parts in zip(*batches[:3], strict=True))
    plain = Stage("all", tasks=[Task("cross_entropy")], steps=3, optimizer=SGD)
    ProgressiveDistiller(None, big, [plain]).fit([first, batches[3]])  # three of 6, then the epoch's last, then again
    torch.testing.assert_close(small[1].weight, big[1].weight)


def test_only_declared_parameters_and_their_statistics_change(teacher, student, batches):
    before = state(student)
    ProgressiveDistiller(teacher, student, [Stage("s", matches=[Match("3")], train=["3.*"], steps=3)]).fit(batches)
    assert changed(before, student) == {"3.weight", "3.bias"}


def test_upstream_trains_all_that_feeds_the_match_and_between_only_what_is_new(teacher, student, batches):
    stages = curricula.progressive([Match("1"), Match("3"), Match(".")], steps=2, mode="isolated")
    before = state(student)
    ProgressiveDistiller(teacher, student, stages[:1]).fit(batches)
    statistics = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    # a bias before batch norm has no effect, so its gradient may be exactly zero
    assert changed(before, student) - {"0.bias"} == {"0.weight", "1.weight", "1.bias"} | statistics
    before = state(student)
    ProgressiveDistiller(teacher, student, [stages[0], stages[1]]).fit(batches)
    between = state(student)
    ProgressiveDistiller(teacher, student, [stages[1]]).plan(batches[0])
    assert changed(between, student) == set()


def test_between_leaves_the_earlier_block_alone(teacher, student, batches):
    first, second, _ = curricula.progressive([Match("1"), Match("3"), Match(".")], steps=2, mode="isolated")
    snapshots = []
    ProgressiveDistiller(teacher, student, [first, second]).fit(
        batches, evaluate=lambda model: snapshots.append(state(model)) or {}
    )
    assert {name for name in snapshots[0] if not torch.equal(snapshots[0][name], snapshots[1][name])} == {
        "3.weight",
        "3.bias",
    }


def test_what_the_user_froze_stays_frozen(teacher, student, batches):
    student[0].weight.requires_grad_(requires_grad=False)
    before = state(student)
    ProgressiveDistiller(teacher, student, [Stage("s", matches=[Match(".")], steps=2)]).fit(batches)
    assert "0.weight" not in changed(before, student)
    assert not student[0].weight.requires_grad


def test_a_parameterless_norm_outside_the_declared_names_keeps_its_statistics(batches):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False), nn.Conv2d(4, 2, 1))
    before = state(model)
    stage = Stage(
        "s", tasks=[Task("mse", target=lambda y: y.new_zeros(len(y), 2, 8, 8).float())], train=["2.*"], steps=2
    )
    ProgressiveDistiller(None, model, [stage]).fit(batches)
    assert changed(before, model) == {"2.weight", "2.bias"}


def test_nothing_is_left_on_either_model_and_the_teacher_is_bit_identical(teacher, student, batches):
    teacher.train()
    student.eval()
    before, left = state(teacher), (marks(teacher), marks(student))
    stages = curricula.progressive([Match("1"), Match(".")], steps=2, tasks=[Task("cross_entropy")])
    ProgressiveDistiller(teacher, student, stages).fit(batches, val_loader=batches)
    assert changed(before, teacher) == set()
    assert (marks(teacher), marks(student)) == left


def test_nothing_is_left_after_a_crash(teacher, student, batches):
    left = marks(teacher), marks(student)

    def crash(_student, _teacher):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ProgressiveDistiller(teacher, student, [Stage("s", matches=[Match("1", loss=crash)], steps=2)]).fit(batches)
    assert (marks(teacher), marks(student)) == left


def test_the_caller_s_random_numbers_are_not_touched(teacher, student, batches):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    distiller = ProgressiveDistiller(teacher, student, [Stage("s", matches=[Match("1")], steps=2)])
    distiller.plan(batches[0])
    distiller.fit(batches)
    assert torch.equal(torch.rand(1), expected)


def test_plan_changes_nothing_and_names_what_no_loss_reaches(teacher, student, batches):
    before, left = state(student), (marks(teacher), marks(student))
    plan = ProgressiveDistiller(teacher, student, [Stage("s", matches=[Match("1")], steps=2)]).plan(batches[0])
    assert changed(before, student) == set()
    assert (marks(teacher), marks(student)) == left
    assert plan.stages[0].unreached == ("3.bias", "3.weight", "8.bias", "8.weight")
    assert plan.stages[0].adapter_elements == 4 * 6 + 6
    assert "1x1 conv 4→6" in str(plan)


def test_adapters_train_and_live_on_across_stages(teacher, student, batches):
    stages = curricula.progressive([Match("1"), Match("3")], steps=30, optimizer=SGD)
    history = ProgressiveDistiller(teacher, student, stages).fit(batches).history
    first = [record["terms"]["mse(1)"]["value"] for record in history]
    assert first[30] < first[0] / 2  # the second stage goes on where the first one ended


@pytest.mark.parametrize("size", [4, 16])
def test_maps_of_another_size_are_resized_to_the_teacher(size):
    teacher = nn.Conv2d(3, 2, 1)
    student = nn.Sequential(nn.Upsample((size, size)), nn.Conv2d(3, 2, 1))
    stage = Stage("s", matches=[Match(".")], steps=2)
    history = ProgressiveDistiller(teacher, student, [stage]).fit([(torch.randn(2, 3, 8, 8), None)]).history
    assert len(history) == 2


def test_weights_follow_their_schedule(teacher, student, batches):
    weight = {"schedule": "linear", "start": 1.0, "end": 0.0}
    history = (
        ProgressiveDistiller(teacher, student, [Stage("s", matches=[Match(".", weight=weight)], steps=5)])
        .fit(batches)
        .history
    )
    assert [record["terms"]["mse(.)"]["weight"] for record in history] == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_warmup_rises_to_the_peak_and_falls_to_the_end(student, batches):
    scheduler = {"_target_": "compresskit.schedules.WarmupCosine", "warmup": 0.3, "final": 0.1}
    stage = Stage("s", tasks=[Task("cross_entropy")], steps=10, scheduler=scheduler)
    rates = [record["lr"] for record in ProgressiveDistiller(None, student, [stage]).fit(batches).history]
    assert rates[:4] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3])
    assert rates[-1] == pytest.approx(1e-4)
    assert rates[3:] == sorted(rates[3:], reverse=True)


def test_clip_bounds_the_gradient_over_all_that_trains(teacher, student, batches):
    optimizer = {"_target_": "torch.optim.SGD", "lr": 1.0}
    before = state(student)
    stage = Stage("s", tasks=[Task("cross_entropy", weight=100.0)], steps=1, clip=0.5, optimizer=optimizer)
    ProgressiveDistiller(teacher, student, [stage]).fit(batches)
    moved = sum((p.detach() - before[n]).square().sum() for n, p in student.named_parameters()) ** 0.5
    assert moved.item() == pytest.approx(0.5, rel=1e-4)


def test_epochs_count_updates_up_to_the_end_of_the_data(student, batches):
    stage = Stage("s", tasks=[Task("cross_entropy")], epochs=2, accumulate=3)
    assert len(ProgressiveDistiller(None, student, [stage]).fit(batches).history) == 4


def test_several_teachers_are_told_apart_by_name(teacher, student, batches):
    stage = Stage("s", matches=[Match("3", "big:3"), Match(".", "small:.")], steps=1)
    terms = ProgressiveDistiller({"big": teacher, "small": net(4, seed=3)}, student, [stage]).fit(batches).history[0]
    assert set(terms["terms"]) == {"mse(3, big:3)", "mse(., small:.)"}


def test_a_loss_that_becomes_nan_names_term_stage_and_step_and_keeps_the_weights(teacher, student, batches):
    calls = []  # the first is the plan's

    def breaks(student_map, teacher_map):
        calls.append(1)
        return (student_map - teacher_map).sum() * (float("nan") if len(calls) > 3 else 1.0)

    stage = Stage("hint", matches=[Match("8", loss=breaks)], steps=9)
    with pytest.raises(TrainingError, match=r"stage 'hint', step 2: the term breaks\(8\) is nan"):
        ProgressiveDistiller(teacher, student, [stage]).fit(batches)
    assert all(p.isfinite().all() for p in student.parameters())


class Stop(BaseException):
    pass


@pytest.mark.parametrize("at", [1, 5, 8])
def test_a_stopped_run_continues_to_the_same_weights_and_log(teacher, student, batches, tmp_path, at, monkeypatch):
    monkeypatch.setattr("compresskit.distill.session.run_folder.CHECKPOINT_SECONDS", 0.0)
    stages = curricula.progressive(
        [Match("1"), Match(".", loss="kl", weight={"schedule": "cosine", "start": 1.0, "end": 0.5})],
        steps=5,
        tasks=[Task("cross_entropy")],
        scheduler="compresskit.schedules.WarmupCosine",
        accumulate=2,
    )
    undisturbed = copy.deepcopy(student)
    whole = ProgressiveDistiller(teacher, undisturbed, stages, out=tmp_path / "whole").fit(batches)

    class Dies:
        """A loader that ends the process, so to speak, in the middle of a step."""

        def __iter__(self):
            for batch in batches:
                self.drawn = getattr(self, "drawn", 0) + 1
                if self.drawn > 2 * at:
                    raise Stop
                yield batch

    start = copy.deepcopy(student)
    with pytest.raises(Stop):
        ProgressiveDistiller(teacher, student, stages, out=tmp_path / "part").fit(Dies())
    result = ProgressiveDistiller(teacher, start, stages, out=tmp_path / "part").fit(batches, resume=True)
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, result.student.state_dict()[name]), name
    terms = [[record["terms"], record["lr"], record["global_step"]] for record in whole.history]
    assert [[r["terms"], r["lr"], r["global_step"]] for r in result.history] == terms
    lines = (tmp_path / "part" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.history


def test_a_finished_run_is_returned_and_not_trained_again(teacher, student, batches, tmp_path):
    stages = [Stage("s", matches=[Match(".")], steps=2)]
    again = copy.deepcopy(student)
    first = ProgressiveDistiller(teacher, student, stages, out=tmp_path).fit(batches, evaluate=lambda _: {"q": 1.0})
    second = ProgressiveDistiller(teacher, again, stages, out=tmp_path).fit([])
    assert second.history == first.history
    assert second.stages == first.stages
    assert changed(state(student), again) == set()


def test_a_damaged_checkpoint_gives_way_to_the_one_before(teacher, student, batches, tmp_path, capsys):
    stages = [Stage("s", matches=[Match(".")], steps=2)]
    ProgressiveDistiller(teacher, student, stages, out=tmp_path).fit(batches)
    newest = max((tmp_path / "checkpoints").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    assert len(ProgressiveDistiller(teacher, net(4, seed=2), stages, out=tmp_path).fit(batches).history) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run.update(stages=[Stage("s", matches=[Match(".")], steps=3)]), "its stages differ"),
        (lambda run: run.update(student=net(5, seed=2)), "its student differs"),
        (lambda run: run.update(teacher=net(6, seed=9)), "its teacher differs"),
        (lambda run: run.update(seed=1), "its seed differs"),
    ],
)
def test_another_run_s_folder_is_refused(teacher, student, batches, tmp_path, change, message):
    run = {"teacher": teacher, "student": student, "stages": [Stage("s", matches=[Match(".")], steps=2)], "seed": 0}
    ProgressiveDistiller(**run, out=tmp_path).fit(batches)
    change(run)
    with pytest.raises(CheckpointError, match=message):
        ProgressiveDistiller(**run, out=tmp_path).fit(batches)


def test_resume_false_refuses_a_used_folder_and_true_an_empty_one(teacher, student, batches, tmp_path):
    distiller = ProgressiveDistiller(teacher, student, [Stage("s", matches=[Match(".")], steps=1)], out=tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint to continue"):
        distiller.fit(batches, resume=True)
    distiller.fit(batches, resume=False)
    with pytest.raises(CheckpointError, match="already holds a run"):
        distiller.fit(batches, resume=False)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Stage("s", matches=[Match("9")], steps=1), "has no module '9'"),
        (Stage("s", matches=[Match("1", "7x")], steps=1), "has no module '7x'"),
        (Stage("s", matches=[Match("3")], train=["conv*"], steps=1), "train: 'conv*' matches no parameter"),
        (Stage("s", matches=[Match("3")], freeze=["*"], steps=1), "leaves nothing to train"),
        (
            Stage("s", matches=[Match("3", adapter=None)], steps=1),
            "mse: shapes must be equal, got (6, 4, 4, 4) and (6, 6, 4, 4)",
        ),
        (
            Stage("s", matches=[Match("3", ".")], steps=1),
            "nothing turns a map into a vector; tap a pooled output or give an adapter",
        ),
        (Stage("s", matches=[Match("1")], train=["8.*"], steps=1), "no term reaches any of the parameters"),
        (Stage("s", matches=[Match("1", loss=lambda s, _: s)], steps=1), "a loss must return one number, got shape"),
        (
            Stage("s", tasks=[Task("cross_entropy")], steps=1, optimizer=lambda _: 3),
            "must give a torch Optimizer, got int",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_training(teacher, student, batches, stage, message):
    before = state(student)
    with pytest.raises(CompressKitError) as caught:
        ProgressiveDistiller(teacher, student, [stage]).fit(batches)
    assert message in str(caught.value)
    assert changed(before, student) == set()


def test_a_match_without_any_teacher_is_refused(student, batches):
    with pytest.raises(RecipeError, match="needs a teacher, and there is none"):
        ProgressiveDistiller(None, student, [Stage("s", matches=[Match("1")], steps=1)]).fit(batches)


def test_bf16_forwards_keep_losses_in_float32(teacher, student, batches):
    stage = Stage("s", matches=[Match("3")], tasks=[Task("cross_entropy")], steps=2)
    history = ProgressiveDistiller(teacher, student, [stage], precision="bf16").fit(batches).history
    assert all(p.dtype == torch.float32 for p in student.parameters())
    assert len(history) == 2
