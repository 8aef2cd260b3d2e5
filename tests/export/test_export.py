"""Files for other runtimes: complete and right, or not written."""

import json
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compresskit.errors import ExportError, RecipeError
from compresskit.export import export, reflect_pad, unshuffle


class Small(nn.Module):
    """A network with layers that are hard to export: reflection padding, a norm, up-sampling, two outputs."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1, padding_mode="reflect")
        self.norm = nn.InstanceNorm2d(6, affine=True)
        self.last = nn.Conv2d(6, 4, 5, padding=2, padding_mode="reflect")

    def forward(self, image):
        features = F.leaky_relu(self.norm(self.first(image)), 0.2)
        return F.pixel_shuffle(self.last(features), 2), features.mean()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Small().train()


def images(*sizes):
    return [(torch.rand(1, 2, height, width),) for height, width in sizes]


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.parametrize("half", [False, True])
def test_a_file_computes_what_the_model_computes(model, tmp_path, kind, half):
    path = tmp_path / "new" / f"small.{kind}"
    exported = export(model, images((8, 12), (8, 12)), path, format=kind, half=half)
    assert path.exists()
    assert list(path.parent.iterdir()) == [path]
    assert exported.difference <= (2e-2 if half else 1e-5)
    assert "on 2 samples of 1x2x8x12" in str(exported)
    assert model.training
    assert model.first.weight.dtype == torch.float32


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_sizes_may_change_and_reflection_padding_may_be_sliced(model, tmp_path, kind):
    path = tmp_path / f"small.{kind}"
    samples = images((8, 12), (20, 6))
    export(model, samples, path, format=kind, dynamic=True, sliced_reflection=True, metadata={"array": "qxq"})
    other = torch.rand(1, 2, 9, 31)
    expected, _ = model.eval()(other)
    if kind == "pt2":
        program = torch.export.load(path, extra_files=(kept := {"compresskit.json": ""}))
        assert json.loads(kept["compresskit.json"]) == {"array": "qxq"}
        assert not any("pad" in str(node.target) for node in program.graph.nodes)
        output = program.module()(other)[0]
    else:
        import onnx
        import onnxruntime

        written = onnx.load(path)
        assert {"Slice", "Concat"} <= {node.op_type for node in written.graph.node}
        assert "Pad" not in {node.op_type for node in written.graph.node}
        assert {entry.key: entry.value for entry in written.metadata_props}["array"] == "qxq"
        session = onnxruntime.InferenceSession(path)
        assert session.get_inputs()[0].name == "image"
        output = torch.from_numpy(session.run(None, {"image": other.numpy()})[0])
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize(
    ("shape", "pad"), [((1, 2, 5, 4), (2, 1, 3, 0)), ((2, 5, 4), (1, 3)), ((1, 2, 5, 4), (0, 0, 2, 2))]
)
def test_reflection_padding_by_slices_equals_that_of_pytorch(shape, pad):
    tensor = torch.rand(shape)
    assert torch.equal(reflect_pad(tensor, pad), F.pad(tensor, pad, mode="reflect"))


class Forgetful(nn.Module):
    """A model that returns a constant from its first call, which tracing does not notice."""

    def forward(self, image):
        return image + torch.tensor(image.detach().sum().item() if not torch.compiler.is_compiling() else 0.0)


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_a_file_that_computes_something_else_is_an_error_and_is_removed(tmp_path, kind):
    with pytest.raises(ExportError, match=r"is not written: it would differ from PyTorch by .*, more than 1e-04"):
        export(Forgetful(), images((4, 4)), tmp_path / "a.x", format=kind)
    assert list(tmp_path.iterdir()) == []


class Dependent(nn.Module):
    def forward(self, image):
        return image if image.sum() > 0 else -image


def test_an_error_names_the_model_that_cannot_be_traced(tmp_path):
    with pytest.raises(ExportError, match="Dependent cannot be traced"):
        export(Dependent(), images((4, 4)), tmp_path / "a.pt2", format="pt2")


class OneSize(nn.Module):
    def forward(self, image):
        return image.reshape(1, 2, 4, 4)


def test_sizes_that_cannot_change_are_an_error(tmp_path):
    two = [(torch.rand(1, 2, 4, 4),), (torch.rand(1, 2, 2, 8),)]
    with pytest.raises(ExportError, match=r"cannot be (traced|run on the samples)"):
        export(OneSize(), two, tmp_path / "a.pt2", format="pt2", dynamic=True)
    assert list(tmp_path.iterdir()) == []


def test_samples_must_have_as_many_sizes_as_the_options_need(model, tmp_path):
    with pytest.raises(RecipeError, match=r"compared on two: all samples are \[1, 2, 8, 8\]"):
        export(model, images((8, 8)), tmp_path / "a.pt2", format="pt2", dynamic=True)
    with pytest.raises(RecipeError, match="sizes are fixed, and the samples' differ"):
        export(model, images((8, 8), (8, 9)), tmp_path / "a.pt2", format="pt2")


def test_without_the_packages_of_onnx_an_error_names_them(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RecipeError, match=r"ONNX needs onnxruntime: pip install 'compresskit\[onnx\]'"):
        export(model, images((8, 8)), tmp_path / "a.onnx", format="onnx")


def ranks_and_names(path):
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    ranks = [len(value.type.tensor_type.shape.dim) for value in [*graph.value_info, *graph.output]]
    return max(ranks), [value.name for value in graph.input], [value.name for value in graph.output]


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_any_number_of_samples_and_channels_last(model, tmp_path, kind):
    path = tmp_path / f"small.{kind}"
    export(model, images((8, 12), (20, 6)), path, format=kind, dynamic=True, any_batch=True, channels_last=True)
    other = torch.rand(3, 10, 7, 2)
    expected = model.eval()(other.movedim(-1, 1))
    if kind == "pt2":
        output, mean = torch.export.load(path).module()(other)
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        output, mean = map(torch.from_numpy, session.run(None, {session.get_inputs()[0].name: other.numpy()}))
        assert ranks_and_names(path)[2] == ["output_0", "output_1"]
    torch.testing.assert_close(output, expected[0])
    torch.testing.assert_close(mean, expected[1])


def test_the_opset_is_the_one_asked_for(model, tmp_path):
    import onnx

    export(model, images((8, 12)), tmp_path / "a.onnx", format="onnx", opset=18)
    assert onnx.load(tmp_path / "a.onnx").opset_import[0].version == 18
    with pytest.raises(RecipeError, match="an opset is a version of ONNX's operators, and the format is pt2"):
        export(model, images((8, 12)), tmp_path / "a.pt2", format="pt2", opset=18)


def test_no_tensor_has_more_than_four_axes(tmp_path):
    model = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(8, 8, 1), nn.PixelShuffle(2))
    export(model, images((8, 12)), tmp_path / "a.onnx", format="onnx")
    assert ranks_and_names(tmp_path / "a.onnx") == (4, ["input"], ["output"])


def test_the_inverse_of_a_pixel_shuffle_is_exact():
    tensor = torch.rand(2, 3, 12, 18)
    assert torch.equal(unshuffle(tensor, 3), F.pixel_unshuffle(tensor, 3))
