"""`chipfit models`: networks that there are."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from analysis.options import add_image_size, add_json


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="show the layers of one network")
    add_image_size(parser)
    add_json(parser, "the list")


def run(options: Namespace) -> None:
    from analysis.commands.common import emit
    from analysis.sources import BUILT_IN, load_graph
    from analysis.summary import columns

    if options.name is None:
        from hwsim.frontends.models import model_names

        names = [*BUILT_IN, *model_names()]
        emit(options.json, names, names)
        return
    graph = load_graph(options.name, options.image_size)
    rows = [["layer", "kind", "reads", "writes", "weights", "MACs", "fused"]]
    data = []
    for layer in graph:
        reads = " + ".join("x".join(map(str, tensor.shape[1:])) for tensor in layer.inputs)
        writes = "x".join(map(str, layer.output.shape[1:]))
        fused = " ".join(layer.fused)
        rows.append([layer.name, layer.kind, reads, writes, f"{layer.params:,}",
                     f"{layer.macs:,}", fused])  # fmt: skip
        data.append(
            {
                "name": layer.name,
                "kind": layer.kind,
                "inputs": [{"name": t.name, "shape": list(t.shape)} for t in layer.inputs],
                "output": list(layer.output.shape),
                "params": layer.params,
                "macs": layer.macs,
                "fused": list(layer.fused),
            }
        )
    total = f"{graph.name}: {len(graph)} layers, {graph.params:,} parameters, {graph.macs:,} MACs"
    result = {"model": graph.name, "params": graph.params, "macs": graph.macs, "layers": data}
    emit(options.json, result, [*columns(rows), total])
