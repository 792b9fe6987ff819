"""Robustness of delayed-rejection HMC to the step size: what is left of tuned HMC's efficiency.

Modi, Barnett & Carpenter (2023; arXiv 2110.00610): a retry with a smaller step rescues a first step that is
too large. Measured where nothing else is in the way: a Gaussian of condition number 1000 in its own axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..estimates import estimate, ratio
from .contest import FRESH, Result, drhmc, hmc, rates, run_candidates
from .ensemble import PER
from .figures import CurvePoint, curve_figure
from .framework import PREDICTED, AtLeast, AtMost, Between, Claim, Outcome, Reproduction, Row, Rule
from .laboratory import Laboratory
from .losing_targets import (
    CONDITION_NUMBER,
    DIM,
    INTEGRATION_TIME,
    TUNED_STEP,
    gaussian_arena,
    gaussian_steps,
)

CLAIMS: tuple[tuple[str, float, str, Rule], ...] = (
    ("DR-HMC", 1.0, "costs: 0.4 to 0.8", Between(0.4, 0.8)),
    ("DR-HMC", 2.0, "at least 0.35", AtLeast(0.35)),
    ("DR-HMC", 3.0, "at least 0.35", AtLeast(0.35)),
    ("HMC", 2.0, "at most 0.05", AtMost(0.05)),
    ("HMC", 3.0, "at most 0.05", AtMost(0.05)),
)
"""Sampler, factor, claimed, rule: efficiency over that of HMC at factor 1."""
FLOOR_PER_CHAIN = 1.05
"""ESS of chains that do not move is one per chain, by their spread alone; up to this it says nothing."""


@dataclass(frozen=True)
class MisspecificationPlan:
    """The size of the reproduction."""

    factors: tuple[float, ...] = (0.25, 0.5, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
    chains: int = 32
    gradients: int = 20_000
    """Per chain and run."""
    seeds: int = 8


def run(plan: MisspecificationPlan, laboratory: Laboratory) -> Outcome:
    """The misspecification curve of both samplers, and the rows of it that were claimed."""
    factors = sorted({*plan.factors, *(factor for _, factor, _, _ in CLAIMS)})
    ladder = {factor: TUNED_STEP * factor for factor in factors}
    fields = {
        "HMC": {c: hmc(step, gaussian_steps(step)) for c, step in ladder.items()},
        "DR-HMC": {
            c: drhmc(step, gaussian_steps(step), length="time", stages=2, reduction=4.0)
            for c, step in ladder.items()
        },
    }
    results = run_candidates(
        laboratory,
        "step sizes",
        gaussian_arena(),
        [candidate for candidates in fields.values() for candidate in candidates.values()],
        chains=plan.chains,
        gradients=plan.gradients,
        seeds=range(FRESH, FRESH + plan.seeds),
    )
    tuned = estimate(rates(results[fields["HMC"][1.0].label], "min"))
    assert tuned.value is not None
    measured = {
        (name, factor): ratio(estimate(rates(results[candidate.label], "min")), tuned)
        for name, candidates in fields.items()
        for factor, candidate in candidates.items()
    }
    floor = (
        FLOOR_PER_CHAIN
        * max(PER / r["kept_gradients"] for r in results[fields["HMC"][1.0].label])
        / tuned.value
    )
    rows = [
        Row(
            Claim(
                f"{name} at {factor:g} × the tuned step, over HMC at the tuned step",
                PREDICTED,
                fields[name][factor].label,
                figure,
                rule,
            ),
            measured[name, factor],
            _note(results[fields[name][factor].label]),
            floor,
        )
        for name, factor, figure, rule in CLAIMS
    ]
    points = [
        CurvePoint("κ = 1000 Gaussian", name, factor, value, (value.value or 0.0) <= floor)
        for (name, factor), value in measured.items()
    ]
    notes = (
        f"Gaussian of condition number {CONDITION_NUMBER:g} (variances), d = {DIM}, in units of its largest"
        f" standard deviation: the smallest is {CONDITION_NUMBER**-0.5:.4f}, leapfrog is stable up to"
        f" {2 * CONDITION_NUMBER**-0.5:.4f}, that is {2 * CONDITION_NUMBER**-0.5 / TUNED_STEP:.2f} times the"
        f" tuned step {TUNED_STEP}. Identity metric in these units; N = round({INTEGRATION_TIME}/ε) with ±20"
        " % jitter.",
        f"{plan.chains} chains from exact draws × {plan.gradients:,} gradients, {plan.seeds} seeds."
        " Efficiency is the least bulk ESS of a coordinate per 1000 gradients; the first 20 % are dropped."
        " Ratios of geometric means with Welch's interval.",
        "DR-HMC has K = 2, a = 4, constant integration time, retries with probability 1 − α. HMC at the"
        f" tuned step reaches {tuned.value:.3g} per 1000 gradients.",
        "Floor: chains that never move have an ESS of one each, by where they started; no ratio below that"
        " can be measured, and a ratio over it would say nothing.",
    )
    figure = curve_figure(
        points, x_title="step size over the tuned one", y_title="efficiency over that of tuned HMC"
    )
    return Outcome(tuple(rows), figure, notes)


def _note(found: Sequence[Result]) -> str:
    stuck, chains = (sum(r[name] for r in found) for name in ("stuck", "chains"))
    return f"{stuck} of {chains} chains never moved" if stuck else ""


STEP_MISSPECIFICATION = Reproduction(
    name="step-misspecification",
    title="DR-HMC keeps a third of tuned HMC's efficiency at two or three times the step size",
    sources=(
        "Modi, Barnett & Carpenter (2023), Delayed rejection Hamiltonian Monte Carlo for sampling multiscale"
        " distributions, Bayesian Analysis; arXiv 2110.00610",
    ),
    default=MisspecificationPlan(),
    full=MisspecificationPlan(
        factors=(0.25, 0.5, 0.75, 1.0, 1.25, 1.4, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0),
        chains=128,
        gradients=50_000,
        seeds=16,
    ),
    run=run,
)
