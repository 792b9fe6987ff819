"""Gibbs sampling of posteriors: a regression whose mixing is known exactly, and eight schools, where not.

Eight schools has a block that is updated by a slice; a regression with flat priors is a chain of σ² alone.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ...models.conditionals import blocks_for
from ...models.target import Target
from ...posteriordb_adapter import PosteriorDatabase
from ...samplers.gibbs import Gibbs
from ...samplers.gibbs.scans import Scan
from .. import metrics
from ..estimates import Estimate, estimate, ratio
from .framework import PREDICTED, AtLeast, Between, Claim, Row
from .gibbs_mixing_runs import (
    Result,
    by_seed,
    pooled_autocorrelations,
    summary,
    times,
    trace,
    z_score,
)
from .gibbs_mixing_theory import FunctionSpace, integrated_time, regression_functions
from .laboratory import Laboratory, Measurement, sampler_setting
from .stochastic_runs import mean_estimate, stoppable_run

REGRESSION = "simulated_mesquite-logmesquite_logvas"
REGRESSION_SCANS: tuple[Scan, ...] = ("systematic", "random-permutation", "random")
FUNCTIONS = {"σ²": 0, "a coefficient": 2}
"""Of `regression_functions`, by their places there."""
LAGS = 12
"""Of the sums; the slowest function of the slowest scan has less than 0.5 to this power left."""
BURN_IN = 40
"""Sweeps, by the same rate more than enough."""
TOLERANCE = 0.05
FLAT_PRIORS = "from the transition operator on σ² and the sum of squares"
SCHOOLS = ("eight_schools_centered", "eight_schools_noncentered")
SCHOOL_SCANS: Mapping[str, Gibbs] = {"systematic": Gibbs(), "random": Gibbs(scan="random")}
CHAINS = 4
PER = 1000
"""Sweeps, of all chains together, that effective sample sizes are given per."""


@dataclass(frozen=True)
class PosteriorsPlan:
    """The size of these measurements."""

    seeds: int = 8
    regression_chains: int = 128
    regression_sweeps: int = 800
    budget: int = 20_000
    """Evaluations of any kind per chain, on eight schools."""


@functools.cache
def conditioned(name: str) -> tuple[Target, dict[str, Any]]:
    """A posterior with its exact conditionals, and its data."""
    posterior = PosteriorDatabase().posterior(name)
    data = json.loads(posterior.data_text())
    return blocks_for(posterior.model.name, data, posterior.target(backend="bridgestan")), data


# -- the regression -----------------------------------------------------------------------------------


def variance_and_coefficient(u: Array) -> Array:
    """σ² and β_1 of coordinates β_1, …, β_d, log σ."""
    return jnp.stack([jnp.exp(2 * u[-1]), u[0]])


def regression_space() -> FunctionSpace:
    target, data = conditioned(REGRESSION)
    return regression_functions(int(data["N"]), target.dim - 1)


def regression_measurement(scan: Scan, plan: PosteriorsPlan, seed: int) -> Measurement:
    """Autocorrelations and their sums, function by function: lags 1 … LAGS, then the integrated time."""
    (target, _), sampler = conditioned(REGRESSION), Gibbs(scan=scan)

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        starts = jnp.zeros((plan.regression_chains, target.dim))
        sweeps = plan.regression_sweeps + BURN_IN
        values = trace(sampler, target, key, starts, variance_and_coefficient, sweeps, stop)[:, BURN_IN:]
        found = {}
        for number, name in enumerate(FUNCTIONS):
            by_chain = pooled_autocorrelations(values[..., number], LAGS)
            found[name] = summary(np.column_stack([by_chain[:, 1:], times(by_chain)]))
        return found

    setting = {
        "target": target.digest,
        "sampler": sampler_setting(sampler),
        "size": [plan.regression_chains, plan.regression_sweeps, BURN_IN, LAGS],
    }
    return Measurement(f"regression, {scan} scan", setting, seed, compute)


def regression_rows(
    plan: PosteriorsPlan, laboratory: Laboratory, seeds: range
) -> tuple[list[Row], list[float]]:
    """Rows, and z of everything that they predict."""
    wanted = [regression_measurement(scan, plan, seed) for seed in seeds for scan in REGRESSION_SCANS]
    found = laboratory.measure("regression", wanted)
    space, rows, scores = regression_space(), [], []
    for i, scan in enumerate(REGRESSION_SCANS):
        for name, place in FUNCTIONS.items():
            results: list[Result] = [result[name] for result in found[i :: len(REGRESSION_SCANS)]]
            predicted = space.autocorrelations(space.sweep(scan), place, LAGS)
            setting = f"{REGRESSION}, {scan} scan"
            if name == "σ²":
                claim = Claim(
                    "regression: autocorrelation of σ² at lag 1",
                    FLAT_PRIORS,
                    setting,
                    f"{predicted[1]:.4f}",
                    Between(round(predicted[1] - 0.02, 4), round(predicted[1] + 0.02, 4)),
                )
                rows.append(Row(claim, mean_estimate(by_seed(results, 0)), _from(scan)))
            time = integrated_time(predicted)
            claim = Claim(
                f"regression: integrated autocorrelation time of {name}",
                FLAT_PRIORS,
                setting,
                f"{time:.4g}",
                Between(round(time * (1 - TOLERANCE), 4), round(time * (1 + TOLERANCE), 4)),
                "sweeps",
            )
            rows.append(Row(claim, mean_estimate(by_seed(results, LAGS))))
            scores += [z_score(results, k - 1, predicted[k]) for k in range(1, 4)]
            scores.append(z_score(results, LAGS, time))
    return rows, scores


def _from(scan: Scan) -> str:
    return {"systematic": "a = d/(n − 3)", "random": "¼ + ¾ a"}.get(scan, "")


# -- eight schools ------------------------------------------------------------------------------------


def schools_measurement(model: str, scan: str, plan: PosteriorsPlan, seed: int) -> Measurement:
    """The least bulk ESS over parameters, per sweep."""
    (target, _), sampler = conditioned(f"eight_schools-{model}"), SCHOOL_SCANS[scan]

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        run = stoppable_run(sampler, key, target, plan.budget, CHAINS, stop)
        ess = metrics.efficiency(run.constrained()).ess_bulk
        sweeps = run.draws.shape[0] * run.draws.shape[1]
        worst = int(np.argmin(ess))
        return {"ess": PER * float(ess[worst]) / sweeps, "worst": target.param_names[worst], "sweeps": sweeps}

    setting = {
        "target": target.digest,
        "sampler": sampler_setting(sampler),
        "budget": plan.budget,
        "chains": CHAINS,
    }
    return Measurement(f"{model}, {scan} scan", setting, seed, compute)


def schools_rows(plan: PosteriorsPlan, laboratory: Laboratory, seeds: range) -> list[Row]:
    """Orders alone: τ is updated by a slice, and no closed form is known."""
    settings = [(model, scan) for model in SCHOOLS for scan in SCHOOL_SCANS]
    wanted = [schools_measurement(model, scan, plan, seed) for seed in seeds for model, scan in settings]
    found = laboratory.measure("eight schools", wanted)
    results = {setting: found[i :: len(settings)] for i, setting in enumerate(settings)}
    ess = {setting: estimate(one["ess"] for one in of) for setting, of in results.items()}
    rows = []
    for model in SCHOOLS:
        claim = Claim(
            "eight schools: least bulk ESS per sweep, systematic over random scan",
            PREDICTED,
            f"{model}, exact conditionals, τ by slice",
            "above 1: random scan leaves blocks out",
            AtLeast(1.0),
        )
        rows.append(
            Row(claim, ratio(ess[model, "systematic"], ess[model, "random"]), _levels(model, ess, results))
        )
    centered, noncentered = SCHOOLS
    claim = Claim(
        "eight schools: least bulk ESS per sweep, noncentered over centered",
        "Papaspiliopoulos, Roberts & Sköld (2007): noncentered where the data say little of θ",
        "systematic scan, exact conditionals, τ by slice",
        "above 1",
        AtLeast(1.0),
    )
    return [*rows, Row(claim, ratio(ess[noncentered, "systematic"], ess[centered, "systematic"]))]


def _levels(
    model: str,
    ess: Mapping[tuple[str, str], Estimate],
    results: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
) -> str:
    """What the ratio is made of."""
    parts = []
    for scan in SCHOOL_SCANS:
        worst = [one["worst"] for one in results[model, scan]]
        most = max(sorted(set(worst)), key=worst.count)
        parts.append(
            f"{ess[model, scan].value:.3g} per {PER} sweeps, {scan}, least for {most} in {worst.count(most)}"
        )
    return "; ".join(parts) + f" of {len(results[model, 'systematic'])} seeds"
