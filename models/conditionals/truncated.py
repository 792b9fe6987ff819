"""Normal distributions cut off at both ends."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def truncated_normal(key: Array, loc: Array, scale: Array, low: Array, high: Array) -> Array:
    """A draw of N(loc, scale²) between two bounds, either of which may be infinite.

    Where the bounds are in the upper half the mirror image is drawn: the distribution function keeps its
    digits in the lower tail only.
    """
    a, b = (low - loc) / scale, (high - loc) / scale
    flip = a > 0
    a, b = jnp.where(flip, -b, a), jnp.where(flip, -a, b)
    z = jax.random.truncated_normal(key, a, b)
    return loc + scale * jnp.where(flip, -z, z)
