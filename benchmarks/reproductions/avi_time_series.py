"""A saw-tooth series: the datum before decides too, so that a network of one datum stays behind free factors.

Margossian & Blei, "Amortized variational inference: when and why?", UAI 2024, section 3. The latent variables
are independent given the data, hence q can be the posterior, and every ELBO is exact.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...models.latent_series import Factors, SawTooth, best_linear, best_shared
from ...samplers.amortized import AmortizedVI
from ...samplers.variational import MeanFieldVI
from ...samplers.vi.settings import Fitting
from ..estimates import estimate
from .avi_runs import SOURCE, race_measurement
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
    new_series,
    positive,
    series,
    worst,
)
from .figures import CurvePoint, curve_figure
from .framework import PREDICTED, AtLeast, AtMost, Claim, Outcome, Reproduction, Row, WithinFactor
from .laboratory import Laboratory

MODEL = SawTooth(alpha=0.8, tau=1.0, sigma=1.0)
SHIFTED = replace(MODEL, start=5.0)
PATH = Fitting(tolerance=1e-6, halvings=14)
"""Small steps in the end: what is claimed goes far below the default tolerance of 0.01 nats."""
TOTAL = replace(PATH, estimator="total")
ONE = AmortizedVI(depth=0, fitting=PATH)
WINDOW = replace(ONE, before=1)
NETWORK = AmortizedVI(width=32, depth=2)
RACE_RATE = 0.03
FLOOR = 1e-12
"""A relative gap that is drawn as no more than known to be small."""
CLOSES = 1e-6
"""Of the gap of one datum."""


@dataclass(frozen=True)
class TimeSeriesPlan(SeriesPlan):
    """The size of the reproduction."""

    race_steps: int = 1500


def rounded(n: int, seed: int) -> Series:
    """Data recorded as whole numbers: many are equal."""
    return Series(MODEL, np.round(series(MODEL, n, seed).x))


def cases(n: int) -> tuple[Case, ...]:
    return (
        Case("x_k, linear map", ONE, lambda seed: series(MODEL, n, seed), best_linear),
        Case("x_k in whole numbers, any map", NETWORK, lambda seed: rounded(n, seed), best_shared, 2),
        Case(
            "(x_(k−1), x_k), linear map, but x_0 = 5 and 0 before x_1",
            WINDOW,
            lambda seed: series(SHIFTED, n, seed),
            best_linear,
        ),
    )


def run(plan: TimeSeriesPlan, laboratory: Laboratory) -> Outcome:
    """Gaps against their closed forms, with a window, on new series, and of free factors."""
    where = f"n = {plan.n}, {plan.gradients} gradients a fit, {plan.seeds} series"
    maps = cases(plan.n)
    found = measured_cases(maps, plan.gradients, plan.seeds, laboratory)
    rows = [row for case in maps for row in case_rows(case, found[case.name], where, tolerance=0.01)]
    linear, whole = (found[case.name] for case in maps[:2])
    rows += [equal_inputs_row(plan, whole, where)]
    rows += [*window_rows(plan, laboratory, where), *memorizing_rows(MODEL, plan, laboratory)]
    rows += free_rows(plan, laboratory, linear, where)
    notes = (
        f"z_k ~ N(0, τ²), x_k ~ N(α x_(k−1) + z_k, σ²): α = {MODEL.alpha:g}, τ = {MODEL.tau:g}, σ ="
        f" {MODEL.sigma:g}. m_k = τ²/(τ² + σ²) (x_k − α x_(k−1)) with equal variances; a linear map of x_k"
        " leaves ½ (1/τ² + 1/σ²) times the residual sum of squares of m_k on (1, x_k).",
        "x_0 is known and 0, except where another value is named: the zero that a window has before the first"
        " datum is then the right one, and the window's map is exact at every datum.",
        "Gaps are exact: both ELBOs have closed forms. amortization_gap carries each fit on to a maximum of"
        " the exact ELBO, and takes the better of two for whole numbers; fits by stochastic gradients are"
        " what `AmortizedVI` gives, the best of its grid of"
        f" learning rates. Where {CLOSES:g} is claimed fits go on to {PATH.halvings} halvings of the rate,"
        f" with a tolerance of {PATH.tolerance:g} nats. Intervals of medians over series are between order"
        " statistics, for eight series the extremes; others are Student's on logarithms.",
        "amortization_gap says of the linear map of x_k that locals are independent given the globals"
        f" ({linear[0]['independent']}), and of whole numbers that data with equal inputs have the same local"
        f" model ({whole[0]['same_models']}).",
        "The figure's rate only falls where the rule of convergence halves it. Adam divides gradients by"
        " their own size: where they vanish it does not stay as near as it came; a fit's rate also decays.",
    )
    return Outcome(tuple(rows), figure(plan, laboratory), notes)


def one_gap(n: int, seed: int) -> float:
    """The closed form for a linear map of x_k."""
    return cases(n)[0].closed(seed)


def equal_inputs_row(plan: TimeSeriesPlan, results: list[dict[str, Any]], where: str) -> Row:
    """What the conditions say of equal data."""
    away = []
    for seed, result in enumerate(results):
        here = rounded(plan.n, seed)
        best = here.posterior.best
        spans = [np.ptp(best.mean[here.x == value]) for value in np.unique(here.x)]
        away.append(result["mean_difference"] / (max(spans) / best.variance[0] ** 0.5) - 1)
    claim = Claim(
        "x_k in whole numbers: by how much optimal means differ where x_k is the same, in sd (conditions of"
        " amortization_gap), relative difference from its closed form",
        CLOSED,
        where,
        "0: equal data have other factors, and one map cannot serve them",
        AtMost(1e-6),
    )
    spread = [result["mean_difference"] for result in results]
    return Row(claim, positive(away), f"{min(spread):.3g} – {max(spread):.3g} sd")


def window_rows(plan: TimeSeriesPlan, laboratory: Laboratory, where: str) -> list[Row]:
    """Two data close the gap, as far as the gradient's noise lets them; here and on new series."""
    here = [series(MODEL, plan.n, seed) for seed in range(plan.seeds)]
    new = [new_series(MODEL, plan.n, plan.new_series, seed) for seed in range(plan.seeds)]
    families = {"one": ONE, "path": WINDOW, "total": replace(WINDOW, fitting=TOTAL)}
    wanted = [
        fitted_gap(f"{name}, series {seed}", family, one, plan.gradients, seed, new[seed])
        for name, family in families.items()
        for seed, one in enumerate(here)
    ]
    results = laboratory.measure("windows", wanted)
    found = {name: results[i * plan.seeds : (i + 1) * plan.seeds] for i, name in enumerate(families)}
    ones = [one_gap(plan.n, seed) for seed in range(plan.seeds)]
    relative = {
        name: [result["gap"] / one for result, one in zip(found[name], ones, strict=True)]
        for name in families
    }
    unexplained = MODEL.unexplained(plan.n)
    elsewhere = f"fitted to n = {plan.n}, mean of {plan.new_series} new series"
    path = Claim(
        "(x_(k−1), x_k), linear map, path gradient: gap over that of x_k",
        f"{PAPER}: q can be p, where the path gradient has no variance",
        where,
        "0",
        AtMost(CLOSES),
    )
    total = Claim(
        "(x_(k−1), x_k), linear map, total gradient: gap over that of x_k",
        PREDICTED,
        where,
        "noise of the gradient is left: above 1e-6",
        AtLeast(CLOSES),
    )
    on_new = Claim(
        "(x_(k−1), x_k), linear map, path gradient: gap on new series over the best of any function of x_k",
        CLOSED,
        elsewhere,
        "0",
        AtMost(CLOSES),
    )
    one_on_new = Claim(
        "x_k, linear map: gap on new series over the best of any function of x_k",
        f"Σ ½ (1/τ² + 1/σ²) Var(m_k | x_k) = {unexplained:.4g} nats",
        elsewhere,
        "1, and a little for four fitted numbers",
        WithinFactor(1.0, 1.25),
    )
    return [
        Row(path, positive(relative["path"]), worst(relative["path"])),
        Row(total, positive(relative["total"]), worst(relative["total"])),
        Row(on_new, positive(result["new"] / unexplained for result in found["path"])),
        Row(one_on_new, estimate(result["new"] / unexplained for result in found["one"])),
    ]


def free_rows(
    plan: TimeSeriesPlan, laboratory: Laboratory, one: list[dict[str, Any]], where: str
) -> list[Row]:
    """F-VI: its optimum is the posterior, and it finds that."""
    here = [series(MODEL, plan.n, seed) for seed in range(plan.seeds)]
    families = [MeanFieldVI(fitting=fitting) for fitting in (PATH, TOTAL)]
    wanted = [
        fitted_gap(f"F-VI, {family.fitting.estimator}, series {seed}", family, x, plan.gradients, seed)
        for family in families
        for seed, x in enumerate(here)
    ]
    gaps = [result["gap"] for result in laboratory.measure("free factors", wanted)]
    away = [result["factorized"] / s.model.log_evidence(s.x) - 1 for result, s in zip(one, here, strict=True)]
    evidence = Claim(
        "F-VI's optimum (amortization_gap): ELBO over log p(x), relative difference",
        "the posterior is factorized: ELBO = log p(x)",
        where,
        "0",
        AtMost(1e-9),
    )
    rows = [Row(evidence, positive(away))]
    for family, rule, figure in (
        (families[0], AtMost(1e-6), "0"),
        (families[1], AtLeast(1e-6), "noise of the gradient is left"),
    ):
        name = family.fitting.estimator
        values = gaps[: plan.seeds] if name == "path" else gaps[plan.seeds :]
        claim = Claim(
            f"F-VI fitted, {name} gradient: nats below its optimum",
            CLOSED if name == "path" else PREDICTED,
            where,
            figure,
            rule,
        )
        rows.append(Row(claim, positive(values), worst(values)))
    return rows


# -- the figure ---------------------------------------------------------------------------------------


def figure(plan: TimeSeriesPlan, laboratory: Laboratory):
    """The gap against gradients, at one learning rate."""
    racing = replace(PATH, learning_rates=(RACE_RATE,))
    total = replace(racing, estimator="total")
    families = {
        "x_k, path gradient": replace(ONE, fitting=racing),
        "(x_(k−1), x_k), path gradient": replace(WINDOW, fitting=racing),
        "(x_(k−1), x_k), total gradient": replace(WINDOW, fitting=total),
    }
    here = [series(MODEL, plan.n, seed) for seed in range(plan.seeds)]
    every = max(1, plan.race_steps // 30)
    wanted = [
        race_measurement(
            f"race: {name}, series {seed}",
            family,
            one.target,
            plan.race_steps,
            every,
            seed,
            functools.partial(minus_gap, one),
        )
        for name, family in families.items()
        for seed, one in enumerate(here)
    ]
    results = laboratory.measure("race", wanted)
    ones = [one_gap(plan.n, seed) for seed in range(plan.seeds)]
    panel = f"gap over that of the best linear map of x_k, at a learning rate of {RACE_RATE:g}"
    points = []
    for i, name in enumerate(families):
        own = results[i * plan.seeds : (i + 1) * plan.seeds]
        started = float(np.mean([result["start"] for result in own]))
        for mark, spent in enumerate(own[0]["gradients"]):
            values = [-result["elbo"][0][mark] / one for result, one in zip(own, ones, strict=True)]
            drawn = estimate(max(value, FLOOR) for value in values)
            points.append(CurvePoint(panel, name, started + spent, drawn, max(values) <= FLOOR))
    return curve_figure(points, x_title="gradients", y_title="relative gap")


def minus_gap(here: Series, mean: np.ndarray, deviation: np.ndarray) -> float:
    """The ELBO up to a constant, which is lost in no digits where the gap is small."""
    return -here.posterior.gap(Factors(mean, deviation**2))


AVI_TIME_SERIES = Reproduction(
    name="avi-time-series",
    title="A network of one datum leaves a gap on a series; a window of two data closes it",
    sources=(SOURCE,),
    default=TimeSeriesPlan(),
    full=TimeSeriesPlan(seeds=24, n=400, gradients=60_000, short=40, memorizing=10_000, new_series=256),
    run=run,
)
