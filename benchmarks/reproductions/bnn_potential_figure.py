"""The figure of the neural potential: bands of each method's curves, and their coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from ...models.neural_potential import DOMAIN, morse
from ..report.charts import GREY, PALETTE
from .predictive import QUANTILES, REGIONS, Study

COLUMNS = 3
TALLEST = 1.6
"""Energies that are shown, in both directions."""


def potential_figure(study: Study, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> alt.VConcatChart:
    """Bands of the first replicate, one panel a method, above the coverage in all replicates."""
    return alt.vconcat(_bands(study, found), _coverage(found))


def _bands(study: Study, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> alt.FacetChart:
    held_out = study.simulate(0).held_out
    x = np.concatenate([held_out[region].x for region in REGIONS])
    order = np.argsort(x)
    rows = []
    for name, results in found.items():
        levels = np.concatenate([results[0][region]["quantiles"] for region in REGIONS], axis=1)[:, order]
        columns = zip(x[order], levels[0], np.median(levels, axis=0), levels[-1], strict=True)
        rows += [
            {"method": name, "x": at, "low": low, "middle": middle, "high": high, "truth": morse(at)}
            for at, low, middle, high in columns
        ]
    title = f"energy; {100 * (QUANTILES[-1] - QUANTILES[0]):.0f} % of the curves"
    scale = alt.Scale(domain=[-TALLEST, TALLEST])
    base = alt.Chart().encode(x=alt.X("x:Q", title="x"))
    ends = [alt.Chart().mark_rule(color=GREY, strokeDash=[4, 3]).encode(x=alt.XDatum(end)) for end in DOMAIN]
    layers = alt.layer(
        base.mark_area(opacity=0.3, color=PALETTE[0], clip=True).encode(
            y=alt.Y("low:Q", title=title, scale=scale), y2="high:Q"
        ),
        base.mark_line(color=PALETTE[0], strokeWidth=1.4, clip=True).encode(
            y=alt.Y("middle:Q", title=title, scale=scale)
        ),
        base.mark_line(color="black", strokeWidth=1, strokeDash=[3, 2], clip=True).encode(
            y=alt.Y("truth:Q", title=title, scale=scale)
        ),
        *ends,
    ).properties(width=200, height=130)
    header = alt.Header(title=None, labelAnchor="start")
    return layers.facet(
        facet=alt.Facet("method:N", sort=list(found), header=header),
        columns=COLUMNS,
        data=alt.Data(values=rows),
    )


def _coverage(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> alt.FacetChart:
    rows = [
        {"method": name, "region": region, "coverage": one[region]["coverage_90"]}
        for name, results in found.items()
        for region in REGIONS
        for one in results
    ]
    title, scale = "coverage of central 90 % intervals: replicates, mean", alt.Scale(domain=[0, 1])
    base = alt.Chart().encode(y=alt.Y("method:N", sort=list(found), title=None))
    nominal = alt.Chart().mark_rule(color=GREY, strokeDash=[5, 3]).encode(x=alt.XDatum(0.9))
    layers = alt.layer(
        nominal,
        base.mark_point(color=PALETTE[0], size=45, opacity=0.8).encode(
            x=alt.X("coverage:Q", title=title, scale=scale)
        ),
        base.mark_tick(color=PALETTE[1], thickness=2.5).encode(
            x=alt.X("mean(coverage):Q", title=title, scale=scale)
        ),
    ).properties(width=270, height=alt.Step(20))
    header = alt.Header(title=None, labelAnchor="start")
    return layers.facet(
        column=alt.Column("region:N", sort=list(REGIONS), header=header), data=alt.Data(values=rows)
    )
