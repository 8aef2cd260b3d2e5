import sys

import pytest
import torch
from torch import nn

from compresskit import nodes
from compresskit.errors import DataError, RecipeError, at

LINEAR = {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in the current folder that notes when its code runs."""
    folder = tmp_path / "strangers"
    folder.mkdir()
    (folder / "__init__.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    (folder / "parts.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Linear):\n    def __init__(self, width: int = 2):\n        super().__init__(width, width)\n"
        "def broken():\n    raise ValueError('their own mistake')\n"
        "def number():\n    return 5\n"
    )
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "strangers"]:
        del sys.modules[name]


def _build(node, *args, kind: nodes.Kind = "module", **offered):
    return nodes.build(node, *args, kind=kind, **offered)


def test_a_node_is_called_with_its_other_keys():
    layer = _build(LINEAR)
    assert (layer.in_features, layer.out_features) == (2, 3)


def test_nodes_inside_a_node_are_built_first_and_args_are_positional():
    model = _build({"_target_": "torch.nn.Sequential", "_args_": [LINEAR, {"_target_": "torch.nn.ReLU"}]})
    assert [type(layer) for layer in model] == [nn.Linear, nn.ReLU]


def test_an_optimizer_gets_its_parameters_first_and_a_scheduler_its_optimizer():
    groups = [{"params": [nn.Parameter(torch.ones(2))]}]
    optimizer = _build({"_target_": "torch.optim.SGD", "lr": 0.5}, groups, kind="optimizer")
    scheduler = _build(
        {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 1}, optimizer, kind="scheduler", total_steps=9
    )
    assert scheduler.optimizer is optimizer
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_offered_arguments_reach_functions_that_name_them_unless_the_node_sets_them():
    assert _build({"_target_": "torch.nn.ReLU"}, inplace=True).inplace
    assert not _build({"_target_": "torch.nn.ReLU", "inplace": False}, inplace=True).inplace
    assert isinstance(_build({"_target_": "torch.nn.Tanh"}, inplace=True), nn.Tanh)


def test_a_builder_of_torchvision_makes_a_model():
    model = _build({"_target_": "torchvision.models.squeezenet1_1", "num_classes": 7})
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_building_does_not_change_the_node():
    node = {"_target_": "torch.nn.Sequential", "_args_": [dict(LINEAR)]}
    _build(node)
    assert node == {"_target_": "torch.nn.Sequential", "_args_": [LINEAR]}


@pytest.mark.parametrize(
    ("node", "kind", "message"),
    [
        ("torch.nn.ReLU", "module", "expected a node such as {_target_: torch.nn.ReLU}, got 'torch.nn.ReLU'"),
        ({"target": "torch.nn.ReLU"}, "module", "expected a node such as {_target_: package.module.Name, ...}, got"),
        ({"_target_": "ReLU"}, "module", "expected a dotted name such as 'torch.nn.Linear', got 'ReLU'"),
        ({"_target_": "torch.nn.ReLUU"}, "module", "torch.nn has no 'ReLUU'; did you mean 'ReLU'"),
        (
            {"_target_": "tochvision.models.x"},
            "module",
            "no package 'tochvision' for 'tochvision.models.x'; did you mean",
        ),
        (
            {**LINEAR, "ni_features": 2},
            "module",
            "torch.nn.Linear has no option 'ni_features'; did you mean 'in_features'",
        ),
        (
            {"_target_": "torch.nn.Linear", "in_features": 2},
            "module",
            "torch.nn.Linear needs the option 'out_features'",
        ),
        ({**LINEAR, "in_features": "two"}, "module", "in_features must be a whole number, got 'two'"),
        ({**LINEAR, "in_features": True}, "module", "in_features must be a whole number, got True"),
        ({**LINEAR, "bias": "no"}, "module", "bias must be true or false, got 'no'"),
        ({**LINEAR, "in_features": -1}, "module", "torch.nn.Linear refuses these options: "),
        ({**LINEAR, "_partial_": True}, "module", "a node has no key '_partial_'; besides options it takes _target_"),
        ({"_target_": "torch.nn.ReLU", "_args_": 1}, "module", "_args_: expected a list, got 1"),
        (
            {"_target_": "torch.optim.SGD"},
            "module",
            "a recipe may not use torch.optim.SGD here: it is no torch.nn.Module",
        ),
        (LINEAR, "optimizer", "a recipe may not use torch.nn.Linear here: it is no torch.optim.Optimizer class"),
        (LINEAR, "dataset", "a recipe may not use torch.nn.Linear here: it is no torch.utils.data.Dataset class"),
        (LINEAR, "evaluation", "a recipe may not use torch.nn.Linear here: evaluations come from zoo"),
        (
            {"_target_": "timm.create_model", "model_name": "hf-hub:x/y"},
            "module",
            ("no package 'timm'", "model_name names something that timm publishes"),
        ),
    ],
)
def test_a_mistake_in_a_node_is_reported_with_the_nearest_right_name(node, kind, message):
    with pytest.raises(RecipeError) as caught:
        _build(node, kind=kind)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "dotted",
    [
        "os.system",
        "subprocess.run",
        "torch.load",
        "torch.hub.load",
        "torch.os.system",
        "torch.nn.functional.torch.load",
        "torch.nn.functional.importlib.import_module",
        "torch.utils.cpp_extension.load",
        "compresskit.data.random.seed",
        "compresskit.nodes.allow",
        "compresskit.cli.main",
        "compresskit.recipe.running.run.run_recipe",
        "compresskit.commands.run.run",
        "compresskit.environment._git",
        "compresskit.environment.commit",
        "compresskit.files.write_text",
        "compresskit.export.export",
        "compresskit.losses.catalogue.find",
        "compresskit.data._Stateless.__init__",
        "zoo.raw.photographs.read._is_turned",
        "zoo.commands.demosaic",
        "zoo.frames.writing.write",
        "zoo.frames.read._large_pictures",
        "builtins.eval",
        "nn.Linear.__init__.__globals__",
    ],
)
@pytest.mark.parametrize("kind", ["module", "callable", "argument", "dataset", "evaluation"])
def test_a_recipe_is_data_and_reaches_no_function_that_could_run_code(dotted, kind):
    with pytest.raises(RecipeError):
        nodes.find(dotted, kind=kind)


def test_looking_up_a_name_runs_no_code_of_an_unknown_package(package):
    with pytest.raises(RecipeError, match=r"importing strangers\.parts\.Net would run code .* add --allow strangers"):
        _build({"_target_": "strangers.parts.Net"})
    assert not (package / "ran").exists()


def test_an_allowed_package_is_found_in_the_current_folder_and_only_inside_the_block(package):
    before = list(sys.path)
    with nodes.allow(["strangers"]):
        assert _build({"_target_": "strangers.parts.Net"}).in_features == 2
        assert nodes.allowed_packages() == ["strangers"]
    assert sys.path == before
    assert nodes.allowed_packages() == []
    assert (package / "ran").exists()


def test_the_current_folder_never_hides_an_installed_package(package):
    (package / "safetensors.py").write_text("raise RuntimeError('the wrong one')")
    with nodes.allow(["strangers"]):
        assert sys.path[-1] == str(package)


def test_what_the_program_has_imported_already_needs_to_be_allowed_too(package):
    with nodes.allow(["strangers"]):
        _build({"_target_": "strangers.parts.Net"})
    for name in ("Net", "broken"):
        with pytest.raises(RecipeError, match=r"may not use strangers.* add --allow strangers"):
            _build({"_target_": f"strangers.parts.{name}"})
    assert package


def test_an_error_in_the_users_own_code_passes_through(package):
    assert package
    with nodes.allow(["strangers"]), pytest.raises(ValueError, match="their own mistake") as caught:
        _build({"_target_": "strangers.parts.broken"})
    assert not isinstance(caught.value, RecipeError)


def test_the_result_of_a_call_must_fit_the_slot(package):
    assert package
    with nodes.allow(["strangers"]), pytest.raises(RecipeError, match="gave 5, which is not a torch"):
        _build({"_target_": "strangers.parts.number"})


def test_our_own_errors_keep_their_class_and_start_with_the_place():
    with pytest.raises(DataError, match=r"data\.train: the folder of photographs 'absent'"), at("data", "train"):
        _build({"_target_": "zoo.raw.PhotographFrames", "photographs": "absent"}, kind="dataset")


def test_a_check_reports_what_building_would_and_calls_nothing(package):
    with nodes.allow(["strangers"]):
        nodes.check({"_target_": "strangers.parts.broken"}, kind="module")
        with pytest.raises(RecipeError, match=r"^width must be a whole number, got 'x'"):
            nodes.check({"_target_": "strangers.parts.Net", "width": "x"}, kind="module")
    inner = {"_target_": "torch.nn.Sequential", "_args_": [{**LINEAR, "in_features": "x"}]}
    with pytest.raises(RecipeError, match=r"^student\._args_\[0\]: in_features must be") as caught, at("student"):
        nodes.check(inner, kind="module")
    assert caught.value.path == ("student", "_args_", 0, "in_features")
    assert package
