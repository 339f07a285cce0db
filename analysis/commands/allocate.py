"""`chipfit allocate`: bit widths from curves, under a budget."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.options import (
    add_group,
    add_json,
    add_least,
    average_bits,
    batch_size,
    energy_picojoule,
    latency_seconds,
    output_file,
    size_bits,
)

if TYPE_CHECKING:
    from quant.allocation.target import Target


def add_arguments(parser: ArgumentParser) -> None:
    add_least(parser)
    parser.add_argument("curves", help="curves file (.npz), or digits or mobilenet_v2, whose "
                        "curves come along")  # fmt: skip
    several = parser.add_mutually_exclusive_group()
    add_group(several)
    several.add_argument("--per-layer", action="store_true", help="one width a layer")
    parser.add_argument("--bits", type=average_bits, help="average bits of a weight")
    parser.add_argument("--activation-bits", type=average_bits, default=8.0, metavar="BITS",
                        help="average bits of an activation (default 8)")  # fmt: skip
    parser.add_argument("--size", type=size_bits, metavar="SIZE",
                        help="all weights with their metadata, such as 4MB")  # fmt: skip
    parser.add_argument("--joint-bits", type=size_bits, metavar="SIZE",
                        help="weights with their metadata and activations together")  # fmt: skip
    parser.add_argument("--latency", type=latency_seconds, metavar="TIME",
                        help="at most, on --on, as simulated; such as 2ms")  # fmt: skip
    parser.add_argument("--energy", type=energy_picojoule, metavar="ENERGY",
                        help="at most, on --on, as simulated; such as 3mJ")  # fmt: skip
    parser.add_argument("--on", metavar="ACCEL", help="keep each layer on this chip")
    parser.add_argument("--model", help="the network, if the curves are of one of your own")
    parser.add_argument("--batch", type=batch_size, default=1, help="for --on (default 1)")
    parser.add_argument(
        "-o",
        "--output",
        type=output_file,
        metavar="FILE",
        help="allocation file (.json), or a table of widths (.csv)",
    )
    add_json(parser, "a summary")


def run(options: Namespace) -> None:
    from analysis.budgets import average_budget, input_widths
    from analysis.commands.common import emit, least_widths_of, load_curves
    from analysis.sources import graph_of
    from hwsim.accelerator import load_accelerator
    from quant.allocation.allocate import allocate
    from quant.allocation.fit import Fit, fit_caps
    from quant.allocation.target import UNITS, Met, allocate_within
    from quant.granularity import CHANNEL, LAYER

    targets = _targets(options)
    limits = (options.bits, options.size, options.joint_bits)
    if all(limit is None for limit in limits) and not targets:
        raise ValueError(
            "allocate: give a budget: --bits, --size, --joint-bits, --latency or --energy"
        )
    accelerator = load_accelerator(options.on) if options.on else None
    found = load_curves(options.curves)
    graph = graph_of(found, options.model)
    fixed = input_widths(graph)
    least = least_widths_of(options, options.bits)
    fit = Fit((), ())
    if accelerator is not None:
        fit = fit_caps(graph, accelerator, options.batch, fixed, least)
    sized = options.size is not None or options.joint_bits is not None
    metadata = (accelerator or load_accelerator("tpu_v1")).metadata.bits if sized else 0
    budget = replace(
        average_budget(found, graph, options.bits, options.activation_bits, least, fit.caps),
        weight_total_bits=options.size,
        total_bits=options.joint_bits,
        metadata_bits=metadata,
    )
    group = LAYER if options.per_layer else options.group or CHANNEL
    met: tuple[Met, ...] = ()
    if targets:
        assert accelerator is not None
        within = allocate_within(
            found, budget, graph, accelerator, targets, options.batch, group=group
        )
        allocation, met = within.allocation, within.met
    else:
        allocation = allocate(found, budget, group)
    allocation.bits.check(graph)
    if options.output:
        if options.output.endswith(".csv"):
            from hwsim.bit_tables import write_bit_table

            write_bit_table(allocation.bits, graph, options.output)
        else:
            allocation.save(options.output)
    lines = [
        f"{found.network}: {allocation.average_weight_bits:.3f} bits a weight, "
        f"{allocation.average_activation_bits:.3f} an activation; predicted distortion "
        f"{allocation.predicted_distortion:.6g}, at most {100 * allocation.relative_gap:.4f} % "
        f"above the best (lower bound {allocation.lower_bound:.6g}"
        f"{', cost as calibrated' if met else ''})",
        *(f"binds: {c.name} ({c.used_bits:,.0f} of {c.limit_bits:,.0f} bits)"
          for c in allocation.binding if c.name not in UNITS),
        *(m.line for m in met),
        *(f"does not fit: {u.layer} in {u.memory} ({u.mean_bits:.2f} bits a value left)"
          for u in fit.unfit),
    ]  # fmt: skip
    if options.output:
        lines.append(options.output)
    summary = allocation.to_json()
    summary |= {
        "predicted_distortion": allocation.predicted_distortion,
        "relative_gap": allocation.relative_gap,
        "unfit": [vars(u) for u in fit.unfit],
        "targets": [m.to_json() for m in met],
    }
    emit(options.json, summary, lines)


def _targets(options: Namespace) -> list[Target]:
    from quant.allocation.target import Target

    targets = []
    if options.latency is not None:
        targets.append(Target("latency", options.latency))
    if options.energy is not None:
        targets.append(Target("energy", options.energy))
    if targets and not options.on:
        raise ValueError(
            f"allocate: --{targets[0].quantity} needs an accelerator to simulate: give --on"
        )
    return targets
