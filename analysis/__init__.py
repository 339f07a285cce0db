"""analysis: the main job, comparisons, tables and figures, and the `chipfit` command.

Names are imported when first asked for: `import analysis` loads no torch.
"""

from typing import TYPE_CHECKING

from hwsim.lazy import lazy_names

if TYPE_CHECKING:
    from analysis.measuring import Choosing, measure_curves
    from analysis.progress import ProgressBars
    from analysis.sources import ImageSets, divide_images, load_graph, load_network
    from analysis.study import Request, Study, Variant, run_study

    __version__: str

__all__ = [
    "ImageSets",
    "divide_images",
    "Choosing",
    "measure_curves",
    "ProgressBars",
    "Request",
    "Study",
    "Variant",
    "run_study",
    "load_graph",
    "load_network",
    "__version__",
]

if not TYPE_CHECKING:  # so that type checkers know the names above and no others
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "measuring": "Choosing measure_curves",
            "progress": "ProgressBars",
            "sources": "ImageSets divide_images load_graph load_network",
            "study": "Request Study Variant run_study",
        },
    )
