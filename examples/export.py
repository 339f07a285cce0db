"""Export: a quantised network as files that other programs run, each weight at its own width.

    python -m examples.export [FOLDER]

The packed file holds exactly the bits that the allocation claims; ONNX (extra `interop`) runs in
onnxruntime. `chipfit export` has more formats.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import quant
from analysis import divide_images, load_network, measure_curves
from quant import digits

BITS = 3.0


def export(folder: Path) -> None:
    network = load_network("digits", None)
    images = divide_images(digits.train_images().sample(300, 0), calibration=48, fitting=0)
    curves, rounder = measure_curves(network, images, rounding="nearest", probes=2)
    budget = quant.Budget(weight_bits=BITS, activation_bits=8, weight_widths=tuple(range(2, 9)))
    allocation = quant.allocate(curves, budget)
    quantized = quant.quantize(network, allocation.bits, curves, rounder=rounder)
    test = digits.test()
    print(f"{network.name}: {allocation.average_weight_bits:.3f} bits a weight")

    packed = folder / "digits.safetensors"
    size = quant.save_packed(packed, quantized)
    print(
        f"{packed.name}: {size.weight_bits:,} bits of weights and {size.metadata_bits:,} of "
        f"scales, widths and biases in {size.payload_bytes:,} bytes, and a header of "
        f"{size.header_bytes:,}"
    )
    again = quant.load_packed(packed, network)
    same = bool((again(test.tensor()) == quantized(test.tensor())).all())
    print(f"read back: the same logits on {len(test)} images: {same}")
    run_onnx(folder, quantized, test)


def run_onnx(folder: Path, quantized: quant.QuantizedNetwork, test: quant.LabelledImages) -> None:
    import onnxruntime

    from quant.export.formats import save_export

    path = folder / "digits.onnx"
    save_export(path, quantized, "qdq")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = quantized(test.tensor()).numpy()
    (name,) = (put.name for put in session.get_inputs())
    (logits,) = session.run(None, {name: test.tensor().numpy()})
    agree = np.mean(logits.argmax(1) == wanted.argmax(1))
    print(
        f"{path.name}: onnxruntime gives the same class for {100 * agree:.1f} % of the images, "
        f"logits within {np.abs(logits - wanted).max():.2g}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="default: a temporary one")
    folder = parser.parse_args().folder
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        export(folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        export(Path(temporary))


if __name__ == "__main__":
    main()
