"""Groups of channels that share a width: curves are summed, and the answer has equal widths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.allocation.allocate import allocate, per_layer
from quant.allocation.budget import Budget
from quant.curves import LayerCurve, RDCurves, TensorCurve
from quant.granularity import group_size, grouped


def curves_of(seed, channels=(6, 8, 5)):
    rng = np.random.default_rng(seed)
    halving = 4.0 ** -np.arange(9)
    layers = tuple(
        LayerCurve(f"l{i}", rng.uniform(0.1, 100, (c, 1)) * halving, 3 + i)
        for i, c in enumerate(channels)
    )
    return RDCurves("net", layers, (TensorCurve("l0", np.r_[np.inf, halving[1:]], 10),))


BUDGET = Budget(weight_total_bits=373, activation_bits=6, metadata_bits=7)


@given(channels=st.integers(1, 200), most=st.integers(1, 300))
def test_groups_cut_a_layer_evenly_and_none_larger_would(channels, most):
    size = group_size(channels, most)
    assert channels % size == 0
    assert size <= most
    assert not any(channels % larger == 0 for larger in range(size + 1, min(most, channels) + 1))


@given(seed=st.integers(0, 1000), most=st.integers(1, 8))
def test_groups_share_a_width_within_the_budget(seed, most):
    curves = curves_of(seed)
    found = allocate(curves, BUDGET, most)
    rate = distortion = 0.0
    for curve in curves.weights:
        widths = found.bits.weights[curve.name]
        assert widths.shape == (curve.channels,)
        size = group_size(curve.channels, most)
        by_group = widths.reshape(-1, size)
        assert (by_group == by_group[:, :1]).all()
        rate += widths.sum() * curve.values
        distortion += curve.distortion[np.arange(curve.channels), widths].sum()
    assert found.metadata_bits == 7 * curves.channels  # of a channel that is dropped too
    assert rate + found.metadata_bits == found.weight_rate_bits
    assert found.weight_rate_bits <= 373
    assert found.weight_distortion == pytest.approx(distortion)


@given(seed=st.integers(0, 1000))
def test_coarser_is_never_better_and_the_ends_are_channels_and_layers(seed):
    curves = curves_of(seed)
    one, all_together = allocate(curves, BUDGET), allocate(curves, BUDGET, 8)
    assert all_together.to_json() == per_layer(curves, BUDGET).to_json()
    assert one.lower_bound <= allocate(curves, BUDGET, 2).predicted_distortion


def test_curves_of_groups_are_sums():
    curves = curves_of(0)
    found = grouped(curves, 4)
    assert [c.channels for c in found.weights] == [2, 2, 5]
    assert [c.values for c in found.weights] == [9, 16, 5]
    assert np.allclose(found.weights[0].distortion[1], curves.weights[0].distortion[3:].sum(0))


def test_a_group_of_no_channels_is_refused():
    with pytest.raises(ValueError, match="at least one channel, got 0"):
        grouped(curves_of(0), 0)
