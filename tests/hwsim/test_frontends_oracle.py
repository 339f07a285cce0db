"""Parameters and MACs of torchvision's classifiers against what torchvision publishes."""

from __future__ import annotations

import pytest

from analysis.reports.torchvision_models import ModelRow, model_row, models_table
from hwsim.frontends.models import model_names

DEFAULT = (  # one of each family, as far as time allows; the rest are marked slow
    "alexnet", "convnext_tiny", "efficientnet_b0", "mobilenet_v2", "regnet_y_800mf",
    "resnet18", "shufflenet_v2_x1_0", "squeezenet1_1", "swin_t", "vgg16_bn", "vit_b_32",
)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        name if name in DEFAULT else pytest.param(name, marks=pytest.mark.slow)
        for name in model_names()
    ],
)
def test_parameters_and_macs_agree_with_the_published_ones(name: str) -> None:
    row = model_row(name)
    # exactly, but for the auxiliary head of Inception v3, which only training uses
    assert row.params + row.auxiliary_params == row.published_params
    assert (row.auxiliary_params > 0) == (name == "inception_v3")
    # to half a unit of the last published decimal, but for Swin v2's position bias
    assert abs(row.macs + row.constant_macs - row.published_macs) <= 500_000
    assert (row.constant_macs > 0) == name.startswith("swin_v2")
    assert row.constant_macs < 0.01 * row.published_macs


def test_position_bias_of_swin_v2_by_hand() -> None:
    # 15 x 15 relative positions of an 8 x 8 window; 2 -> 512 -> heads; depths 2, 2, 6, 2 with
    # 3, 6, 12 and 24 heads
    hidden, heads = 12 * 2 * 512, (2 * 3 + 2 * 6 + 6 * 12 + 2 * 24) * 512
    from analysis.reports.torchvision_models import _position_bias_macs
    from hwsim.frontends.models import build

    assert _position_bias_macs(build("swin_v2_t")) == 15 * 15 * (hidden + heads)


def test_the_table_says_what_is_not_explained() -> None:
    good = ModelRow("good", 224, 5, 2, 100, 0, 2_400_000, 0, 100, 2_000_000)
    bad = ModelRow("bad", 224, 5, 2, 100, 0, 2_600_000, 0, 101, 2_000_000)
    table = models_table([good, bad], "versions", "command")
    assert "2 models; 1 agree" in table
    assert "not explained: bad." in table
    assert (
        "| bad | 224 | 5 | 2 | 100 | 2.60 | 2 | +30.00 | PARAMETERS DIFFER; MACS DIFFER |" in table
    )
    assert "| good | 224 | 5 | 2 | 100 | 2.40 | 2 | +20.00 | published figure is rounded" in table
