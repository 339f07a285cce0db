"""Figures of the README stand in the reports that it names, and its Python runs."""

import re
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"(?<![\w.-])-?\d[\d,]*(?:\.\d+)?(?:e-\d+)?[%x]?")


def rows():
    table = README.split("## What it reaches")[1].split("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if "](reports/" in line and line.startswith("|")
    ]


def test_every_figure_of_the_readme_stands_in_its_report():
    assert len(rows()) > 8
    for _, figures, link in rows():
        path = ROOT / re.search(r"\((reports/[^)]+)\)", link)[1]
        known = set(NUMBER.findall(path.read_text(encoding="utf-8")))
        numbers = NUMBER.findall(figures)
        assert numbers, figures
        assert not [number for number in numbers if number not in known], (figures, path.name)


def test_every_link_of_the_readme_leads_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 15
    missing = [link for link in links if "//" not in link and not (ROOT / link).is_file()]
    assert not missing


def test_the_python_of_the_readme_runs(capsys):
    code = README.split("## In Python")[1].split("```python\n")[1].split("```")[0]
    for large, small in (("224, 224", "16, 16"), ("count=800", "count=24"), ("=96", "=8"),
                         ("=300", "=16")):  # fmt: skip
        assert large in code
        code = code.replace(large, small)
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(3)
    )
    module(torch.zeros(1, 3, 16, 16))
    data = TensorDataset(torch.randn(40, 3, 16, 16), torch.arange(40) % 3)
    loader = DataLoader(data, batch_size=8)
    exec(code, {"module": module, "loader": loader, "test_loader": loader})
    accuracy, seconds = capsys.readouterr().out.splitlines()
    assert accuracy.startswith("Accuracy(top1=")
    assert accuracy.endswith("images=40)")
    assert 0 < float(seconds) < 1e-3
