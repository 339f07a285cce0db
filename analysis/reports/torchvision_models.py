"""Every torchvision classifier as a layer graph, against the numbers that torchvision publishes.

`python -m analysis.reports.torchvision_models` writes reports/torchvision_models.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from hwsim.files import write_atomically
from hwsim.frontends import models
from hwsim.frontends.torchvision_shim import import_torchvision

PUBLISHED_STEP_MACS = 1_000_000  # published in GMACs with three decimals: one step of the last


@dataclass(frozen=True)
class ModelRow:
    """One model. params and macs are the graph's; constant_macs are those that no input reaches.

    auxiliary_params: parameters of heads that only training uses, which the graph has not.
    published_*: `meta` of the default weights entry.
    """

    name: str
    image_size: int
    layers: int
    weighted_layers: int
    params: int
    auxiliary_params: int
    macs: int
    constant_macs: int
    published_params: int
    published_macs: int

    @property
    def difference_percent(self) -> float:
        return 100 * (self.macs / self.published_macs - 1)

    @property
    def params_explained(self) -> bool:
        """Whether the published parameters are the graph's and the auxiliary heads', exactly."""
        return self.params + self.auxiliary_params == self.published_params

    @property
    def macs_explained(self) -> bool:
        """Whether the counts agree to the last decimal that is published."""
        error = self.macs + self.constant_macs - self.published_macs
        return 2 * abs(error) <= PUBLISHED_STEP_MACS

    @property
    def explanation(self) -> str:
        notes = []
        if self.auxiliary_params:
            notes.append(
                f"published parameters include {self.auxiliary_params:,} of an auxiliary head "
                f"that only training uses"
            )
        if self.constant_macs:
            notes.append(
                f"published MACs include {self.constant_macs / 1e6:.2f} M of the network that "
                f"computes the position bias, which is the same for every image"
            )
        if not self.params_explained:
            notes.append("PARAMETERS DIFFER")
        if not self.macs_explained:
            notes.append("MACS DIFFER")
        if not notes and abs(self.difference_percent) >= 0.1:
            notes.append("published figure is rounded to 1 M")
        return "; ".join(notes)


def model_row(name: str) -> ModelRow:
    """Capture one torchvision classifier at the image size of its default weights."""
    graph = models.from_name(name)
    meta = models.published(name).meta
    module = models.build(name)
    return ModelRow(
        name=name,
        image_size=models.image_size_of(name),
        layers=len(graph) - 1,  # the input is no work
        weighted_layers=len(graph.weighted),
        params=graph.params,
        auxiliary_params=_auxiliary_params(name),
        macs=graph.macs,
        constant_macs=_position_bias_macs(module),
        published_params=meta["num_params"],
        published_macs=round(meta["_ops"] * 1e9),
    )


def _position_bias_macs(module: nn.Module) -> int:
    """MACs of Swin v2's bias networks: linear layers over a table of relative positions."""
    total = 0
    for block in module.modules():
        if isinstance(bias_network := getattr(block, "cpb_mlp", None), nn.Module):
            rows = block.relative_coords_table.numel() // 2  # type: ignore[operator]
            total += sum(
                rows * layer.in_features * layer.out_features
                for layer in bias_network.modules()
                if isinstance(layer, nn.Linear)
            )
    return total


def _auxiliary_params(name: str) -> int:
    """Parameters of the auxiliary head of Inception v3, part of its published count.

    GoogLeNet's published count leaves its own two heads out.
    """
    if name != "inception_v3":
        return 0
    head = import_torchvision().models.inception.InceptionAux(768, 1000)
    return sum(parameter.numel() for parameter in head.parameters())


def models_table(rows: Sequence[ModelRow], versions: str, command: str) -> str:
    """The rows as Markdown, with the command and the versions that made them."""
    wrong = [row.name for row in rows if not (row.params_explained and row.macs_explained)]
    lines = [
        "# torchvision's classifiers as layer graphs",
        "",
        f"Made by `{command}` with {versions}.",
        "",
        "Input: square images of the size that the default weights were made for. Layers: without",
        "the input; batch norm and activations are folded into their producers. Published:",
        "`num_params` and `_ops` of the default weights entry, in which MACs are rounded to 1 M.",
        "",
        f"{len(rows)} models; {len(rows) - len(wrong)} agree with every published digit once the",
        f"explained differences are taken into account{_list_of(wrong)}.",
        "",
        "| model | input | layers | with weights | params | MMACs | published MMACs | difference % "
        "| explanation |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row.name} | {row.image_size} | {row.layers} | {row.weighted_layers} "
            f"| {row.params:,} | {row.macs / 1e6:,.2f} | {row.published_macs / 1e6:,.0f} "
            f"| {row.difference_percent:+.2f} | {row.explanation} |"
        )
    return "\n".join(lines) + "\n"


def _list_of(wrong: Sequence[str]) -> str:
    return f"; not explained: {', '.join(wrong)}" if wrong else ""


def main(arguments: Sequence[str] | None = None) -> int:
    import torch

    parser = argparse.ArgumentParser(
        prog="python -m analysis.reports.torchvision_models", description=__doc__
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all of them")
    parser.add_argument("-o", "--output", type=Path, default=Path("reports/torchvision_models.md"))
    options = parser.parse_args(arguments)
    names = options.models or models.model_names()
    rows = []
    for i, name in enumerate(names):
        print(f"{i + 1}/{len(names)} {name}", file=sys.stderr)
        rows.append(model_row(name))
    versions = f"torch {torch.__version__}, torchvision {import_torchvision().__version__}"
    command = " ".join(["python -m analysis.reports.torchvision_models", *options.models])
    write_atomically(options.output, models_table(rows, versions, command))
    return 0 if all(row.params_explained and row.macs_explained for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
