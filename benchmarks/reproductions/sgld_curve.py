"""The bias of SGLD on a regression of posteriordb against its step size, at equal cost.

Two errors, for they say different things. b², averaged over parameters, of the mean and of x² is what
every sampler is measured by: squared bias *and* Monte Carlo error, in variances of the posterior. And b² of
z², z the position along the direction of the largest curvature λ, in standard deviations of the reference:
there chains mix fastest and SGLD is biased most, so that bias stands clear of noise. For a Gaussian it is
(r − 1)²/2, r the variance over the posterior's.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from arviz_stats.base.array import array_stats
from jax import Array

from ...models.target import Target
from ...posteriordb_adapter import Posterior, PosteriorDatabase
from ...posteriordb_adapter.draws import comparable
from ...posteriordb_adapter.errors import MissingData, MissingProgram, PosteriorNotFound
from ...posteriordb_adapter.unconstrain import to_unconstrained
from ...samplers.base import Run
from ...samplers.sgld import SGLD
from ...samplers.stochastic import Gradients, Problem, Schedule
from ...samplers.stochastic.start import mode_start
from ..metrics import error_curve
from .contest import FRESH
from .laboratory import Laboratory, Measurement, sampler_setting
from .stochastic_runs import langevin_inflation, stoppable_run

POSTERIORS = ("nes1972-nes", "simulated_nes-nes")
"""posteriordb's where its program, data and draws are there, else the built-in one of the same model."""
BATCH = 64
STEPS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""hλ."""
INFLATION = 0.1
"""Of the rule for step sizes."""
RULE_TIMES = 2
"""As many gradients for the run with the rule's step size: its inflation is small and needs a small error."""
BURN_IN = 0.5
DRAWS = 500

type Estimator = Literal["minibatch", "control-variates"]
ESTIMATORS: tuple[Estimator, ...] = ("minibatch", "control-variates")
type Key = tuple[Estimator, float | None]
"""Estimator and hλ; None: the step size by rule."""
type Curve = Mapping[Key, Sequence[Mapping[str, Any]]]
"""Results by setting, one a seed."""


class Subject(NamedTuple):
    """A posterior, its reference, and its stiffest direction."""

    name: str
    target: Target
    reference: np.ndarray
    """``f[chain, draw, parameter]``, constrained"""
    columns: np.ndarray
    """``i[parameter]``: of ``target.constrain``"""
    direction: np.ndarray
    """``f[dim]``, the eigenvector of the largest curvature at the mode"""
    curvature: float
    """λ, its eigenvalue"""
    noise: float
    """V/λ along it: of the rows' gradients at the mode, for minibatches of `BATCH`"""
    center: float
    """Mean of the reference along it"""
    scale: float
    """and its standard deviation"""
    floor: float
    """Monte Carlo error of the reference's variance along it, over the variance: one standard error of r"""
    average_floor: float
    """What b², averaged over parameters, has from the Monte Carlo error of the reference alone"""

    def predicted(self, h_lambda: float, *, noise: bool = True) -> float:
        """r of SGLD in a Gaussian approximation; without noise that of full gradients."""
        return langevin_inflation(h_lambda, self.noise if noise else 0.0)


def find_posterior(database: PosteriorDatabase) -> Posterior:
    """The first of `POSTERIORS` whose program, data and reference draws are all there."""
    for name in POSTERIORS[:-1]:
        try:
            posterior = database.posterior(name)
            posterior.program_path()
            posterior.data_text()
        except (PosteriorNotFound, MissingProgram, MissingData):
            continue
        if posterior.has_reference:
            return posterior
    return database.posterior(POSTERIORS[-1])


def subject_of(posterior: Posterior) -> Subject:
    """Mode, curvature and noise of a posterior whose program is lowered to JAX with its rows."""
    target, reference = posterior.target(backend="jax", rows="auto"), posterior.reference()
    shared = comparable(target.param_names, reference)
    assert target.likelihood is not None
    problem = Problem(target.likelihood, jnp.asarray(1.0))
    mode = jax.jit(functools.partial(mode_start, dim=target.dim))(problem, jax.random.key(0)).position
    values, vectors = np.linalg.eigh(-np.asarray(jax.jit(jax.hessian(problem.log_density))(mode)))
    direction, curvature = vectors[:, -1], float(values[-1])

    def row_gradient(index: Array) -> Array:
        return jax.grad(problem.log_likelihood)(mode, index[None])

    gradients = np.asarray(jax.lax.map(row_gradient, jnp.arange(problem.n))) @ direction
    along = to_unconstrained(target, reference).draws @ direction
    center, scale = float(along.mean()), float(along.std())
    squares = ((along - center) / scale)[..., None] ** 2
    draws = reference.select(shared.names).draws
    errors = [np.mean(mean_error(x) ** 2 / x.var(axis=(0, 1))) for x in (draws, draws**2)]
    return Subject(
        posterior.name,
        target,
        draws,
        shared.columns,
        direction,
        curvature,
        problem.n * float(np.var(gradients)) * problem.n / BATCH / curvature,
        center,
        scale,
        float(mean_error(squares)[0]),
        float(np.mean(errors)),
    )


def mean_error(draws: np.ndarray) -> np.ndarray:
    """Monte Carlo standard error of the mean of ``f[chain, draw, parameter]``, ``f[parameter]``."""
    error: Any = array_stats.mcse(draws, method="mean", chain_axis=0, draw_axis=1)
    return np.asarray(error, float)


def observed(subject: Subject, run: Run) -> dict[str, Any]:
    """Variance along the stiffest direction by chain, b² of all chains, and what both cost."""
    z = (run.draws @ subject.direction - subject.center) / subject.scale
    kept = run.target.constrain(run.draws)[..., subject.columns]
    curve = error_curve(
        kept,
        subject.reference,
        run.equivalents(run.warmup),
        run.equivalents(run.info.cost),
    )
    return {
        "ratios": np.mean(z**2, axis=1).tolist(),
        "b2": float(np.mean([curve.mean[-1], curve.square[-1]])),
        "gradients": float(curve.gradients[-1]),
        "h_lambda": float(run.tuning["step_size"]) * subject.curvature,
        "divergent": int(np.sum(run.info.divergent)),
    }


def curve_measurement(
    subject: Subject, setting: Key, *, chains: int, gradients: int, seed: int
) -> Measurement:
    """One run, from chains that start at the mode."""
    estimator, h_lambda = setting
    gradients = gradients if h_lambda is not None else RULE_TIMES * gradients
    step_size = None if h_lambda is None else h_lambda / subject.curvature
    schedule = Schedule(step_size=step_size, inflation=INFLATION, burn_in=BURN_IN, draws=DRAWS)
    sampler = SGLD(Gradients(BATCH, estimator), schedule)

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        return observed(subject, stoppable_run(sampler, key, subject.target, gradients, chains, stop))

    kept = {
        "posterior": subject.name,
        "target": subject.target.digest,
        "reference": [float(subject.reference.mean()), float(subject.reference.std())],
        "sampler": sampler_setting(sampler) | {"schedule": vars(schedule) | {"step_size": h_lambda}},
        "chains": chains,
        "gradients": gradients,
    }
    label = f"{subject.name}, {estimator}, " + ("step by rule" if h_lambda is None else f"hλ = {h_lambda:g}")
    return Measurement(label, kept, seed, compute)


def measure_curve(
    laboratory: Laboratory, subject: Subject, *, chains: int, gradients: int, seeds: int
) -> Curve:
    """Both estimators at all step sizes, and minibatches with the step size by rule."""
    settings: list[Key] = [(estimator, h) for estimator in ESTIMATORS for h in STEPS]
    settings.append(("minibatch", None))
    wanted = [
        curve_measurement(subject, setting, chains=chains, gradients=gradients, seed=seed)
        for setting in settings
        for seed in range(FRESH, FRESH + seeds)
    ]
    found = iter(laboratory.measure(subject.name, wanted))
    return {setting: [next(found) for _ in range(seeds)] for setting in settings}
