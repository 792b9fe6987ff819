"""How fast Gibbs sampling mixes: predicted on Gaussians and a regression, bounded by theory, and measured.

Wadia, "A mixing time bound for Gibbs sampling from log-smooth log-concave distributions", 2024; Ascolani,
Lavenant & Zanella, "Entropy contraction of the Gibbs sampler under log-concavity", 2024. Predictions are in
`gibbs_mixing_theory`; all of them are measured with the sampler's own kernel.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array
from scipy import stats

from ...models.gaussian import correlated_gaussian
from ...models.target import Target
from ...samplers.gibbs import Gibbs
from .. import metrics
from ..estimates import Estimate, estimate
from .contest import FRESH
from .framework import AtLeast, AtMost, Between, Claim, Outcome, Reproduction, Row, WithinFactor
from .gibbs_mixing_figure import figure
from .gibbs_mixing_posteriors import (
    BURN_IN,
    REGRESSION,
    PosteriorsPlan,
    conditioned,
    regression_rows,
    schools_rows,
)
from .gibbs_mixing_posteriors import LAGS as POSTERIOR_LAGS
from .gibbs_mixing_relaxation import (
    RelaxationPlan,
    exact_starts,
    measure_relaxation,
    relaxation_rows,
    relaxation_scores,
)
from .gibbs_mixing_runs import Result, by_seed, known_autocorrelations, summary, times, trace, z_score
from .gibbs_mixing_theory import FunctionSpace, integrated_time, linear_functions
from .laboratory import Laboratory, Measurement, sampler_setting
from .stochastic_runs import mean_estimate, stoppable_run

CORRELATION, WRONG = 0.9, 0.88
SCANS: Mapping[str, Gibbs] = {
    "systematic": Gibbs(),
    "reversed": Gibbs(scan="reversed"),
    "random-permutation": Gibbs(scan="random-permutation"),
    "random": Gibbs(scan="random"),
    "weighted ¼, ¾": Gibbs(scan="weighted", weights=(0.25, 0.75)),
}
LAGS = 100
"""Of the sums; the slowest function of the slowest scan has 0.93 to this power left."""
SHOWN_LAGS = 3
AUTOCORRELATION_TOLERANCE, TIME_TOLERANCE = 0.01, 0.05
ESS_FACTOR = 1.1
FALSE_ALARM = 1e-3
"""Probability that some z of correct predictions is beyond its bound, by Bonferroni."""
CHAINS = 4
"""Of a run of the sampler as users run it."""
OPERATOR = "from the transition operator on linear functions"


@dataclass(frozen=True)
class MixingPlan(RelaxationPlan, PosteriorsPlan):
    """The size of the reproduction; that of its parts is inherited."""

    chains: int = 512
    sweeps: int = 1000
    """Of the bivariate Gaussian, a chain."""
    run_budget: int = 40_000
    """Conditional draws of a chain, where the sampler is run as users run it."""


# -- the bivariate Gaussian ---------------------------------------------------------------------------


@functools.cache
def bivariate() -> Target:
    return correlated_gaussian(2, CORRELATION)


def bivariate_functions(correlation: float) -> FunctionSpace:
    return linear_functions(np.linalg.inv([[1.0, correlation], [correlation, 1.0]]))


def predicted_autocorrelations(scan: str, correlation: float = CORRELATION) -> np.ndarray:
    """Of the second coordinate, ``f[LAGS + 1]``."""
    space, sampler = bivariate_functions(correlation), SCANS[scan]
    return space.autocorrelations(space.sweep(sampler.scan, sampler.weights), 1, LAGS)


def second(x: Array) -> Array:
    return x[1:]


def scan_measurement(scan: str, plan: MixingPlan, seed: int) -> Measurement:
    """Autocorrelations of the second coordinate at lags 1 … LAGS, then the integrated time."""
    target, sampler = bivariate(), SCANS[scan]

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        first, then = jax.random.split(key)
        starts = exact_starts(target, first, plan.chains)
        values = trace(sampler, target, then, starts, second, plan.sweeps, stop)[..., 0]
        by_chain = known_autocorrelations(values, LAGS)
        return summary(np.column_stack([by_chain[:, 1:], times(by_chain)]))

    setting = {
        "target": target.digest,
        "sampler": sampler_setting(sampler),
        "size": [plan.chains, plan.sweeps, LAGS],
    }
    return Measurement(f"bivariate, {scan} scan", setting, seed, compute)


def run_measurement(plan: MixingPlan, seed: int) -> Measurement:
    """Draws per bulk ESS of the second coordinate, from the sampler's own start."""
    target, sampler = bivariate(), SCANS["systematic"]

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        run = stoppable_run(sampler, key, target, plan.run_budget, CHAINS, stop)
        ess = float(metrics.efficiency(run.draws).ess_bulk[1])
        return {"draws per ess": run.draws.shape[0] * run.draws.shape[1] / ess}

    setting = {
        "target": target.digest,
        "sampler": sampler_setting(sampler),
        "budget": plan.run_budget,
        "chains": CHAINS,
        "figure": "draws per bulk ESS",
    }
    return Measurement("bivariate, a run", setting, seed, compute)


type ByScan = Mapping[str, Sequence[Result]]


def measure_scans(plan: MixingPlan, laboratory: Laboratory, seeds: range) -> ByScan:
    wanted = [scan_measurement(scan, plan, seed) for seed in seeds for scan in SCANS]
    found = laboratory.measure("bivariate Gaussian", wanted)
    return {scan: found[i :: len(SCANS)] for i, scan in enumerate(SCANS)}


def scan_rows(found: ByScan) -> list[Row]:
    """Autocorrelations and their sums, scan by scan."""
    return [row for scan, results in found.items() for row in _rows_of_scan(scan, results)]


def _rows_of_scan(scan: str, results: Sequence[Result]) -> list[Row]:
    predicted = predicted_autocorrelations(scan)
    closed = scan == "systematic"
    rows = []
    for lag in range(1, SHOWN_LAGS + 1) if closed else (1,):
        r = predicted[lag]
        claim = Claim(
            f"bivariate: autocorrelation of the second coordinate at lag {lag}",
            "closed form: ρ^2k" if closed else OPERATOR,
            _setting(scan),
            f"{r:.4f}",
            Between(round(r - AUTOCORRELATION_TOLERANCE, 4), round(r + AUTOCORRELATION_TOLERANCE, 4)),
        )
        rows.append(Row(claim, mean_estimate(by_seed(results, lag - 1))))
    time = integrated_time(predicted)
    claim = Claim(
        "bivariate: integrated autocorrelation time of the second coordinate",
        "closed form: (1 + ρ²)/(1 − ρ²)" if closed else OPERATOR,
        _setting(scan),
        f"{time:.4g}",
        Between(round(time * (1 - TIME_TOLERANCE), 3), round(time * (1 + TIME_TOLERANCE), 3)),
        "sweeps",
    )
    return [*rows, Row(claim, mean_estimate(by_seed(results, LAGS)))]


def _setting(scan: str, correlation: float = CORRELATION) -> str:
    return f"ρ = {correlation:g}, {scan} scan"


def run_row(results: Sequence[Mapping[str, Any]]) -> Row:
    """What a comparison of samplers would show."""
    time = (1 + CORRELATION**2) / (1 - CORRELATION**2)
    claim = Claim(
        "bivariate: draws per bulk ESS of the second coordinate",
        "closed form: (1 + ρ²)/(1 − ρ²)",
        f"{_setting('systematic')}, a run of {CHAINS} chains",
        f"{time:.4g}",
        WithinFactor(time, ESS_FACTOR),
        "sweeps",
    )
    return Row(claim, estimate(result["draws per ess"] for result in results))


def scan_scores(found: ByScan) -> list[float]:
    """z of the first lags and the integrated time of every scan."""
    scores = []
    for scan, results in found.items():
        predicted = predicted_autocorrelations(scan)
        scores += [z_score(results, k - 1, predicted[k]) for k in range(1, SHOWN_LAGS + 1)]
        scores.append(z_score(results, LAGS, integrated_time(predicted)))
    return scores


def wrong_row(found: ByScan, bound: float) -> Row:
    """The same measurement, held against what it is not."""
    predicted = predicted_autocorrelations("systematic", WRONG)
    scores = [z_score(found["systematic"], k - 1, predicted[k]) for k in range(1, SHOWN_LAGS + 1)]
    claim = Claim(
        f"a wrong prediction is found out: smallest |z| against ρ = {WRONG:g}, lags 1 to {SHOWN_LAGS}",
        "the bound of the row above, exceeded",
        _setting("systematic"),
        f"at least {bound:g}",
        AtLeast(bound),
    )
    return Row(claim, arithmetic(min(map(abs, scores))))


def score_row(scores: Sequence[float]) -> Row:
    """Everything that is predicted exactly, at once."""
    bound = score_bound(len(scores))
    claim = Claim(
        "all of the above that is predicted exactly: the largest |z| of measured less predicted",
        "Monte Carlo error alone",
        f"{len(scores)} figures: autocorrelations and integrated times",
        f"at most {bound:g} in {1 - FALSE_ALARM:.1%} of cases",
        AtMost(bound),
    )
    return Row(claim, arithmetic(max(map(abs, scores))))


def score_bound(figures: int) -> float:
    """|z| that one of so many correct predictions exceeds with probability `FALSE_ALARM`."""
    return round(float(stats.norm.isf(FALSE_ALARM / (2 * figures))), 2)


def arithmetic(value: float) -> Estimate:
    """A figure without replicates."""
    return Estimate(value, kind="arithmetic", values=(value,))


# -- all of it ----------------------------------------------------------------------------------------


def run(plan: MixingPlan, laboratory: Laboratory) -> Outcome:
    """Two coordinates with five scans, relaxation times with their bounds, a regression, eight schools."""
    seeds = range(FRESH, FRESH + plan.seeds)  # others than those that orders were predicted from
    scans = measure_scans(plan, laboratory, seeds)
    runs = laboratory.measure("a run", [run_measurement(plan, seed) for seed in seeds])
    relaxed = measure_relaxation(plan, laboratory, seeds)
    regression, regression_scores = regression_rows(plan, laboratory, seeds)
    schools = schools_rows(plan, laboratory, seeds)
    scores = [*scan_scores(scans), *relaxation_scores(relaxed), *regression_scores]
    rows = [*scan_rows(scans), run_row(runs), *relaxation_rows(relaxed), *regression, score_row(scores)]
    rows += [wrong_row(scans, score_bound(len(scores))), *schools]
    return Outcome(tuple(rows), figure(scans, predicted_autocorrelations, relaxed), notes())


def notes() -> tuple[str, ...]:
    """What a reader of the table has to know."""
    target, data = conditioned(REGRESSION)
    return (
        "A sweep is as many updates as there are blocks. Chains on Gaussians start from exact draws and none"
        " is discarded; mean 0 and variance 1 are known, and autocorrelations are unbiased. Integrated times"
        f" are 1 + 2 Σ r_k over {LAGS} lags ({POSTERIOR_LAGS} on the regression), predicted and measured"
        " alike. Intervals are Student's over seeds; z-scores have the standard error over all chains.",
        "Random scan: one uniformly drawn coordinate an update. The relaxation time 1/(1 − λ₂) comes from the"
        " autocorrelation of the slowest eigenfunction (a linear function of x) about half a relaxation time"
        " apart, r = λ₂ to the number of updates between. Q is the precision matrix, from gradients of the"
        " log density, D its diagonal, κ the condition number of Q, and κ* = 1/λ_min(D^−½ Q D^−½).",
        "Ascolani, Lavenant & Zanella: an update contracts the Kullback-Leibler divergence to the target by"
        " 1 − 1/(κ* n). To second order about the target that is λ₂ ≤ √(1 − 1/(κ* n)), a relaxation time of"
        " at most 1/(1 − √(1 − 1/(κ* n))), between κ* n and 2 κ* n. The exact one is κ* n: the bound has the"
        " right order, and a factor of at most 2 is lost on the way from the divergence to eigenvalues.",
        "Wadia: O*(κ² n^7.5 max{1, √(log(2M/γ)/n)}²) updates lead from an M-warm start to a total variation"
        " of at most γ. That is no bound on a number while the constant is not given: shown is κ² n^7.5, the"
        " constant, the logarithms and the maximum taken as 1, next to the number of updates by which total"
        " variation falls by a factor of e in the end, the relaxation time. Compare orders alone.",
        f"Regression: {REGRESSION}, n = {data['N']}, d = {target.dim - 1}, flat priors; two blocks, β | σ and"
        f" σ | β, both exact. {BURN_IN} sweeps are dropped; mean and variance are those of all draws. Two"
        " blocks of which neither tells anything of the other have 1 sweep with the systematic scan and 5/3"
        " with the random one, which leaves a block as it was in a quarter of its sweeps.",
        "Eight schools: blocks θ, μ and τ; ESS is arviz-stats' rank-normalized bulk ESS of the parameter that"
        " has least, after the sampler's own warmup. Nothing is known in closed form: its rows are orders.",
    )


GIBBS_MIXING = Reproduction(
    name="gibbs-mixing",
    title="Gibbs sampling mixes as its transition operator predicts, and far faster than general bounds say",
    sources=(
        "Amit (1991), On rates of convergence of stochastic relaxation for Gaussian and non-Gaussian"
        " distributions, Journal of Multivariate Analysis 38",
        "Roberts & Sahu (1997), Updating schemes, correlation structure, blocking and parameterization for"
        " the Gibbs sampler, JRSS B 59",
        "Wadia (2024), A mixing time bound for Gibbs sampling from log-smooth log-concave distributions,"
        " arXiv 2412.17899",
        "Ascolani, Lavenant & Zanella (2024), Entropy contraction of the Gibbs sampler under log-concavity,"
        " arXiv 2410.00858",
        "Papaspiliopoulos, Roberts & Sköld (2007), A general framework for the parametrization of"
        " hierarchical models, Statistical Science 22",
    ),
    default=MixingPlan(),
    full=MixingPlan(
        seeds=16,
        chains=1024,
        sweeps=2000,
        run_budget=100_000,
        relaxation_chains=512,
        spans=80,
        regression_chains=256,
        regression_sweeps=1000,
        budget=60_000,
    ),
    run=run,
)
