"""Where chains start, and a step size for them: the mode by L-BFGS, and the largest curvature there."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ...models.target import Target
from ..base import Cost
from ..mode_search import NOWHERE, Climb, Started, climber, nowhere, random_start
from ..timing import Clock, Program
from .problem import Problem
from .settings import Gradients

if TYPE_CHECKING:
    from .engine import StochasticSampler

MAX_ITERATIONS = 1000
TOLERANCE = 1e-8
"""The search ends where an iteration raises the log density by less than this times its magnitude, or 1."""
POWER_ITERATIONS = 20
PRODUCT_COST = 2
"""Gradients that a Hessian times a vector costs: the gradient, and its derivative along the vector."""


def mode_start(problem: Problem, key: Array, dim: int) -> Started:
    """A mode, by L-BFGS with a line search (optax) from a random point of finite density.

    Every evaluation of the line search is a gradient of the whole density, and counted. NaN where not even
    a point of finite density is found.
    """

    climb = climber(problem.log_density)
    start = random_start(problem.log_density, key, dim)

    def settled(now: Climb) -> Array:
        return now.risen < TOLERANCE * jnp.maximum(1.0, jnp.abs(now.loss))

    end = lax.while_loop(
        lambda now: ~settled(now) & (now.iteration < MAX_ITERATIONS),
        climb.advance,
        climb.begin(start.position),
    )
    somewhere = end.loss < NOWHERE
    position = jnp.where(somewhere, end.position, jnp.nan)
    return Started(position, start.gradients + end.evaluations, start.found & settled(end) & somewhere)


def largest_curvature(problem: Problem, key: Array, position: Array) -> Array:
    """The largest eigenvalue of −∇² log p by power iteration; costs `CURVATURE_COST` gradients."""

    def product(vector: Array) -> Array:
        return -jax.jvp(jax.grad(problem.log_density), (position,), (vector,))[1]

    def iterate(_: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        vector, _ = found
        image = product(vector)
        return image / jnp.linalg.norm(image), vector @ image

    vector = jax.random.normal(key, position.shape)
    start = vector / jnp.linalg.norm(vector), jnp.zeros(())
    return lax.fori_loop(0, POWER_ITERATIONS, iterate, start)[1]


CURVATURE_COST = POWER_ITERATIONS * PRODUCT_COST
"""Gradients."""


def noise_over_curvature(gradients: Gradients, n: int, temperature: float) -> float:
    """V/λ, the variance of an estimate of the gradient over the curvature, in a Gaussian approximation.

    n rows that the model describes have gradients whose covariance is the curvature of the likelihood
    (the information identity); a sum of n/m times m of them has n/m times that. About a mode control
    variates leave none of it.
    """
    if gradients.estimator != "minibatch":
        return 0.0
    return n / (gradients.batch * gradients.likelihood_temperature * temperature)


def step_size_for(curvature: Array, noise: float, inflation: float) -> Array:
    """h at which a Gaussian's variance comes out as 1 + ``inflation`` times what it is.

    SGLD on a Gaussian of curvature λ, with gradients of variance V, has (2 + hV)/(2 − hλ) times its variance
    (a linear recurrence); with V = ``noise`` · λ it is 1 + ``inflation`` for the h that is returned.
    """
    return 2 * inflation / (curvature * (noise + 1 + inflation))


# -- all chains -----------------------------------------------------------------------------------


def started_chains(
    sampler: StochasticSampler, problem: Problem, target: Target, keys: Array, clock: Clock
) -> tuple[Started, Array, Cost]:
    """First positions, h, and what that has cost every chain in datum-gradients."""
    schedule = sampler.schedule
    if schedule.start == "random" and schedule.step_size is None:
        raise ValueError("start='random' needs a step_size: the rule takes it from the curvature at a mode")
    find = _starts(target.dim, schedule.start, schedule.step_size is None)
    started, curvature = find(clock, problem, keys)
    if not np.all(np.isfinite(started.position)) or (schedule.start == "random" and not started.found.all()):
        raise ValueError(nowhere(target))
    gradients = np.asarray(started.gradients, np.int64)
    if schedule.step_size is not None:
        size = jnp.asarray(schedule.step_size, float)
    else:
        gradients = gradients + CURVATURE_COST
        largest = float(np.max(curvature))
        if not (np.all(np.isfinite(curvature)) and largest > 0):
            raise ValueError(
                f"no step size follows from the curvature of {target.name} where the search of a mode ended: "
                "give step_size"
            )
        noise = noise_over_curvature(sampler.gradients, problem.n, sampler.temperature)
        size = sampler.first_step_size(step_size_for(jnp.asarray(largest), noise, schedule.inflation))
    zeros = np.zeros_like(gradients)
    spent = Cost(*(zeros for _ in Cost._fields))._replace(datum_gradients=gradients * problem.n)
    return started, size, spent


@functools.lru_cache(maxsize=64)
def _starts(dim: int, kind: str, curved: bool) -> Program:
    """One chain after the other, for a search takes as many evaluations as it takes."""

    def one(problem: Problem, key: Array) -> tuple[Started, Array]:
        position, direction = jax.random.split(jax.random.fold_in(key, 0))
        if kind == "mode":
            started = mode_start(problem, position, dim)
        else:
            started = random_start(problem.log_density, position, dim)
        if not curved:
            return started, jnp.asarray(jnp.nan)
        return started, largest_curvature(problem, direction, started.position)

    return Program(lambda problem, keys: lax.map(lambda key: one(problem, key), keys))
