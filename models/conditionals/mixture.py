"""A mixture of two Gaussians with its labels: all conditionals are exact.

y_i ~ N(μ_(z_i), σ²_(z_i)), z_i = 0 with probability θ; μ ~ N(0, 2²) with μ_1 < μ_2, σ ~ half-normal(2),
θ ~ Beta(5, 5). Coordinates: μ_1, log(μ_2 − μ_1), log σ_1, log σ_2, logit θ. The labels are sampled besides.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.stats import norm

from ..conditional import Blocks, Conditional
from .base import Extra, KnownModel
from .odds import logit_beta
from .scales import HalfNormal, log_scale
from .truncated import truncated_normal

MU_SCALE, SIGMA_SCALE, CONCENTRATION = 2.0, 2.0, 5.0


def low_dim_gauss_mix(data: dict[str, Any]) -> KnownModel:
    y = jnp.asarray(data["y"], float)

    def read(u: Array) -> tuple[Array, Array]:
        """Means and scales."""
        return jnp.stack([u[0], u[0] + jnp.exp(u[1])]), jnp.exp(u[2:4])

    def parts(u: Array) -> Array:
        """log θ_k N(y_i; μ_k, σ_k²), ``f[n, 2]``."""
        mu, sigma = read(u)
        weights = jax.nn.log_sigmoid(jnp.stack([u[4], -u[4]]))
        return weights + norm.logpdf(y[:, None], mu, sigma)

    def labels(key: Array, block: Array, u: Array, extra: Extra) -> tuple[Array, Extra]:
        return u, {"labels": jax.random.categorical(key, parts(u), axis=1).astype(jnp.int32)}

    def weight(key: Array, block: Array, u: Array, extra: Extra) -> tuple[Array, Extra]:
        upper = extra["labels"].sum()
        return u.at[4].set(logit_beta(key, CONCENTRATION + len(y) - upper, CONCENTRATION + upper)), extra

    def mean(key: Array, block: Array, u: Array, extra: Extra) -> tuple[Array, Extra]:
        mu, sigma = read(u)
        mine = extra["labels"] == block
        precision = mine.sum() + (sigma[block] / MU_SCALE) ** 2  # times σ²: finite where σ is tiny
        center = jnp.sum(jnp.where(mine, y, 0.0)) / precision
        low = jnp.where(block == 0, -jnp.inf, mu[0])
        high = jnp.where(block == 0, mu[1], jnp.inf)
        mu = mu.at[block].set(truncated_normal(key, center, sigma[block] / jnp.sqrt(precision), low, high))
        return u.at[0].set(mu[0]).at[1].set(jnp.log(mu[1] - mu[0])), extra

    def scale(key: Array, block: Array, u: Array, extra: Extra) -> tuple[Array, Extra]:
        mu, _ = read(u)
        mine = extra["labels"] == block
        squares = jnp.sum(jnp.where(mine, (y - mu[block]) ** 2, 0.0))
        return u.at[2 + block].set(log_scale(key, mine.sum(), squares, HalfNormal(SIGMA_SCALE))), extra

    def log_density(u: Array) -> Array:
        mu, sigma = read(u)
        prior = -0.5 * jnp.sum((mu / MU_SCALE) ** 2) - 0.5 * jnp.sum((sigma / SIGMA_SCALE) ** 2)
        balance = CONCENTRATION * (jax.nn.log_sigmoid(u[4]) + jax.nn.log_sigmoid(-u[4]))
        return jax.nn.logsumexp(parts(u), axis=1).sum() + prior + balance + u[1] + u[2] + u[3]

    conditionals = {
        "labels": Conditional(labels),
        "theta": Conditional(weight),
        "mu": Conditional(mean, size=2),
        "sigma": Conditional(scale, size=2),
    }

    def start(key: Array, u: Array) -> Extra:
        return labels(key, jnp.int32(0), u, {})[1]

    return KnownModel(Blocks(conditionals, start=start), log_density)
