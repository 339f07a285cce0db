"""Curves that come with the package: small, exact to what is stated, and enough to allocate."""

from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.allocation.allocate import allocate
from quant.allocation.budget import Budget
from quant.compact import (
    PRECISION,
    decode,
    encode,
    load_compact,
    load_shipped,
    save_compact,
    shipped,
)
from quant.curves import LayerCurve, RDCurves, TensorCurve


@given(st.lists(st.floats(2.0**-63, 2.0**63), min_size=1))
def test_distortions_come_back_to_the_stated_precision(numbers):
    exact = np.array(numbers)
    assert (np.abs(decode(encode(exact)) / exact - 1) <= PRECISION * (1 + 1e-9)).all()


def test_zero_and_inf_are_exact_and_the_tiniest_are_raised():
    found = decode(encode(np.array([0.0, np.inf, 1e-30, 1.0])))
    assert found.tolist() == [0.0, np.inf, 2.0**-63, 1.0]


def test_distortions_too_large_for_the_codes_are_refused():
    with pytest.raises(ValueError, match=r"at most 2\*\*63"):
        encode(np.array([2.0**64]))


def small_curves():
    rng = np.random.default_rng(0)
    layers = [LayerCurve(n, rng.uniform(1e-6, 10, (c, 9)), c) for n, c in (("a", 3), ("b", 5))]
    row = np.r_[np.inf, rng.uniform(1e-6, 10, 8)]
    return RDCurves("net", tuple(layers), (TensorCurve("a", row, 7),), {"metric": "logits"})


def test_a_file_holds_all_but_the_quantisers_and_says_where_it_is_from(tmp_path):
    curves = small_curves()
    save_compact(curves, tmp_path / "one.npz", "somewhere")
    save_compact(curves, tmp_path / "two.npz", "somewhere")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    back = load_compact(tmp_path / "one.npz")
    assert back.method == {"metric": "logits", "origin": "somewhere"}
    for old, new in zip(
        (*curves.weights, *curves.activations), (*back.weights, *back.activations), strict=True
    ):
        assert (old.name, old.values) == (new.name, new.values)
        assert np.allclose(old.distortion, new.distortion, rtol=PRECISION)


def test_other_files_are_refused_in_one_line(tmp_path):
    small_curves().save(tmp_path / "full.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK")
    for name in ("full.npz", "broken.npz"):
        with pytest.raises(ValueError, match=f"{name}: not a file of compact curves"):
            load_compact(tmp_path / name)
    with pytest.raises(ValueError, match="cannot read curves"):
        load_compact(tmp_path / "absent.npz")


def test_curves_of_mobilenet_v2_come_along_in_less_than_a_megabyte():
    assert "mobilenet_v2" in shipped()
    assert len((files("quant") / "data" / "mobilenet_v2_curves.npz").read_bytes()) < 1_000_000
    curves = load_shipped("mobilenet_v2")
    assert (curves.channels, curves.weight_values) == (18056, 3_469_760)
    assert "Apache-2.0" in curves.method["origin"]
    widths = tuple(range(3, 9))
    found = allocate(curves, Budget(weight_bits=4, activation_bits=8, weight_widths=widths))
    assert found.average_weight_bits <= 4
    assert found.relative_gap < 1e-3


def test_a_network_without_curves_is_refused():
    with pytest.raises(ValueError, match="did you mean 'mobilenet_v2'"):
        load_shipped("mobilenet_v3")


@pytest.mark.data
@pytest.mark.slow
def test_the_shipped_curves_are_those_that_are_measured(data_dir):
    from quant.calibration import calibrate
    from quant.images import balanced_order, load_images
    from quant.rounding import make_rounder
    from quant.sweep import sweep
    from tests.quant.nets import torchvision_network

    network = torchvision_network("mobilenet_v2", data_dir)
    every = load_images(data_dir / "images", (224, 224), split="calib", classes=1000)
    order = balanced_order(every.labels, 0)
    recipe = calibrate(network, every.take(order[:496]))
    rounder = make_rounder("sequential", network, every.take(order[96:496]))
    curves = sweep(network, every.take(order[:96]), recipe=recipe, rounder=rounder)
    known = load_shipped("mobilenet_v2")
    for old, new in zip(curves.weights, known.weights, strict=True):
        # another machine rounds a few weights at a tie to the other side
        close = np.isclose(new.distortion, np.maximum(old.distortion, 2.0**-63), rtol=2e-3)
        assert (old.name, old.values) == (new.name, new.values)
        assert close.mean() > 0.99
    for one, two in zip(curves.activations, known.activations, strict=True):
        assert np.allclose(one.distortion, two.distortion, rtol=2e-3)
