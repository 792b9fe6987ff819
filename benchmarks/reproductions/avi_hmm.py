"""A hidden Markov model: every factor depends on all data, and no function of some of them closes the gap.

Margossian & Blei, "Amortized variational inference: when and why?", UAI 2024, section 3. With Gaussian states
the posterior is a Gaussian of tridiagonal precision. What any function of a datum, or of a window of data,
can reach on a series in which these are equal in many places has a closed form.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...models.latent_series import HiddenMarkov, best_linear, best_shared
from ...models.target import Density
from ...samplers.amortized import AmortizedVI
from ...samplers.variational import MeanFieldVI
from ...samplers.vi.settings import Fitting
from ..estimates import Estimate, estimate, ratio
from .avi_runs import SOURCE
from .avi_series_runs import (
    CLOSED,
    PAPER,
    Case,
    Series,
    SeriesPlan,
    case_rows,
    fitted_gap,
    measured_cases,
    memorizing_rows,
    positive,
    series,
    worst,
)
from .figures import CurvePoint, curve_figure
from .framework import PREDICTED, AtLeast, AtMost, Below, Claim, Outcome, Reproduction, Row, WithinFactor
from .laboratory import Laboratory, Measurement

MODEL = HiddenMarkov(rho=0.9, tau=1.0, sigma=2.0)
LEVEL = 0.8 * (MODEL.first**2 + MODEL.sigma**2) ** 0.5
"""The mean of |x| of a Gaussian is about 0.8 standard deviations."""
REACHES = (0, 1, 2)
"""Data before and after, in a window."""
NETWORK = AmortizedVI(width=32, depth=2)
ROUNDING = 1e-9


@dataclass(frozen=True)
class HmmPlan(SeriesPlan):
    """The size of the reproduction."""


def constant(n: int, seed: int) -> Series:
    """All data are equal; the seed is that of fits."""
    return Series(MODEL, np.full(n, LEVEL))


def signs(n: int, seed: int) -> Series:
    """A series of which only signs were recorded: ± `LEVEL`."""
    return Series(MODEL, LEVEL * np.sign(series(MODEL, n, seed).x))


def shared_case(n: int, reach: int) -> Case:
    family = AmortizedVI(width=NETWORK.width, depth=NETWORK.depth, before=reach, after=reach)
    return Case(f"{window(reach)} of signs, any map", family, lambda seed: signs(n, seed), best_shared)


def linear_case(n: int, reach: int) -> Case:
    family = AmortizedVI(depth=0, before=reach, after=reach)
    return Case(f"{window(reach)}, linear map", family, lambda seed: series(MODEL, n, seed), best_linear)


def constant_case(n: int) -> Case:
    return Case("all x_k equal, any map", AmortizedVI(depth=0), lambda seed: constant(n, seed), best_shared)


def window(reach: int) -> str:
    return "x_k" if not reach else f"x_(k−{reach}) … x_(k+{reach})"


def run(plan: HmmPlan, laboratory: Laboratory) -> Outcome:
    """The precision, the gaps of maps on equal and on distinct data, and those of free factors."""
    n, where = plan.n, f"n = {plan.n}, {plan.gradients} gradients a fit, {plan.seeds} series"
    cases = [
        constant_case(n),
        *(shared_case(n, reach) for reach in REACHES),
        *(linear_case(n, reach) for reach in REACHES),
    ]
    found = measured_cases(cases, plan.gradients, plan.seeds, laboratory)
    rows = precision_rows(plan, laboratory)
    rows += condition_rows(plan, cases[0], found[cases[0].name])
    for case in cases:
        rows += case_rows(case, found[case.name], where, tolerance=0.05)
    rows += window_rows(plan, {reach: found[shared_case(n, reach).name] for reach in REACHES}, where)
    rows += memorizing_rows(MODEL, plan, laboratory)
    rows += free_rows(plan, laboratory, found[shared_case(n, 0).name], where)
    notes = (
        f"z_k ~ N(ρ z_(k−1), τ²), x_k ~ N(z_k, σ²), stationary: ρ = {MODEL.rho:g}, τ = {MODEL.tau:g}, σ ="
        f" {MODEL.sigma:g}. Signs: x is simulated and ± {LEVEL:.3g} recorded. All x_k equal: {LEVEL:.3g}.",
        "Where inputs are equal in groups, P their indicators, any map has the means P a and one variance a"
        " group: the gap is ½ (m − Pa)ᵀ Λ (m − Pa) + ½ Σ log (mean of Λ_ll in the group of k) − ½ Σ log Λ_kk"
        " with a = (PᵀΛP)⁻¹ PᵀΛm. Windows have zeros beyond either end, which tell the ends from the rest.",
        "Gaps are exact: both ELBOs have closed forms. amortization_gap carries each fit on to a maximum of"
        " the exact ELBO; fits by stochastic gradients are what `AmortizedVI`"
        " gives, the best of its grid of learning rates. Here q is never p, and the path gradient keeps some"
        " variance. Intervals of medians over series are between order statistics, for eight series the"
        " extremes; others are Student's on logarithms.",
        said(found[shared_case(n, 0).name]),
    )
    return Outcome(tuple(rows), figure(plan, found), notes)


# -- the precision and the conditions -----------------------------------------------------------------


def precision_rows(plan: HmmPlan, laboratory: Laboratory) -> list[Row]:
    """Λ from the density alone."""
    wanted = [precision_measurement(series(MODEL, plan.n, seed), seed) for seed in range(plan.seeds)]
    found = laboratory.measure("precision", wanted)
    where = f"n = {plan.n}, {plan.seeds} series, second differences of log p at a random point"
    return [
        Row(
            Claim(statement, source, where, "0", AtMost(ROUNDING)),
            positive(result[name] for result in found),
            worst(result[name] for result in found),
        )
        for name, statement, source in (
            ("beyond", "Λ is tridiagonal: its largest element elsewhere over its largest", PAPER),
            ("formula", "Λ: largest difference from its closed form over its largest element", CLOSED),
        )
    ]


def precision_measurement(one: Series, seed: int) -> Measurement:
    """Elements beyond the first off-diagonals, and differences from the formula."""

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        precision = -second_differences(one.target.density, key, len(one.x))
        size = np.abs(precision).max()
        apart = np.abs(np.subtract.outer(*2 * [np.arange(len(one.x))]))
        away = np.abs(precision - MODEL.precision(len(one.x)))
        return {
            "beyond": float(np.abs(precision[apart > 1]).max() / size),
            "formula": float(away.max() / size),
        }

    setting = {"target": one.target.digest, "second_differences": True}
    return Measurement(f"precision, series {seed}", setting, seed, compute)


def second_differences(density: Density, key: Array, dim: int) -> np.ndarray:
    """f(x + e_i + e_j) − f(x + e_i) − f(x + e_j) + f(x), ``f[dim, dim]``: the Hessian of a quadratic f."""
    x, steps = jax.random.normal(key, (dim,)), jnp.eye(dim)
    value = jax.vmap(density.log_density)
    single = value(x + steps)
    double = jax.lax.map(lambda step: value(x + step + steps), steps)
    return np.asarray(double - single[:, None] - single + density.log_density(x))


def condition_rows(plan: HmmPlan, case: Case, results: Sequence[dict[str, Any]]) -> list[Row]:
    """What `amortization_gap` says of the reason: equal data have other factors, as locals interact."""
    best = constant(plan.n, 0).posterior.best
    deviations = np.sqrt(best.variance)
    typical = np.exp(np.log(deviations).mean())
    expected = {
        "mean_difference": float(np.ptp(best.mean) / typical),
        "log_sd_difference": float(np.ptp(np.log(deviations))),
    }
    where = f"{case.name.split(',')[0]}, n = {plan.n}"
    rows = [
        Row(
            Claim(
                f"equal data: by how much {what} of optimal factors differ (conditions of amortization_gap),"
                " relative difference from its closed form",
                CLOSED,
                where,
                f"0 (closed form: {expected[name]:.4g}{unit})",
                AtMost(1e-6),
            ),
            positive(result[name] / expected[name] - 1 for result in results),
        )
        for name, what, unit in (
            ("mean_difference", "means", " sd"),
            ("log_sd_difference", "log standard deviations", ""),
        )
    ]
    claim = Claim(
        "local parameters interact: largest change of a gradient when those of other data move (conditions of"
        " amortization_gap), nats per sd",
        PAPER,
        where,
        "above 0: not a hierarchical model",
        AtLeast(0.1),
    )
    return [*rows, Row(claim, estimate(result["interaction"] for result in results))]


def said(results: Sequence[dict[str, Any]]) -> str:
    """The conditions as counts, for a note."""
    counts = [sum(bool(result[name]) for result in results) for name in ("independent", "same_factors")]
    return (
        f"amortization_gap of signs, x_k: local parameters of different data are independent in {counts[0]}"
        f" of {len(results)} series, and data with equal inputs have equal optimal factors in {counts[1]}."
    )


# -- windows and free factors -------------------------------------------------------------------------


def window_rows(plan: HmmPlan, found: dict[int, list[dict[str, Any]]], where: str) -> list[Row]:
    """Windows shrink the gap, and do not close it."""
    gaps = {reach: estimate(result["gap"] for result in found[reach]) for reach in REACHES}
    closed = {
        reach: np.array([shared_case(plan.n, reach).closed(seed) for seed in range(plan.seeds)])
        for reach in REACHES
    }
    last = REACHES[-1]
    rows = []
    for reach in REACHES[1:]:
        relative = [a["gap"] / b["gap"] for a, b in zip(found[reach], found[0], strict=True)]
        expected = float(np.exp(np.mean(np.log(closed[reach] / closed[0]))))
        claim = Claim(
            f"{window(reach)} of signs, any map: gap over that of x_k",
            CLOSED,
            where,
            f"{expected:.4g}",
            WithinFactor(expected, 1.01),
        )
        rows.append(Row(claim, estimate(relative)))
    claim = Claim(
        f"{window(last)} of signs, any map: gap that is left, nats",
        f"{PAPER}: no function of finitely many neighbours closes it",
        where,
        f"{closed[last].min():.3g} – {closed[last].max():.3g}, above 0",
        AtLeast(0.1),
    )
    return [*rows, Row(claim, gaps[last])]


def free_rows(
    plan: HmmPlan, laboratory: Laboratory, results: Sequence[dict[str, Any]], where: str
) -> list[Row]:
    """F-VI's optimum, known and fitted with either estimate of the gradient."""
    here = [signs(plan.n, seed) for seed in range(plan.seeds)]
    away = [result["factorized"] / one.best_elbo - 1 for result, one in zip(results, here, strict=True)]
    optimum = Claim(
        "F-VI's optimum (amortization_gap): ELBO, relative difference from its closed form",
        "closed form: m = Λ⁻¹ b, v_k = 1/Λ_kk",
        where,
        "0",
        AtMost(ROUNDING),
    )
    families = {name: MeanFieldVI(fitting=Fitting(estimator=name)) for name in ("path", "total")}
    wanted = [
        fitted_gap(f"F-VI, {name}, series {seed}", family, one, plan.gradients, seed)
        for name, family in families.items()
        for seed, one in enumerate(here)
    ]
    fitted = laboratory.measure("free factors", wanted)
    path, total = fitted[: plan.seeds], fitted[plan.seeds :]
    rows = [Row(optimum, positive(away))]
    for name, what, limit in (
        ("gap", "nats below its optimum", 0.1),
        ("mean_error", "largest error of a mean, in its sd", 0.2),
        ("log_sd_error", "largest error of a log standard deviation", 0.1),
    ):
        claim = Claim(f"F-VI fitted, path gradient: {what}", CLOSED, where, "0", AtMost(limit))
        rows.append(Row(claim, positive(r[name] for r in path), worst(r[name] for r in path)))
    compared = Claim(
        "F-VI fitted: nats below its optimum, path over total gradient",
        PREDICTED,
        where,
        "below 1, though q is not p",
        Below(1.0),
    )
    return [*rows, Row(compared, ratio(estimate(r["gap"] for r in path), estimate(r["gap"] for r in total)))]


# -- the figure ---------------------------------------------------------------------------------------


def figure(plan: HmmPlan, found: dict[str, list[dict[str, Any]]]):
    """Gaps against the number of data in a window."""
    points = []
    for what, case_of in (("signs, any map", shared_case), ("linear map", linear_case)):
        for reach in range(max(REACHES) + 3):
            case = case_of(plan.n, reach)
            closed = estimate(case.closed(seed) for seed in range(plan.seeds))
            points.append(CurvePoint(PANEL, f"{what}: closed form", 2 * reach + 1, Estimate(closed.value)))
            if reach in REACHES:
                measured = estimate(result["stochastic"] for result in found[case.name])
                points.append(CurvePoint(PANEL, f"{what}: fitted", 2 * reach + 1, measured))
    return curve_figure(points, x_title="data in the window", y_title="gap, nats", log_x=False)


PANEL = (
    "hidden Markov model: gap of windows, means over series with the spread of fits by stochastic gradients"
)

AVI_HMM = Reproduction(
    name="avi-hmm",
    title="No function of a datum closes the gap of a hidden Markov model; windows shrink it",
    sources=(SOURCE,),
    default=HmmPlan(),
    full=HmmPlan(seeds=24, n=400, gradients=60_000, short=40, memorizing=10_000, new_series=256),
    run=run,
)
