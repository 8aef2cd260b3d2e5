"""The engine inside the loops of Lightning and of Hugging Face's Trainer: the documentation's own examples."""

import copy
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from compresskit import ProgressiveDistiller

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
FRAMEWORKS = {"lightning_loop": "lightning", "huggingface_loop": "transformers"}

"""Each example's name, and the package that it needs."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*`isinstance\\(treespec, LeafSpec\\)` is deprecated"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]


@pytest.fixture(params=FRAMEWORKS)
def example(request, tmp_path, monkeypatch):
    """What an example defines, once it has run."""
    pytest.importorskip(FRAMEWORKS[request.param])
    monkeypatch.chdir(tmp_path)
    return SimpleNamespace(**runpy.run_path(str(EXAMPLES / f"{request.param}.py")), framework=request.param)


def train(example, objective, student, batches, accumulate=1):
    """The framework's own loop over four batches in their order."""
    if example.framework == "lightning_loop":
        trainer = example.lightning.Trainer(
            max_epochs=1,
            accumulate_grad_batches=accumulate,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        trainer.fit(example.Distillation(student, objective), DataLoader(batches, batch_size=None))
    else:
        args = example.TrainingArguments(
            "runs",
            max_steps=4 // accumulate,
            gradient_accumulation_steps=accumulate,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            learning_rate=1e-3,
            max_grad_norm=0.0,
            lr_scheduler_type="constant",
        )
        trainer = example.DistillationTrainer(objective, args, model=student, train_dataset=example.data)
        trainer.get_train_dataloader = lambda: DataLoader(batches, batch_size=None)
        trainer.train()


def batches_of(example):
    """Four batches, and how they are unpacked."""
    if example.framework == "lightning_loop":
        return list(DataLoader(example.data, batch_size=16)), None
    return list(DataLoader(example.data, batch_size=8)), example.split


def pair(example):
    """New copies of the models, the student's without dropout."""
    teacher, student = copy.deepcopy(example.teacher), copy.deepcopy(example.student)
    for module in student.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return teacher, student


def marks(model):
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    return [
        (path, module.training, [len(getattr(module, kind)) for kind in hooks])
        for path, module in model.named_modules()
    ] + [(name, parameter.requires_grad) for name, parameter in model.named_parameters()]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_framework_s_loop_gives_the_weights_that_fit_gives(example, accumulate):
    batches, unpack = batches_of(example)
    teacher, student = pair(example)
    fitted, taught = copy.deepcopy(student), copy.deepcopy(teacher.state_dict())
    left = marks(teacher), marks(student)
    stage = replace(example.stage, steps=4 // accumulate, accumulate=accumulate)
    ProgressiveDistiller(teacher, fitted, [stage]).fit(batches, unpack=unpack)
    with ProgressiveDistiller(teacher, student, [stage]).stage(0, batches[0], unpack=unpack) as objective:
        train(example, objective, student, batches, accumulate)
    assert (marks(teacher), marks(student)) == left
    assert all(torch.equal(value, taught[name]) for name, value in teacher.state_dict().items())
    for ours, theirs in zip(student.parameters(), fitted.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    before = example.student.state_dict()
    assert not all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


class Breaks(list):
    """Batches of which the third cannot be had."""

    def __getitem__(self, index):
        return super().__getitem__(index if index < 2 else 1 // 0)


def test_the_models_are_clean_when_a_framework_s_loop_fails(example):
    batches, unpack = batches_of(example)
    teacher, student = pair(example)
    left = marks(teacher), marks(student)
    stage = ProgressiveDistiller(teacher, student, [example.stage]).stage(0, batches[0], unpack=unpack)
    with pytest.raises(ZeroDivisionError), stage as objective:
        train(example, objective, student, Breaks(batches))
    assert (marks(teacher), marks(student)) == left
