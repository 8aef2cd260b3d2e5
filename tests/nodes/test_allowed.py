import importlib
import importlib.util
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from compresskit import nodes
from compresskit.errors import RecipeError
from compresskit.nodes.allowed import MORE, PACKAGES, SLOTS, allowed_names

OPTIONAL = {"timm"}
HOSTILE_CALLS = Path(__file__).with_name("hostile_calls.py")
INSTALLED = [
    entry for entry in allowed_names().values() if importlib.util.find_spec(entry.module.partition(".")[0]) is not None
]


def _slot(entry):
    return next(slot for slot, groups in SLOTS.items() if entry.group in groups)


def _object(entry):
    return nodes.find(entry.dotted, kind=_slot(entry))


def _signature(thing):
    try:
        return inspect.signature(thing).parameters
    except (TypeError, ValueError):  # a builtin
        return None


def test_every_name_of_the_list_exists_in_what_is_installed():
    assert {entry.module.partition(".")[0] for entry in allowed_names().values()} == set(PACKAGES)
    assert {entry.module.partition(".")[0] for entry in allowed_names().values() if entry not in INSTALLED} <= OPTIONAL
    assert all(callable(_object(entry)) for entry in INSTALLED)


def test_every_argument_of_the_list_is_one_of_the_signature_or_of_the_class_that_is_built():
    unknown = []
    for entry in INSTALLED:
        thing = _object(entry)
        parameters = _signature(thing)
        unknown += [
            f"{entry.dotted}: {argument}"
            for argument in entry.arguments
            if not (parameters and argument in parameters) and not _passes_on(thing, parameters, argument)
        ]
    assert unknown == []


def _passes_on(thing, parameters, argument):
    """Return whether a call knows an argument that its signature does not have."""
    if parameters is None:  # a builtin, whose text begins with its signature
        return argument in str(thing.__doc__)
    if isinstance(thing, type):
        return any(argument in (_signature(parent) or ()) for parent in thing.__mro__) or argument in str(thing.__doc__)
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return argument in str(thing.__doc__)
    classes = [c for c in vars(inspect.getmodule(inspect.unwrap(thing))).values() if isinstance(c, type)]
    return any(argument in (_signature(parent) or ()) for c in classes for parent in c.__mro__)


PRIVATE = {"CATALOGUE", "Entry", "Photographs", "check_options", "make_loss", "resolve_loss"}


@pytest.mark.parametrize(
    "module",
    ["compresskit.losses", "compresskit.curricula", "compresskit.schedules", "zoo.classify", "zoo.pynet", "zoo.raw"],
)
def test_the_public_names_of_our_own_rooms_are_on_the_list(module):
    top, name = module.split(".")
    face = getattr(importlib.import_module(top), name, None) or importlib.import_module(module)
    names = getattr(face, "__all__", None) or [
        name for name, thing in vars(face).items() if callable(thing) and not name.startswith("_")
    ]
    listed = {entry.name for entry in allowed_names().values() if entry.module == module}
    assert set(names) - PRIVATE == listed


def test_a_dry_run_downloads_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("a connection"))
    node = {"_target_": "torchvision.models.squeezenet1_1", "weights": "DEFAULT"}
    with (
        nodes.without_downloads(),
        pytest.raises(RecipeError, match=r"downloaded from https://download\.pytorch\.org/"),
    ):
        nodes.build(node, kind="module")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_list_has_no_argument_that_writes_downloads_or_names_a_function_to_read_with():
    refused = {"download", "loader", "is_valid_file", "checkpoint_path", "pretrained_cfg", "cache_dir", "process_group"}
    assert [entry.dotted for entry in allowed_names().values() if refused & set(entry.arguments)] == []


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        ({"_target_": "torchvision.datasets.CIFAR10", "root": "x", "download": True}, "dataset"),
        ({"_target_": "torchvision.datasets.CIFAR10", "_args_": ["x", True, None, None, True]}, "dataset"),
        (
            {
                "_target_": "torchvision.datasets.ImageFolder",
                "_args_": ["x", None, None, {"_target_": "torch.nn.ReLU"}],
            },
            "dataset",
        ),
        ({"_target_": "torchvision.datasets.LSUN", "root": "x"}, "dataset"),
        ({"_target_": "torchvision.models.resnet18", "weights": "../x"}, "module"),
        ({"_target_": "torchvision.models.resnet18", "weights": ["x"]}, "module"),
        ({"_target_": "torchvision.transforms.v2.Lambda", "lambd": "x"}, "argument"),
        ({"_target_": "torch.optim.SGD", "params": [1]}, "optimizer"),
        ({"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 2, "device": "meta"}, "module"),
        ({"_target_": "torch.nn.Linear", "_args_": [2, 2, True, "meta"]}, "module"),
        ({"_target_": "torch.nn.Embedding", "num_embeddings": 2, "embedding_dim": 2, "_weight": 1}, "module"),
    ],
)
def test_an_argument_that_is_not_on_the_list_is_refused_by_key_and_by_position(node, kind):
    with pytest.raises(RecipeError):
        nodes.check(node, kind=kind)
    with pytest.raises(RecipeError):
        nodes.build(node, kind=kind)


@pytest.mark.parametrize(
    "options",
    [
        {"_args_": ["resnet18", False, {"file": "evil.pkl"}]},
        {"_args_": ["resnet18", True, None, None, "evil.pkl"]},
        {"_args_": ["local-dir:evil"]},
        {"_args_": ["hf-hub:evil/evil"], "pretrained": True},
        {"model_name": "local-dir:evil"},
        {"model_name": "resnet18", "pretrained": "evil/evil"},
        {"model_name": "resnet18", "checkpoint_path": "evil.pkl"},
        {"model_name": "resnet18", "pretrained_cfg_overlay": {"file": "evil.pkl"}},
        {"model_name": "resnet18", "cache_dir": "evil"},
    ],
)
def test_timm_gets_no_file_by_key_nor_by_position(options, tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text(
        "def create_model(model_name, pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, "
        "checkpoint_path=None, cache_dir=None, scriptable=None, exportable=None, no_jit=None, **kwargs):\n"
        "    raise AssertionError('called')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(RecipeError, match=r"a recipe may not set|names something that timm publishes"):
        nodes.build({"_target_": "timm.create_model", **options}, kind="module")
    assert sys.modules.pop("timm").__file__ == str(tmp_path / "timm.py")


@pytest.mark.parametrize(
    "dotted",
    [
        "torch.utils.data.TensorDataset",
        "torch.utils.data.datapipes.iter.RoutedDecoder",
        "torch.utils.data.datapipes.iter.FileOpener",
        "torch.utils.tensorboard.SummaryWriter",
        "torch.testing.assert_close",
        "torch.fx.GraphModule",
        "torch.jit.load",
        "torch.nn.DataParallel",
        "torch.nn.parallel.DistributedDataParallel",
        "torch.distributed.nn.RemoteModule",
        "torch.nn.functional.handle_torch_function",
        "torch.optim.Optimizer",
        "torchvision.datasets.DatasetFolder",
        "torchvision.datasets.ImageNet",
        "torchvision.io.read_file",
        "timm.utils.summary.get_outdir",
        "timm.data.create_dataset",
        "torchdistill.common.main_util.import_dependencies",
        "compresskit.run_recipe",
        "compresskit.load_model",
        "compresskit.commands.export.export",
        "compresskit.nodes.names.allow",
        "compresskit.losses.make_loss",
        "zoo.frames.command.demosaic_files",
        "zoo.raw.photographs.photographs.Photographs",
    ],
)
@pytest.mark.parametrize("kind", SLOTS)
def test_what_reads_writes_or_imports_is_in_no_slot(dotted, kind):
    with pytest.raises(RecipeError):
        nodes.find(dotted, kind=kind)


@pytest.mark.timeout(300)
def test_no_call_of_the_list_reads_writes_imports_unpickles_starts_or_connects_whatever_its_arguments(tmp_path):
    command = [sys.executable, str(HOSTILE_CALLS), "1", "5"]
    run = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout.splitlines()[-1])
    assert report["missed"] == []
    assert report["faults"] == {}
    assert not report["ran"]
    assert report["names"] == len(INSTALLED)
    assert report["built"] > 300


def test_by_position_means_the_order_of_the_signature():
    assert nodes.build({"_target_": "torch.nn.LSTM", "_args_": [4, 8]}, kind="module").hidden_size == 8
    assert nodes.build({"_target_": "torch.nn.Conv2d", "_args_": [4, 8, 3]}, kind="module").kernel_size == (3, 3)
    assert MORE in allowed_names()["torch.nn.Sequential"].marks
    with pytest.raises(RecipeError, match=r"_args_\[0\]: torch\.nn\.Tanh takes no arguments by position"):
        nodes.check({"_target_": "torch.nn.Tanh", "_args_": [4]}, kind="module")
