"""Neal's funnel: a scale parameter and its effects, without data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.stats import norm

from .target import Target, jax_density, unconstrained_target

_SCALE = 3.0


def funnel(dim: int = 10) -> Target:
    """Neal's funnel (2003, Slice sampling, §8): v ~ N(0, 3²), x_i | v ~ N(0, exp(v)).

    The log density is normalised.

    Parameters
    ----------
    dim : coordinates in all; the first is v, the others are x
    """
    if dim < 2:
        raise ValueError(f"a funnel has v and at least one x: dim={dim} is too small, give at least 2")
    return unconstrained_target(
        "funnel",
        dim,
        jax_density(_log_density, ()),
        param_names=("v", *(f"x[{i}]" for i in range(1, dim))),
        exact=lambda key, n: _exact(key, n, dim),
    )


def _log_density(_, x: Array) -> Array:
    v, effects = x[0], x[1:]
    return norm.logpdf(v, 0.0, _SCALE) + norm.logpdf(effects, 0.0, jnp.exp(v / 2)).sum()


def _exact(key: Array, n: int, dim: int) -> Array:
    z = jax.random.normal(key, (n, dim))
    v = _SCALE * z[:, :1]
    return jnp.concatenate([v, jnp.exp(v / 2) * z[:, 1:]], axis=1)
