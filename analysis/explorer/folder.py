"""The folder that `chipfit explore` leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.explore import Explored
from analysis.explore_plot import explore_figures
from analysis.explore_summary import findings, summary_lines, to_records
from analysis.explorer.page import explorer_page
from analysis.manifest import MANIFEST, build_manifest, json_bytes
from hwsim.graph import LayerGraph
from hwsim.systolic.many import LayerPoint

PAGE = "explore.html"


def explore_files(
    graph: LayerGraph,
    explored: Sequence[Explored],
    layers: Sequence[Mapping[int, Sequence[LayerPoint]]],
    command: list[str],
    options: Mapping[str, object],
    inputs: Mapping[str, str | None],
    seconds: Mapping[str, float],
) -> dict[str, bytes]:
    """{path inside the folder: content}; of several accelerators each has a folder of its own for
    all but the page and the manifest, from which the page takes versions and date."""
    files: dict[str, bytes] = {}
    for one in explored:
        folder = f"{one.accelerator.name}/" if len(explored) > 1 else ""
        files |= {f"{folder}{name}": content for name, content in _own_files(one).items()}
    manifest = build_manifest(command, options, inputs, files, seconds)
    made = {key: manifest[key] for key in ("made", "versions", "platform")}
    files[PAGE] = explorer_page(graph, explored, layers, command, made).encode()
    files[MANIFEST] = json_bytes(manifest)
    return files


def _own_files(explored: Explored) -> dict[str, bytes]:
    return {
        "table.csv": explored.table.to_csv(index=False).encode(),
        "table.json": json_bytes(to_records(explored.table)),
        "summary.json": json_bytes(findings(explored)),
        "summary.txt": ("\n".join(summary_lines(explored)) + "\n").encode(),
        **explore_figures(explored),
    }
