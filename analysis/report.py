"""report.html: one self-contained page of a study; no outside request, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from analysis import page
from analysis.figures import StudyFigure
from analysis.page import number
from analysis.study import BASELINE, Study
from analysis.tables import layer_table, summary_table

if TYPE_CHECKING:
    import pandas as pd


def write_report(
    study: Study,
    figures: Sequence[StudyFigure],
    command: Sequence[str],
    made: Mapping[str, object],
) -> str:
    """The page. command: to repeat it, word by word. made: versions and date, from the manifest."""
    request, network = study.request, study.network
    names = ", ".join(accelerator.name for accelerator in request.accelerators)
    main = study.main
    best = "; ".join(
        f"{study.baseline.stats[name].cycles / stats.cycles:.2f}x on {name}"
        for name, stats in main.stats.items()
    )
    layers = layer_table(study)
    sections = [
        f"<h1>{escape(network.name)} on {escape(names)}</h1>",
        f"<p class='lead'>Average weight width {request.weight_bits:g} bits, activations "
        f"{request.activation_bits:g} bits, batch {request.batch}. "
        f"'{escape(main.name)}' runs at {best} the speed of {BASELINE}, "
        f"{_accuracy_sentence(study)}</p>",
        page.command_block(command),
        "<h2>Variants</h2>",
        page.table(_summary(study), sort=True),
        f"<p>{_csv('summary.csv', summary_table(study))}</p>",
        _notes(study),
        "<h2>Certificate and constraints</h2>",
        _constraints(study),
        *[page.figure(f.name, f.title, f.caption, f.svg, f.table) for f in figures],
        "<h2>Layers</h2>",
        f"<p>'{escape(main.name)}', layer by layer; {_csv('layers.csv', layers)} has every "
        f"variant.</p>",
        page.table(_layers(study, layers), sort=True),
        "<h2>How this was made</h2>",
        f"<div class='made'>{page.table(_made(study, made))}</div>",
    ]
    return page.page(network.name, sections)


def _csv(name: str, table: pd.DataFrame) -> str:
    return page.data_link(name, name, table.to_csv(index=False).encode(), "text/csv")


def _accuracy_sentence(study: Study) -> str:
    accuracy = study.main.accuracy
    return (
        f"with top-1 {100 * accuracy.top1:.1f} % (float {100 * study.float_accuracy.top1:.1f} %) "
        f"on {accuracy.images} images; {100 * accuracy.agreement:.1f} % keep the float network's "
        f"class."
    )


def _summary(study: Study) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for row in summary_table(study).to_dict("records"):
        shown: dict[str, object] = {
            "variant": row["variant"],
            "bits a weight": number(row["weight_bits"], "{:.2f}"),
            "size [kB]": number(row["size_bytes"] / 1000, "{:,.1f}"),
            "top-1 [%]": number(100 * row["top1"], "{:.1f}"),
            "agree [%]": number(100 * row["agreement"], "{:.1f}"),
            "distortion predicted": number(row["predicted_distortion"], "{:.3g}"),
            "measured": number(row["measured_distortion"], "{:.3g}"),
        }
        for accelerator in study.request.accelerators:
            name = accelerator.name
            shown |= {
                f"{name} [ms]": number(1e3 * row[f"{name}_seconds"], "{:.4g}"),
                f"{name} speedup": number(row[f"{name}_speedup"], "{:.2f}"),
                f"{name} DRAM ratio": number(row[f"{name}_dram_ratio"], "{:.2f}"),
                f"{name} energy ratio": number(row[f"{name}_energy_ratio"], "{:.2f}"),
            }
        rows.append(shown)
    return pd.DataFrame(rows)


def _notes(study: Study) -> str:
    accuracy = study.float_accuracy
    return (
        f"<p>Speedup, DRAM and energy ratios are against {BASELINE} on the same accelerator and "
        f"batch. The float network has top-1 {100 * accuracy.top1:.1f} % on the same "
        f"{accuracy.images} images. Distortion is the squared error of the logits, summed over "
        f"classes, as the mean over images: predicted by the curves from "
        f"{escape(str(study.curves.method.get('images', '')))} calibration images, and measured on "
        f"the evaluation images. Agree: images that keep the float network's class.</p>"
    )


def _constraints(study: Study) -> str:
    import pandas as pd

    rows = []
    for variant in study.variants:
        allocation = variant.allocation
        binding = [c for c in allocation.binding if c.name not in ("weights", "activations")]
        named = ", ".join(c.name for c in binding[:4]) + (", ..." if len(binding) > 4 else "")
        rows.append(
            {
                "variant": variant.name,
                "slope [distortion a bit]": f"{allocation.weight_slope:.3g}",
                "lower bound": f"{allocation.lower_bound:.4g}",
                "gap to it": f"{100 * allocation.relative_gap:.4f} %",
                "caps that bind": f"{len(binding)}{': ' if binding else ''}{named}",
            }
        )
    text = (
        "<p>No widths that keep the same constraints have a predicted distortion below the lower "
        "bound, the value of the Lagrangian dual.</p>"
    )
    least = study.request.least
    for accelerator, unfit in study.unfit.items():
        if unfit:
            listed = ", ".join(f"{u.layer} ({u.memory})" for u in unfit[:6])
            more = ", ..." if len(unfit) > 6 else ""
            text += (
                f"<p>On {escape(accelerator)} the whole operands of these layers would fit only "
                f"below {least['weights']} bits a weight or {least['activations']} an activation, "
                f"so no cap was set for them; they are tiled or spilled, and their traffic is "
                f"counted: {escape(listed)}{more} ({len(unfit)} in all).</p>"
            )
    return page.table(pd.DataFrame(rows)) + text


def _layers(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for row in frame[frame["variant"] == study.main.name].to_dict("records"):
        rows.append(
            {
                "accelerator": row["accelerator"],
                "layer": row["name"],
                "kind": row["kind"],
                "bits a weight": number(row["mean_weight_bits"], "{:.2f}"),
                "activation bits": number(row["mean_activation_bits"], "{:.1f}"),
                "MACs": number(row["macs"], "{:,.0f}"),
                "cycles": number(row["cycles"], "{:,.0f}"),
                "stall": number(row["stall_cycles"], "{:,.0f}"),
                "utilisation [%]": number(100 * row["utilisation"], "{:.1f}"),
                "DRAM [kbit]": number(
                    (row["dram_read_bits"] + row["dram_write_bits"]) / 1e3, "{:,.1f}"
                ),
                "energy [uJ]": number(row["energy_pj"] / 1e6, "{:,.2f}"),
                "fits": "yes" if row["fits_on_chip"] else "no",
            }
        )
    return pd.DataFrame(rows)


def _made(study: Study, made: Mapping[str, object]) -> pd.DataFrame:
    import pandas as pd

    rows = page.made_rows(made)
    rows += [(f"seconds for {stage}", f"{s:.2f}") for stage, s in study.seconds.items()]
    rows += [(f"curves: {key}", str(value)) for key, value in study.curves.method.items()]
    rows += [
        (accelerator.name, f"{accelerator.description}; source: {accelerator.source}")
        for accelerator in study.request.accelerators
    ]
    return pd.DataFrame(rows, columns=["what", "value"])
