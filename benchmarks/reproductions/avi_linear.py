"""Amortized VI on a linear latent model: every gap against its closed form, and a race on one grid of rates.

Margossian & Blei, "Amortized variational inference: when and why?", UAI 2024, section 4. The posterior is a
Gaussian: F-VI's optimum, the ELBO of every factorized Gaussian and what a constant factor costs are exact, so
that nothing but the optimization is measured.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...models.latent_linear import LatentLinear, latent_linear, simulate_latent_linear
from ...samplers.amortized import AmortizedVI
from ...samplers.variational import ConstantFactorVI, MeanFieldVI
from ...samplers.vi.fits import Fit, VariationalSampler
from ...samplers.vi.settings import Fitting
from ..estimates import Estimate
from .avi_races import STARTS, RaceSubject, race_of
from .avi_runs import SOURCE, GaussianPosterior, factors_of, fit_measurement
from .figures import CurvePoint, curve_figure
from .framework import AtMost, Between, Claim, Outcome, Reproduction, Row
from .laboratory import Laboratory
from .stochastic_runs import mean_estimate

TAU, SIGMA = 1.155, 2.43
EXACT = "closed form"
FITTING = Fitting(samples=1, window=20, patience=10)
"""One draw a gradient: with 10⁴ local parameters it is the mean of many terms already."""
CONSTANT, LINEAR, FREE = "constant factor", "linear network", "F-VI"
TOLERANCE = 1e-3
"""Of a gap, over the constant factor's."""
DEEP_TOLERANCE = 1e-2
"""The same for networks that have to learn to be linear."""
FACTOR_TOLERANCE = 0.05
"""Of a mean, in standard deviations, and of a log standard deviation; each worth 0.00125 nats."""
SPREAD = 3.0
"""Standard errors of a mean over data sets."""
GOAL = 0.01
"""A fit has arrived when its ELBO is as near to F-VI's optimum, in constant gaps."""
EVERY = 10
"""Steps between two looks at a race."""


@dataclass(frozen=True)
class LinearPlan:
    """The size of the reproduction."""

    n: int = 10_000
    gradients: int = 2000
    """Of a fit, at most."""
    widths: tuple[int, ...] = (4, 16)
    race_steps: int = 400
    """Of every rate from random points; a quarter of it from the climb's end."""
    seeds: int = 8
    """Data sets, each with a fit of every family."""


@functools.lru_cache(maxsize=32)
def posterior(n: int, seed: int) -> tuple[LatentLinear, GaussianPosterior]:
    """A data set, and what is known of its posterior."""
    model = simulate_latent_linear(n, TAU, SIGMA, seed)
    return model, GaussianPosterior(latent_linear(model), model.mode, model.curvature)


def families(plan: LinearPlan) -> dict[str, VariationalSampler]:
    """Everything that is fitted, under the same settings."""
    deep = {f"network, 2 × {k}": AmortizedVI(FITTING, width=k) for k in plan.widths}
    linear = AmortizedVI(FITTING, depth=0)
    return {CONSTANT: ConstantFactorVI(FITTING), LINEAR: linear, FREE: MeanFieldVI(FITTING), **deep}


def run(plan: LinearPlan, laboratory: Laboratory) -> Outcome:
    """Gaps and optima, then the race."""
    rows, costs = gap_rows(plan, laboratory)
    races, points, rates = race_rows(plan, laboratory)
    notes = (
        f"θ flat, z_k ~ N(0, 1), x_k ~ N(θ + τ z_k, σ²), n = {plan.n:,}, τ = {TAU:g}, σ = {SIGMA:g}; θ = 0 in"
        f" the simulation. {plan.seeds} data sets, one fit of every family to each, of at most"
        f" {plan.gradients} gradients with start and grid. ELBOs are exact: of a fit, its means and standard"
        " deviations are all that enters.",
        "What a constant factor costs has the expectation (n − 1) τ²/(2 σ²) over data sets, and a standard"
        " deviation of √(2/(n − 1)) of it; on a data set it is τ² Σ(x_k − x̄)²/(2 σ² (σ² + τ²)).",
        f"All families: {FITTING.samples} draw a gradient, windows of {FITTING.window} steps, learning rates"
        f" {', '.join(f'{rate:g}' for rate in FITTING.learning_rates)} of Adam. The authors' published"
        " notebooks take 100 draws, and Adam at 0.001 for F-VI but 0.01 for A-VI.",
        *costs,
        f"The race: every rate of the grid without decay, looked at every {EVERY} steps, has arrived within"
        f" {GOAL:.0%} of the constant gap from F-VI's optimum. Counted are the start and all rates of the"
        " grid until the best one arrives, the one with the smallest median over seeds. The paper's"
        " criterion, 1 % of |ELBO|, depends on the constant that the density has.",
        *rates,
    )
    figure = curve_figure(
        points, x_title="gradients of one rate, with the start's", y_title="F-VI's optimum minus ELBO, nats"
    )
    return Outcome((*rows, *races), figure, notes)


# -- gaps ---------------------------------------------------------------------------------------------


def evaluated(found: Fit, sampler: VariationalSampler, exact: GaussianPosterior) -> dict[str, float]:
    """How far a fit is from F-VI's optimum: in nats, and in its worst mean and standard deviation."""
    loc, scale = factors_of(sampler, found.problem, found.params)
    root = np.sqrt(exact.curvature)
    return {
        "below": exact.optimum - exact.elbo(loc, scale),
        "mean": float(np.max(np.abs(loc - exact.mode) * root)),
        "log_sd": float(np.max(np.abs(np.log(scale * root)))),
    }


def gap_rows(plan: LinearPlan, laboratory: Laboratory) -> tuple[list[Row], list[str]]:
    """Every family against its closed form, and what the fits have cost."""
    samplers, seeds = families(plan), range(plan.seeds)
    wanted = []
    for name, sampler in samplers.items():
        for seed in seeds:
            exact = posterior(plan.n, seed)[1]
            evaluate = functools.partial(evaluated, sampler=sampler, exact=exact)
            wanted.append(fit_measurement(name, sampler, exact.target, plan.gradients, seed, evaluate))
    results = iter(laboratory.measure("fits", wanted))
    found = {name: [next(results) for _ in seeds] for name in samplers}

    constants = [posterior(plan.n, seed)[0].constant_gap for seed in seeds]
    gaps = [result["below"] for result in found[CONSTANT]]
    expected = plan.n * TAU**2 / (2 * SIGMA**2)
    reach = SPREAD * math.sqrt(2 / (plan.n * plan.seeds))
    where = f"n = {plan.n:,}, {plan.seeds} data sets"
    claim = Claim(
        "gap of the constant factor over nτ²/(2σ²), mean over data sets",
        EXACT,
        where,
        f"1 ({expected:.1f} nats)",
        Between(round(1 - reach, 4), round(1 + reach, 4)),
    )
    rows = [
        Row(claim, mean_estimate(gap / expected for gap in gaps), f"{np.mean(gaps):.1f} nats"),
        _worst_row(
            "gap of the constant factor: largest relative difference from that of its data set",
            EXACT,
            where,
            [abs(gap / constant - 1) for gap, constant in zip(gaps, constants, strict=True)],
            TOLERANCE,
        ),
    ]
    for name in (n for n in samplers if n != CONSTANT):
        what = "distance of its ELBO from its optimum" if name == FREE else "its gap"
        relative = [result["below"] / c for result, c in zip(found[name], constants, strict=True)]
        bound = TOLERANCE if name in (FREE, LINEAR) else DEEP_TOLERANCE
        statement = f"{name}: {what} over the constant factor's gap, largest"
        rows.append(_worst_row(statement, EXACT, where, relative, bound))
    for which, what in (("mean", "its means, in sd"), ("log_sd", "its log sds")):
        statement = f"{FREE}: largest error of {what}, all coordinates"
        values = [result[which] for result in found[FREE]]
        rows.append(_worst_row(statement, f"{EXACT}, 1/Λ_kk", where, values, FACTOR_TOLERANCE))
    costs = ", ".join(
        f"{name} {np.mean([r['gradients'] for r in results]):,.0f}"
        f" ({sum(r['converged'] for r in results)} of {plan.seeds} converged by the rule)"
        for name, results in found.items()
    )
    return rows, [f"Gradients of a fit, start and grid counted, mean: {costs}."]


def _worst_row(statement: str, source: str, where: str, values: Sequence[float], bound: float) -> Row:
    measured = Estimate(max(values), kind="maximum", values=tuple(values))
    return Row(
        Claim(statement, source, where, "0", AtMost(bound)), measured, f"median {np.median(values):.2g}"
    )


# -- the race -----------------------------------------------------------------------------------------


def race_rows(plan: LinearPlan, laboratory: Laboratory) -> tuple[list[Row], list[CurvePoint], list[str]]:
    """A-VI against F-VI from both starts, the curves, and all rates in words."""
    known = [posterior(plan.n, seed) for seed in range(plan.seeds)]
    subjects = [
        RaceSubject(exact.target, exact.elbo, exact.optimum, GOAL * model.constant_gap)
        for model, exact in known
    ]
    contenders = {FREE: MeanFieldVI(FITTING), f"A-VI, {LINEAR}": AmortizedVI(FITTING, depth=0)}
    rows, points, notes = [], [], []
    for start, words in STARTS.items():
        steps = plan.race_steps if start == "random" else max(EVERY, plan.race_steps // 4)
        race = race_of(laboratory, contenders, subjects, words, start=start, steps=steps, every=EVERY)
        rows.append(race.row(f"n = {plan.n:,}, linear network, the same grid for both, its cost counted"))
        points += race.curves()
        notes += race.notes()
    return rows, points, notes


AVI_LINEAR = Reproduction(
    name="avi-linear",
    title="A linear network closes the amortization gap of a linear latent model; a constant loses nτ²/2σ²",
    sources=(SOURCE, "Its authors' notebooks: github.com/charlesm93/AVI-when-and-why, linear_prob_model"),
    default=LinearPlan(),
    full=LinearPlan(gradients=10_000, widths=(1, 2, 4, 8, 16, 32), race_steps=2000, seeds=16),
    run=run,
)
