"""What several commands do: read curves and images, quantise, print or write the result."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from analysis.progress import ProgressBars
from hwsim.bits import BitWidths
from hwsim.files import write_atomically

if TYPE_CHECKING:
    from analysis.sources import ImageSets
    from hwsim.accelerator import Accelerator
    from quant.allocation.budget import Kind
    from quant.apply import QuantizedNetwork
    from quant.curves import RDCurves
    from quant.network import Network

DEFAULT_ACCELERATORS = ("tpu_v1", "eyeriss_v1")


def emit(target: str | None, data: object, lines: Iterable[str]) -> None:
    """Print lines for a person; or write JSON to a file, or it alone to standard output for -."""
    if target == "-":
        json.dump(data, sys.stdout, indent=1)
        print()
        return
    if target is not None:
        write_atomically(target, json.dumps(data, indent=1) + "\n")
    for line in lines:
        print(line)


def accelerators_of(command: str, names: Sequence[str]) -> list[Accelerator]:
    """The accelerators that --on names. Raises ValueError where two have one name: results are
    kept by it."""
    from hwsim.accelerator import load_accelerator

    found = [load_accelerator(name) for name in names]
    if len({accelerator.name for accelerator in found}) < len(found):
        raise ValueError(f"{command}: the same accelerator twice in --on: {', '.join(names)}")
    return found


def run_folder(model: str, prefix: str = "") -> str:
    """Where a command leaves its files by default."""
    return f"runs/{prefix}{model.replace(':', '_').replace('/', '_')}"


def image_sets(options: Namespace, network: Network) -> ImageSets:
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


def load_curves(name: str) -> RDCurves:
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


def least_widths_of(options: Namespace, weight_bits: float | None) -> dict[Kind, int]:
    """The narrowest widths to use: as asked, else as the budget suggests."""
    from analysis.budgets import least_widths

    least = least_widths(weight_bits, options.activation_bits)
    if options.min_bits is not None:
        least["weights"] = options.min_bits
    if options.min_activation_bits is not None:
        least["activations"] = options.min_activation_bits
    return least


def quantized_network(
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
