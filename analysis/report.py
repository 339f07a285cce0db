"""report.html: one self-contained page of a study; no outside request, light and dark."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

from analysis.figures import StudyFigure
from analysis.study import BASELINE, Study
from analysis.tables import layer_table, summary_table

if TYPE_CHECKING:
    import pandas as pd


def write_report(
    study: Study, figures: Sequence[StudyFigure], command: str, made: Mapping[str, object]
) -> str:
    """The page. command: to repeat it. made: versions and date, from the manifest."""
    request, network = study.request, study.network
    names = ", ".join(accelerator.name for accelerator in request.accelerators)
    main = study.main
    best = "; ".join(
        f"{study.baseline.stats[name].cycles / stats.cycles:.2f}x on {name}"
        for name, stats in main.stats.items()
    )
    sections = [
        f"<h1>{escape(network.name)} on {escape(names)}</h1>",
        f"<p class='lead'>Average weight width {request.weight_bits:g} bits, activations "
        f"{request.activation_bits:g} bits, batch {request.batch}. "
        f"'{escape(main.name)}' runs at {best} the speed of {BASELINE}, "
        f"{_accuracy_sentence(study)}</p>",
        f"<pre>{escape(command)}</pre>",
        "<h2>Variants</h2>",
        _table(_summary(study), sort=True),
        _notes(study),
        "<h2>Certificate and constraints</h2>",
        _constraints(study),
        *[_figure(figure) for figure in figures],
        "<h2>Layers</h2>",
        f"<p>'{escape(main.name)}', layer by layer; <code>layers.csv</code> has every variant.</p>",
        _table(_layers(study), sort=True),
        "<h2>How this was made</h2>",
        _table(_made(study, made)),
    ]
    style, script = (
        (resources.files("analysis") / "page" / name).read_text(encoding="utf-8")
        for name in ("report.css", "report.js")
    )
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>chipfit: {escape(network.name)}</title><style>{style}</style></head><body><main>"
        + "\n".join(sections)
        + f"</main><script>{script}</script></body></html>\n"
    )


def _accuracy_sentence(study: Study) -> str:
    accuracy = study.main.accuracy
    return (
        f"with top-1 {100 * accuracy.top1:.1f} % (float {100 * study.float_accuracy.top1:.1f} %) "
        f"on {accuracy.images} images; {100 * accuracy.agreement:.1f} % keep the float network's "
        f"class."
    )


def _table(frame: pd.DataFrame, sort: bool = False) -> str:
    """A table; cells that are pairs (text, number) show the text and sort by the number."""
    head = "".join(f"<th>{escape(str(column))}</th>" for column in frame.columns)
    body = []
    for row in frame.itertuples(index=False, name=None):
        cells = []
        for cell in row:
            text, key = cell if isinstance(cell, tuple) else (cell, None)
            number = "" if key is None else f" class='n' data-key='{key!r}'"
            cells.append(f"<td{number}>{escape(str(text))}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    kind = " class='sortable'" if sort else ""
    return (
        f"<div class='wide'><table{kind}><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _number(value: object, text: str) -> tuple[str, float]:
    number = float(value)  # type: ignore[arg-type]
    return (text.format(number), number) if number == number else ("", float("-inf"))


def _summary(study: Study) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for row in summary_table(study).to_dict("records"):
        shown: dict[str, object] = {
            "variant": row["variant"],
            "bits a weight": _number(row["weight_bits"], "{:.2f}"),
            "size [kB]": _number(row["size_bytes"] / 1000, "{:,.1f}"),
            "top-1 [%]": _number(100 * row["top1"], "{:.1f}"),
            "agree [%]": _number(100 * row["agreement"], "{:.1f}"),
            "distortion predicted": _number(row["predicted_distortion"], "{:.3g}"),
            "measured": _number(row["measured_distortion"], "{:.3g}"),
        }
        for accelerator in study.request.accelerators:
            name = accelerator.name
            shown |= {
                f"{name} [ms]": _number(1e3 * row[f"{name}_seconds"], "{:.4g}"),
                f"{name} speedup": _number(row[f"{name}_speedup"], "{:.2f}"),
                f"{name} DRAM ratio": _number(row[f"{name}_dram_ratio"], "{:.2f}"),
                f"{name} energy ratio": _number(row[f"{name}_energy_ratio"], "{:.2f}"),
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
    return _table(pd.DataFrame(rows)) + text


def _figure(figure: StudyFigure) -> str:
    picture = base64.b64encode(figure.svg).decode()
    source, title = f"data:image/svg+xml;base64,{picture}", escape(figure.title)
    return (
        f"<h2>{title}</h2><figure><div class='wide'><img alt='{title}' src='{source}'></div>"
        f"<figcaption>{escape(figure.caption)} "
        f"<a download='{figure.name}.svg' href='{source}'>SVG</a></figcaption></figure>"
    )


def _layers(study: Study) -> pd.DataFrame:
    import pandas as pd

    frame = layer_table(study)
    rows = []
    for row in frame[frame["variant"] == study.main.name].to_dict("records"):
        rows.append(
            {
                "accelerator": row["accelerator"],
                "layer": row["name"],
                "kind": row["kind"],
                "bits a weight": _number(row["mean_weight_bits"], "{:.2f}"),
                "activation bits": _number(row["mean_activation_bits"], "{:.1f}"),
                "MACs": _number(row["macs"], "{:,.0f}"),
                "cycles": _number(row["cycles"], "{:,.0f}"),
                "stall": _number(row["stall_cycles"], "{:,.0f}"),
                "utilisation [%]": _number(100 * row["utilisation"], "{:.1f}"),
                "DRAM [kbit]": _number(
                    (row["dram_read_bits"] + row["dram_write_bits"]) / 1e3, "{:,.1f}"
                ),
                "energy [uJ]": _number(row["energy_pj"] / 1e6, "{:,.2f}"),
                "fits": "yes" if row["fits_on_chip"] else "no",
            }
        )
    return pd.DataFrame(rows)


def _made(study: Study, made: Mapping[str, object]) -> pd.DataFrame:
    import pandas as pd

    rows = [(key, str(value)) for key, value in made.items()]
    rows += [(f"seconds for {stage}", f"{s:.2f}") for stage, s in study.seconds.items()]
    rows += [(f"curves: {key}", str(value)) for key, value in study.curves.method.items()]
    rows += [
        (accelerator.name, f"{accelerator.description}; source: {accelerator.source}")
        for accelerator in study.request.accelerators
    ]
    return pd.DataFrame(rows, columns=["what", "value"])
