"""Normal distributions cut off at both ends."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import ndtr, ndtri

TAIL, NARROW = -1.0, 1.0
"""Intervals that end below ``TAIL`` standard deviations, or are not wider than ``NARROW`` of them, are drawn
from by rejection."""
TINY = 1e-300
"""Uniform variables are at least this, so that no draw lies at an infinite end."""
FLAT = 1e-100
"""An exponential variable of this rate is uniform to rounding on every interval that is not wide."""


def truncated_normal(key: Array, loc: Array, scale: Array, low: Array, high: Array) -> Array:
    """A draw of N(loc, scale²) strictly between two bounds, either of which may be infinite.

    Of an interval and its mirror image the one whose middle is negative is drawn from, because distribution
    functions keep their digits in the lower tail only. In a wide interval about the center the distribution
    function is inverted. In others the distance d from the upper end b has the density exp(b d − d²/2): a
    truncated exponential variable, kept with probability exp(−d²/2) (Robert 1995), which is 0.6 or more on
    average however far out the interval lies and however narrow it is.

    JAX's and NumPyro's invert the distribution function everywhere: of (40, ∞) every draw of the one is ∞,
    and of the other 37.5; of (9, ∞) the former's are all ∞.
    """
    a, b, width = (low - loc) / scale, (high - loc) / scale, (high - low) / scale
    flip = a + b > 0  # of (−∞, ∞) neither
    a, b = jnp.where(flip, -b, a), jnp.where(flip, -a, b)
    inverted = (b >= TAIL) & (width > NARROW)
    middle_key, end_key = jax.random.split(key)
    below, above = ndtr(a), ndtr(b)
    z = ndtri(below + (above - below) * jax.random.uniform(middle_key, minval=TINY))

    rate = jnp.where(inverted | (jnp.abs(b) < FLAT), FLAT, -b)
    mass = jnp.expm1(-rate * jnp.where(inverted, 1.0, width))  # of the interval under it, times −1

    def body(now: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        propose, accept = jax.random.split(jax.random.fold_in(end_key, now[2]))
        distance = -jnp.log1p(mass * jax.random.uniform(propose, minval=TINY)) / rate
        return distance, jax.random.exponential(accept) > 0.5 * distance**2, now[2] + 1

    # What is not a number is no interval's: it goes through.
    begun = jnp.full_like(z, jnp.nan), inverted | jnp.logical_not(a <= b), jnp.int32(0)
    distance = scale * lax.while_loop(lambda now: ~now[1], body, begun)[0]
    from_end = jnp.where(flip, low + distance, high - distance)
    x = jnp.where(inverted, loc + scale * jnp.where(flip, -z, z), from_end)
    # Rounding must not put the draw on a bound: others are logarithms of the distance to it.
    least = jnp.finfo(float).tiny
    first = jnp.maximum(jnp.nextafter(low, jnp.inf), low + least)
    return jnp.clip(x, first, jnp.minimum(jnp.nextafter(high, -jnp.inf), high - least))
