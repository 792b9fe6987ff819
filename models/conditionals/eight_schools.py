"""Eight schools: θ | μ, τ and μ | θ, τ are Gaussian; τ is left to a generic update.

y_j ~ N(θ_j, σ_j²), θ_j ~ N(μ, τ²), μ ~ N(0, 5²), τ ~ half-Cauchy(0, 5) (Rubin 1981; Gelman et al., BDA,
section 5.5). Coordinates: θ_1 … θ_J (or their standardized versions), μ, log τ.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ..conditional import Blocks, Conditional
from .base import Extra, KnownModel

MU_SCALE = 5.0
TAU_SCALE = 5.0


def centered(data: dict[str, Any]) -> KnownModel:
    """With θ among the parameters."""
    y, sigma = jnp.asarray(data["y"], float), jnp.asarray(data["sigma"], float)
    n = len(y)

    def schools(key: Array, block: Array, x: Array, extra: Extra) -> tuple[Array, Extra]:
        mu, tau = x[n], jnp.exp(x[n + 1])
        ratio = (tau / sigma) ** 2
        return x.at[:n].set(_normal(key, ratio * y + mu, 1 + ratio, tau)), extra

    def mean(key: Array, block: Array, x: Array, extra: Extra) -> tuple[Array, Extra]:
        tau = jnp.exp(x[n + 1])
        return x.at[n].set(_normal(key, x[:n].sum(), n + (tau / MU_SCALE) ** 2, tau)), extra

    def log_density(x: Array) -> Array:
        theta, mu, log_tau = x[:n], x[n], x[n + 1]
        fit = -0.5 * jnp.sum(((y - theta) / sigma) ** 2)
        spread = -0.5 * jnp.sum((theta - mu) ** 2) * jnp.exp(-2 * log_tau) - n * log_tau
        return fit + spread + _prior(mu, log_tau)

    conditionals = {"theta": Conditional(schools), "mu": Conditional(mean)}
    return KnownModel(Blocks(conditionals, left=(n + 1,)), log_density)


def noncentered(data: dict[str, Any]) -> KnownModel:
    """With (θ − μ)/τ among the parameters."""
    y, sigma = jnp.asarray(data["y"], float), jnp.asarray(data["sigma"], float)
    n = len(y)

    def schools(key: Array, block: Array, x: Array, extra: Extra) -> tuple[Array, Extra]:
        mu, tau = x[n], jnp.exp(x[n + 1])
        z = _normal(key, tau * (y - mu) / sigma**2, 1 + tau**2 / sigma**2)
        return x.at[:n].set(z), extra

    def mean(key: Array, block: Array, x: Array, extra: Extra) -> tuple[Array, Extra]:
        left = y - jnp.exp(x[n + 1]) * x[:n]
        mu = _normal(key, jnp.sum(left / sigma**2), jnp.sum(1 / sigma**2) + 1 / MU_SCALE**2)
        return x.at[n].set(mu), extra

    def log_density(x: Array) -> Array:
        z, mu, log_tau = x[:n], x[n], x[n + 1]
        fit = -0.5 * jnp.sum(((y - mu - jnp.exp(log_tau) * z) / sigma) ** 2)
        return fit - 0.5 * z @ z + _prior(mu, log_tau)

    conditionals = {"theta_trans": Conditional(schools), "mu": Conditional(mean)}
    return KnownModel(Blocks(conditionals, left=(n + 1,)), log_density)


def _normal(key: Array, weighted: Array, precision: Array, scale: Array | float = 1.0) -> Array:
    """N(weighted / precision, scale² / precision): the precision times scale² stays finite for tiny τ."""
    z = jax.random.normal(key, jnp.shape(weighted))
    return weighted / precision + scale * z / jnp.sqrt(precision)


def _prior(mu: Array, log_tau: Array) -> Array:
    return -0.5 * (mu / MU_SCALE) ** 2 - jnp.log1p((jnp.exp(log_tau) / TAU_SCALE) ** 2) + log_tau
