from urllib.error import URLError

import pytest
import torch

from compresskit.errors import RecipeError
from compresskit.recipe.building import model_argument
from compresskit.recipe.building.model_argument import build_named, parse_model


def test_a_model_is_a_dotted_name_with_literal_arguments():
    assert parse_model("zoo.pynet.PyNET") == {"_target_": "zoo.pynet.PyNET"}
    assert parse_model(" torch.nn.Conv2d(3, 4, kernel_size=(1, 2), bias=False) ") == {
        "_target_": "torch.nn.Conv2d",
        "_args_": [3, 4],
        "kernel_size": (1, 2),
        "bias": False,
    }


@pytest.mark.parametrize(
    "text", ["", "a b", "f(x)", "f(*[1])", "f(**{})", "f()()", "f[0]", "lambda: 1", "f(__import__('os'))"]
)
def test_anything_else_is_refused_and_never_evaluated(text):
    with pytest.raises(RecipeError, match="expected a dotted name with literal arguments"):
        parse_model(text)


def test_the_same_text_builds_the_same_weights_and_leaves_the_callers_generator():
    before = torch.get_rng_state()
    one, other = (build_named(["torch.nn.Linear(2, 3)"])["Linear"].model for _ in range(2))
    assert torch.equal(one.weight, other.weight)
    assert torch.equal(before, torch.get_rng_state())


def test_a_failed_download_of_weights_is_reported_in_one_sentence(monkeypatch):
    def unreachable(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(model_argument.nodes, "build", unreachable)
    with pytest.raises(
        RecipeError, match=r"downloads weights, and that failed: no route to host; .*weights_backbone=None"
    ):
        build_named(["torchvision.models.segmentation.fcn_resnet50"])


def test_a_recipes_models_come_with_a_sample_of_its_data_on_request():
    models = build_named(["digits#teacher", "digits#student"], with_inputs=True, preset=None)
    assert list(models) == ["teacher", "student"]
    assert models["student"].inputs.shape[0] == 1
    models["student"].model.eval()(models["student"].inputs)
    assert build_named(["digits#student"])["student"].inputs is None


def test_modules_with_a_closed_form_are_solved_if_the_model_will_run():
    changes = ["data.train.size=64", "teacher.skip.samples=2048", "student.skip.samples=2048"]
    fitted = build_named(["pynet_qxq#student"], fitted=True, overrides=changes)["student"]
    assert fitted.model.eval()(fitted.inputs).isfinite().all()
