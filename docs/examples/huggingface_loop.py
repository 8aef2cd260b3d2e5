"""One stage of distillation inside a training of the Hugging Face Trainer."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from compresskit import Match, ProgressiveDistiller, Stage, Task


def encoder(width: int, layers: int) -> BertForSequenceClassification:
    """Return a small model with random weights; yours comes from `from_pretrained`."""
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers}
    return BertForSequenceClassification(BertConfig(vocab_size=50, num_attention_heads=2, num_labels=3, **sizes))


teacher, student = encoder(32, 4), encoder(16, 2)
data = [
    {"input_ids": torch.randint(50, (12,)), "attention_mask": torch.ones(12, dtype=torch.long), "labels": index % 3}
    for index in range(32)
]


class DistillationTrainer(Trainer):
    """Trains by a stage's objective, and evaluates as ever."""

    def __init__(self, objective: Any, args: TrainingArguments, **options: Any) -> None:
        optimizer = torch.optim.AdamW(objective.parameters(), lr=args.learning_rate)
        # the Trainer clears the gradients of its model, in which the adapters are not
        optimizer.register_step_post_hook(lambda optimizer, *_: optimizer.zero_grad())
        super().__init__(args=args, optimizers=(optimizer, None), **options)
        self.objective = objective
        self.model_accepts_loss_kwargs = False  # the loss is a mean over its batch, also where batches accumulate

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the stage's loss in training, and the student's own loss and outputs in evaluation."""
        if return_outputs:
            return super().compute_loss(model, inputs, True, num_items_in_batch)
        inputs, labels = split(inputs)
        return self.objective(inputs, labels)[0]


def split(batch: dict[str, Any]) -> tuple[dict[str, Any], Tensor]:
    """Return (inputs, targets) of a batch, as the Trainer collates it."""
    return {name: value for name, value in batch.items() if name != "labels"}, batch["labels"]


stage = Stage(
    "imitate",
    matches=[Match("bert.encoder.layer.1", "bert.encoder.layer.3"), Match(".@out.logits", loss="kl")],
    tasks=[Task("cross_entropy", ".@out.logits")],
    steps=8,
)
distiller = ProgressiveDistiller(teacher, student, [stage])
args = TrainingArguments("runs/encoder", max_steps=8, use_cpu=True, save_strategy="no", report_to="none")

batch = {name: torch.stack([torch.as_tensor(sample[name]) for sample in data[:8]]) for name in data[0]}
with distiller.stage(0, batch, unpack=split) as objective:
    DistillationTrainer(objective, args, model=student, train_dataset=data).train()
