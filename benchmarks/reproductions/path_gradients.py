"""Path and total gradients of the evidence lower bound: which varies less where, and what that does to fits.

Roeder, Wu & Duvenaud, "Sticking the landing", NeurIPS 2017; Vaitl, Nicoli, Nakajima & Kessel, "Path-gradient
estimators for continuous normalizing flows", 2022, and "Fast and unified path gradient estimators for
normalizing flows", ICLR 2024. The target N(0, 1) and q = N(m, s²) have every variance in closed form, so that
what the estimators of this project give is held against it; fits follow in `path_gradients_fits`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import stats

from ...models.gaussian import correlated_gaussian, standard_gaussian
from ...models.target import Target
from ...samplers.vi.families import Problem, Space
from ...samplers.vi.gaussian import Factors, MeanFieldGaussian
from ...samplers.vi.objective import elbo_gradient
from ..estimates import Estimate, estimate
from ..report.charts import PALETTE
from .figures import WIDTH
from .framework import (
    AtLeast,
    AtMost,
    Below,
    Claim,
    Outcome,
    Reproduction,
    Row,
    WithinFactor,
)
from .laboratory import Laboratory, Measurement
from .path_gradients_fits import FitsPlan, far_rows, gaussian_rows
from .path_gradients_posteriors import (
    measure_posteriors,
    posterior_figure,
    posterior_notes,
    posterior_rows,
)
from .stochastic_runs import mean_estimate

type Estimator = Literal["path", "total"]
ESTIMATORS: tuple[Estimator, ...] = ("path", "total")
COORDINATES = ("m", "log s")
MEANS = (0.0, 0.01, 0.1, 1.0, 3.0)
BOUNDARY = -0.5 * np.log(2.0)
"""log s where both estimators vary alike: s² = ½."""
LOG_SCALES = (-3.0, -2.0, -1.0, BOUNDARY, -0.1, -0.01, 0.0, 0.01, 0.1, 0.5, 1.0)
GRID = tuple((m, float(log_s)) for m in MEANS for log_s in LOG_SCALES)
OPTIMUM, NEAR, NARROW, WIDE = (0.0, 0.0), (0.01, 0.01), (1.0, -1.0), (1.0, 1.0)
TOLERANCE = 1.05
"""A factor: the largest of some hundred errors of estimated variances is to be well within it."""
FALSE_ALARM = 1e-3
"""Probability that some z of correct means is beyond its bound, by Bonferroni."""
CLOSED_FORM = "closed form"
STICKING = "Roeder, Wu & Duvenaud 2017, section 3"
SHOWN = 1e-5
"""The smallest variance in the figure: at the optimum the path gradient has none."""
CHAIN = 5
"""Dimension of the correlated Gaussian."""
CORRELATION = 0.9


@dataclass(frozen=True)
class PathPlan(FitsPlan):
    """The size of the reproduction; that of the fits is inherited."""

    draws: int = 20_000
    """Of q, for the variances at one point, per seed."""


def variances(estimator: Estimator, m: float, log_s: float) -> tuple[float, float]:
    """Exact variances of the gradient of one draw with respect to m and log s, p = N(0, 1), q = N(m, s²).

    With x = m + s e the derivative of log p − log q along x is −x for the total gradient, which adds that of
    log q's own log s: (−x, 1 − x s e). With log q's parameters held it is −x + e/s = −m + (1/s − s) e, hence
    (−m + (1/s − s) e, −m s e + (1 − s²) e²). The means are −m and 1 − s² for both, and the path gradient
    varies less where (1 − s²)² < s⁴: where s² > ½, whatever m is.
    """
    s2 = float(np.exp(2 * log_s))
    if estimator == "total":
        return s2, m**2 * s2 + 2 * s2**2
    return (1 - s2) ** 2 / s2, m**2 * s2 + 2 * (1 - s2) ** 2


def means(m: float, log_s: float) -> tuple[float, float]:
    """The gradient of the ELBO."""
    return -m, 1 - float(np.exp(2 * log_s))


# -- measuring ----------------------------------------------------------------------------------------


def standardized(target: Target) -> Problem:
    """The target as it is, for families on R^dim."""
    return Problem(target.density, jnp.zeros(target.dim), jnp.ones(target.dim), Space(target.dim))


@functools.partial(jax.jit, static_argnums=0)
def gradients(estimator: Estimator, problem: Problem, at: Factors, keys: Array) -> Array:
    """Estimates of the gradient from one draw each, ``f[draw, 2 dim]``, by the estimator of all fits."""

    def one(key: Array) -> Array:
        found = elbo_gradient(MeanFieldGaussian(), problem, estimator, at, key[None])
        return jnp.concatenate(found.gradient)

    return jax.vmap(one)(keys)


def moments(draws: np.ndarray) -> dict[str, list[float]]:
    """Of ``f[draw, coordinate]``, in JSON's terms."""
    return {"mean": draws.mean(axis=0).tolist(), "variance": draws.var(axis=0, ddof=1).tolist()}


def grid_measurement(draws: int, seed: int) -> Measurement:
    """Means and variances of both estimators, from the same draws, and of their difference."""

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        problem, keys = standardized(standard_gaussian(1)), jax.random.split(key, draws)
        points = []
        for m, log_s in GRID:
            at = Factors(jnp.full(1, m), jnp.full(1, log_s))
            path, total = (np.asarray(gradients(name, problem, at, keys)) for name in ESTIMATORS)
            found = {"path": path, "total": total, "difference": path - total}
            points.append({name: moments(values) for name, values in found.items()})
        return {"points": points}

    return Measurement("N(0, 1)", {"variances": GRID, "draws": draws}, seed, compute)


def chain_measurement(draws: int, seed: int) -> Measurement:
    """Summed variances with respect to the means, at the mean-field optimum of a correlated Gaussian."""

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        problem = standardized(correlated_gaussian(CHAIN, CORRELATION))
        log_scale = jnp.asarray(-0.5 * np.log(np.diag(chain_precision())))
        at, keys = Factors(jnp.zeros(CHAIN), log_scale), jax.random.split(key, draws)
        found = {name: np.asarray(gradients(name, problem, at, keys))[:, :CHAIN] for name in ESTIMATORS}
        return {name: float(values.var(axis=0, ddof=1).sum()) for name, values in found.items()}

    setting = {"mean-field optimum": [CHAIN, CORRELATION], "draws": draws}
    return Measurement("correlated Gaussian", setting, seed, compute)


def chain_precision() -> np.ndarray:
    i = np.arange(CHAIN)
    return np.linalg.inv(CORRELATION ** np.abs(i[:, None] - i))


def chain_ratio() -> float:
    """Path over total variance of the means' gradients, summed, at the mean-field optimum of N(0, Λ⁻¹).

    With q = N(m, D) the total gradient −Λx has covariance ΛDΛ, and the path gradient −Λx + D⁻¹(x − m) that of
    D⁻¹ − 2Λ + ΛDΛ. The optimum has D⁻¹ = diag Λ: the ratio of traces is 1 − tr Λ/tr(ΛDΛ). (Anywhere, the path
    gradient varies less in coordinate k where q's factor is less than twice as precise as p's conditional.)
    """
    precision = chain_precision()
    total = np.trace(precision @ np.diag(1 / np.diag(precision)) @ precision)
    return float(1 - np.trace(precision) / total)


# -- rows ---------------------------------------------------------------------------------------------

type Results = Sequence[Mapping[str, Any]]


def measured_variance(
    results: Results, estimator: Estimator, point: tuple[float, float], of: int
) -> list[float]:
    """One a seed; ``of``: the coordinate's number."""
    place = GRID.index(point)
    return [result["points"][place][estimator]["variance"][of] for result in results]


def variance_ratio(results: Results, point: tuple[float, float], of: int) -> Estimate:
    """Path over total, paired by seed: both are from the same draws."""
    path, total = (measured_variance(results, name, point, of) for name in ESTIMATORS)
    return estimate(np.array(path) / np.array(total))


def grid_rows(plan: PathPlan, results: Results) -> list[Row]:
    """Claims about single points, then about all of them."""
    size = f"{plan.seeds} × {plan.draws:,} draws"
    zero = max(max(measured_variance(results, "path", OPTIMUM, of)) for of in (0, 1))
    rows = [
        Row(
            Claim(
                "path gradient at the optimum: largest variance over both parameters",
                STICKING,
                _at(OPTIMUM),
                "0: q is p, every draw gives the same gradient",
                AtMost(0.0),
            ),
            mean_estimate([zero]),
            size,
        )
    ]
    for of, coordinate in enumerate(COORDINATES):
        for name in ESTIMATORS:
            exact = variances(name, *NARROW)[of]
            claim = Claim(
                f"{name} gradient with respect to {coordinate}: variance",
                CLOSED_FORM,
                _at(NARROW),
                f"{exact:.4g}",
                WithinFactor(exact, TOLERANCE),
            )
            rows.append(Row(claim, estimate(measured_variance(results, name, NARROW, of))))
    cases = (
        (NEAR, "near the optimum, path is far better", Below(0.01)),
        (WIDE, "far from it, q too wide: path still better, by little", Below(1.0)),
        (NARROW, "far from it, q too narrow: path is worse", AtLeast(5.0)),
    )
    for point, words, rule in cases:
        for of, coordinate in enumerate(COORDINATES):
            path, total = (variances(name, *point)[of] for name in ESTIMATORS)
            statement = f"{words}: variance of path over total, with respect to {coordinate}"
            claim = Claim(statement, CLOSED_FORM, _at(point), f"{path / total:.4g}", rule)
            rows.append(Row(claim, variance_ratio(results, point, of)))
    return [*rows, order_row(results), variance_row(results), mean_row(plan, results)]


def order_row(results: Results) -> Row:
    """The rule of thumb: the path gradient is the better one where s² > ½."""
    points = [point for point in GRID if point[1] != LOG_SCALES[3]]
    wrong = sum(
        (
            np.mean(measured_variance(results, "path", p, of))
            < np.mean(measured_variance(results, "total", p, of))
        )
        != (p[1] > BOUNDARY)
        for p in points
        for of in (0, 1)
    )
    claim = Claim(
        "path varies less where s² > ½, total where s² < ½, whatever m: cases to the contrary",
        CLOSED_FORM,
        f"{len(points)} pairs of m and s, both parameters",
        "0",
        AtMost(0.0),
    )
    return Row(claim, mean_estimate([float(wrong)]), f"of {2 * len(points)}")


def variance_row(results: Results) -> Row:
    """The worst agreement of all."""
    factors = []
    for point in GRID:
        for name in ESTIMATORS:
            for of, exact in enumerate(variances(name, *point)):
                if exact > 0:
                    found = float(np.mean(measured_variance(results, name, point, of)))
                    factors.append(float(np.exp(abs(np.log(found / exact)))))
    claim = Claim(
        "measured over predicted variance, the largest factor between them",
        CLOSED_FORM,
        f"{len(GRID)} pairs of m and s, both parameters and estimators",
        "1",
        AtMost(TOLERANCE),
    )
    return Row(claim, mean_estimate([max(factors)]), f"{len(factors)} variances")


def mean_row(plan: PathPlan, results: Results) -> Row:
    """Neither estimator is biased anywhere: both against the gradient of the ELBO, and against each other."""
    scores = []
    for place, point in enumerate(GRID):
        exact = {"path": means(*point), "total": means(*point), "difference": (0.0, 0.0)}
        for name, expected in exact.items():
            found = [result["points"][place][name] for result in results]
            for of in (0, 1):
                center = np.mean([x["mean"][of] for x in found]) - expected[of]
                variance = np.mean([x["variance"][of] for x in found])
                error = np.sqrt(variance / (plan.draws * len(found)))
                # Where nothing varies the mean is the gradient itself, up to rounding.
                scores.append(abs(center) / max(error, 1e-12))
    bound = round(float(stats.norm.isf(FALSE_ALARM / (2 * len(scores)))), 2)
    claim = Claim(
        "both have the gradient of the ELBO as their mean: the largest |z|, of each and of their difference",
        f"{STICKING}: the score has mean 0",
        f"{len(GRID)} pairs of m and s, both parameters",
        f"at most {bound:g} in {1 - FALSE_ALARM:.1%} of cases",
        AtMost(bound),
    )
    return Row(claim, mean_estimate([float(max(scores))]), f"{len(scores)} z-scores")


def chain_row(results: Results) -> Row:
    """What is gained where q cannot be p."""
    exact = chain_ratio()
    claim = Claim(
        "q cannot be p, at the mean-field optimum of a correlated Gaussian: variance of path over total, with"
        " respect to the means",
        "closed form: 1 − tr Λ/tr(ΛDΛ)",
        f"{CHAIN} dimensions, ρ = {CORRELATION:g}",
        f"{exact:.4g}",
        WithinFactor(exact, TOLERANCE),
    )
    return Row(claim, estimate(result["path"] / result["total"] for result in results))


def _at(point: tuple[float, float]) -> str:
    return "N(0, 1), q = N(m, s²): m = {:g}, log s = {:g}".format(*point)


def run(plan: PathPlan, laboratory: Laboratory) -> Outcome:
    """Variances against closed forms, then fits."""
    seeds = range(plan.seeds)
    grid = laboratory.measure("variances", [grid_measurement(plan.draws, seed) for seed in seeds])
    chain = laboratory.measure("mean field", [chain_measurement(plan.draws, seed) for seed in seeds])
    gaussian = gaussian_rows(plan, laboratory)
    far, far_figure = far_rows(plan, laboratory)
    found = measure_posteriors(plan, laboratory)
    notes = (
        "Variances are those of the gradient from one draw; the mean of S draws has an S-th of it. Both"
        " estimators are those of all variational methods here, and are given the same draws. At m = 0 and"
        " log s = 0 the path gradient's variance is 0: there its curve has no point.",
        "Fits are this project's: Adam, the learning rate falling along a cosine in the last four tenths, the"
        " rule of convergence switched off, so that both estimators spend the same number of gradients. The"
        " two share their start, and the draws that they are judged by.",
        *posterior_notes(),
    )
    figure = alt.vconcat(variance_figure(grid), far_figure, posterior_figure(plan, found)).resolve_scale(
        color="independent", shape="independent", x="independent", y="independent"
    )
    rows = *grid_rows(plan, grid), chain_row(chain), *gaussian, *far, *posterior_rows(plan, found)
    return Outcome(rows, figure, notes)


def variance_figure(results: Results) -> alt.FacetChart:
    """Both variances across log s at m = 0: closed forms as lines, what was measured as points."""
    panels = [
        f"N(0, 1), m = 0: variance with respect to {coordinate}; lines: closed form, points: measured"
        for coordinate in COORDINATES
    ]
    rows = []
    for of, panel in enumerate(panels):
        for name in ESTIMATORS:
            for x in np.linspace(LOG_SCALES[0], LOG_SCALES[-1], 201):
                exact = variances(name, 0.0, float(x))[of]
                rows.append({"panel": panel, "name": name, "x": float(x), "exact": exact})
            for x in LOG_SCALES:
                found = float(np.mean(measured_variance(results, name, (0.0, x), of)))
                rows.append({"panel": panel, "name": name, "x": x, "measured": found})
    shown = [row for row in rows if max(row.get("exact", 0.0), row.get("measured", 0.0)) > SHOWN]
    color = alt.Color(
        "name:N",
        title=None,
        scale=alt.Scale(domain=ESTIMATORS, range=PALETTE[:2]),
        legend=alt.Legend(orient="top"),
    )
    base = alt.Chart().encode(x=alt.X("x:Q", title="log s"), color=color)
    scale = alt.Scale(type="log", domainMin=SHOWN)
    layers = alt.layer(
        base.mark_line(strokeWidth=1.6).encode(y=alt.Y("exact:Q", title="variance", scale=scale)),
        base.mark_point(size=60, opacity=1).encode(y=alt.Y("measured:Q", title="variance", scale=scale)),
    ).properties(width=WIDTH, height=280)
    header = alt.Header(title=None, labelOrient="top", labelAnchor="start", labelLimit=WIDTH)
    return layers.facet(row=alt.Row("panel:N", sort=panels, header=header), data=alt.Data(values=shown))


PATH_GRADIENTS = Reproduction(
    name="path-gradients",
    title="Path gradients do not vary where q is p, vary less near it, and more where q is too narrow",
    sources=(
        "Roeder, Wu & Duvenaud (2017), Sticking the landing: simple, lower-variance gradient estimators for"
        " variational inference, NeurIPS",
        "Vaitl, Winkler, Richter & Kessel (2024), Fast and unified path gradient estimators for normalizing"
        " flows, ICLR; arXiv 2403.15881",
    ),
    default=PathPlan(),
    full=PathPlan(seeds=16, draws=100_000, gradients=16_000, gaussian_gradients=40_000),
    run=run,
)
