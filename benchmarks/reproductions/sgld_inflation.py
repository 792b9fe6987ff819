"""The mean of a Gaussian: how much too wide SGLD's draws are, in closed form and measured.

n observations y_i ~ N(θ, 1) with prior N(0, s²) have a Gaussian posterior of curvature λ = n + 1/s². A
minibatch of m rows drawn with replacement has a gradient of variance V = n² Var(y)/m about the full one,
whatever θ is, so that SGLD is an autoregression and its variance exactly (2 + hV)/(2 − hλ) times 1/λ.
Gradients of two rows differ by a constant here: with control variates, or SVRG's snapshots, V = 0.
"""

from __future__ import annotations

import functools
import math
import threading
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import Array

from ...models.factorization import factorized_target
from ...models.target import Target
from ...samplers.sgld import SGLD
from ...samplers.stochastic import Gradients, Schedule
from .framework import AtMost, Between, Claim, Row
from .laboratory import Laboratory, Measurement, sampler_setting
from .stochastic_runs import langevin_inflation, mean_estimate, standard_error, stoppable_run

N = 1000
PRIOR_SCALE = 10.0
CURVATURE = N + PRIOR_SCALE**-2
DRAWS = 1000
"""Kept of every chain."""
START = 40
"""Gradients that are more than enough for the search of a mode, which is quadratic here."""
TOLERANCE = 0.03
"""Relative; the Monte Carlo error is to be a quarter of it."""

SOURCES = {
    "minibatch": "recurrence; Welling & Teh (2011); Vollmer, Zygalakis & Teh (2016)",
    "control-variates": "recurrence; Baker et al. (2019); SGLDFP of Brosse, Durmus & Moulines (2018)",
    "svrg": "recurrence; Dubey et al. (2016)",
}


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    estimator: Literal["minibatch", "control-variates", "svrg"]
    batch: int
    h_lambda: float

    @property
    def noise(self) -> float:
        """V/λ."""
        if self.estimator != "minibatch":
            return 0.0
        return N**2 * float(np.var(observations())) / (self.batch * CURVATURE)

    @property
    def predicted(self) -> float:
        return langevin_inflation(self.h_lambda, self.noise)

    @property
    def label(self) -> str:
        return f"{self.estimator}, m = {self.batch}, hλ = {self.h_lambda:g}"


SETTINGS = (
    Setting("minibatch", 10, 0.01),
    Setting("minibatch", 10, 0.05),
    Setting("minibatch", 50, 0.01),
    Setting("minibatch", 50, 0.1),
    Setting("minibatch", 200, 0.05),
    Setting("minibatch", 200, 0.5),
    Setting("control-variates", 10, 0.01),
    Setting("control-variates", 10, 0.5),
    Setting("svrg", 10, 0.01),
    Setting("svrg", 10, 0.5),
)


@functools.cache
def observations() -> np.ndarray:
    """``f[N]``, the same ones always."""
    return np.random.default_rng(0).normal(size=N)


@functools.cache
def gaussian_mean() -> Target:
    """The posterior of the mean."""
    return factorized_target("gaussian-mean", 1, _log_prior, _log_likelihood_row, observations())


def _log_prior(theta: Array) -> Array:
    return -0.5 * jnp.sum(theta**2) / PRIOR_SCALE**2


def _log_likelihood_row(theta: Array, y: Array) -> Array:
    return -0.5 * (y - theta[0]) ** 2


def inflation_measurement(setting: Setting, *, chains: int, effective: int, seed: int) -> Measurement:
    """λ E(θ − E θ)² of every chain; E θ is the posterior's, which is known.

    Parameters
    ----------
    effective : draws in all chains of this seed as good as so many independent ones. Squares of an
        autoregression with coefficient 1 − hλ are worth about hλ each.
    """
    schedule = Schedule(step_size=setting.h_lambda / CURVATURE, draws=DRAWS)
    sampler = SGLD(Gradients(setting.batch, setting.estimator), schedule)
    steps = effective / (setting.h_lambda * chains * (1 - schedule.burn_in))
    rows = {"minibatch": setting.batch, "control-variates": 2 * setting.batch}.get(
        setting.estimator, 3 * setting.batch
    )
    gradients = START + math.ceil(steps * rows / N)

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        run = stoppable_run(sampler, key, gaussian_mean(), gradients, chains, stop)
        mean = observations().sum() / CURVATURE
        ratios = CURVATURE * np.mean((run.draws[..., 0] - mean) ** 2, axis=1)
        return {"ratios": ratios.tolist(), "gradients": float(run.equivalents(run.sampling).mean())}

    kept = {
        "target": gaussian_mean().digest,
        "sampler": sampler_setting(sampler),
        "chains": chains,
        "gradients": gradients,
    }
    return Measurement(setting.label, kept, seed, compute)


def inflation_rows(laboratory: Laboratory, *, chains: int, effective: int, seeds: int) -> list[Row]:
    """Predicted and measured inflation at every setting, and the largest deviation in standard errors."""
    wanted = [
        inflation_measurement(setting, chains=chains, effective=effective, seed=seed)
        for setting in SETTINGS
        for seed in range(seeds)
    ]
    found = iter(laboratory.measure("Gaussian mean", wanted))
    rows, deviations = [], []
    for setting in SETTINGS:
        results = [next(found) for _ in range(seeds)]
        ratios = [ratio for result in results for ratio in result["ratios"]]
        measured, predicted = mean_estimate(ratios), setting.predicted
        assert measured.value is not None
        deviations.append((measured.value - predicted) / standard_error(ratios))
        claim = Claim(
            "variance of the draws over the posterior's",
            SOURCES[setting.estimator],
            setting.label,
            f"{predicted:.4f}",
            Between(round(predicted * (1 - TOLERANCE), 4), round(predicted * (1 + TOLERANCE), 4)),
        )
        rows.append(Row(claim, measured, f"z = {deviations[-1]:+.1f}, {len(ratios)} chains"))
    claim = Claim(
        "largest deviation of the measured from the predicted variance, in standard errors",
        "Monte Carlo error alone",
        f"the {len(rows)} settings above",
        "at most 3.5",
        AtMost(3.5),
    )
    return [*rows, Row(claim, mean_estimate([float(np.max(np.abs(deviations)))]))]
