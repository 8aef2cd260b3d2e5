import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from compresskit import Match, ProgressiveDistiller, ShapeError, Stage, TapError, Task
from compresskit.distill.taps.failure import explain_failure
from compresskit.errors import DataError


class _Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.last = nn.Linear(4, width), nn.Linear(width, 3)

    def forward(self, x):
        features = self.first(x)
        return {"logits": self.last(features), "features": features}


class _Own(nn.Module):
    def forward(self, _):
        raise RuntimeError("their own mistake")


BATCH = torch.ones(2, 4), torch.zeros(2, dtype=torch.long)


def _distiller(*matches, tasks=()):
    stages = [Stage("one", matches, tasks, steps=2, optimizer={"_target_": "torch.optim.SGD", "lr": 0.1})]
    return ProgressiveDistiller(_Net(16), _Net(8), stages, device="cpu")


def test_an_input_of_another_shape_names_stage_term_tap_and_layer():
    message = (
        r"stage 'one': mse\(first\): the teacher, read at 'first', .* its layer 'first' \(Linear\) got \(2, 5\): mat1"
    )
    with pytest.raises(ShapeError, match=message):
        _distiller(Match("first", adapter="auto")).plan((torch.ones(2, 5), BATCH[1]))


def test_a_later_batch_of_another_shape_names_the_layer():
    with pytest.raises(
        ShapeError, match=r"the teacher does not take this batch: its layer 'first' \(Linear\) got \(2, 5\)"
    ):
        _distiller(Match("first")).fit([BATCH, (torch.ones(2, 5), BATCH[1])])


@pytest.mark.parametrize(
    "adapter", [nn.Linear(9, 16), {"_target_": "torch.nn.Linear", "in_features": 9, "out_features": 16}]
)
def test_an_adapter_of_a_wrong_width_names_stage_and_tap(adapter):
    message = r"stage 'one': mse\(first\): the adapter does not take this batch: its layer '\.' \(Linear\) got \(2, 8\)"
    with pytest.raises(ShapeError, match=message):
        _distiller(Match("first", adapter=adapter)).plan(BATCH)


def test_a_loss_of_torch_that_cannot_compare_names_stage_and_term():
    task = Task("torch.nn.functional.cross_entropy", ".@out.logits")
    with pytest.raises(
        ShapeError, match=r"stage 'one': cross_entropy.*: cross_entropy cannot compare \(2, 3\) and \(3,\)"
    ):
        _distiller(tasks=[task]).plan((BATCH[0], torch.zeros(3, dtype=torch.long)))


def test_a_nested_output_is_selected_by_a_key_that_it_has():
    with pytest.raises(TapError, match=r"'\.' is a dict with keys logits, features, .* as in \.@out\.logits$"):
        _distiller(Match(".")).plan(BATCH)


def test_a_dataset_is_no_loader():
    with pytest.raises(DataError, match="fit takes batches, and TensorDataset is a dataset of single samples"):
        _distiller(Match("first")).fit(TensorDataset(*BATCH))


def test_an_error_of_the_users_own_module_passes_through():
    model = nn.Sequential(nn.Linear(4, 4), _Own())
    with pytest.raises(RuntimeError, match="their own mistake") as caught, explain_failure("the model", model):
        model(BATCH[0])
    assert not isinstance(caught.value, ShapeError)


def test_a_device_without_memory_is_not_taken_for_a_wrong_batch():
    class Full(nn.Linear):
        def forward(self, _):
            raise torch.OutOfMemoryError("CUDA out of memory")

    Full.__module__ = "torch.nn"
    model = nn.Sequential(Full(2, 2))
    with pytest.raises(torch.OutOfMemoryError), explain_failure("the student", model):
        model(torch.ones(1, 2))


def test_a_teacher_that_does_not_fit_the_device_is_not_left_elsewhere_in_silence():
    class Large(nn.Linear):
        def to(self, *_, **__):
            raise torch.OutOfMemoryError("CUDA out of memory")

    distiller = ProgressiveDistiller(Large(4, 4), nn.Linear(4, 4), [Stage("s", matches=[Match(".")], steps=1)])
    with pytest.raises(torch.OutOfMemoryError):
        distiller.fit([BATCH])
