import inspect

import pytest
import torch
from torch import nn

from compresskit.errors import RecipeError
from compresskit.losses import CATALOGUE, Entry, check_options, make_loss, mse, resolve_loss


def _tilted(student, teacher, tilt=1.0):
    return (student - tilt * teacher).mean()


def _scaled(student, teacher, *, scale):
    return scale * (student - teacher).mean()


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_loss_takes_the_student_first_and_its_options_by_keyword(name):
    entry = CATALOGUE[name]
    call = entry.function.forward if entry.built else entry.function
    tensors = [
        p.name for p in inspect.signature(call).parameters.values() if p.kind is not p.KEYWORD_ONLY and p.name != "self"
    ]
    assert tensors in (["student", "teacher"], ["student", "target"], ["student", "teacher", "target"])
    assert entry.labels is (len(tensors) == 3)
    options = list(inspect.signature(entry.function).parameters.values())[0 if entry.built else len(tensors) :]
    assert all(option.kind is option.KEYWORD_ONLY for option in options)


def test_a_name_a_dotted_name_and_the_function_itself_are_the_same_loss():
    assert resolve_loss("mse") is resolve_loss("compresskit.losses.mse") is resolve_loss(mse)


def test_a_foreign_loss_needs_equal_channels_and_space():
    assert resolve_loss(_tilted) == Entry(_tilted, frozenset({"channels", "space"}), built=False, name="_tilted")
    assert resolve_loss("attention_transfer").agree == {"space"}


def test_a_loss_whose_third_argument_is_target_gets_the_labels():
    def supervised(student, teacher, target, *, share=0.5):
        return share * (student - teacher).mean() + target.sum()

    class Supervised(nn.Module):
        def forward(self, student, teacher, target):
            return supervised(student, teacher, target)

    assert [resolve_loss(loss).labels for loss in (supervised, Supervised, Supervised())] == [True] * 3
    assert resolve_loss("torch.nn.CosineEmbeddingLoss").labels
    check_options(supervised, {"share": 0.1})
    with pytest.raises(RecipeError, match=r"^supervised has no option 'target'"):
        check_options(supervised, {"target": 1})


def test_a_loss_whose_labels_are_optional_gets_none():
    def optional(student, teacher, target=None):
        return _tilted(student, teacher, 1.0 if target is None else 2.0)

    def named(student, teacher, *, target):
        return _tilted(student, teacher, target)

    assert not any(resolve_loss(loss).labels for loss in (optional, named, nn.MSELoss, nn.MSELoss()))


def test_a_class_is_built_once_with_its_options_and_a_function_gets_them_each_call():
    entry = resolve_loss("torch.nn.HuberLoss")
    loss = make_loss(entry, {"delta": 0.5})
    assert entry.built
    torch.testing.assert_close(loss(torch.tensor([2.0]), torch.tensor([0.0])), torch.tensor(0.5 * (2 - 0.25)))
    assert make_loss(resolve_loss("torch.nn.functional.huber_loss"), {}) is nn.functional.huber_loss


def test_a_callable_that_does_not_take_two_tensors_is_a_factory():
    def factory(tilt):
        return lambda student, teacher: _tilted(student, teacher, tilt)

    entry = resolve_loss(factory)
    assert entry.built
    assert make_loss(entry, {"tilt": 2.0})(torch.ones(1), torch.ones(1)) == -1


def test_a_module_is_used_as_a_loss_without_being_built():
    module = nn.L1Loss()
    entry = resolve_loss(module)
    assert not entry.built
    assert entry.name == "L1Loss"
    assert make_loss(entry, {}) is module


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("mes", "no loss 'mes'; did you mean 'mse'?"),
        ("torch.nn.functional.mes_loss", "torch.nn.functional has no 'mes_loss'; did you mean 'mse_loss'"),
        ("os.system", "a recipe may not use os.system here"),
    ],
)
def test_an_error_about_an_unknown_loss_names_the_nearest(loss, message):
    with pytest.raises(RecipeError) as caught:
        resolve_loss(loss)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        ("kl", {"temprature": 2.0}, "kl has no option 'temprature'; did you mean 'temperature'?"),
        ("kl", {"temperature": "hot"}, "temperature must be a number, got 'hot'"),
        ("dkd", {"target": 1}, "dkd has no option 'target'; known: alpha, beta, temperature, dim"),
        ("variational", {}, "variational needs the option 'channels'"),
        ("perceptual", {"weights": 1}, "weights must be text or a path, got 1"),
        ("kl", {"student": 1}, "kl has no option 'student'; known: temperature, dim"),
        ("torch.nn.HuberLoss", {"detla": 1.0}, "HuberLoss has no option 'detla'; did you mean 'delta'?"),
        (_scaled, {}, "_scaled needs the option 'scale'"),
    ],
)
def test_options_are_checked_against_the_signature(loss, options, message):
    with pytest.raises(RecipeError) as caught:
        check_options(loss, options)
    assert str(caught.value) == message


def test_any_option_may_be_a_schedule():
    check_options("kl", {"temperature": {"schedule": "linear", "start": 4.0, "end": 1.0}})


def test_an_error_names_the_class_that_refuses_its_options():
    with pytest.raises(RecipeError, match=r"^HuberLoss refuses these options"):
        make_loss(Entry(nn.HuberLoss, built=True, name="HuberLoss"), {"nonsense": 1})
