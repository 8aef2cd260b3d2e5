"""`compresskit export`, from a run's folder to a file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from compresskit import cli
from compresskit.export import export
from zoo.pynet import PyNETQxQ
from zoo.raw import CFA, FromAnyMosaic, FromMosaic, NormalisedConvolution

RECIPE = """\
student: {_target_: zoo.pynet.PyNETQxQ, width: 1, instance_norm_level_1: false}
data:
  train: {_target_: zoo.raw.PhotographCrops, photographs: PHOTOGRAPHS, size: 32}
  test: {_target_: zoo.raw.PhotographFrames, photographs: PHOTOGRAPHS}
stages: [{name: only, steps: 1, tasks: [mse]}]
"""

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return PyNETQxQ(1, instance_norm_level_1=False).eval()


@pytest.fixture(autouse=True)
def run(network, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    save_file(network.state_dict(), "run/student.safetensors")
    Path("run/recipe.yaml").write_text(RECIPE.replace("PHOTOGRAPHS", str(folder)))


def test_a_run_becomes_a_file_that_takes_mosaics(network, capsys):
    options = ("--wrap", "zoo.raw.FromMosaic", "--reflection", "slices")
    assert cli.main(["export", "run", "--format", "pt2", "-o", "small.pt2", *options]) == 0
    assert "on 3 samples of 1x1x32x32" in capsys.readouterr().out
    mosaic = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        expected = network(CFA.of("qxq").pack(mosaic))
        torch.testing.assert_close(torch.export.load("small.pt2").module()(mosaic), expected)


def test_a_size_is_cropped_from_the_photographs_or_tiled(capsys):
    assert cli.main(["export", "run", "--format", "pt2", "-o", "a.pt2", "--size", "16x72"]) == 0
    assert "1x4x16x72" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_graph_from_the_mosaic_has_four_axes_and_fixed_names_and_takes_any_batch_and_size(tmp_path):
    import onnx
    import onnxruntime

    path, model = tmp_path / "small.onnx", FromMosaic(NormalisedConvolution("qxq"))
    samples = [(torch.rand(1, 1, 32, 32),), (torch.rand(1, 1, 48, 40),)]
    export(model, samples, path, format="onnx", dynamic=True, any_batch=True)
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    assert max(len(value.type.tensor_type.shape.dim) for value in graph.value_info) <= 4
    mosaics = torch.rand(3, 1, 24, 56)
    (picture,) = onnxruntime.InferenceSession(path).run(["output"], {"mosaic": mosaics.numpy()})
    torch.testing.assert_close(torch.from_numpy(picture), model(mosaics), atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_graph_may_take_mosaics_that_are_no_whole_number_of_tiles(tmp_path):
    import onnxruntime

    path, model = tmp_path / "small.onnx", FromAnyMosaic(NormalisedConvolution("qxq"))
    export(model, [(torch.rand(1, 1, 35, 50),), (torch.rand(1, 1, 70, 41),)], path, format="onnx", dynamic=True)
    mosaic = torch.rand(1, 1, 27, 53)
    (picture,) = onnxruntime.InferenceSession(path).run(["output"], {"mosaic": mosaic.numpy()})
    whole = CFA.of("qxq").extend(mosaic[..., :24, :48], (0, 8, 0, 8))
    whole[..., :27, :53] = mosaic  # pixels far from the border see nothing of what follows them
    expected = FromMosaic(NormalisedConvolution("qxq"))(whole)
    torch.testing.assert_close(torch.from_numpy(picture)[..., :16, :40], expected[..., :16, :40], atol=1e-5, rtol=1e-4)
    assert picture.shape == (1, 3, 27, 53)


MISTAKES = [
    ("export run --opset 18", 2, "an opset is a version of ONNX's operators, and the format is pt2"),
    ("export run/recipe.yaml", 2, "run/recipe.yaml: a recipe has no trained weights: add --weights"),
    ("export run --weights run/student.safetensors", 2, "run has its own weights"),
    ("export gone", 2, "no recipe 'gone'"),
    ("export run --size 16", 2, "--size is height x width"),
    ("export run --wrap zoo.raw.Malvar", 2, "--wrap: "),
    ("export run --wrap zoo.raw.FromMosaik", 2, "has no 'FromMosaik'; did you mean 'FromMosaic'"),
    ("export run --half --tolerance 1e-9", 1, "is not written: it would differ from PyTorch by"),
    ("export run --set data.test.photographs=gone", 2, "the folder of photographs 'gone' does not exist"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_no_file(arguments, code, message, capsys):
    assert cli.main([*arguments.split(), "--format", "pt2", "-o", "out.pt2"]) == code
    said = capsys.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1
    assert not Path("out.pt2").exists()


def test_a_network_with_packing_inside_computes_the_same(network):
    mosaic = torch.rand(2, 1, 16, 24)
    wrapped = FromMosaic(network)
    packed = CFA.of("qxq").pack(mosaic)
    assert torch.equal(wrapped(mosaic), network(packed))
    assert torch.equal(wrapped.inputs_from(packed), mosaic)
    with pytest.raises(Exception, match="Linear has none"):
        FromMosaic(torch.nn.Linear(1, 1))
    assert FromMosaic(NormalisedConvolution("quad")).cfa == CFA.of("quad")
