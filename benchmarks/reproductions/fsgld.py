"""Federated SGLD: long rounds at one shard inflate DSGLD without bound, and leave FSGLD where it was.

El Mekkaoui, Mesquita, Blomstedt & Kaski, "Federated stochastic gradient Langevin dynamics", UAI 2021. On
Gaussian shards both chains are linear recurrences, so that every row of the toy has its exact value beside
it; on a regression whose rows are sorted into shards the two are held against reference draws.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ...models.factorization import factorized_target
from ...models.target import Target
from ...samplers.federated import DistributedSGLD, FederatedSGLD
from ...samplers.stochastic import Gradients, Schedule
from ..estimates import estimate, ratio
from .federated_runs import PAPER, SAMPLERS, SHARDS, FederatedPlan, by_setting, spending
from .figures import CurvePoint, curve_figure
from .framework import AtLeast, AtMost, Claim, Outcome, Reproduction, Row, WithinFactor
from .fsgld_regression import real_rows
from .laboratory import Laboratory, Measurement, sampler_setting
from .stochastic_runs import langevin_inflation, mean_estimate, stoppable_run

EXACT = "recurrence in closed form"
EACH, DIM = 200, 2
REACH = 6.0
"""Shard means are uniform on (−6, 6) in both coordinates."""
CURVATURE = float(SHARDS * EACH)
BATCH = 20
H_LAMBDA = 0.01
EVERY_STEP = 10**9
"""As many draws: each step after the burn-in is one, so that all places in a round count alike."""
TOLERANCE = 1.05
"""A factor; the Monte Carlo error of a ratio is to be well within it."""
PATH_STEPS = 200
PATH_TOLERANCE = 1e-9
"""Posterior standard deviations: rounding, in that many steps of two programs."""

# -- the toy ------------------------------------------------------------------------------------------


@functools.cache
def observations() -> np.ndarray:
    """``f[shard, row, coordinate]``, the same ones always."""
    rng = np.random.default_rng(0)
    means = rng.uniform(-REACH, REACH, (SHARDS, 1, DIM))
    return means + rng.normal(size=(SHARDS, EACH, DIM))


@functools.cache
def gaussian_shards() -> Target:
    """The mean of unit Gaussians under a flat prior: N(mean of all rows, I/λ), λ the number of rows."""
    rows = observations().reshape(-1, DIM)
    return factorized_target("gaussian-shards", DIM, _flat, _unit_gaussian, rows)


def _flat(theta: Array) -> Array:
    return 0.0 * jnp.sum(theta)


def _unit_gaussian(theta: Array, row: Array) -> Array:
    return -0.5 * jnp.sum((row - theta) ** 2)


def predicted(name: str, local_steps: int, data: np.ndarray, batch: int, h_lambda: float) -> float:
    """The exact variance of the draws over the posterior's, 1/λ; the mean over coordinates.

    With shards of one size and f_s = 1/S every shard pulls with curvature λ: with a = 1 − hλ,

        θ ← aθ + hλ x̄_s + noise,        x̄_s the mean of the shard being visited.

    FSGLD with exact q_s has x̄ for x̄_s: it is SGLD, with the shards' own variance as its noise. For DSGLD let
    δ = x̄_s − x̄, D its mean square. At the ends of rounds θ − x̄ has (1 − b)/(1 + b) D of it, b = a^T; after j
    steps of the next round a^j of that is left and (1 − a^j)δ has come: averaged over j = 1 … T,

        λ D T⁻¹ Σ_j [a^(2j) (1 − b)/(1 + b) + (1 − a^j)²]

    is added to SGLD's inflation.

    Parameters
    ----------
    data : ``f[shard, row, coordinate]``, of unit variance in the model
    """
    shards, rows, _ = data.shape
    curvature = shards * rows
    within = float(np.mean(data.var(axis=1)))
    inflation = langevin_inflation(h_lambda, curvature / batch * within)
    if name == "FSGLD":
        return inflation
    between = float(np.mean(data.mean(axis=1).var(axis=0)))
    return inflation + curvature * between * switching(1 - h_lambda, local_steps)


def switching(a: float, local_steps: int) -> float:
    """Variance of θ ← aθ + (1 − a)δ over that of δ, which is drawn anew every ``local_steps`` steps."""
    b, left = a**local_steps, a ** np.arange(1, local_steps + 1)
    return float(np.mean(left**2 * (1 - b) / (1 + b) + (1 - left) ** 2))


def toy_sampler(name: str, local_steps: int) -> FederatedSGLD:
    schedule = Schedule(step_size=H_LAMBDA / CURVATURE, draws=EVERY_STEP)
    return SAMPLERS[name](Gradients(BATCH), schedule, shards=SHARDS, local_steps=local_steps)


def toy_measurement(name: str, local_steps: int, *, chains: int, gradients: int, seed: int) -> Measurement:
    """λ E|θ − E θ|²/2 of all draws; E θ is the posterior's, which is known."""
    sampler = toy_sampler(name, local_steps)

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        run = stoppable_run(sampler, key, gaussian_shards(), gradients, chains, stop)
        center = observations().mean(axis=(0, 1))
        return {"ratio": CURVATURE * float(np.mean((run.draws - center) ** 2)), **spending(run)}

    setting = {"target": gaussian_shards().digest, "chains": chains, "gradients": gradients}
    label = f"{name}, T = {local_steps}"
    return Measurement(label, {**setting, "sampler": sampler_setting(sampler)}, seed, compute)


def toy_rows(plan: FederatedPlan, laboratory: Laboratory) -> tuple[list[Row], list[CurvePoint]]:
    """Every setting against its exact value, and what long rounds do to either sampler."""
    size = {"chains": plan.chains, "gradients": plan.gradients}
    settings = [(name, steps) for name in SAMPLERS for steps in plan.local_steps]
    wanted = [
        toy_measurement(name, steps, seed=seed, **size)
        for name, steps in settings
        for seed in range(plan.seeds)
    ]
    measured = by_setting(settings, laboratory.measure("Gaussian shards", wanted), plan.seeds)
    ratios = {setting: estimate(r["ratio"] for r in results) for setting, results in measured.items()}
    where = f"{SHARDS} shards × {EACH} rows, m = {BATCH}, hλ = {H_LAMBDA:g}, {plan.chains} chains"
    rows, points = [], []
    for name, steps in settings:
        exact = predicted(name, steps, observations(), BATCH, H_LAMBDA)
        claim = Claim(
            f"{name}, T = {steps}: variance over the posterior's",
            EXACT,
            where,
            f"{exact:.4g} (exact)",
            WithinFactor(exact, TOLERANCE),
        )
        rounds = np.mean([r["rounds"] for r in measured[name, steps]])
        rows.append(Row(claim, ratios[name, steps], f"{rounds:,.0f} rounds a chain"))
        points.append(CurvePoint("Gaussian shards", f"{name}, measured", steps, ratios[name, steps]))
        points.append(CurvePoint("Gaussian shards", f"{name}, exact", steps, estimate([exact])))
    short, long = min(plan.local_steps), max(plan.local_steps)
    for name, figure, rule in (
        ("DSGLD", "diverges from the posterior with delayed communication", AtLeast(10.0)),
        ("FSGLD", "converges to it all the same", WithinFactor(1.0, TOLERANCE)),
    ):
        statement = f"{name}: variance at T = {long} over that at T = {short}"
        claim = Claim(statement, PAPER, where, figure, rule)
        rows.append(Row(claim, ratio(ratios[name, long], ratios[name, short])))
    return rows, points


# -- paths --------------------------------------------------------------------------------------------


def path_measurement(name: str, local_steps: int, *, chains: int, seed: int) -> Measurement:
    """How far the path with whole shards is from ULA's with the same noise, in posterior sds.

    ULA on the whole data is DSGLD with a single shard that it takes whole.
    """
    settings = {
        "schedule": Schedule(step_size=H_LAMBDA / CURVATURE, draws=EVERY_STEP, burn_in=0.0),
        "full_batches": True,
        "local_steps": local_steps,
    }
    sampler = SAMPLERS[name](**settings, shards=SHARDS)
    ula = DistributedSGLD(**settings, shards=1)
    start = 30  # the search of a mode, and q_s

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        budgets = (sampler, start + PATH_STEPS // SHARDS), (ula, start + PATH_STEPS)
        paths = [
            stoppable_run(one, key, gaussian_shards(), gradients, chains, stop).draws[:, :PATH_STEPS]
            for one, gradients in budgets
        ]
        assert paths[0].shape == paths[1].shape == (chains, PATH_STEPS, DIM)
        return {"difference": float(np.max(np.abs(paths[0] - paths[1]))) * CURVATURE**0.5}

    setting = {"target": gaussian_shards().digest, "chains": chains, "steps": PATH_STEPS, "paths": True}
    label = f"{name}, T = {local_steps}, whole shards"
    return Measurement(label, {**setting, "sampler": sampler_setting(sampler)}, seed, compute)


def path_rows(plan: FederatedPlan, laboratory: Laboratory) -> list[Row]:
    """The identity that holds path by path, and that it does not hold without conducive gradients."""
    steps = max(plan.local_steps)
    rules = {"FSGLD": AtMost(PATH_TOLERANCE), "DSGLD": AtLeast(1.0)}
    wanted = [path_measurement(name, steps, chains=plan.chains, seed=0) for name in rules]
    found = laboratory.measure("paths", wanted)
    return [
        Row(
            Claim(
                f"{name}, whole shards as batches: largest distance to the path of full-gradient ULA,"
                " in posterior sd",
                "identity: exact q_s make every shard's gradient that of all rows",
                f"the same noise, T = {steps}, {PATH_STEPS} steps, {plan.chains} chains",
                "0" if name == "FSGLD" else "another path",
                rule,
            ),
            mean_estimate([result["difference"]]),
        )
        for (name, rule), result in zip(rules.items(), found, strict=True)
    ]


def run(plan: FederatedPlan, laboratory: Laboratory) -> Outcome:
    """The toy against its exact values, the identity of paths, and the regression."""
    rows, points = toy_rows(plan, laboratory)
    rows += path_rows(plan, laboratory)
    real, note = real_rows(plan, laboratory)
    short, long = min(plan.local_steps), max(plan.local_steps)
    expected = (2 + H_LAMBDA * CURVATURE / BATCH) / (2 - H_LAMBDA)
    spread = CURVATURE * ((2 * REACH) ** 2 / 12 * (1 - 1 / SHARDS) + (1 - 1 / SHARDS) / EACH)
    typical = [expected + spread * switching(1 - H_LAMBDA, steps) for steps in (short, long)]
    notes = (
        "x ~ N(θ, I) in two dimensions, flat prior, temperature 1, shard means uniform on (−6, 6)²: one data"
        " set, the same for all rows. T is the number of local steps in a round, visits have f_s = 1/S."
        f" {plan.seeds} seeds; the ratio is λ E|θ − E θ|²/2 over every step after the burn-in.",
        f"Over data sets of this kind FSGLD's ratio is about {expected:.4g} (shards of variance 1), and"
        f" {typical[0]:.3g} at T = {short} and {typical[1]:.3g} at T = {long} that of DSGLD on average; the"
        " exact values above are those of the data set.",
        "Cost: a chain of FSGLD pays 1 + dim gradients and one round per shard for the Gaussians, before its"
        " first step; a visit is a round. Gradients of all rows before that (mode, step size) are the same"
        " for both samplers and not counted as rounds.",
        note,
    )
    figure = curve_figure(
        points, x_title="T, local steps in a round", y_title="variance over the posterior's"
    )
    return Outcome((*rows, *real), figure, notes)


FSGLD = Reproduction(
    name="fsgld",
    title="Conducive gradients keep federated SGLD at SGLD's bias where that of DSGLD grows with long rounds",
    sources=(
        "El Mekkaoui, Mesquita, Blomstedt & Kaski (2021), Federated stochastic gradient Langevin dynamics,"
        " UAI; arXiv 2004.11231",
        "Ahn, Shahbaba & Welling (2014), Distributed stochastic gradient MCMC, ICML",
    ),
    default=FederatedPlan(),
    full=FederatedPlan(
        local_steps=(1, 3, 10, 30, 100, 300),
        chains=64,
        gradients=400,
        real_local_steps=(1, 10, 100, 1000),
        real_gradients=8000,
        seeds=16,
    ),
    run=run,
)
