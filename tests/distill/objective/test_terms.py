"""Terms: the arguments that a loss gets, and the loss modules of each stage."""

import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, Stage, Task

BATCH = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(
    "batch", [torch.randn(4, 3, 8, 8), [torch.randn(4, 3, 8, 8)], {"inputs": torch.randn(4, 3, 8, 8)}]
)
def test_a_batch_needs_targets_only_if_a_term_reads_them(batch, net):
    ProgressiveDistiller(net(4, 1), net(4, 2), [Stage("s", matches=[Match(".")], steps=1)]).fit([batch])
    task = Stage("s", tasks=[Task("cross_entropy")], steps=1)
    with pytest.raises(Exception, match="needs targets, and the batch has none"):
        ProgressiveDistiller(None, net(4, 2), [task]).fit([batch])


def test_a_loss_may_take_the_targets_and_several_taps(batches, net):
    targets_seen = []

    def with_labels(student, teacher, target):
        targets_seen.append(target)
        return (student - teacher).square().mean()

    def flow(student, teacher):
        (a, b), (c, d) = student, teacher
        return (a.mean() * b.mean() - c.mean() * d.mean()).square()

    matches = [Match(".", loss=with_labels), Match(("0", "1"), loss=flow)]
    history = ProgressiveDistiller(net(4, 1), net(4, 2), [Stage("s", matches=matches, steps=1)]).fit(batches).history
    assert set(history[0]["terms"]) == {"with_labels(.)", "flow(0 + 1)"}
    assert torch.equal(targets_seen[-1], batches[0][1])


def test_a_later_stage_uses_its_own_loss_module():
    first, second = nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="sum")
    optimizer = {"_target_": "torch.optim.SGD", "lr": 0.0}
    losses = {"a": first, "b": second}
    stages = [Stage(name, tasks=[Task(loss)], steps=1, optimizer=optimizer) for name, loss in losses.items()]
    history = ProgressiveDistiller(None, nn.Linear(3, 3), stages).fit([BATCH]).history
    mean, total = (next(iter(record["terms"].values()))["value"] for record in history)
    assert total == pytest.approx(4 * mean)


def test_adapter_none_leaves_both_sides_as_they_are():
    def gram(student, teacher):
        return (student @ student.T - teacher @ teacher.T).square().mean()

    stage = Stage("s", matches=[Match(".", loss=gram, adapter=None)], steps=1)
    assert len(ProgressiveDistiller(nn.Linear(3, 8), nn.Linear(3, 4), [stage]).fit([BATCH]).history) == 1
