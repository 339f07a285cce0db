"""quant: rate-distortion curves of a trained network, bit widths, and the quantised network.

Names are imported when first asked for: `import quant` loads no torch.
"""

from typing import TYPE_CHECKING

from hwsim.lazy import lazy_names

if TYPE_CHECKING:
    from quant.accuracy import Accuracy, evaluate
    from quant.allocation.allocate import allocate, equal_widths, per_layer
    from quant.allocation.allocation import Allocation, Constraint
    from quant.allocation.budget import Budget, Cap, InfeasibleBudget
    from quant.allocation.fit import Fit, fit_caps
    from quant.allocation.target import (
        InfeasibleTarget,
        Target,
        Targeted,
        allocate_within,
    )
    from quant.apply import QuantizedNetwork, quantize
    from quant.calibration import Progress, Recipe, calibrate
    from quant.codes import load_packed, save_packed
    from quant.curves import LayerCurve, RDCurves, TensorCurve
    from quant.images import LabelledImages, load_images, load_weights
    from quant.loaders import from_dataset, from_loader
    from quant.module import QuantizedModule
    from quant.network import FoldedLayer, Network
    from quant.recovery.finetune import Finetuned, Schedule, finetune
    from quant.rounding import make_rounder
    from quant.sweep import Rounder

    __version__: str

__all__ = [
    # networks and images
    "Network",
    "FoldedLayer",
    "LabelledImages",
    "from_loader",
    "from_dataset",
    "load_images",
    "load_weights",
    # curves
    "RDCurves",
    "LayerCurve",
    "TensorCurve",
    "calibrate",
    "Recipe",
    "Rounder",
    "make_rounder",
    "Progress",
    # allocation
    "Budget",
    "Cap",
    "Fit",
    "fit_caps",
    "allocate",
    "per_layer",
    "equal_widths",
    "Allocation",
    "Constraint",
    "InfeasibleBudget",
    "Target",
    "Targeted",
    "allocate_within",
    "InfeasibleTarget",
    # the quantised network
    "quantize",
    "QuantizedNetwork",
    "QuantizedModule",
    "evaluate",
    "Accuracy",
    "save_packed",
    "load_packed",
    "finetune",
    "Schedule",
    "Finetuned",
    "__version__",
]

if not TYPE_CHECKING:  # so that type checkers know the names above and no others
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "accuracy": "Accuracy evaluate",
            "allocation.allocate": "allocate equal_widths per_layer",
            "allocation.allocation": "Allocation Constraint",
            "allocation.budget": "Budget Cap InfeasibleBudget",
            "allocation.fit": "Fit fit_caps",
            "allocation.target": "InfeasibleTarget Target Targeted allocate_within",
            "apply": "QuantizedNetwork quantize",
            "calibration": "Progress Recipe calibrate",
            "codes": "load_packed save_packed",
            "curves": "LayerCurve RDCurves TensorCurve",
            "images": "LabelledImages load_images load_weights",
            "loaders": "from_dataset from_loader",
            "module": "QuantizedModule",
            "network": "FoldedLayer Network",
            "recovery.finetune": "Finetuned Schedule finetune",
            "rounding": "make_rounder",
            "sweep": "Rounder",
        },
    )
