"""The commands of `chipfit`, one module each: `add_arguments(parser)` and `run(options)`.

The modules import what is heavy inside their functions, so that help answers at once.
"""

# in the order of the help
SUMMARIES = {
    "run": "the main job: curves, allocation, accuracy, simulation, report",
    "simulate": "one network on one accelerator",
    "curves": "rate-distortion curves of every channel",
    "allocate": "bit widths from curves, under a budget",
    "pareto": "accuracy, size, time and energy over a range of budgets",
    "speedup": "networks on accelerators, batches and widths, over named baselines",
    "explore": "buffers, bandwidth and array sizes: many designs of a chip at once",
    "evaluate": "accuracy of a network at given widths",
    "pack": "write a quantised network as the bits that a chip would store",
    "export": "a quantised network, or a workload, as a file of another tool",
    "finetune": "recover accuracy at given widths by training on images",
    "mappings": "the best row-stationary mappings of a layer",
    "verify": "is a run what its manifest says, and does its command give it again?",
    "models": "networks that there are",
    "accelerators": "accelerators that there are",
}
