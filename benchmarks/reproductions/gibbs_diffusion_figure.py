"""The figure of Gibbs diffusion: images, the noise's posterior with draws over it, and ECDFs of ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np

from ..report.charts import GREY, PALETTE
from . import gibbs_diffusion_grid as grid
from .gibbs_diffusion_calibration import BAND, ecdf_band, ecdf_difference
from .gibbs_diffusion_runs import FIELD, Variant, chains_of

IMAGE = 118
"""Pixels of the page along an image's edge."""
PANEL = 210
CELLS = 50
"""Of the noise's posterior, along each axis."""
SHOWN = {"phi": "φ", "sigma": "σ", "log_likelihood": "log p(y | φ, σ)"}
"""Quantities whose ranks are drawn."""
COLUMNS = 4


@dataclass(frozen=True)
class Page:
    """What is drawn."""

    names: Mapping[Variant, str]
    compared: Sequence[Variant]
    """Whose images are drawn."""
    calibrations: Mapping[Variant, Sequence[Mapping[str, Any]]]
    draws: Mapping[Variant, int]
    """How many were ranked."""


def figure(page: Page) -> alt.VConcatChart:
    """All parts, one below the other."""
    return alt.vconcat(images(page), posteriors(page), ranks(page)).resolve_scale(color="independent")


def images(page: Page) -> alt.VConcatChart:
    """A row a data set: the field, the data, posterior means, and a draw of the first denoiser."""
    rows = []
    for number, first in enumerate(_pictures(page, page.compared[0])):
        phi, sigma = first["truth"]
        columns = {"field": first["x"], f"data, φ = {phi:.2f}, σ = {sigma:.2f}": first["y"]}
        for name in page.compared:
            picture = _pictures(page, name)[number]
            columns[f"{page.names[name]}: mean"] = picture["mean"]
        columns[f"{page.names[page.compared[0]]}: one draw"] = first["draw"]
        limit = float(np.abs(np.concatenate([np.ravel(first["x"]), np.ravel(first["y"])])).max())
        rows.append(alt.hconcat(*(_image(title, x, limit) for title, x in columns.items()), spacing=8))
    return alt.vconcat(*rows)


def _image(title: str, x: Sequence[Sequence[float]], limit: float) -> alt.Chart:
    values = [{"i": i, "j": j, "x": v} for i, row in enumerate(x) for j, v in enumerate(row)]
    scale = alt.Scale(scheme="redblue", domain=[-limit, limit])
    axis = {"axis": None, "scale": alt.Scale(paddingInner=0, paddingOuter=0)}
    return (
        alt.Chart(alt.Data(values=values))
        .mark_rect()
        .encode(
            x=alt.X("j:O", **axis), y=alt.Y("i:O", **axis), color=alt.Color("x:Q", scale=scale, legend=None)
        )
        .properties(width=IMAGE, height=IMAGE, title=alt.Title(title, fontSize=10, anchor="start"))
    )


def posteriors(page: Page) -> alt.VConcatChart:
    """p(φ, σ | y) by the grid, with the draws of every denoiser, and the truth."""
    rows = []
    for number, first in enumerate(_pictures(page, page.compared[0])):
        phi, sigma, density = grid.density_on_cells(FIELD, np.asarray(first["y"]), CELLS)
        reach = (phi[1] - phi[0]) / 2, (sigma[1] - sigma[0]) / 2
        cells = [
            {
                "φ0": p - reach[0],
                "φ1": p + reach[0],
                "σ0": s - reach[1],
                "σ1": s + reach[1],
                "p": density[i, j],
            }
            for i, p in enumerate(phi.tolist())
            for j, s in enumerate(sigma.tolist())
            if density[i, j] > 1e-3
        ]
        panels = [
            _posterior(page.names[name], cells, _pictures(page, name)[number]) for name in page.compared
        ]
        rows.append(alt.hconcat(*panels))
    return alt.vconcat(*rows)


def _posterior(
    title: str, cells: list[dict[str, float]], picture: Mapping[str, Any]
) -> alt.LayerChart | alt.FacetChart:
    x = alt.Scale(domain=list(FIELD.phi), nice=False)
    y = alt.Scale(domain=list(FIELD.sigma), nice=False)
    heat = (
        alt.Chart(alt.Data(values=cells))
        .mark_rect()
        .encode(
            x=alt.X("φ0:Q", scale=x, title="φ"),
            x2="φ1:Q",
            y=alt.Y("σ0:Q", scale=y, title="σ"),
            y2="σ1:Q",
            color=alt.Color("p:Q", scale=alt.Scale(scheme="greys", domain=[0, 1]), legend=None),
        )
    )
    draws = alt.Chart(alt.Data(values=[{"φ": p, "σ": s} for p, s in picture["draws"]]))
    truth = alt.Chart(alt.Data(values=[dict(zip("φσ", picture["truth"], strict=True))]))
    place = {"x": alt.X("φ:Q", scale=x, title="φ"), "y": alt.Y("σ:Q", scale=y, title="σ")}
    return alt.layer(
        heat,
        draws.mark_point(filled=True, size=14, opacity=0.75, color=PALETTE[0]).encode(**place),
        truth.mark_point(shape="cross", filled=True, size=110, opacity=1, color=PALETTE[1]).encode(**place),
    ).properties(
        width=PANEL, height=PANEL, title=alt.Title(f"{title}: draws, exact density, truth", fontSize=10)
    )


def ranks(page: Page) -> alt.ConcatChart:
    """ECDF of the truth's ranks minus the uniform one, with the band of uniform ranks; scales differ."""
    title = f"Ranks of the truth, and the band that {BAND:.0%} of the ECDFs of uniform ranks never leave"
    panels = [_ecdf(page, name) for name in page.names]
    return alt.concat(*panels, columns=COLUMNS, title=alt.Title(title, fontSize=11, anchor="start"))


def _ecdf(page: Page, name: Variant) -> alt.LayerChart | alt.FacetChart:
    chains, draws = chains_of(page.calibrations[name]), page.draws[name]
    at = (np.arange(1, draws + 2) / (draws + 1)).tolist()
    low, high = ecdf_band(len(chains), draws)
    band = [{"rank": a, "low": b, "high": c} for a, b, c in zip(at, low, high, strict=True)]
    lines = [
        {"rank": a, "difference": d, "quantity": shown}
        for key, shown in SHOWN.items()
        for a, d in zip(at, ecdf_difference([c["ranks"][key] for c in chains], draws), strict=True)
    ]
    names = list(SHOWN.values())
    color = alt.Color(
        "quantity:N",
        title=None,
        scale=alt.Scale(domain=names, range=PALETTE[: len(names)]),
        legend=alt.Legend(orient="top"),
    )
    x = alt.X("rank:Q", title="rank of the truth / number", scale=alt.Scale(domain=[0, 1]))
    title = "ECDF − uniform"
    return alt.layer(
        alt.Chart(alt.Data(values=band))
        .mark_area(color=GREY, opacity=0.3, interpolate="step-after")
        .encode(x=x, y=alt.Y("low:Q", title=title), y2="high:Q"),
        alt.Chart(alt.Data(values=lines))
        .mark_line(strokeWidth=1.5, interpolate="step-after")
        .encode(x=x, y=alt.Y("difference:Q", title=title), color=color),
    ).properties(width=165, height=130, title=alt.Title(page.names[name], fontSize=10, anchor="start"))


def _pictures(page: Page, name: Variant) -> list[Mapping[str, Any]]:
    return page.calibrations[name][0]["pictures"]
