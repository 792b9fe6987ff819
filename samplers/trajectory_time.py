"""Finding how long to integrate: from the longest scale of the draws, or from a pilot of NUTS.

Both give a time in the units of the metric. HMC on a Gaussian of standard deviation s in those units
has autocorrelation cos(T/s) after a trajectory of length T: π/2 decorrelates the scale that the metric
got right (s = 1), a quarter of the period, π/2·s, the longest one.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .base import Kernel
from .metrics import Metric

AMNESIA = 2.0
"""How much more the latest positions count: position s of t has weight ∝ s²."""
MIN_UPDATES = 10
"""Positions of a group before which its longest scale is taken to be 1."""
PILOT_STEPS = 25
"""NUTS steps of each chain's pilot."""
PILOT_PERCENTILE = 90.0


class LongestScale(NamedTuple):
    """The direction of largest variance in the units of the metric, followed as positions come.

    Candid covariance-free incremental principal components, the first of them (Weng, Zhang & Hwang
    2003): one vector, no covariance matrix and no gradient. The variance is taken along the axis as it
    was before each position, so that it is not the largest of a noisy sample: in an isotropic Gaussian
    it is 1, not (1 + √(dim/n))².
    """

    axis: Array
    """``f[dim]``, in the units of the positions, so that it outlives a change of the metric."""
    variance: Array
    """Along the axis, in the units of the metric, ``f[]``."""
    updates: Array


def start_scale(dim: int, dtype) -> LongestScale:
    """Nothing observed: variance 1 along no axis."""
    return LongestScale(jnp.zeros(dim, dtype), jnp.ones((), dtype), jnp.zeros((), dtype))


def update_scale(state: LongestScale, metric: Metric, deviations: Array) -> LongestScale:
    """Take in where a group is now, as deviations from the mean so far, ``f[chain, dim]``."""
    y = jax.vmap(lambda x: _to_units(metric, x))(deviations)
    axis = _to_units(metric, state.axis)
    length = jnp.linalg.norm(axis)
    known = length > 0
    direction = jnp.where(known, axis / jnp.where(known, length, 1.0), 0.0)
    along = y @ direction
    updates = state.updates + 1.0
    weight = jnp.minimum(1.0, (1.0 + AMNESIA) / updates)
    pulled = jnp.where(known, jnp.mean(along[:, None] * y, axis=0), y[0])
    axis = (1.0 - weight) * axis + weight * pulled
    variance = jnp.where(known, (1.0 - weight) * state.variance + weight * jnp.mean(along**2), 1.0)
    new = LongestScale(_from_units(metric, axis), variance, updates)
    usable = jnp.all(jnp.isfinite(new.axis)) & jnp.isfinite(variance)
    return jax.tree.map(lambda a, b: jnp.where(usable, a, b), new, state)


def quarter_period(state: LongestScale, unit_time: float) -> Array:
    """``unit_time`` times the longest scale, which is at least the metric's own, ``f[]``."""
    known = state.updates >= MIN_UPDATES
    return unit_time * jnp.sqrt(jnp.where(known, jnp.maximum(state.variance, 1.0), 1.0))


def _to_units(metric: Metric, x: Array) -> Array:
    """L⁻¹ x, M⁻¹ = L Lᵀ."""
    factor = metric.factor
    if factor.ndim == 2:
        return jax.scipy.linalg.solve_triangular(factor, x, lower=True)
    return x / factor


def _from_units(metric: Metric, y: Array) -> Array:
    factor = metric.factor
    return factor @ y if factor.ndim == 2 else factor * y


def pilot(
    kernel: Kernel,
    key: Array,
    positions: Array,
    step_size: Array,
    limit: Array,
) -> tuple[Array, Array]:
    """Lengths of NUTS trajectories from a group's positions, for their percentile.

    Chains go one after the other, so that none pays for another's longer trajectory.

    Parameters
    ----------
    kernel : of NUTS, at the metric and about the step size that warmup has found
    positions : ``f[chain, dim]``
    limit : gradients that a chain may spend; a step begins only while something is left

    Returns
    -------
    integration times ``f[chain, PILOT_STEPS]``, NaN for steps not taken; gradients spent ``i[chain]``
    """

    def chain(arguments: tuple[Array, Array]) -> tuple[Array, Array]:
        key, position = arguments
        state, cost = kernel.init(jax.random.fold_in(key, PILOT_STEPS), position)
        times = jnp.full(PILOT_STEPS, jnp.nan, positions.dtype)

        def unfinished(carry) -> Array:
            i, _, _, spent = carry
            return (i < PILOT_STEPS) & (spent < limit)

        def step(carry):
            i, state, times, spent = carry
            state, info = kernel.step(jax.random.fold_in(key, i), state)
            time = info.extra["num_integration_steps"] * step_size
            return i + 1, state, times.at[i].set(time), spent + info.cost.gradients

        start = (jnp.int32(0), state, times, jnp.asarray(cost.gradients, jnp.int32))
        _, _, times, spent = jax.lax.while_loop(unfinished, step, start)
        return times, spent

    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(positions.shape[0]))
    return jax.lax.map(chain, (keys, positions))
