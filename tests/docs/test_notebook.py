"""The notebook runs from a fresh kernel; what is stored of it names no place of a machine."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "main_path.ipynb"


def said(notebook):
    """Names of a cell's outputs, and the text of those printed."""
    return [
        [output.get("text", output.output_type) for output in cell.get("outputs", [])]
        for cell in notebook.cells
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's client, not of ours
def test_the_notebook_runs_and_gives_the_outputs_that_it_shows(tmp_path):
    stored = nbformat.read(NOTEBOOK, as_version=4)
    fresh = nbformat.read(NOTEBOOK, as_version=4)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(fresh, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert said(fresh) == said(stored)
    table = fresh.cells[-1].outputs[0].data["text/plain"]
    assert re.findall("tpu_v1|eyeriss_v1", table) == [
        "tpu_v1",
        "tpu_v1",
        "eyeriss_v1",
        "eyeriss_v1",
    ]


def test_the_notebook_is_small_and_names_no_path():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 100_000
    assert not re.search(r"(?<![\w.])/(work|home|root|tmp|usr|Users)/", text)
    cells = json.loads(text)["cells"]
    assert all(cell["outputs"] or "import" in "".join(cell["source"])
               for cell in cells if cell["cell_type"] == "code")  # fmt: skip
