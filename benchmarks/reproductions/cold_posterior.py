"""Tempering in stochastic-gradient MCMC: what a temperature does to draws, and to predictions.

The two temperatures are different densities. Full tempering samples p^(1/T): the covariance is T times the
posterior's. Likelihood tempering samples prior × likelihood^(1/T). Both are held against the exact
stationary covariance of SGLD at its step size, so that the bias of the step does not count.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from ...models.target import Target
from ...samplers.sgld import SGLD
from ...samplers.stochastic import Gradients, Schedule
from ..estimates import Estimate
from .figures import CurvePoint, curve_figure
from .framework import AtMost, Between, Claim, Outcome, Reproduction, Row
from .laboratory import Laboratory, Measurement, sampler_setting
from .stochastic_runs import mean_estimate, standard_error, stoppable_run
from .tempered_predictions import AITCHISON, TEMPERATURES, WORLDS, N, prediction_row, scores
from .tempered_regression import (
    PRIOR_PRECISION,
    SIGMA,
    TEMPERINGS,
    Regression,
    Tempering,
    simulated_regression,
    stationary_covariance,
)

BATCH = 10
H_LAMBDA = 0.05
"""Step size times the largest curvature of the tempered density at T = 1 of the whole."""
TOLERANCE = 0.03
"""Relative, of a variance."""
RATIO_TOLERANCE = 0.05
DRAWS = 1000

WENZEL = "Wenzel et al. (2020)"


@dataclass(frozen=True)
class ColdPlan:
    """The size of the reproduction."""

    seeds: int = 8
    chains: int = 16
    """Of each run."""
    gradients: int = 8000
    """Per chain and run."""
    data_sets: int = 1000
    """Whose held-out scores are averaged."""


class Setting(NamedTuple):
    """A run."""

    tempering: Tempering
    temperature: float
    control_variates: bool = True

    @property
    def label(self) -> str:
        estimator = "control variates" if self.control_variates else "plain minibatches"
        return f"{self.tempering} T = {self.temperature:g}, {estimator}, m = {BATCH}"


PLAIN = tuple(Setting("full", t, control_variates=False) for t in (0.1, 1.0))
SETTINGS = (
    *(Setting("full", t) for t in TEMPERATURES),
    *(Setting("likelihood", t) for t in TEMPERATURES if t != 1),  # at 1 the two are one
    *PLAIN,
)

type Found = Mapping[Setting, np.ndarray]
"""Per setting and chain, whitened second moments about the exact mean, ``f[chain, d, d]``."""


@functools.cache
def model() -> Regression:
    return simulated_regression(N)


@functools.cache
def regression_target() -> Target:
    return model().target("tempered-regression")


@functools.cache
def whitening() -> np.ndarray:
    """L' with P = L L' the posterior's precision: draws times it have identity covariance."""
    return np.linalg.cholesky(model().tempered("full", 1.0).precision).T


def step_size(setting: Setting) -> float:
    """h of a setting: that of the density before it is tempered as a whole."""
    likelihood = setting.temperature if setting.tempering == "likelihood" else 1.0
    precision = model().tempered("likelihood", likelihood).precision
    return H_LAMBDA / float(np.linalg.eigvalsh(precision)[-1])


def predicted_moments(setting: Setting) -> np.ndarray:
    """SGLD's covariance at its step size, whitened by the posterior: ``f[d, d]``."""
    covariance = stationary_covariance(
        model(),
        setting.tempering,
        setting.temperature,
        step_size=step_size(setting),
        batch=BATCH,
        control_variates=setting.control_variates,
    )
    return whitening() @ covariance @ whitening().T


def predicted(setting: Setting) -> float:
    """Its mean variance."""
    return mean_variance(predicted_moments(setting))


def exact(setting: Setting) -> float:
    """The mean variance of the tempered density itself."""
    covariance = model().tempered(setting.tempering, setting.temperature).covariance
    return mean_variance(whitening() @ covariance @ whitening().T)


def mean_variance(moments: np.ndarray) -> float:
    """Over the posterior's: ``f[d, d] -> f[]``."""
    return float(np.trace(moments) / len(moments))


def tempered_measurement(setting: Setting, *, chains: int, gradients: int, seed: int) -> Measurement:
    """Whitened second moments of every chain about the mean of the tempered density."""
    full = setting.temperature if setting.tempering == "full" else 1.0
    likelihood = setting.temperature if setting.tempering == "likelihood" else 1.0
    estimator = "control-variates" if setting.control_variates else "minibatch"
    sampler = SGLD(
        Gradients(BATCH, estimator, likelihood_temperature=likelihood),
        Schedule(step_size=step_size(setting), draws=DRAWS),
        temperature=full,
    )

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        run = stoppable_run(sampler, key, regression_target(), gradients, chains, stop)
        z = (run.draws - model().tempered(setting.tempering, setting.temperature).mean) @ whitening().T
        return {"moments": (np.einsum("cni,cnj->cij", z, z) / z.shape[1]).tolist()}

    kept = {
        "target": regression_target().digest,
        "prior_precision": PRIOR_PRECISION,
        "sampler": sampler_setting(sampler),
        "chains": chains,
        "gradients": gradients,
    }
    return Measurement(setting.label, kept, seed, compute)


# -- rows -----------------------------------------------------------------------------------------


def variances(found: Found, setting: Setting) -> list[float]:
    """Mean variance over the posterior's, of every chain."""
    return [mean_variance(moments) for moments in found[setting]]


def variance_row(found: Found, setting: Setting) -> Row:
    """Predicted for this step size, and measured."""
    claimed = predicted(setting)
    sources = {
        ("full", True): f"{WENZEL}: p^(1/T) has T times the covariance; exact recurrence of SGLD",
        ("full", False): "gradient noise is not cooled; exact recurrence of SGLD",
        ("likelihood", True): f"{AITCHISON}: precision κI + X'X/(σ²T); exact recurrence of SGLD",
    }
    claim = Claim(
        "mean variance over the posterior's",
        sources[setting.tempering, setting.control_variates],
        setting.label,
        f"{claimed:.4f}",
        Between(round(claimed * (1 - TOLERANCE), 4), round(claimed * (1 + TOLERANCE), 4)),
    )
    return Row(claim, mean_estimate(variances(found, setting)), f"{exact(setting):.4f} as h → 0")


def ratio_row(found: Found, above: Setting, below: Setting, statement: str, source: str) -> Row:
    """The ratio of two mean variances; its interval from the two relative errors."""
    a, b = (np.array(variances(found, setting)) for setting in (above, below))
    value = float(a.mean() / b.mean())
    error = value * float(np.hypot(standard_error(a) / a.mean(), standard_error(b) / b.mean()))
    claimed = predicted(above) / predicted(below)
    low, high = (round(claimed * (1 + sign * RATIO_TOLERANCE), 4) for sign in (-1, 1))
    claim = Claim(statement, source, f"{above.label}; {below.label}", f"{claimed:.4f}", Between(low, high))
    return Row(claim, Estimate(value, value - 1.96 * error, value + 1.96 * error, "arithmetic"))


def deviation_row(found: Found) -> Row:
    """Every element of every covariance matrix at once."""
    largest = 0.0
    for setting, moments in found.items():
        errors = moments.std(0, ddof=1) / np.sqrt(len(moments))
        largest = max(largest, float(np.max(np.abs(moments.mean(0) - predicted_moments(setting)) / errors)))
    claim = Claim(
        "largest deviation of an element of a covariance matrix from its prediction, in standard errors",
        "Monte Carlo error alone",
        f"all elements, the {len(found)} settings above",
        "at most 4",
        AtMost(4.0),
    )
    return Row(claim, Estimate(largest, kind="arithmetic"))


# -- all of it ------------------------------------------------------------------------------------


def run(plan: ColdPlan, laboratory: Laboratory) -> Outcome:
    """Draws at every temperature and estimator, then predictions."""
    wanted = [
        tempered_measurement(setting, chains=plan.chains, gradients=plan.gradients, seed=seed)
        for setting in SETTINGS
        for seed in range(plan.seeds)
    ]
    results = iter(laboratory.measure("tempered regression", wanted))
    found = {
        setting: np.concatenate([next(results)["moments"] for _ in range(plan.seeds)]) for setting in SETTINGS
    }
    rows = [variance_row(found, setting) for setting in SETTINGS]
    rows += [
        ratio_row(
            found,
            Setting("full", t),
            Setting("likelihood", t),
            "full over likelihood tempering, mean variances",
            "both closed forms",
        )
        for t in TEMPERATURES
        if t != 1
    ]
    rows += [
        ratio_row(found, cold, warm, f"cold over T = 1, {what}", source)
        for cold, warm, what, source in (
            (
                Setting("full", 0.1),
                Setting("full", 1.0),
                "control variates: exactly T",
                "the recurrence is linear in T",
            ),
            (*PLAIN, "plain minibatches: not T", "gradient noise hV/2 adds to T"),
        )
    ]
    rows.append(deviation_row(found))
    predictions = {world: scores(world, plan.data_sets) for world in WORLDS}
    rows += [
        prediction_row(world, tempering, predictions[world][tempering])
        for world in WORLDS
        for tempering in TEMPERINGS
    ]
    notes = (
        f"Regression with known noise σ = {SIGMA:g}: n = {N}, {len(whitening())} coefficients with prior"
        f" precision {PRIOR_PRECISION:g}. The mean variance is tr(P S)/d, P the posterior's precision"
        " (T = 1), S the covariance of the draws about the mean of the density they are drawn from.",
        "Predicted is the stationary covariance of SGLD at its step size: a linear equation, exact for every"
        " h, with the noise of minibatches (with replacement) in gradients and curvatures in it. No small"
        f" step, no correction: hλ = {H_LAMBDA:g}. The limit h → 0, the tempered density itself, stands"
        " beside it.",
        "Intervals are Student's over independent chains.",
        "Held-out scores are of exact posteriors, E log p(y | x) of the predictive N(x'm, x'Sx + σ²),"
        f" averaged over {plan.data_sets} data sets with coefficients from the prior, T of the coefficients"
        " alone; where curated, both training and held-out labels are.",
    )
    return Outcome(tuple(rows), figure(found), notes)


def figure(found: Found):
    """Mean variances over T times the posterior's: 1 is what full tempering asks for."""
    names = {setting: f"{setting.tempering} tempering" for setting in SETTINGS}
    names |= dict.fromkeys(PLAIN, "full tempering, plain minibatches")
    points = [
        CurvePoint(
            "",
            name,
            setting.temperature,
            mean_estimate(np.array(variances(found, setting)) / setting.temperature),
        )
        for setting, name in names.items()
    ]
    grid = np.geomspace(TEMPERATURES[0], TEMPERATURES[-1], 13)
    points += [
        CurvePoint("", f"predicted: {name}", t, Estimate(predicted(setting._replace(temperature=t)) / t))
        for name, setting in {name: setting for setting, name in names.items()}.items()
        for t in map(float, grid)
    ]
    return curve_figure(points, x_title="T", y_title="mean variance over T times the posterior's")


COLD_POSTERIOR = Reproduction(
    name="cold-posterior",
    title="Full and likelihood tempering are different posteriors, and cold ones predict better only where"
    " the model is wrong",
    sources=(
        "Wenzel, Roth, Veeling et al. (2020), How good is the Bayes posterior in deep neural networks"
        " really?, ICML",
        "Aitchison (2021), A statistical theory of cold posteriors in deep neural networks, ICLR",
        "Welling & Teh (2011), Bayesian learning via stochastic gradient Langevin dynamics, ICML",
    ),
    default=ColdPlan(),
    full=ColdPlan(seeds=16, chains=32, gradients=20_000, data_sets=10_000),
    run=run,
)
