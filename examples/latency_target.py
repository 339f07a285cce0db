"""Widths under a latency target: the least distortion that a chip computes in a given time.

    python -m examples.latency_target

The curves of mobilenet_v2 come along, so neither weights nor images are needed.
"""

from __future__ import annotations

from analysis import load_graph
from hwsim import BitWidths, load_accelerator, simulate
from quant import Budget, InfeasibleTarget, Target, allocate_within
from quant.compact import load_shipped


def main() -> None:
    curves, accelerator = load_shipped("mobilenet_v2"), load_accelerator("tpu_v1")
    graph = load_graph(curves.network)
    # without a lower end, channels would be dropped to meet a target, and accuracy with them
    budget = Budget(
        activation_bits=8, weight_widths=tuple(range(2, 9)), activation_widths=tuple(range(4, 9))
    )
    seconds = simulate(graph, accelerator, BitWidths(8, 8)).seconds
    print(f"{graph.name} on {accelerator.name}: {1e6 * seconds:.0f} us at W8A8")
    for share in (0.95, 0.9, 0.7):
        target = Target("latency", share * seconds)
        try:
            found = allocate_within(curves, budget, graph, accelerator, (target,))
        except InfeasibleTarget as error:
            print(f"at most {target.text(target.limit)}: {error}")
            continue
        allocation = found.allocation
        print(
            f"at most {target.text(target.limit)}: {1e3 * found.stats.seconds:.6g} ms with "
            f"{allocation.average_weight_bits:.2f} bits a weight, distortion "
            f"{allocation.predicted_distortion:.3g} ({found.simulations} simulations)"
        )
        # layers that the array is busy with anyway keep their bits; those that wait give them up
        mean = {layer.name: allocation.bits.weight(layer).mean() for layer in graph.weighted}
        widest, narrowest = max(mean, key=mean.__getitem__), min(mean, key=mean.__getitem__)
        print(
            f"  from {mean[narrowest]:.2f} bits a weight in {narrowest} to {mean[widest]:.2f} in "
            f"{widest}"
        )


if __name__ == "__main__":
    main()
