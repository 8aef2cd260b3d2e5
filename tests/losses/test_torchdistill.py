import inspect
import subprocess
import sys

import pytest
import torch
from torch import nn
from torchdistill.losses import mid_level

from compresskit import losses
from compresskit.errors import RecipeError
from compresskit.losses import check_options, make_loss, resolve_loss

CLASSES = [
    name for name, thing in vars(mid_level).items() if inspect.isclass(thing) and thing.__module__ == mid_level.__name__
]
ONE_TO_ONE = {
    "KDLoss": {"temperature": 4.0},
    "ATLoss": {},
    "PKTLoss": {},
    "AltActTransferLoss": {"margin": 1.0, "reduction": "mean"},
    "RKDLoss": {"dist_factor": 1.0, "angle_factor": 2.0, "reduction": "mean"},
    "CCKDLoss": {"kernel_config": {"type": "bilinear"}, "reduction": "batchmean"},
    "SPKDLoss": {"reduction": "batchmean"},
    "AffinityLoss": {},
    "ChSimLoss": {},
    "DISTLoss": {},
    "LogitStdKDLoss": {"temperature": 2.0},
    "SKDInstanceLoss": {},
    "SKDDirectionLoss": {},
}
MAPS = {"ATLoss", "AltActTransferLoss", "AffinityLoss", "ChSimLoss"}


def make(name, **options):
    entry = resolve_loss(f"torchdistill.{name}")
    options = ONE_TO_ONE[name] | options
    check_options(entry, options)
    return make_loss(entry, options)


def sides(name):
    return torch.rand(2, 6, 5, 4, 3) if name in MAPS else torch.randn(2, 6, 10)


@pytest.mark.parametrize("name", ONE_TO_ONE)
def test_a_loss_between_two_tensors_is_reachable_by_name_and_trains(name):
    loss, (student, teacher) = make(name), sides(name)
    labels = [torch.randint(0, 10, (6,))] if resolve_loss(f"torchdistill.{name}").labels else []
    value = loss(student.requires_grad_(), teacher, *labels)
    value.backward()
    assert isinstance(loss, nn.Module)
    assert value.shape == ()
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("name", sorted(set(CLASSES) - set(ONE_TO_ONE)))
def test_every_other_loss_is_refused_with_a_reason(name):
    with pytest.raises(RecipeError) as caught:
        resolve_loss(f"torchdistill.{name}")
    assert str(caught.value).startswith(f"torchdistill's {name} cannot be a match's loss: it")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SRDLoss", r"it reads several tensors of a side \(student_feature_module_path, student_linear_module_path\)"),
        ("CRDLoss", "it needs the number of training samples and each one's index"),
        ("FTLoss", r"it reads an auxiliary module \(paraphraser_path, translator_path\)"),
        ("VIDLoss", "its student gives a mean and a variance; use the loss 'variational'"),
    ],
)
def test_the_reason_is_the_right_one(name, reason):
    with pytest.raises(RecipeError, match=reason):
        resolve_loss(f"torchdistill.{name}")


def test_the_short_name_the_full_name_and_the_class_are_the_same_loss():
    entry = resolve_loss("torchdistill.PKTLoss")
    assert entry is resolve_loss("torchdistill.losses.mid_level.PKTLoss") is resolve_loss(mid_level.PKTLoss)
    assert entry.name == "PKTLoss"


@pytest.mark.parametrize(
    ("name", "nearest"), [("torchdistill.PKTLos", "PKTLoss"), ("torchdistill.losses.mid_level.RKDLos", "RKDLoss")]
)
def test_an_error_about_a_misspelt_name_names_the_nearest(name, nearest):
    with pytest.raises(RecipeError, match=f"did you mean '{nearest}'"):
        resolve_loss(name)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("PKTLoss", {"esp": 1e-7}, "PKTLoss has no option 'esp'; did you mean 'eps'?"),
        ("KDLoss", {}, "KDLoss needs the option 'temperature'"),
        (
            "KDLoss",
            {"temperature": 4.0, "student_module_path": "fc"},
            "KDLoss has no option 'student_module_path'",
        ),
    ],
)
def test_options_are_checked_although_the_classes_accept_any(name, options, message):
    with pytest.raises(RecipeError) as caught:
        check_options(f"torchdistill.{name}", options)
    assert str(caught.value).startswith(message)


def test_an_error_names_the_option_that_the_class_refuses():
    with pytest.raises(RecipeError, match=r"^ATLoss refuses these options: mode `cod` is not expected"):
        make("ATLoss", mode="cod")


@pytest.mark.parametrize("name", ["KDLoss", "LogitStdKDLoss"])
def test_the_squared_temperature_is_a_factor_at_any_alpha(name):
    student, teacher = sides(name)
    labels = torch.randint(0, 10, (6,))
    at_zero, near_zero = (make(name, temperature=4.0, alpha=alpha)(student, teacher, labels) for alpha in (0.0, 1e-9))
    torch.testing.assert_close(at_zero, near_zero)
    torch.testing.assert_close(make(name, temperature=4.0)(student, teacher), at_zero)


def test_a_supervised_part_needs_labels():
    student, teacher = sides("KDLoss")
    with pytest.raises(RecipeError, match=r"KDLoss: alpha=0\.5 weighs the labels, and there are none"):
        make("KDLoss", alpha=0.5)(student, teacher)


def test_our_losses_agree_with_theirs_up_to_a_factor():
    student, teacher = sides("KDLoss")
    n, classes = student.shape
    close = torch.testing.assert_close
    close(losses.kl(student, teacher, temperature=4.0), make("KDLoss")(student, teacher))
    close(losses.dist(student, teacher), make("DISTLoss")(student, teacher))
    # theirs standardises with the divisor c - 1, which is another temperature
    warmer = 2.0 * (classes / (classes - 1)) ** 0.5
    ours = losses.standardized_kl(student, teacher, temperature=warmer) * (2.0 / warmer) ** 2
    close(ours, make("LogitStdKDLoss")(student, teacher))
    # theirs counts a sample's relation to itself, which never differs
    distance = losses.relational_distance(student, teacher) * (n - 1) / n
    close(distance, make("RKDLoss", angle_factor=0.0)(student, teacher))
    angle = losses.relational_angle(student, teacher) * (n - 1) * (n - 2) / n**2
    close(angle, make("RKDLoss", dist_factor=0.0, angle_factor=1.0)(student, teacher))
    maps = sides("ATLoss")
    close(losses.attention_transfer(*maps), make("ATLoss")(*maps))


def test_torchdistill_is_not_imported_before_it_is_used():
    code = "import sys, compresskit.losses as l; l.resolve_loss('kl'); sys.exit('torchdistill' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["KDLoss", "LogitStdKDLoss", "DISTLoss", "SKDInstanceLoss", "SKDDirectionLoss"])
def test_losses_on_logits_take_tokens_as_rows_of_classes(name):
    loss, (student, teacher) = make(name), torch.randn(2, 3, 4, 10)
    torch.testing.assert_close(loss(student, teacher), loss(student.flatten(0, 1), teacher.flatten(0, 1)))


@pytest.mark.parametrize("name", sorted(MAPS))
def test_losses_on_maps_take_tokens_as_maps(name):
    loss, (student, teacher) = make(name), torch.rand(2, 6, 12, 5)
    maps = (side.mT.unflatten(2, (4, 3)) for side in (student, teacher))
    torch.testing.assert_close(loss(student, teacher), loss(*maps))
