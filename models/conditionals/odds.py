"""Beta variables on the scale of log odds, where they have no end to be rounded to."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from .log_concave import log_concave


def logit_beta(key: Array, a: Array | float, b: Array | float) -> Array:
    """t = logit of a draw of Beta(a, b), finite however near to 0 or 1 that is.

    Its density, σ(t)^a σ(−t)^b, is log-concave. (The ratio of two gamma variables has the distribution of the
    odds too, and takes several times as long to compile.)
    """
    mode = jnp.log(a) - jnp.log(b)
    length = jnp.sqrt(2 / a + 2 / b)

    def log_density(t: Array) -> Array:
        return a * jax.nn.log_sigmoid(t) + b * jax.nn.log_sigmoid(-t)

    return log_concave(key, log_density, mode, length)
