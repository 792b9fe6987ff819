"""The report's charts, as Vega-Lite specifications made from a comparison's dictionary.

Only groups that are ok are drawn filled and in their sampler's colour; the others are hollow, grey and named.
What a logarithmic axis cannot show (undefined or 0) is returned in words: nothing is dropped in silence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from .definitions import metric_title
from .table import PER_1000, interval

# Okabe and Ito's colours, darkened where they are too faint for lines; told apart under colour blindness.
PALETTE = ["#0072b2", "#d55e00", "#009e73", "#b3589a", "#c78a00", "#3d9fd3", "#6f6f6f", "#8c5e3c"]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]]
GREY = "#8b9098"
WIDTH = 700
PANEL = 420
ALL = "all posteriors (geometric mean where both are ok)"


@dataclass(frozen=True)
class Chart:
    """A chart: `spec` is None where there is nothing to draw, `missing` says what is not drawn and why."""

    name: str
    title: str
    spec: dict[str, Any] | None
    missing: tuple[str, ...] = ()


def efficiency_chart(comparison: Mapping[str, Any]) -> Chart:
    """Minimum bulk ESS per 1000 gradients with warmup, and without as a tick, one row per group."""
    return _forest(
        comparison,
        "efficiency",
        "ess_bulk_per_gradient_with_warmup.min",
        "Minimum bulk ESS per 1000 gradients, warmup included (log scale)",
        tick="ess_bulk_per_gradient.min",
    )


def evaluation_chart(comparison: Mapping[str, Any]) -> Chart | None:
    """The same per evaluation of any kind, where some group could not be shown per gradient."""
    summaries = comparison["summaries"]
    if all(row["approximate"] or row["axis"] in (None, "gradient") for row in summaries):
        return None
    metric = "ess_bulk_per_evaluation_with_warmup.min"
    title = "Minimum bulk ESS per 1000 evaluations, warmup included (log scale)"
    return _forest(comparison, "evaluation", metric, title, tick="ess_bulk_per_evaluation.min")


def ratio_chart(comparison: Mapping[str, Any]) -> Chart:
    """Each sampler's ratio to the baseline on the metric that ranks, per posterior and over all of them."""
    status = {(row["posterior"], row["label"]): row["status"] for row in comparison["summaries"]}
    metric, baseline = comparison["rank_metric"], comparison["baseline"]
    points, missing = [], []
    for one in comparison["overall"]:
        if one["metric"] == metric and one["estimate"]["value"] is not None:
            points.append(_point(ALL, one["label"], one["estimate"], ok=True, status="ok"))
    for one in comparison["ratios"]:
        if one["metric"] != metric:
            continue
        if not one["estimate"]["value"]:
            missing.append(f"{one['posterior']}, {one['label']}: a side is undefined or has ESS 0")
            continue
        mine, theirs = status[one["posterior"], one["label"]], status[one["posterior"], one["baseline"]]
        outcome = mine if mine != "ok" else "ok" if theirs == "ok" else f"{one['baseline']} is {theirs}"
        points.append(_point(one["posterior"], one["label"], one["estimate"], one["both_ok"], outcome))
    reference = alt.Chart().mark_rule(color=GREY, strokeDash=[5, 3]).encode(x=alt.XDatum(1, title=None))
    return Chart(
        "ratio",
        f"{metric_title(metric)}, over that of {baseline} (log scale; right of 1 is better)",
        _forest_spec(comparison, points, under=[reference]) if points else None,
        tuple(missing),
    )


def error_chart(comparison: Mapping[str, Any]) -> Chart:
    """b² of x and of x² against what a chain spent, medians over seeds, with the reference's own noise."""
    title = "b² against gradients (or evaluations, by axis) per chain (both logarithmic)"
    rows, panels, missing = [], [], []
    for summary in comparison["summaries"]:
        if summary["curve"] is None:
            missing.append(f"{summary['posterior']}, {summary['label']}: no error curve")
            continue
        for key, series in summary["curve"]["series"].items():
            moment, over = key.split(".")
            panel = f"{summary['posterior']}: {'x' if moment == 'mean' else 'x²'}"
            panels.append(panel)
            rows += _curve_rows(summary, panel, over, series)
    if not rows:
        return Chart("error", title, None, tuple(missing))
    return Chart(
        "error",
        title,
        _error_spec(comparison, rows, list(dict.fromkeys(panels))),
        tuple(missing),
    )


def _curve_rows(
    summary: Mapping[str, Any], panel: str, over: str, series: Mapping[str, Sequence[float | None]]
) -> list[dict[str, Any]]:
    curve = summary["curve"]
    kind = "curve" if len(curve["gradients"]) > 1 else "point"
    shared = {"panel": panel, "over": over, "sampler": summary["label"], "status": summary["status_text"]}
    columns = zip(curve["gradients"], series["median"], series["low"], series["high"], strict=True)
    rows = [
        {**shared, "kind": kind, "gradients": x, "value": median, "low": low, "high": high}
        for x, median, low, high in columns
        if median is not None
    ]
    if rows and curve["noise_floor"]:
        rows.append({"panel": panel, "over": over, "kind": "floor", "value": curve["noise_floor"]})
    return rows


def _error_spec(
    comparison: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], panels: Sequence[str]
) -> dict[str, Any]:
    over = alt.param(
        name="over",
        value="average",
        bind=alt.binding_radio(options=["average", "maximum"], name="over parameters: "),
    )
    labels = comparison["labels"]
    legend = alt.Legend(
        orient="top",
        title=None,
        symbolOpacity=1,
        symbolSize=400,
        symbolType="stroke",
        symbolStrokeWidth=2.5,
        columns=4,
        labelLimit=260,
    )
    color = alt.Color("sampler:N", scale=alt.Scale(domain=labels, range=_colors(labels)), legend=legend)
    dashes = [DASHES[index % len(DASHES)] for index in range(len(labels))]
    dash = alt.StrokeDash("sampler:N", scale=alt.Scale(domain=labels, range=dashes), legend=legend)
    x_axis = alt.Axis(format="~s", labelOverlap=True, tickCount=4, grid=False)
    x_scale = alt.Scale(type="log", nice=False)
    x = alt.X(
        "gradients:Q", title="gradients (or evaluations, by axis) per chain", scale=x_scale, axis=x_axis
    )
    y_axis = alt.Axis(format=".0e", tickCount=4, grid=False)
    y = alt.Y("value:Q", title="b²", scale=alt.Scale(type="log"), axis=y_axis)
    curves = alt.Chart().transform_filter("datum.kind == 'curve' && datum.over == over")
    band = curves.mark_area(opacity=0.14).encode(x=x, y=alt.Y("low:Q", title="b²"), y2="high:Q", color=color)
    line = curves.mark_line(strokeWidth=1.8, point={"size": 14, "filled": True}).encode(
        x=x,
        y=y,
        color=color,
        strokeDash=dash,
        tooltip=["sampler:N", "status:N", "gradients:Q", "value:Q", "low:Q", "high:Q"],
    )
    # What paid for all of its draws before the first one: no line, but where it ended, and the seeds' range.
    points = alt.Chart().transform_filter("datum.kind == 'point' && datum.over == over")
    reach = points.mark_rule(strokeWidth=1.8).encode(
        x=x, y=alt.Y("low:Q", title="b²"), y2="high:Q", color=color
    )
    point = points.mark_point(size=70, filled=True, opacity=1).encode(
        x=x,
        y=y,
        color=color,
        tooltip=["sampler:N", "status:N", "gradients:Q", "value:Q", "low:Q", "high:Q"],
    )
    floors = alt.Chart().transform_filter("datum.kind == 'floor' && datum.over == over")
    floor = floors.mark_rule(color=GREY, strokeDash=[5, 3]).encode(y="max(value):Q")
    name = floors.mark_text(
        text="noise of the reference", align="right", dx=-4, dy=-6, color=GREY, fontSize=10
    )
    layers = alt.layer(band, line, reach, point, floor, name.encode(x=alt.value(PANEL), y="max(value):Q"))
    faceted = (
        layers.properties(width=PANEL, height=230)
        .facet(
            facet=alt.Facet("panel:N", sort=list(panels), header=_HEADER),
            columns=2,
            data=alt.Data(values=list(rows)),
        )
        .resolve_scale(x="independent", y="independent")
        .add_params(over)
    )
    return faceted.to_dict()


def _forest(
    comparison: Mapping[str, Any], name: str, metric: str, title: str, tick: str | None = None
) -> Chart:
    points, missing = [], []
    for row in comparison["summaries"]:
        estimate = row["metrics"][metric]
        if not estimate["value"]:
            why = "ESS 0" if estimate["value"] == 0 else row["reason"] or "undefined"
            missing.append(f"{row['posterior']}, {row['label']}: {why}")
            continue
        point = _point(
            row["posterior"], row["label"], estimate, row["status"] == "ok", row["status_text"], PER_1000
        )
        if tick and row["metrics"][tick]["value"]:
            point["tick"] = row["metrics"][tick]["value"] * PER_1000
        points.append(point)
    return Chart(name, title, _forest_spec(comparison, points) if points else None, tuple(missing))


def _point(
    panel: str, sampler: str, estimate: Mapping[str, Any], ok: bool, status: str, scale: float = 1.0
) -> dict[str, Any]:
    point = {
        "panel": panel,
        "sampler": sampler,
        "value": estimate["value"] * scale,
        "figure": interval(estimate, scale),
        "ok": ok,
        "status": status,
    }
    if estimate["low"] and estimate["high"]:
        point |= {"low": estimate["low"] * scale, "high": estimate["high"] * scale}
    return point


def _forest_spec(
    comparison: Mapping[str, Any],
    points: Sequence[Mapping[str, Any]],
    under: Sequence[alt.Chart] = (),
) -> dict[str, Any]:
    labels = comparison["labels"]
    panels = list(dict.fromkeys(point["panel"] for point in points))
    colors = dict(zip(labels, _colors(labels), strict=True))
    # Looks are data, not filters of layers: every layer then has the same rows, and so the same axis.
    rows = [
        {
            **point,
            "color": colors[point["sampler"]] if point["ok"] else GREY,
            "fill": colors[point["sampler"]] if point["ok"] else "transparent",
            "shape": "circle" if point["ok"] else "diamond",
            "note": "" if point["ok"] else point["status"],
        }
        for point in points
    ]
    y_axis = alt.Axis(labelLimit=280, ticks=False, domain=False, labelPadding=8, grid=True, title=None)
    x_axis = alt.Axis(format="~g", labelOverlap=True, tickCount=8)
    base = alt.Chart().encode(
        y=alt.Y("sampler:N", sort=labels, axis=y_axis),
        color=alt.Color("color:N", scale=None),
        tooltip=["panel:N", "sampler:N", "figure:N", "status:N"],
    )
    x = alt.X("value:Q", title=None, axis=x_axis, scale=alt.Scale(type="log", nice=False, padding=24))
    layers = [*under, base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=None), x2="high:Q")]
    if any("tick" in point for point in points):
        layers.append(
            base.mark_tick(thickness=1.6, size=13).encode(
                x=alt.X("tick:Q", title=None), color=alt.value(GREY)
            )
        )
    layers += [
        base.mark_point(size=75, strokeWidth=1.6, opacity=1).encode(
            x=x, fill=alt.Fill("fill:N", scale=None), shape=alt.Shape("shape:N", scale=None)
        ),
        base.mark_text(align="left", baseline="bottom", dx=7, dy=-1, fontSize=10).encode(x=x, text="note:N"),
    ]
    faceted = (
        alt.layer(*layers)
        .properties(width=WIDTH, height=alt.Step(25))
        .facet(row=alt.Row("panel:N", sort=panels, header=_HEADER), data=alt.Data(values=rows), spacing=16)
        .resolve_scale(y="independent")
        .resolve_axis(x="independent")
    )
    return faceted.to_dict()


def _colors(labels: Sequence[str]) -> list[str]:
    return [PALETTE[index % len(PALETTE)] for index in range(len(labels))]


_HEADER = alt.Header(
    title=None, labelOrient="top", labelAnchor="start", labelAngle=0, labelPadding=5, labelLimit=PANEL
)
