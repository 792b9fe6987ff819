"""The figures of reproductions: ratios in panels, and curves with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from ..estimates import Estimate
from ..report.charts import GREY, PALETTE

WIDTH = 560


@dataclass(frozen=True)
class Bar:
    """One estimate in a panel."""

    panel: str
    name: str
    estimate: Estimate


@dataclass(frozen=True)
class CurvePoint:
    """One estimate of a curve."""

    panel: str
    name: str
    x: float
    estimate: Estimate
    floor: bool = False
    """Only an upper bound is known."""


def ratio_figure(bars: Sequence[Bar], title: str) -> alt.FacetChart:
    """Estimates with their intervals, one panel below the other, on a logarithmic axis with a rule at 1."""
    rows = [
        {
            "panel": bar.panel,
            "name": bar.name,
            "value": bar.estimate.value,
            "low": bar.estimate.low or bar.estimate.value,
            "high": bar.estimate.high or bar.estimate.value,
        }
        for bar in bars
        if bar.estimate.value
    ]
    names = list(dict.fromkeys(bar.name for bar in bars))
    color = alt.Color("name:N", scale=alt.Scale(domain=names, range=_colors(names)), legend=None)
    base = alt.Chart().encode(y=alt.Y("name:N", sort=names, title=None), color=color)
    x = alt.X("value:Q", title=title, scale=alt.Scale(type="log", nice=False, padding=24))
    rule = alt.Chart().mark_rule(color=GREY, strokeDash=[5, 3]).encode(x=alt.XDatum(1))
    layers = alt.layer(
        rule,
        base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q"),
        base.mark_point(filled=True, size=75, opacity=1).encode(x=x),
        base.mark_text(dy=-9, fontSize=10).encode(x=x, text=alt.Text("value:Q", format=".2f")),
    ).properties(width=WIDTH, height=alt.Step(30))
    panels = list(dict.fromkeys(bar.panel for bar in bars))
    return layers.facet(row=alt.Row("panel:N", sort=panels, header=_HEADER), data=alt.Data(values=rows))


def curve_figure(
    points: Sequence[CurvePoint], *, x_title: str, y_title: str, log_x: bool = True
) -> alt.FacetChart:
    """Curves with their points' intervals, on logarithmic axes; upper bounds point down."""
    rows = [
        {
            "panel": point.panel,
            "name": point.name,
            "x": point.x,
            "value": point.estimate.value,
            "low": point.estimate.low or point.estimate.value,
            "high": point.estimate.high or point.estimate.value,
            "kind": "upper bound" if point.floor else "measured",
        }
        for point in points
        if point.estimate.value
    ]
    names = list(dict.fromkeys(point.name for point in points))
    color = alt.Color(
        "name:N",
        title=None,
        scale=alt.Scale(domain=names, range=_colors(names)),
        legend=alt.Legend(orient="top"),
    )
    shape = alt.Shape(
        "kind:N",
        title=None,
        scale=alt.Scale(domain=["measured", "upper bound"], range=["circle", "triangle-down"]),
        legend=alt.Legend(orient="top"),
    )
    x = alt.X(
        "x:Q", title=x_title, scale=alt.Scale(type="log" if log_x else "linear", nice=False, padding=12)
    )
    y = alt.Y("value:Q", title=y_title, scale=alt.Scale(type="log"))
    base = alt.Chart().encode(x=x, color=color)
    layers = alt.layer(
        base.mark_line(strokeWidth=1.6).encode(y=y),
        base.mark_rule(strokeWidth=1.6).encode(y=alt.Y("low:Q", title=y_title), y2="high:Q"),
        base.mark_point(size=60, opacity=1).encode(y=y, shape=shape),
    ).properties(width=WIDTH, height=320)
    panels = list(dict.fromkeys(point.panel for point in points))
    return layers.facet(row=alt.Row("panel:N", sort=panels, header=_HEADER), data=alt.Data(values=rows))


def _colors(names: Sequence[str]) -> list[str]:
    return [PALETTE[i % len(PALETTE)] for i in range(len(names))]


_HEADER = alt.Header(
    title=None, labelOrient="top", labelAnchor="start", labelAngle=0, labelPadding=5, labelLimit=WIDTH
)
