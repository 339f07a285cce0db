"""RDCurves: what is checked, and that its file is whole, repeatable and refuses anything else."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.curves import LayerCurve, RDCurves, TensorCurve


def some_curves(seed: int = 0) -> RDCurves:
    rng = np.random.default_rng(seed)
    tensor = rng.random(9)
    tensor[0] = np.inf
    return RDCurves(
        network="net",
        weights=(
            LayerCurve("a", rng.random((3, 9)), 27),
            LayerCurve("b/ü", rng.random((2, 9)), 9),
        ),
        activations=(TensorCurve("a", tensor, 50),),
        method={"metric": "squared logits", "images": 48, "probes": 2, "seed": seed},
        steps={"weights/a": rng.random((3, 9)), "clip/a": np.array([1.5], dtype=np.float32)},
    )


def test_curves_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    curves = some_curves()
    curves.save(tmp_path / "c.npz")
    back = RDCurves.load(tmp_path / "c.npz")
    assert (back.network, back.method) == (curves.network, curves.method)
    for kind in ("weights", "activations"):
        for old, new in zip(getattr(curves, kind), getattr(back, kind), strict=True):
            assert (old.name, old.values) == (new.name, new.values)
            np.testing.assert_array_equal(old.distortion, new.distortion)
    assert list(back.steps) == list(curves.steps)
    for name in curves.steps:
        np.testing.assert_array_equal(back.steps[name], curves.steps[name])
        assert back.steps[name].dtype == curves.steps[name].dtype


def test_the_same_curves_give_the_same_bytes(tmp_path: Path) -> None:
    some_curves().save(tmp_path / "a.npz")
    RDCurves.load(tmp_path / "a.npz").save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}


def test_numpy_reads_the_file_without_pickle(tmp_path: Path) -> None:
    curves = some_curves()
    curves.save(tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["weights/1"], curves.weights[1].distortion)


def test_curves_without_activations_come_back(tmp_path: Path) -> None:
    RDCurves("net", (LayerCurve("a", np.ones((1, 9)), 1),), ()).save(tmp_path / "c.npz")
    assert RDCurves.load(tmp_path / "c.npz").activations == ()


@given(share=st.floats(0, 0.999))
def test_a_cut_file_is_refused_in_one_line(
    share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cut") / "c.npz"
    some_curves().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=r"c\.npz: ") as caught:
        RDCurves.load(path)
    assert "\n" not in str(caught.value)


@given(position=st.floats(0, 0.999), byte=st.integers(1, 255))
def test_a_flipped_byte_is_noticed_or_harmless(
    position: float, byte: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("flip") / "c.npz"
    curves = some_curves()
    curves.save(path)
    data = bytearray(path.read_bytes())
    data[int(len(data) * position)] ^= byte
    path.write_bytes(bytes(data))
    refusal = ""
    try:
        back = RDCurves.load(path)
    except ValueError as error:
        refusal = str(error)
    if refusal:
        assert refusal.startswith(f"{path}: ")
        assert "\n" not in refusal
    else:  # a byte that the format does not use, such as a date
        for old, new in zip(curves.weights, back.weights, strict=True):
            np.testing.assert_array_equal(old.distortion, new.distortion)


def rewrite(path: Path, name: str, array: np.ndarray) -> None:
    """Replace one entry of the file."""
    with zipfile.ZipFile(path) as archive:
        entries = {n: archive.read(n) for n in archive.namelist()}
    member = io.BytesIO()
    np.lib.format.write_array(member, array, allow_pickle=True)
    entries[f"{name}.npy"] = member.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for n, content in entries.items():
            archive.writestr(n, content)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((3, 9), np.nan), "weights of 'a': distortion must be at least 0"),
        (np.full((3, 9), -1.0), "got -1.0 for channel 0 at 0 bits"),
        (np.zeros((3, 8)), r"must have shape \(channels, 9\), got \(3, 8\)"),
        (np.full((3, 9), np.inf), "channel 0 has no finite distortion"),
        (np.zeros((0, 9)), "has no channels"),
        (np.array(["x"]), "must be an array of numbers"),
        (np.array([None, {}], dtype=object), "allow_pickle=False"),
    ],
)
def test_wrong_arrays_in_a_file_are_refused(
    array: np.ndarray, message: str, tmp_path: Path
) -> None:
    some_curves().save(tmp_path / "c.npz")
    rewrite(tmp_path / "c.npz", "weights/0", array)
    with pytest.raises(ValueError, match=message) as caught:
        RDCurves.load(tmp_path / "c.npz")
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("header", [b"[]", b"{}", b"{", b'{"schema": 2}', b"\xff"])
def test_wrong_headers_are_refused(header: bytes, tmp_path: Path) -> None:
    some_curves().save(tmp_path / "c.npz")
    rewrite(tmp_path / "c.npz", "header", np.frombuffer(header, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"c\.npz: .*(not a file of curves|schema|header)"):
        RDCurves.load(tmp_path / "c.npz")


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_text(json.dumps({}))
    with pytest.raises(ValueError, match=r"x\.npz: not a whole file of curves"):
        RDCurves.load(tmp_path / "x.npz")
    with pytest.raises(ValueError, match=r"y\.npz: cannot read curves: No such file"):
        RDCurves.load(tmp_path / "y.npz")
    np.savez(tmp_path / "z.npz", a=np.ones(3))
    with pytest.raises(ValueError, match=r"z\.npz: not a file of curves: it has no entry 'header'"):
        RDCurves.load(tmp_path / "z.npz")


def test_a_tensor_cannot_be_dropped() -> None:
    with pytest.raises(ValueError, match="'t': an activation tensor cannot have 0 bits"):
        TensorCurve("t", np.ones(9), 3)


def test_a_layer_has_one_curve() -> None:
    layer = LayerCurve("a", np.ones((1, 9)), 1)
    with pytest.raises(ValueError, match="weights of 'a' are given twice"):
        RDCurves("net", (layer, layer), ())


@pytest.mark.parametrize("values", [0, -1, 1.5, True, "9"])
def test_values_behind_a_channel_are_a_positive_integer(values: object) -> None:
    with pytest.raises(ValueError, match="'a': values must be an integer of at least 1"):
        LayerCurve("a", np.ones((1, 9)), values)  # type: ignore[arg-type]


def test_an_unknown_layer_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="no weights of 'A'; there is a, b"):
        some_curves().weight("A")
    assert some_curves().activation("a").values == 50
