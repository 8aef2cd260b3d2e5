"""One stage of distillation inside a fit of Lightning."""

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from compresskit import Match, ProgressiveDistiller, Stage, Task

teacher = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4))
student = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4))
data = TensorDataset(torch.randn(64, 8), torch.randint(4, (64,)))


class Distillation(lightning.LightningModule):
    """Trains the student by a stage's objective; neither the teacher nor the adapters become part of it."""

    def __init__(self, student: nn.Module, objective: Any) -> None:
        super().__init__()
        self.student = student
        self.objective = objective

    def training_step(self, batch: list[Tensor], _index: int) -> Tensor:
        loss, terms = self.objective(*batch)
        self.log_dict(terms)
        return loss

    def validation_step(self, batch: list[Tensor], _index: int) -> None:
        inputs, targets = batch
        self.log("accuracy", (self.student(inputs).argmax(1) == targets).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.objective.parameters(), lr=1e-3)


stage = Stage("imitate", matches=[Match("1"), Match(".", loss="kl")], tasks=[Task("cross_entropy")], steps=8)
distiller = ProgressiveDistiller(teacher, student, [stage])
trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)

train, validation = DataLoader(data, batch_size=16, shuffle=True), DataLoader(data, batch_size=16)
with distiller.stage(0, next(iter(train))) as objective:
    trainer.fit(Distillation(student, objective), train, validation)
