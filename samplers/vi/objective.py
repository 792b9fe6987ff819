"""The evidence lower bound, and two estimates of its gradient.

    ELBO(φ) = E_q [log p(x) − log q(x; φ)],   x = T(ε; φ)

**Total**: the derivative of a Monte Carlo mean, in which φ stands both in x and in log q(x; φ). **Path**: φ
inside log q is held; what is left out, the score ∂_φ log q(x; φ) at fixed x, has mean 0 under q. Both have
the gradient of the ELBO as their mean. The path gradient's variance is 0 where q is p; far from there it can
be the larger one (Roeder, Wu & Duvenaud 2017; Vaitl, Winkler, Richter & Kessel 2024).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .families import Family, Problem


class Estimated(NamedTuple):
    """The mean over some draws of q; those at which the density could not be evaluated are left out."""

    gradient: Any
    """Of the ELBO, as the parameters; 0 where no draw is left."""
    elbo: Array
    """NaN where no draw is left."""
    failed: Array
    """Draws left out, ``i[]``."""


def elbo_gradient(family: Family, problem: Problem, estimator: str, params: Any, keys: Array) -> Estimated:
    """The ELBO and its gradient from one draw of q a key; each costs one gradient of the density."""

    def one(key: Array) -> tuple[Any, tuple[Array, Array]]:
        def bound(params: Any) -> tuple[Array, tuple[Array, Array]]:
            u, log_q = family.sample(params, key, problem.space)
            differentiated = log_q
            if estimator == "path":
                differentiated = family.log_prob(lax.stop_gradient(params), u, problem.space)
            value, gradient = problem.value_and_grad(lax.stop_gradient(u))
            # Has the derivative of log p(u) with respect to u: the oracle is asked once.
            along = jnp.vdot(lax.stop_gradient(gradient), u)
            return along - differentiated, (value - log_q, jnp.isfinite(value))

        return jax.grad(bound, has_aux=True)(params)

    gradients, (bounds, good) = jax.vmap(one)(keys)
    number = jnp.maximum(1, good.sum())

    def mean(values: Array) -> Array:
        kept = good.reshape(-1, *(1,) * (values.ndim - 1))
        return jnp.where(kept, values, 0.0).sum(axis=0) / number

    elbo = jnp.where(good.any(), mean(bounds), jnp.nan)
    return Estimated(jax.tree.map(mean, gradients), elbo, jnp.sum(~good))


def log_weights(family: Family, problem: Problem, params: Any, keys: Array) -> tuple[Array, Array]:
    """Draws of q on the target's space, and log p − log q there: ``f[n, dim], f[n]``.

    −inf where the density is 0 or could not be evaluated. Each costs one evaluation of the density.
    """

    def one(key: Array) -> tuple[Array, Array]:
        u, log_q = family.sample(params, key, problem.space)
        return problem.position(u), problem.log_density(u) - log_q

    return jax.vmap(one)(keys)
