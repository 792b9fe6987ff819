"""The figure of gibbs-mixing: autocorrelations of five scans, and relaxation times against the dimension."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from ..report.charts import DASHES, PALETTE
from .figures import WIDTH
from .gibbs_mixing_relaxation import BOUNDS, Case, relaxation_time
from .gibbs_mixing_runs import Result

FIGURE_LAGS = 25
LINES = ("exact", *BOUNDS)


def figure(
    scans: Mapping[str, Sequence[Result]],
    predicted: Callable[[str], np.ndarray],
    relaxed: Sequence[tuple[Case, Sequence[Result]]],
) -> alt.VConcatChart:
    """Both parts, one below the other."""
    parts = alt.vconcat(scan_figure(scans, predicted), relaxation_figure(relaxed))
    return parts.resolve_scale(color="independent", shape="independent", strokeDash="independent")


def scan_figure(
    scans: Mapping[str, Sequence[Result]], predicted: Callable[[str], np.ndarray]
) -> alt.LayerChart | alt.FacetChart:
    """Predicted as lines, measured as points."""
    rows: list[dict[str, Any]] = []
    for scan, results in scans.items():
        exact = predicted(scan)
        for lag in range(1, FIGURE_LAGS + 1):
            measured = float(np.mean([result["mean"][lag - 1] for result in results]))
            rows.append({"scan": scan, "lag": lag, "exact": float(exact[lag]), "measured": measured})
    names = list(scans)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("lag:Q", title="lag, sweeps"),
        color=alt.Color(
            "scan:N",
            title=None,
            scale=alt.Scale(domain=names, range=PALETTE[: len(names)]),
            legend=alt.Legend(orient="top"),
        ),
        # The reversed scan lies on the systematic one: hollow shapes of their own keep both visible.
        shape=alt.Shape("scan:N", title=None, scale=alt.Scale(domain=names), legend=alt.Legend(orient="top")),
    )
    title = "autocorrelation"
    return alt.layer(
        base.mark_line(strokeWidth=1.4).encode(y=alt.Y("exact:Q", title=title)),
        base.mark_point(size=45, opacity=1).encode(y=alt.Y("measured:Q", title=title)),
    ).properties(
        width=WIDTH,
        height=280,
        title=alt.TitleParams(
            "Two coordinates, ρ = 0.9, the second one; lines: exact, points: measured", anchor="start"
        ),
    )


def relaxation_figure(relaxed: Sequence[tuple[Case, Sequence[Result]]]) -> alt.FacetChart:
    """Relaxation times with both bounds against n, one panel a family."""
    rows: list[dict[str, Any]] = []
    for case, results in relaxed:
        lines = {"exact": case.known.updates} | {name: of(case.known) for name, (_, of) in BOUNDS.items()}
        measured = relaxation_time(case, results)
        place = {"panel": f"random scan, {case.family}", "n": case.n}
        rows += [{**place, "name": name, "value": value} for name, value in lines.items()]
        rows.append({**place, "measured": measured.value, "low": measured.low, "high": measured.high})

    def y(name: str) -> alt.Y:
        axis = alt.Axis(format=".0e")
        return alt.Y(f"{name}:Q", title="updates", scale=alt.Scale(type="log"), axis=axis)

    x = alt.X(
        "n:Q",
        title="n",
        scale=alt.Scale(type="log", nice=False, padding=16),
        axis=alt.Axis(values=sorted({case.n for case, _ in relaxed})),
    )
    color = alt.Color(
        "name:N",
        title=None,
        scale=alt.Scale(domain=LINES, range=PALETTE[: len(LINES)]),
        legend=alt.Legend(orient="top"),
    )
    dash = alt.StrokeDash(
        "name:N",
        title=None,
        scale=alt.Scale(domain=LINES, range=DASHES[: len(LINES)]),
        legend=alt.Legend(orient="top"),
    )
    lines = alt.Chart().transform_filter("isValid(datum.name)").mark_line(strokeWidth=1.6)
    points = alt.Chart().transform_filter("isValid(datum.measured)")
    layers = alt.layer(
        lines.encode(x=x, y=y("value"), color=color, strokeDash=dash),
        points.mark_rule(strokeWidth=1.6).encode(x=x, y=y("low"), y2="high:Q"),
        points.mark_point(size=60, opacity=1, filled=True, color="black").encode(x=x, y=y("measured")),
    ).properties(width=WIDTH, height=230)
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    header = alt.Header(title=None, labelOrient="top", labelAnchor="start", labelLimit=WIDTH)
    return layers.facet(
        row=alt.Row("panel:N", sort=panels, header=header), data=alt.Data(values=rows)
    ).properties(title=alt.TitleParams("Relaxation time; points: measured", anchor="start"))
