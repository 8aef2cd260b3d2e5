import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from torchvision.models import vgg

from compresskit.errors import CheckpointError, RecipeError, ShapeError
from compresskit.losses import CATALOGUE, Perceptual, check_options, make_loss

LAYOUT = vgg.cfgs["D"][:7]  # up to relu3_1 and its neighbour


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    return vgg.make_layers(LAYOUT)


@pytest.fixture(scope="module", params=[".pth", ".safetensors"])
def weights(request, theirs, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / f"vgg16{request.param}"
    state = {f"features.{name}": tensor for name, tensor in theirs.state_dict().items()}
    save_file(state, path) if request.param == ".safetensors" else torch.save(state, path)
    return path


def test_features_are_those_of_torchvisions_network(weights, theirs):
    student, target = torch.rand(2, 2, 3, 9, 8)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = []
    for end in (4, 12):  # after relu1_2 and relu3_1
        features = (theirs[:end](((x.movedim(1, 3) - mean) / deviation).movedim(3, 1)) for x in (student, target))
        expected.append(F.mse_loss(*features).detach())
    loss = Perceptual(weights=weights, layers=["relu3_1", "relu1_2"])
    torch.testing.assert_close(loss(student, target), torch.stack(expected).mean())
    torch.testing.assert_close(Perceptual(weights=str(weights), layers="relu1_2")(student, target), expected[0])


def test_perceptual_by_hand(tmp_path):
    kernel = torch.zeros(64, 3, 3, 3)
    kernel[0, 0, 1, 1] = 1.0  # one filter passes red on, the others are dead
    save_file({"features.0.weight": kernel, "features.0.bias": torch.zeros(64)}, tmp_path / "red.safetensors")
    loss = Perceptual(weights=tmp_path / "red.safetensors", layers=["relu1_1"])
    bright, mean = torch.full((1, 3, 2, 2), 0.485 + 2 * 0.229), torch.full((1, 3, 2, 2), 0.485)
    torch.testing.assert_close(loss(bright, mean), torch.tensor(2.0**2 / 64))


def test_the_network_neither_trains_nor_enters_checkpoints(weights):
    loss = Perceptual(weights=weights, layers=["relu1_2"])
    assert list(loss.parameters()) == []
    assert loss.state_dict() == {}
    student = torch.rand(1, 3, 8, 8, requires_grad=True)
    loss(student, torch.rand(1, 3, 8, 8)).backward()
    assert student.grad.abs().sum() > 0


def test_tensors_that_are_not_rgb_images_are_refused(weights):
    loss = Perceptual(weights=weights, layers="relu3_1")
    with pytest.raises(ShapeError, match=r"images \(n, c, h, w\) of at least 4 x 4 pixels, got \(1, 3, 3, 8\)"):
        loss(torch.zeros(1, 3, 3, 8), torch.zeros(1, 3, 3, 8))
    with pytest.raises(ShapeError, match=r"RGB images \(n, 3, h, w\), got \(1, 1, 8, 8\)"):
        loss(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))


def test_an_error_about_an_unknown_layer_names_the_nearest(weights):
    with pytest.raises(RecipeError, match="perceptual: VGG-16 has no layer 'rleu2_2'; did you mean 'relu2_2'"):
        Perceptual(weights=weights, layers=["relu1_2", "rleu2_2"])
    with pytest.raises(RecipeError, match="perceptual: layers names none; known: relu1_1"):
        Perceptual(weights=weights, layers=[])


def test_an_error_names_the_missing_file_of_weights():
    with pytest.raises(RecipeError, match="perceptual needs the option 'weights'"):
        check_options("perceptual", {})
    with pytest.raises(CheckpointError, match=r"perceptual: no file 'vgg.pth'; it needs .* nothing is downloaded"):
        make_loss(CATALOGUE["perceptual"], {"weights": "vgg.pth"})


def test_a_file_without_vgg_weights_is_refused(tmp_path):
    save_file({"features.0.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "other.safetensors")
    message = r"'features.0.weight' should be \(64, 3, 3, 3\), got \(32, 3, 3, 3\)"
    with pytest.raises(CheckpointError, match=message):
        Perceptual(weights=tmp_path / "other.safetensors")
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(CheckpointError, match=f"{name} is damaged, or holds more than tensors"):
            Perceptual(weights=tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="it holds list"):
        Perceptual(weights=tmp_path / "list.pth")
