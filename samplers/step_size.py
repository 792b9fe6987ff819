"""Finding a step size: a first one by doubling, a good one by dual averaging.

Hoffman & Gelman, "The No-U-Turn Sampler" (JMLR 2014), §3.2: algorithms 4 and 5.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..models.target import Density
from .groups import over_group
from .integrators import PhasePoint, leapfrog, log_joint
from .metrics import Metric, sample_momentum


class DualAveraging(NamedTuple):
    """Nesterov's dual averaging on log ε (Hoffman & Gelman 2014, eq. 6)."""

    log_step_size: Array
    log_averaged: Array
    error_sum: Array
    updates: Array
    center: Array


def start_averaging(step_size: Array, center: float = 10.0) -> DualAveraging:
    """Restart around ``center`` times ``step_size``: larger steps are cheaper to rule out."""
    zero = jnp.zeros_like(step_size)
    log_step = jnp.log(step_size)
    return DualAveraging(log_step, zero, zero, zero, jnp.log(center) + log_step)


def update_averaging(
    state: DualAveraging,
    acceptance: Array,
    target: float,
    *,
    gamma: float = 0.05,
    t0: float = 10.0,
    kappa: float = 0.75,
) -> DualAveraging:
    """One observation of the acceptance; the constants are Stan's."""
    updates = state.updates + 1.0
    eta = 1.0 / (updates + t0)
    error_sum = (1.0 - eta) * state.error_sum + eta * (target - acceptance)
    log_step_size = state.center - error_sum * jnp.sqrt(updates) / gamma
    weight = updates**-kappa
    log_averaged = weight * log_step_size + (1.0 - weight) * state.log_averaged
    return DualAveraging(log_step_size, log_averaged, error_sum, updates, state.center)


def reasonable_step_size(
    key: Array,
    density: Density,
    positions: Array,
    step_size: Array,
    metric: Metric,
    target: float = 0.8,
    evaluated: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
    """Double or halve the step until a leapfrog step's mean acceptance crosses ``target``.

    Hoffman & Gelman (2014), algorithm 4, with Stan's threshold.

    Parameters
    ----------
    positions : of a group, ``f[chain, dim]``
    step_size : where the search begins, ``f[]``
    evaluated : log densities and gradients there, where they are known already

    Returns
    -------
    step size ``f[]``, gradients spent by each chain ``i[]``
    """
    chains = positions.shape[0]
    log_densities, gradients = evaluated or over_group(density.value_and_grad)(positions)

    def acceptance(key: Array, step_size: Array) -> Array:
        def one(key: Array, position: Array, log_density: Array, gradient: Array) -> Array:
            start = PhasePoint(position, sample_momentum(key, metric), log_density, gradient)
            end = leapfrog(density, metric, start, step_size)
            return jnp.exp(jnp.minimum(0.0, log_joint(metric, end) - log_joint(metric, start)))

        keys = jax.random.split(key, chains)
        return jnp.mean(over_group(one)(keys, positions, log_densities, gradients))

    def unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
        step_size, _, crossed, trials = carry
        return ~crossed & (trials < 100) & jnp.isfinite(step_size) & (step_size > 0)

    def trial(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        step_size, direction, _, trials = carry
        above = acceptance(jax.random.fold_in(key, trials), step_size) > target
        wanted = jnp.where(above, 1, -1)
        direction = jnp.where(trials == 0, wanted, direction)
        crossed = wanted != direction
        factor = jnp.where(crossed, 1.0, jnp.where(direction > 0, 2.0, 0.5))
        return step_size * factor, direction, crossed, trials + 1

    start = (step_size, jnp.int32(0), jnp.bool_(False), jnp.int32(0))
    found, _, crossed, trials = jax.lax.while_loop(unfinished, trial, start)
    return jnp.where(crossed, found, step_size), trials + (0 if evaluated else 1)
