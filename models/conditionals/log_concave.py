"""Exact draws of univariate log-concave densities whose mode is known, by rejection (Devroye 1986, VII.2).

The envelope is constant about the mode, and exponential beyond where tangents, taken to either side at a
distance that is looked for, meet that level.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

LEAST, MOST = 0.5, 2.0
"""How far the log density should fall to where the tangents are taken. It falls by less than ``LEAST`` at
half that distance, or by at most ``MOST`` there: by concavity more than a third of the proposals is kept."""


def log_concave(key: Array, log_density: Callable[[Array], Array], mode: Array, length: Array) -> Array:
    """A draw ``f[]`` of a density ∝ exp(log_density), which is concave, smooth and largest at ``mode``.

    Draws are exact for every positive ``length``; NaN where the log density at the mode is not finite.

    Parameters
    ----------
    length : at which distance to begin to look for the tangents' places; best is √2 standard deviations
    """
    top = log_density(mode)
    usable = jnp.isfinite(top) & (length > 0) & jnp.isfinite(length)

    def tangent(side: Array) -> tuple[Array, Array]:
        """How far from the mode it meets the top's level, and its slope, downhill."""

        def fall(r: Array) -> Array:
            return top - log_density(mode + side * r)

        r = jnp.where(usable, length, 1.0)
        r = lax.while_loop(lambda r: usable & ~(fall(r) <= MOST), lambda r: r / 2, r)
        r = lax.while_loop(lambda r: usable & (fall(r) < LEAST), lambda r: 2 * r, r)
        drop, slope = jax.value_and_grad(fall)(r)
        # A fall beyond all numbers: nothing is out there, and the level ends at a wall.
        cliff = ~(jnp.isfinite(drop) & jnp.isfinite(slope))
        return jnp.where(cliff, r, r - drop / slope), jnp.where(cliff, jnp.inf, slope)

    (left, right), (rise, descent) = jax.vmap(tangent)(jnp.array([-1.0, 1.0]))
    masses = jnp.stack([1 / rise, left + right, 1 / descent])

    def body(now: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        part_key, where, accept = jax.random.split(jax.random.fold_in(key, now[2]), 3)
        part = jax.random.categorical(part_key, jnp.log(masses))
        far = jax.random.exponential(where)
        inside = (left + right) * jax.random.uniform(where) - left
        x = mode + jnp.stack([-left - far / rise, inside, right + far / descent])[part]
        envelope = top - jnp.stack([far, jnp.zeros(()), far])[part]
        keep = -jax.random.exponential(accept) < log_density(x) - envelope
        return x, keep, now[2] + 1

    begun = jnp.full_like(mode, jnp.nan), ~usable, jnp.int32(0)
    return lax.while_loop(lambda now: ~now[1], body, begun)[0]
