"""Exact draws of univariate log-concave densities whose mode is known, by rejection (Devroye 1986, VII.2).

The envelope is constant about the mode, and exponential beyond where tangents, taken a curvature's length to
either side, meet that level.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax


def log_concave(key: Array, log_density: Callable[[Array], Array], mode: Array, length: Array) -> Array:
    """A draw ``f[]`` of a density ∝ exp(log_density), which is concave, smooth and largest at ``mode``.

    Parameters
    ----------
    length : where tangents are taken, about a standard deviation; any positive number gives exact draws
    """
    slope_at = jax.grad(log_density)
    top = log_density(mode)
    left, right = mode - length, mode + length
    rise, fall = slope_at(left), -slope_at(right)  # both positive
    low = left + (top - log_density(left)) / rise
    high = right - (top - log_density(right)) / fall
    masses = jnp.stack([1 / rise, high - low, 1 / fall])

    def body(now: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        part_key, where, accept = jax.random.split(jax.random.fold_in(key, now[2]), 3)
        part = jax.random.categorical(part_key, jnp.log(masses))
        far = jax.random.exponential(where)
        inside = low + (high - low) * jax.random.uniform(where)
        x = jnp.stack([low - far / rise, inside, high + far / fall])[part]
        envelope = top - jnp.stack([far, jnp.zeros(()), far])[part]
        keep = -jax.random.exponential(accept) < log_density(x) - envelope
        return x, keep, now[2] + 1

    begun = jnp.asarray(mode), jnp.asarray(False), jnp.int32(0)
    return lax.while_loop(lambda now: ~now[1], body, begun)[0]
