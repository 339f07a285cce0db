"""What each command does: read what it names, call the verb, print or write the result."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.progress import ProgressBars
from analysis.summary import columns
from hwsim.accelerator import load_accelerator, preset_names
from hwsim.bits import BitWidths
from hwsim.files import write_atomically

if TYPE_CHECKING:
    from analysis.explore import Choice
    from analysis.pareto import Evaluate
    from analysis.sources import ImageSets
    from hwsim.accelerator import Accelerator
    from hwsim.graph import LayerGraph
    from hwsim.stats import NetworkStats
    from quant.apply import QuantizedNetwork
    from quant.budget import Kind
    from quant.curves import RDCurves
    from quant.evaluate import Accuracy
    from quant.network import Network
    from quant.target import Target

DEFAULT_ACCELERATORS = ("tpu_v1", "eyeriss_v1")


def _emit(target: str | None, data: object, lines: Iterable[str]) -> None:
    """Print lines for a person; or write JSON to a file, or it alone to standard output for -."""
    if target == "-":
        json.dump(data, sys.stdout, indent=1)
        print()
        return
    if target is not None:
        write_atomically(target, json.dumps(data, indent=1) + "\n")
    for line in lines:
        print(line)


def simulate(options: Namespace) -> None:
    from analysis.sources import load_graph
    from hwsim.simulate import simulate as run_simulation

    if options.plots is not None:
        from analysis.run import check_folder

        check_folder(options.plots)
    accelerator = load_accelerator(options.on)
    bits = BitWidths.parse(options.bits)
    graph = load_graph(options.model, options.image_size)
    mappings = None
    if options.mapping is not None:
        from hwsim.row_stationary import load_mappings

        mappings = load_mappings(options.mapping)
    stats = run_simulation(graph, accelerator, bits, options.batch, mappings)
    rows = [["layer", "kind", "cycles", "stall", "util %", "DRAM kbit", "energy uJ", "fits"]]
    for layer in stats.layers:
        rows.append(
            [
                layer.name,
                layer.kind,
                f"{layer.cycles:,}",
                f"{layer.stall_cycles:,}",
                f"{100 * layer.macs / (stats.pes * layer.cycles) if layer.cycles else 0:.1f}",
                f"{layer.dram_bits / 1e3:,.1f}",
                f"{layer.energy_pj / 1e6:,.2f}",
                "yes" if layer.fits_on_chip else "no",
            ]
        )
    total = (
        f"{graph.name} on {accelerator.name}, bits {options.bits}, batch {options.batch}: "
        f"{stats.cycles:,} cycles ({1e3 * stats.seconds:.4g} ms), {stats.stall_cycles:,} of them "
        f"waiting for DRAM; {stats.dram_bits / 8e6:.2f} MB over DRAM; "
        f"{stats.energy_pj / 1e9:.3g} mJ; utilisation {100 * stats.utilisation:.1f} %"
    )
    lines = [*columns(rows), total]
    if options.plots is not None:
        lines.append(_plot(options, graph, accelerator, bits, stats))
    _emit(options.json, stats.to_json(options.bits), lines)


def _plot(
    options: Namespace,
    graph: LayerGraph,
    accelerator: Accelerator,
    bits: BitWidths,
    stats: NetworkStats,
) -> str:
    """Write the figures of a simulation to the folder of --plots; returns the line that says so."""
    from pathlib import Path

    from analysis.run import write_folder
    from analysis.simulation import simulation_files

    from_file = Path(options.bits).is_file()
    label = Path(options.bits).stem if from_file else options.bits
    recorded = {
        "model": options.model,
        "accelerator": options.on,
        "bits": options.bits,
        "batch": options.batch,
    }
    named = (options.bits if from_file else None, options.model, options.on, options.mapping)
    files = {name: name for name in named if name is not None and Path(name).is_file()}
    made = simulation_files(graph, accelerator, bits, stats, label, options.argv, recorded, files)
    write_folder(options.plots, made)
    return f"{options.plots}/energy.png, memory.png, and their tables"


def _image_sets(options: Namespace, network: Network) -> ImageSets:
    from analysis.measuring import images_beside
    from analysis.sources import load_image_sets

    def load(beside: int) -> ImageSets:
        return load_image_sets(
            options.model, network, options.images, options.calibration, beside, options.seed
        )

    try:
        return load(images_beside(options))
    except ValueError:
        asked = options.choose == "priced" or options.clips == "priced"
        if options.rounding != "nearest" or asked:
            raise
        return load(0)  # no image is left to choose quantisers by, which nobody asked for


def curves(options: Namespace) -> None:
    from analysis.measuring import Announced, Choosing, measure_curves
    from analysis.sources import load_network
    from quant.sweep import STATED_WIDTH
    from quant.sweep_state import partial_path

    network = load_network(options.model, options.weights, options.image_size)
    images = _image_sets(options, network)
    partial = partial_path(options.output)
    if partial.exists():
        print(f"chipfit: going on from {partial}", file=sys.stderr)
    try:
        with ProgressBars() as progress:
            found, _ = measure_curves(
                network,
                images,
                rounding=options.rounding,
                probes=options.probes,
                metric=options.metric,
                seed=options.seed,
                progress=Announced(progress),
                granularity=options.granularity,
                relative_error=options.standard_error,
                partial=partial,
                choosing=Choosing.of(options),
            )
    except KeyboardInterrupt as interruption:
        if str(interruption) or not partial.exists():
            raise
        raise KeyboardInterrupt(f"what was done is in {partial}, to go on from") from None
    found.save(options.output)
    partial.unlink(missing_ok=True)
    channels = sum(curve.channels for curve in found.weights)
    summary = {
        "model": found.network,
        "layers": len(found.weights),
        "channels": channels,
        "activation_tensors": len(found.activations),
        "method": dict(found.method),
        "file": options.output,
    }
    error = found.method["standard_error"]["weights"][STATED_WIDTH]
    known = "unknown, from one image" if error is None else f"{100 * error:.1f} %"
    line = f"{channels:,} channels of {len(found.weights)} layers at 0..8 bits: {options.output}"
    stated = (
        f"standard error of the predicted distortion with all weights at {STATED_WIDTH} bits: "
        f"{known} ({found.method['images']} images, {options.probes} probes each)"
    )
    _emit(options.json, summary, [line, stated])


def _load_curves(name: str) -> RDCurves:
    """Curves from a file, those that come along, or those of the embedded network, measured with
    the default options. Raises ValueError for others, and for curves of input channels."""
    from analysis.measuring import measure_curves
    from analysis.sources import EMBEDDED, load_image_sets, load_network
    from quant.compact import load_shipped, shipped
    from quant.curves import RDCurves

    if name in shipped():
        return load_shipped(name)
    if name != EMBEDDED:
        if not name.endswith(".npz"):
            from hwsim.frontends.models import model_names

            if name in model_names():
                raise ValueError(
                    f"no curves of {name!r} come along (there are {EMBEDDED}, "
                    f"{', '.join(shipped())}); measure them: chipfit curves {name} --weights "
                    f"FILE.safetensors --images DIR -o {name}.npz, and give that file"
                )
        read = RDCurves.load(name)
        if read.method.get("granularity") == "input":
            raise ValueError(
                f"{name}: these curves are of input channels, to look at; widths belong to output "
                f"channels: measure with --granularity output"
            )
        return read
    network = load_network(EMBEDDED, None)
    images = load_image_sets(EMBEDDED, network, None, 96, 400, 0)
    return measure_curves(network, images, rounding="sequential", probes=2)[0]


def _least(options: Namespace, weight_bits: float | None) -> dict[Kind, int]:
    """The narrowest widths to use: as asked, else as the budget suggests."""
    from analysis.study import least_widths

    least = least_widths(weight_bits, options.activation_bits)
    if options.min_bits is not None:
        least["weights"] = options.min_bits
    if options.min_activation_bits is not None:
        least["activations"] = options.min_activation_bits
    return least


def _targets(options: Namespace) -> list[Target]:
    from quant.target import Target

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


def allocate(options: Namespace) -> None:
    from analysis.sources import load_graph
    from analysis.study import input_widths, width_range
    from quant import allocate as methods
    from quant.budget import Budget
    from quant.fit import Fit, fit_caps
    from quant.granularity import per_group
    from quant.target import UNITS, Met, allocate_within

    targets = _targets(options)
    if options.group is not None and (targets or options.per_layer):
        raise ValueError(
            "allocate: --group goes with --bits, --size and --joint-bits; leave out --per-layer, "
            "--latency and --energy"
        )
    limits = (options.bits, options.size, options.joint_bits)
    if all(limit is None for limit in limits) and not targets:
        raise ValueError(
            "allocate: give a budget: --bits, --size, --joint-bits, --latency or --energy"
        )
    accelerator = load_accelerator(options.on) if options.on else None
    found = _load_curves(options.curves)
    graph = load_graph(options.model or found.network)
    fixed = input_widths(graph)
    least = _least(options, options.bits)
    has_activations = bool(found.activations)
    fit = Fit((), ())
    if accelerator is not None:
        fit = fit_caps(graph, accelerator, options.batch, fixed, least)
    metadata = (accelerator or load_accelerator("tpu_v1")).metadata.bits if options.size else 0
    budget = Budget(
        weight_bits=options.bits,
        activation_bits=options.activation_bits if has_activations else None,
        weight_total_bits=options.size,
        total_bits=options.joint_bits,
        caps=fit.caps,
        fixed=fixed if has_activations else {},
        weight_widths=width_range(least["weights"]),
        activation_widths=width_range(least["activations"]),
        metadata_bits=metadata,
    )
    met: tuple[Met, ...] = ()
    if targets:
        assert accelerator is not None
        within = allocate_within(
            found, budget, graph, accelerator, targets, options.batch, by_layer=options.per_layer
        )
        allocation, met = within.allocation, within.met
    elif options.group is not None:
        allocation = per_group(found, budget, options.group)
    else:
        choose = methods.per_layer if options.per_layer else methods.allocate
        allocation = choose(found, budget)
    allocation.bits.check(graph)
    if options.output:
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
    _emit(options.json, summary, lines)


def _quantized(
    options: Namespace, network: Network, images: ImageSets, progress: ProgressBars
) -> QuantizedNetwork:
    """The network at the widths of --bits, quantised by --curves or by the images."""
    from analysis.measuring import Choosing, find_recipe, find_rounder
    from analysis.study import rounding_of
    from quant.apply import quantize
    from quant.curves import RDCurves

    bits = BitWidths.parse(options.bits)
    bits.check(network.graph)
    known = RDCurves.load(options.curves) if options.curves else None
    rounding = options.rounding if known is None else rounding_of(known)
    rounder = find_rounder(rounding, network, images, options.seed, progress)
    source = known or find_recipe(
        network, images, options.seed, progress, rounding, Choosing.of(options)
    )
    return quantize(network, bits, source, rounder=rounder)


def pareto(options: Namespace) -> None:
    import time

    from analysis.pareto import choose_points, pareto_files, pareto_table, table_lines
    from analysis.run import check_folder, write_folder
    from analysis.sources import EMBEDDED, load_graph

    names = options.on or [DEFAULT_ACCELERATORS[0]]
    if len(set(names)) < len(names):
        raise ValueError(f"pareto: the same accelerator twice in --on: {', '.join(names)}")
    accelerators = [load_accelerator(name) for name in names]
    from_file = options.source.endswith(".npz")
    known = _load_curves(options.source) if from_file else None
    model = options.model or (options.source if known is None else known.network)
    folder = options.output or f"runs/pareto_{model.replace(':', '_')}"
    check_folder(folder)
    began = time.perf_counter()
    measured = model == EMBEDDED or options.images is not None or known is None
    if measured:
        found, graph, judge = _judge(options, model, known)
    else:
        assert known is not None
        found, graph, judge = known, load_graph(model, options.image_size), None
    curves_done = time.perf_counter()
    points = choose_points(found, graph, options.bits, options.activation_bits)
    for point in points:
        point.allocation.bits.check(graph)
    chosen = time.perf_counter()
    table = pareto_table(graph, points, accelerators, options.batch, judge)
    seconds = {
        "curves": curves_done - began,
        "allocations": chosen - curves_done,
        "simulations and evaluations": time.perf_counter() - chosen,
    }
    recorded = {
        "model": model,
        "bits": options.bits,
        "activation_bits": options.activation_bits,
        "accelerators": names,
        "batch": options.batch,
        "seed": options.seed,
        "evaluated": measured,
    }
    inputs = {
        "curves": options.source if from_file else None,
        "weights": options.weights,
        "images": options.images,
        **{name: name for name in names if name.endswith(".toml")},
    }
    files = pareto_files(table, points, accelerators, options.argv, recorded, inputs, seconds)
    write_folder(folder, files)
    lines = [*table_lines(table, accelerators), f"{folder}/pareto.png"]
    _emit(options.json, table.to_dict("records"), lines)


def speedup(options: Namespace) -> None:
    import time
    from pathlib import Path

    from analysis.run import check_folder, write_folder
    from analysis.sources import load_graph
    from analysis.speedup import HEAD, Request, cells, check_request, speedup_files, speedup_table

    names = options.on or list(DEFAULT_ACCELERATORS)
    accelerators = [load_accelerator(name) for name in names]
    if len({accelerator.name for accelerator in accelerators}) < len(accelerators):
        raise ValueError(f"speedup: the same accelerator twice in --on: {', '.join(names)}")
    request = Request(
        batches=tuple(options.batch or [1]),
        widths=tuple(options.bits or []),
        baselines=tuple(options.baseline or ["W8A8"]),
        averages=tuple(options.average or []),
        fit=options.fit,
        activation_bits=options.activation_bits,
    )
    check_folder(options.output)
    began = time.perf_counter()
    curves = _curves_of(options) if request.averages else {}
    check_request(request, options.model, curves)
    without = [model for model in options.model if request.averages and model not in curves]
    if without:
        print(f"chipfit: no curves of {', '.join(without)}: no averages there", file=sys.stderr)
    graphs = {model: load_graph(model, options.image_size) for model in options.model}
    read = time.perf_counter()
    with ProgressBars() as bars:
        rows = speedup_table(
            graphs,
            accelerators,
            request,
            curves,
            lambda done, of: bars("simulations", done, of),
            options.workers,
        )
    seconds = {"reading": read - began, "simulations": time.perf_counter() - read}
    recorded = {
        "models": options.model,
        "accelerators": names,
        "image_size": options.image_size,
        **vars(request),
    }
    named = [*options.model, *names, *(options.curves or [])]
    named += [spec.rpartition("=")[2] for spec in (*request.widths, *request.baselines)]
    inputs = {name: name for name in named if Path(name).is_file()}
    files = speedup_files(rows, options.argv, recorded, inputs, seconds)
    write_folder(options.output, files)
    figures = sorted(name for name in files if name.endswith(".png"))
    lines = [*columns([HEAD, *(cells(row) for row in rows)])]
    lines += [f"{options.output}/{name}" for name in figures]
    _emit(options.json, json.loads(files["speedup.json"]), lines)


def _curves_of(options: Namespace) -> dict[str, RDCurves]:
    """{model: curves} of those models that have any: from --curves, or those that come along."""
    from analysis.sources import EMBEDDED
    from quant.compact import shipped

    found = {curves.network: curves for curves in map(_load_curves, options.curves or [])}
    for network in found:
        if network not in options.model:
            raise ValueError(
                f"speedup: curves of {network!r}, which is not among the models: "
                f"{', '.join(options.model)}"
            )
    for model in options.model:
        if model not in found and model in (EMBEDDED, *shipped()):
            found[model] = _load_curves(model)
    return found


def explore(options: Namespace) -> None:
    import time

    from analysis import design_space
    from analysis.explore import explore as run_exploration
    from analysis.explore import explore_files, summary_lines, to_records
    from analysis.run import check_folder, write_folder
    from analysis.sources import load_graph

    accelerator = load_accelerator(options.on)
    axes = [design_space.parse_axis(accelerator, text) for text in options.vary]
    paths = [field.path for axis in axes for field in axis.fields]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise ValueError(f"--vary: {twice} is varied twice; give all its values at once")
    if options.samples is None:
        designs = design_space.grid(axes)
    else:
        designs = design_space.latin_hypercube(axes, options.samples, options.seed)
    folder = options.output or f"runs/explore_{options.model.replace(':', '_').replace('/', '_')}"
    check_folder(folder)
    _explored_widths(options)
    graph = load_graph(options.model, options.image_size)
    began = time.perf_counter()
    choices = _choices(options, graph)
    chosen = time.perf_counter()
    with ProgressBars() as progress:
        explored = run_exploration(
            graph,
            accelerator,
            axes,
            designs,
            choices,
            batch=options.batch,
            complete=options.samples is None,
            workers=options.workers,
            progress=progress,
        )
    seconds = {"allocations": chosen - began, "design points": time.perf_counter() - chosen}
    recorded = {
        "model": options.model,
        "accelerator": options.on,
        "vary": {axis.name: list(axis.values) for axis in axes},
        "designs": len(designs),
        "samples": options.samples,
        "seed": options.seed,
        "allocations": [choice.label for choice in choices],
        "activation_bits": options.activation_bits if options.average else None,
        "reallocate": options.reallocate,
        "batch": options.batch,
    }
    named = [options.model, options.on, options.curves, *(options.bits or [])]
    inputs: dict[str, str | None] = {n: n for n in named if n is not None and Path(n).is_file()}
    write_folder(folder, explore_files(explored, options.argv, recorded, inputs, seconds))
    lines = [*summary_lines(explored), f"{folder}/pareto.png"]
    _emit(options.json, to_records(explored.table), lines)


def _explored_widths(options: Namespace) -> None:
    """Refuse what cannot go together before any work; set the default of --bits."""
    if not options.bits and not options.average:
        options.bits = ["8"]
    if options.reallocate and not options.average:
        raise ValueError("explore: --reallocate allocates --average for every design; give it")
    for given, name in ((options.bits, "--bits"), (options.average, "--average")):
        if given and len(set(given)) < len(given):
            raise ValueError(f"explore: {name} has the same twice: {', '.join(map(str, given))}")
    for bits in options.bits or []:
        BitWidths.parse(bits)


def _choices(options: Namespace, graph: LayerGraph) -> list[Choice]:
    """The widths of --bits, then those of --average."""
    from analysis.explore import Choice, allocator

    choices = []
    for text in options.bits or []:
        bits = BitWidths.parse(text)
        bits.check(graph)
        label = Path(text).stem if Path(text).is_file() else text
        choices.append(Choice(f"W{int(text)}A{int(text)}" if text.isdecimal() else label, bits))
    if options.average:
        found = _load_curves(options.curves or options.model)
    for average in options.average or []:
        least = _least(options, average)
        choose = allocator(found, graph, average, options.activation_bits, least, options.batch)
        start = choose(None)
        start.bits.check(graph)
        label = f"average {average:g}"
        if options.reallocate:
            choices.append(Choice(f"{label}, by design", for_chip=choose))
        else:
            choices.append(Choice(label, start.bits, start.predicted_distortion))
    labels = [choice.label for choice in choices]
    if len(set(labels)) < len(labels):
        raise ValueError(f"explore: two --bits are called alike: {', '.join(labels)}")
    return choices


def _judge(
    options: Namespace, model: str, known: RDCurves | None
) -> tuple[RDCurves, LayerGraph, Evaluate]:
    """Curves, measured unless known, the graph, and what evaluates widths by the same recipe."""
    from analysis.measuring import Choosing, find_rounder, measure_curves
    from analysis.sources import load_network
    from analysis.study import rounding_of
    from quant.apply import quantize
    from quant.evaluate import evaluate as measure

    network = load_network(model, options.weights, options.image_size)
    options.model = model
    if known is not None:
        options.rounding = rounding_of(known)
    images = _image_sets(options, network)
    with ProgressBars() as progress:
        if known is None:
            found, rounder = measure_curves(
                network,
                images,
                rounding=options.rounding,
                probes=options.probes,
                seed=options.seed,
                progress=progress,
                choosing=Choosing.of(options),
            )
        else:
            found = known
            rounder = find_rounder(options.rounding, network, images, options.seed, progress)

    def judge(bits: BitWidths) -> Accuracy:
        quantized = quantize(network, bits, found, rounder=rounder)
        return measure(network, quantized, images.evaluation)

    return found, network.graph, judge


def evaluate(options: Namespace) -> None:
    from analysis.sources import load_network
    from quant.evaluate import evaluate as measure

    if options.packed is None:
        BitWidths.parse(options.bits)  # a mistake in it is said before the work
    network = load_network(options.model, options.weights, options.image_size)
    with ProgressBars() as progress:
        if options.packed is not None:
            from analysis.tuning import unseen
            from quant.codes import PackedFile, load_packed

            file = PackedFile.read(options.packed)
            quantized = load_packed(file, network)
            judged = unseen(options.model, network, options.images, file.made_by)
        else:
            BitWidths.parse(options.bits).check(network.graph)
            images = _image_sets(options, network)
            quantized, judged = _quantized(options, network, images, progress), images.evaluation
        floating = measure(network, None, judged, progress=progress)
        found = measure(network, quantized, judged, progress=progress)
    data = {
        "model": options.model,
        "bits": options.packed or options.bits,
        "average_weight_bits": quantized.bits.average_weight_bits(network.graph),
        "float": floating.to_json(),
        "quantized": found.to_json(),
    }
    line = (
        f"{options.model} at {data['average_weight_bits']:.3f} bits a weight: top-1 "
        f"{100 * found.top1:.2f} % (float {100 * floating.top1:.2f} %), top-5 "
        f"{100 * found.top5:.2f} %, agreement {100 * found.agreement:.2f} %, distortion "
        f"{found.distortion:.4g}, on {found.images} images"
    )
    _emit(options.json, data, [line])


def pack(options: Namespace) -> None:
    from analysis.sources import load_network
    from analysis.tuning import packed

    BitWidths.parse(options.bits)
    network = load_network(options.model, options.weights, options.image_size)
    BitWidths.parse(options.bits).check(network.graph)
    images = _image_sets(options, network)
    with ProgressBars() as progress:
        quantized = _quantized(options, network, images, progress)
    _emit(options.json, *packed(options, quantized, images))


def finetune(options: Namespace) -> None:
    from analysis import tuning
    from analysis.sources import load_network

    schedule = tuning.schedule(options)
    BitWidths.parse(options.bits)
    tuning.check_checkpoint(options)
    network = load_network(options.model, options.weights, options.image_size)
    BitWidths.parse(options.bits).check(network.graph)
    images, training = tuning.training_sets(options, network)
    with ProgressBars() as progress:
        start = _quantized(options, network, images, progress)
        tuning.check_steps(start)
        outcome = tuning.tune(options, start, training, schedule, progress)
        data, lines = tuning.tuned(options, start, outcome, images, training, progress)
    _emit(options.json, data, lines)


def mappings(options: Namespace) -> None:
    from analysis.sources import load_graph
    from hwsim.row_stationary import best_mappings

    accelerator = load_accelerator(options.on)
    bits = BitWidths.parse(options.bits)
    if isinstance(bits.weights, Mapping) or isinstance(bits.activations, Mapping):
        raise ValueError("mappings: --bits is an int or a pair such as W4A8")
    graph = load_graph(options.model, options.image_size)
    try:
        layer = graph[options.layer]
    except KeyError as error:
        raise ValueError(error.args[0]) from None
    found = best_mappings(
        layer, accelerator, bits.weights, bits.activations, options.batch, options.count
    )
    rows = [["mapping", "cycles", "processing", "DRAM kbit", "energy uJ"]]
    data = []
    for item in found:
        timing = item.timing
        cycles = timing.processing_cycles + timing.stall_cycles
        dram_bits = timing.dram_filter_bits + timing.dram_ifmap_bits + timing.dram_ofmap_bits
        rows.append(
            [
                str(item.mapping),
                f"{cycles:,}",
                f"{timing.processing_cycles:,}",
                f"{dram_bits / 1e3:,.1f}",
                f"{item.energy_pj / 1e6:,.2f}",
            ]
        )
        data.append(
            {
                "mapping": vars(item.mapping),
                "cycles": cycles,
                "processing_cycles": timing.processing_cycles,
                "dram_bits": dram_bits,
                "energy_pj": item.energy_pj,
            }
        )
    _emit(options.json, data, columns(rows))


def models(options: Namespace) -> None:
    from analysis.sources import BUILT_IN, load_graph

    if options.name is None:
        from hwsim.frontends.models import model_names

        names = [*BUILT_IN, *model_names()]
        _emit(options.json, names, names)
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
    _emit(options.json, result, [*columns(rows), total])


def accelerators(options: Namespace) -> None:
    from dataclasses import asdict

    from hwsim.accelerator import read_description
    from hwsim.describe import describe, field_lines

    if options.fields:
        if options.name is not None or options.toml:
            raise ValueError("accelerators: --fields goes alone, without a name and without --toml")
        lines = field_lines()
        _emit(options.json, lines, lines)
        return
    if options.name is None:
        if options.toml:
            raise ValueError("accelerators: --toml needs the name of a preset")
        found = [load_accelerator(name) for name in preset_names()]
        rows = [[a.name, a.description] for a in found]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name.ljust(width)}  {text}" for name, text in rows]
        _emit(options.json, [asdict(a) for a in found], lines)
        return
    accelerator = load_accelerator(options.name)
    lines = describe(accelerator)
    if options.toml:
        lines = read_description(options.name)[0].decode().splitlines()
    _emit(options.json, asdict(accelerator), lines)


def run(options: Namespace) -> None:
    from analysis.measuring import Choosing
    from analysis.run import check_folder, run_files, write_folder
    from analysis.sources import EMBEDDED, load_network
    from analysis.study import Request, run_study
    from analysis.summary import summary_lines
    from quant.curves import RDCurves

    names = options.on or [n for n in DEFAULT_ACCELERATORS if n in preset_names()]
    accelerators = tuple(load_accelerator(name) for name in names)
    if len({accelerator.name for accelerator in accelerators}) < len(accelerators):
        raise ValueError(f"run: --on names the same accelerator twice: {', '.join(names)}")
    bits = options.bits if options.bits is not None else 3.0 if options.model == EMBEDDED else 4.0
    folder = options.output or f"runs/{options.model.replace(':', '_').replace('/', '_')}"
    check_folder(folder)
    known = RDCurves.load(options.curves) if options.curves else None
    network = load_network(options.model, options.weights, options.image_size)
    images = _image_sets(options, network)
    least = _least(options, bits)
    request = Request(bits, options.activation_bits, accelerators, options.batch, least)
    with ProgressBars() as progress:
        study = run_study(
            network,
            images,
            request,
            curves=known,
            rounding=options.rounding,
            probes=options.probes,
            seed=options.seed,
            relinearise=options.relinearise,
            progress=progress,
            choosing=Choosing.of(options),
        )
    recorded = {
        "model": options.model,
        "bits": bits,
        "activation_bits": options.activation_bits,
        "least_bits": least,
        "accelerators": names,
        "batch": options.batch,
        "calibration_images": len(images.calibration),
        "evaluation_images": len(images.evaluation),
        "rounding_images": 0
        if images.fitting is None or options.rounding == "nearest"
        else len(images.fitting),
        "rounding": options.rounding,
        "choose": options.choose,
        "steps": options.steps,
        "clips": options.clips,
        "probes": options.probes,
        "relinearise": options.relinearise,
        "seed": options.seed,
    }
    inputs = {
        "weights": options.weights,
        "images": options.images,
        "curves": options.curves,
        **{name: name for name in names if name.endswith(".toml")},
    }
    write_folder(folder, run_files(study, options.argv, recorded, inputs))
    for line in summary_lines(study):
        print(line)
    if options.relinearise:
        from quant.relinearise import rounds_line

        print(rounds_line(study.curves))
    print(f"{folder}/report.html")
