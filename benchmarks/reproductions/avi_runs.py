"""What reproductions of amortized VI share: fits that can be stopped, and ELBOs without Monte Carlo error.

On a Gaussian posterior of precision Λ and mode m̂ every factorized Gaussian has an exact ELBO,

    E_q log p − E_q log q = log p(m) − ½ Σ Λ_kk s_k² + Σ log s_k + ½ dim log 2πe,

and the best of them is N(m̂_k, 1/Λ_kk) in every coordinate.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array

from ...models.target import Target
from ...samplers.base import Budget
from ...samplers.timing import Clock
from ...samplers.vi.contenders import on_target
from ...samplers.vi.families import Problem, Space
from ...samplers.vi.fits import Fit, VariationalSampler, fit
from ...samplers.vi.fitting import programs_for
from ...samplers.vi.start import climbed_start, random_origin, tied
from .ensemble import Stopped
from .laboratory import Measurement, sampler_setting

ENDLESS = 10**9
"""Steps of a lane in all, as the decay of its rate counts them: none in a race."""
PAPER = "Margossian & Blei 2024, section 4"
SOURCE = "Margossian & Blei (2024), Amortized variational inference: when and why?, UAI; arXiv 2307.11018"


@dataclass(frozen=True, eq=False)
class GaussianPosterior:
    """A target that is a Gaussian, with what its factorized approximations need."""

    target: Target
    mode: np.ndarray
    """``f[dim]``"""
    curvature: np.ndarray
    """Λ's diagonal, ``f[dim]``"""

    def elbo(self, loc: np.ndarray, scale: np.ndarray) -> float:
        """Of independent Gaussians, exact; log p up to the target's constant."""
        height = float(_evaluate(self.target.density, loc))
        entropy = float(np.sum(np.log(scale))) + 0.5 * len(scale) * math.log(2 * math.pi * math.e)
        return height - 0.5 * float(self.curvature @ scale**2) + entropy

    @functools.cached_property
    def optimum(self) -> float:
        """F-VI's best ELBO."""
        return self.elbo(self.mode, self.curvature**-0.5)


_evaluate = jax.jit(lambda density, x: density.log_density(x))


# -- fits ---------------------------------------------------------------------------------------------


def factors_of(sampler: VariationalSampler, problem: Problem, params: Any) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of a factorized Gaussian, on the target's space: ``f[dim], f[dim]``."""
    loc, log_scale = (np.asarray(x) for x in on_target(sampler.family, problem, params))
    with np.errstate(over="ignore"):  # infinite where a rate is far too large
        return loc, np.exp(log_scale)


def fit_measurement(
    label: str,
    sampler: VariationalSampler,
    target: Target,
    gradients: int,
    seed: int,
    evaluate: Callable[[Fit], Mapping[str, Any]],
    setting: Mapping[str, Any] | None = None,
) -> Measurement:
    """One fit, and what ``evaluate`` says of it, of what JSON has.

    The result also has ``gradients`` (start, grid and all), ``converged``, ``learning_rate``, ``grid_elbo``
    and ``steps``.

    Parameters
    ----------
    setting : what else ``evaluate`` depends on
    """

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        found = stoppable_fit(sampler, key, target, gradients, stop)
        return {**fit_summary(found), **evaluate(found)}

    identity = {"target": target.digest, "gradients": gradients}
    described = {**sampler_setting(sampler), **identity, **(setting or {})}
    return Measurement(label, described, seed, compute)


def stoppable_fit(
    sampler: VariationalSampler, key: Array, target: Target, gradients: int, stop: threading.Event
) -> Fit:
    """One fit that is given up when ``stop`` is set.

    Raises
    ------
    Stopped
        When ``stop`` is set.
    """
    budget = Budget(gradients)

    def check(phase: str, gradients: int, draws: int) -> None:
        if stop.is_set():
            raise Stopped

    return fit(sampler, key, target, budget, progress=check)[0]


def fit_summary(found: Fit) -> dict[str, Any]:
    """What a fit cost and how it ended; windows without an ELBO are null."""
    return {
        "gradients": int(found.cost.gradients),
        "converged": bool(found.converged),
        "learning_rate": float(found.learning_rate),
        "grid_elbo": [float(x) if math.isfinite(x) else None for x in found.grid_elbo],
        "steps": [int(x) for x in found.steps],
    }


# -- a race over the grid of learning rates -----------------------------------------------------------


def race_measurement(
    label: str,
    sampler: VariationalSampler,
    target: Target,
    steps: int,
    every: int,
    seed: int,
    elbo: Callable[[np.ndarray, np.ndarray], float],
    start: str | None = None,
) -> Measurement:
    """Every rate of the grid for the same number of steps, from one start: ELBOs on the way.

    The result has ``start``, the gradients that the start has cost, ``gradients``, those that a rate has
    cost since, one per checkpoint, and ``elbo[rate][checkpoint]``. The first checkpoint is before the first
    step; a rate that has converged by the fit's own rule stays where it is.

    Parameters
    ----------
    elbo : of a factorized Gaussian with these means and standard deviations
    every : steps between checkpoints
    start : ``"climb"`` or ``"random"``; by default as the sampler's settings say
    """
    start = start or sampler.fitting.start
    marks = [*range(0, steps, every), steps]

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        fitting, programs, clock = sampler.fitting, programs_for(sampler.family, sampler.fitting), Clock()
        problem, spent = started(sampler, jax.random.fold_in(key, 0), target, start)
        found = []
        for rate in fitting.learning_rates:
            own = jax.random.fold_in(key, 1)  # the same draws for every rate
            lane, values = programs.begin(clock, problem, own), []
            for mark in marks:
                if stop.is_set():
                    raise Stopped
                numbers = np.float64(rate), np.int64(ENDLESS), np.int64(mark)
                lane = programs.advance(clock, problem, lane, own, *numbers)
                values.append(elbo(*factors_of(sampler, problem, lane.params)))
            found.append([value if math.isfinite(value) else None for value in values])
        return {"start": spent, "gradients": [mark * fitting.samples for mark in marks], "elbo": found}

    identity = {"target": target.digest, "steps": steps, "every": every, "race from": start}
    return Measurement(label, {**sampler_setting(sampler), **identity}, seed, compute)


def started(sampler: VariationalSampler, key: Array, target: Target, start: str) -> tuple[Problem, int]:
    """Where a fit begins, and the gradients that this has cost.

    Raises
    ------
    KeyError
        If there is no such start.
    """
    find = {"climb": climbed_start, "random": random_origin}[start]
    found = _found(find, target.density, key, target.dim, BUDGET)
    cost, locals = int(found.cost.gradients), sampler.locals_of(target)
    begun = found if locals is None else tied(found, locals)
    return Problem(target.density, begun.center, begun.scale, Space(target.dim, locals)), cost


BUDGET = 10_000
"""Gradients that the start takes its share of; the races themselves have steps."""
_found = jax.jit(
    lambda find, density, key, dim, budget: find(density, key, dim, budget), static_argnums=(0, 3)
)


def gradients_to(result: Mapping[str, Any], goal: float) -> list[float]:
    """Gradients of every rate, the start's among them, to the first checkpoint of at least this ELBO.

    Infinite where there is none: more than were given are needed.
    """
    return [
        next(
            (
                float(result["start"] + spent)
                for spent, value in zip(result["gradients"], values, strict=True)
                if value is not None and value >= goal
            ),
            math.inf,
        )
        for values in result["elbo"]
    ]
