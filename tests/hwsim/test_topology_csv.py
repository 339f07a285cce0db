"""SCALE-Sim topology files: read as they are written there, errors with line and column."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsim.frontends.models import from_name, from_spec
from hwsim.frontends.topology_csv import read_topology, write_topology
from hwsim.graph import Conv, Layer, LayerGraph, Linear, Tensor, Vector

CONV = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"  # noqa: E501


def topology(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "net.csv"
    path.write_text(text)
    return path


def test_a_table_of_convolutions_by_hand(tmp_path: Path) -> None:
    text = f"{CONV}Conv1, 227, 227, 11, 11, 3, 96, 4,\n\n  Conv2 ,31,31, 5,5,96, 256,1, 1:1,\n"
    graph = read_topology(topology(tmp_path, text))
    assert [layer.name for layer in graph.weighted] == ["Conv1", "Conv2"]
    first, second = graph.weighted
    assert first.work == Conv(3, 96, (11, 11), (4, 4), (0, 0), (1, 1), 1, (227, 227), (55, 55))
    assert (first.output.shape, first.params) == ((1, 96, 55, 55), 96 * 363)
    assert second.gemm is not None
    assert (second.gemm.pixels, second.gemm.reduction, second.gemm.columns) == (729, 2400, 256)


def test_no_layer_reads_what_another_writes_even_where_shapes_agree(tmp_path: Path) -> None:
    graph = read_topology(topology(tmp_path, f"{CONV}a,4,4,1,1,3,3,1,\nb,4,4,1,1,3,3,1,\n"))
    assert [layer.name for layer in graph] == ["a.input", "a", "b.input", "b"]
    assert [tensor.name for tensor in graph["b"].inputs] == ["b.input"]
    assert graph.outputs == ("a", "b")
    assert graph.liveness.segments == ()  # one after the other: there is no order to look for


def test_a_table_of_products_by_hand(tmp_path: Path) -> None:
    graph = read_topology(topology(tmp_path, "Layer, M, N, K,\nfc, 10, 20, 30,\nfc,1,2,3\n"))
    fc, again = graph.weighted
    assert fc.work == Linear(pixels=10, in_features=30, out_features=20)
    assert (fc.inputs[0].shape, fc.output.shape) == ((1, 10, 30), (1, 10, 20))
    assert (again.name, again.macs) == ("fc#2", 6)


def test_a_depthwise_row_has_each_channel_on_its_own(tmp_path: Path) -> None:
    (layer,) = read_topology(topology(tmp_path, f"{CONV}Conv_DP,9,9,3,3,8,1,2,\n")).weighted
    assert layer.work == Conv(8, 8, (3, 3), (2, 2), (0, 0), (1, 1), 8, (9, 9), (4, 4))


def test_a_last_window_that_overhangs_is_computed_as_in_scale_sim(tmp_path: Path) -> None:
    (layer,) = read_topology(topology(tmp_path, f"{CONV}c,8,7,3,3,1,1,2,\n")).weighted
    assert layer.work.ofmap_size == (4, 3)  # type: ignore[union-attr]  # ceil((8 - 3 + 2) / 2)


@pytest.mark.parametrize(
    "header",
    [CONV.lower(), CONV.rstrip(",\n") + "\n", "\ufeff" + CONV,
     CONV.replace("Strides,", "Stride height, Stride width,"),
     CONV.replace("Strides,", "Strides, Sparsity,")],
)  # fmt: skip
@pytest.mark.parametrize("row", ["c,8,8,3,3,1,5,2", "c, 8 ,8,3,3,1,5,2,,,", "c,8,8,3,3,1,5,2,1:1,"])
def test_headers_spaces_and_trailing_commas_may_differ(
    header: str, row: str, tmp_path: Path
) -> None:
    (layer,) = read_topology(topology(tmp_path, f"{header}\n{row}\n")).weighted
    assert (layer.name, layer.macs) == ("c", 16 * 9 * 5)


def test_the_second_stride_of_scale_sims_own_writer_is_read(tmp_path: Path) -> None:
    (layer,) = read_topology(topology(tmp_path, f"{CONV}c,8,8,2,2,1,5,2,3,\n")).weighted
    assert layer.work.ofmap_size == (4, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected the header of a SCALE-Sim topology"),
        ("name,price\n", "expected the header of a SCALE-Sim topology"),
        (CONV, "there is no layer below the header"),
        ("c,8,8,3,3,1,5,2,\nd,8,8,3,3,1,5,2,\n", "the first line is the header, not a layer"),
        (f"{CONV}\nc,8,8,3,3,1,five,2,\n",
         r"line 3, column 7 \(num filter\): expected a whole number .* got 'five'"),
        (f"{CONV}c,8,8,3,3,0,5,2,\n", r"line 2, column 6 \(channels\): .* got '0'"),
        (f"{CONV}c,8,8,3,3,-1,5,2,\n", "got '-1'"),
        (f"{CONV}c,8,8,3,3,1.0,5,2,\n", r"got '1\.0'"),
        (f"{CONV}c,8,8,3,3,{'9' * 5000},5,2,\n", "at most 2147483648, got '9999"),
        (f"{CONV}c,8,8,3,3,1,5,\n", "line 2: layer 'c' has 6 numbers; expected 7: IFMAP height"),
        (f"{CONV},8,8,3,3,1,5,2,\n", "line 2, column 1: the layer has no name"),
        (f"{CONV}c,2,8,3,3,1,5,1,\n", "filter height 3 is more than IFMAP height 2"),
        (f"{CONV}c,8,8,3,3,1,5,1,2:4,\n", "line 2, column 9: got '2:4' .* only dense layers"),
        ("Layer,M,N,K,\na,1,2,\n", "line 2: layer 'a' has 2 numbers; expected 3: M, N, K"),
        ("Layer,M,N,K,\na,1,2,3,4,\n", "line 2, column 5: got '4'"),
        (f'{CONV}"{"x" * 200_000}",1\n', "cannot read as CSV"),
    ],
)  # fmt: skip
def test_a_mistake_names_the_file_the_line_and_the_column(
    text: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said) as error:
        read_topology(topology(tmp_path, text))
    assert str(error.value).startswith(str(tmp_path / "net.csv"))


def test_files_that_are_no_text_are_errors(tmp_path: Path) -> None:
    (tmp_path / "net.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not text in UTF-8"):
        read_topology(tmp_path / "net.csv")
    with pytest.raises(ValueError, match="cannot read topology: No such file"):
        from_spec(str(tmp_path / "missing.csv"))


# -- writing ---------------------------------------------------------------------------------------


def test_a_network_is_written_with_padded_sizes_and_read_back_with_its_work(
    tmp_path: Path,
) -> None:
    graph = from_name("resnet18")
    left_out = write_topology(graph, tmp_path / "resnet18.csv")
    lines = (tmp_path / "resnet18.csv").read_text().splitlines()
    assert lines[1] == "conv1,229,229,7,7,3,64,2,"  # 224 + 2 * 3, less a row no window reaches
    assert lines[-1] == "fc,1,1,1,1,512,1000,1,"
    assert {graph[name].kind for name in left_out} == {"pool", "add"}
    back = read_topology(tmp_path / "resnet18.csv")
    assert [layer.name for layer in back.weighted] == [layer.name for layer in graph.weighted]
    assert [layer.gemm for layer in back.weighted] == [layer.gemm for layer in graph.weighted]


def convolution(**changes: object) -> LayerGraph:
    work = Conv(**{  # type: ignore[arg-type]
        "in_channels": 2, "out_channels": 4, "kernel": (3, 3), "stride": (1, 1),
        "padding": (0, 0), "dilation": (1, 1), "groups": 1, "ifmap_size": (9, 9),
        "ofmap_size": (7, 7), **changes,
    })  # fmt: skip
    read = Tensor("input", (1, 2, *work.ifmap_size))
    written = Tensor("c", (1, 4, *work.ofmap_size))
    layers = (
        Layer("input", "input", Vector(0), (), read),
        Layer("c", "conv", work, (read,), written),
    )
    return LayerGraph("net", layers, ("c",))


def test_what_a_table_cannot_say_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "net.csv"
    with pytest.raises(ValueError, match="no column for dilation"):
        write_topology(convolution(dilation=(2, 2), ofmap_size=(5, 5)), path)
    with pytest.raises(ValueError, match="one stride for both axes"):
        write_topology(convolution(stride=(2, 1), ofmap_size=(4, 7)), path)
    graph = convolution()
    empty = LayerGraph("net", graph.layers[:1], ("input",))
    with pytest.raises(ValueError, match="no convolution or matrix product to write"):
        write_topology(empty, path)
    assert not path.exists()


sizes = st.integers(1, 6)


@given(kernel=st.tuples(sizes, sizes), stride=sizes, padding=st.integers(0, 3),
       extra=st.tuples(sizes, sizes), groups=st.integers(1, 2))  # fmt: skip
def test_what_is_written_is_read_as_the_same_products(
    kernel: tuple[int, int], stride: int, padding: int, extra: tuple[int, int], groups: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    size = (kernel[0] + extra[0], kernel[1] + extra[1])
    ofmap = tuple((size[i] + 2 * padding - kernel[i]) // stride + 1 for i in (0, 1))
    graph = convolution(
        kernel=kernel, stride=(stride, stride), padding=(padding, padding), ifmap_size=size,
        ofmap_size=ofmap, groups=groups,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("topology") / "net.csv"
    write_topology(graph, path)
    rows = read_topology(path).weighted
    gemm = graph["c"].gemm
    assert gemm is not None
    assert len(rows) == groups
    for row in rows:
        assert row.gemm is not None
        assert (row.gemm.pixels, row.gemm.reduction, row.gemm.columns) == (
            gemm.pixels, gemm.reduction, gemm.columns,
        )  # fmt: skip
