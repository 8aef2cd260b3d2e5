"""Figures that torchvision publishes, and those of the networks of the zoo."""

import pytest
import torch
from torchvision import models

from compresskit import compare, profile
from zoo.pynet import PyNET, PyNETQxQ


@pytest.mark.parametrize(
    ("build", "weights"),
    [
        (models.resnet50, models.ResNet50_Weights.IMAGENET1K_V2),
        (models.vit_b_16, models.ViT_B_16_Weights.IMAGENET1K_V1),
        (models.mobilenet_v3_large, models.MobileNet_V3_Large_Weights.IMAGENET1K_V2),
        (models.mobilenet_v3_small, models.MobileNet_V3_Small_Weights.IMAGENET1K_V1),
        (models.swin_t, models.Swin_T_Weights.IMAGENET1K_V1),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_torchvisions_own_figures(build, weights):
    """Its GFLOPS are thousand millions of MACs by its own counter, with three decimals."""
    report = profile(build(), torch.empty(1, 3, 224, 224, device="meta"))
    assert report.params == weights.meta["num_params"]
    assert round(report.macs / 1e9, 3) == pytest.approx(weights.meta["_ops"])
    assert report.uncounted == {}


PYNET = (47_551_666, {(224, 224): 342_215_272_448, (4512, 6000): 184_639_107_456_000})
QXQ = (1_072_590, {(224, 224): 53_839_048_704, (4512, 6000): 29_048_364_288_000})


@pytest.mark.parametrize(("build", "expected"), [(PyNET, PYNET), (PyNETQxQ, QXQ)], ids=["PyNET", "PyNETQxQ"])
def test_pynets_figures_at_any_size(build, expected):
    model = build(instance_norm_level_1=False)
    parameters, macs = expected
    for size, count in macs.items():
        report = profile(model, torch.empty(1, 4, *size, device="meta"))
        assert (report.params, report.macs, report.uncounted, report.route) == (parameters, count, {}, "meta")


def test_pynets_side_heads_are_dead_code():
    report = profile(PyNET(instance_norm_level_1=False), torch.empty(1, 4, 224, 224, device="meta"))
    assert [part.module for part in report.dead] == [f"conv_l{level}_out" for level in (1, 2, 3, 4, 5)]
    # 3x3 convolutions to 3 colours, from 32 channels at 224x224 to 512 channels at 14x14
    assert report.dead_macs == sum(3 * 9 * (32 << level) * (224 >> level) ** 2 for level in range(5))
    assert {layer.path for layer in report.layers if layer.dead and layer.depth == 1} == {p.module for p in report.dead}


def test_pynets_student_shrinks_more_in_parameters_than_in_macs():
    networks = {"teacher": PyNET(instance_norm_level_1=False), "student": PyNETQxQ(instance_norm_level_1=False)}
    comparison = compare(networks, inputs=torch.empty(1, 4, 64, 64, device="meta"))
    assert comparison.profiles["teacher"].macs_per_pixel == 27_935_940_608 / 128**2
    text = str(comparison)
    assert "2.26 %, 44.3x fewer" in text
    assert "15.7 %, 6.36x fewer" in text
    assert "student has 44.3 times fewer parameters than the first, and 6.36 times fewer MACs" in text
