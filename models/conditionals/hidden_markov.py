"""A hidden Markov model with its states: forward filtering, backward sampling, and exact conditionals.

Two states, y_t ~ N(μ_(s_t), 1), rows of the transition matrix uniform on the simplex, the first state
uniform; μ_1 ~ N(3, 1), μ_2 ~ N(10, 1), 0 < μ_1 < μ_2. Coordinates: a free one of each row, log μ_1,
log(μ_2 − μ_1). The states are sampled besides (Chib 1996).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.stats import norm

from ..conditional import Blocks, Conditional
from .base import Extra, KnownModel
from .odds import logit_beta
from .truncated import truncated_normal

PRIOR_MEANS = (3.0, 10.0)


def hmm_example(data: dict[str, Any]) -> KnownModel:
    y, centers = jnp.asarray(data["y"], float), jnp.asarray(PRIOR_MEANS)

    def read(u: Array) -> tuple[Array, Array]:
        """Logarithms of the transition matrix, and the means."""
        odds, low = ROW * u[:2], jnp.exp(u[2])
        return jax.nn.log_sigmoid(jnp.stack([odds, -odds], axis=1)), jnp.stack([low, low + jnp.exp(u[3])])

    def filtered(u: Array) -> Array:
        """log p(s_t, y_1 … y_t), ``f[t, 2]``."""
        transition, mu = read(u)
        fit = norm.logpdf(y[:, None], mu, 1.0)

        def forward(before: Array, now: Array) -> tuple[Array, Array]:
            after = jax.nn.logsumexp(before[:, None] + transition, axis=0) + now
            return after, after

        first = fit[0]
        return jnp.concatenate([first[None], lax.scan(forward, first, fit[1:])[1]])

    def states(key: Array, block: Array, u: Array, extra: Extra) -> tuple[Array, Extra]:
        transition, _ = read(u)
        alpha = filtered(u)
        keys = jax.random.split(key, len(y))
        last = jax.random.categorical(keys[-1], alpha[-1])

        def backward(after: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            own, weights = now
            state = jax.random.categorical(own, weights + transition[:, after])
            return state, state

        _, before = lax.scan(backward, last, (keys[:-1], alpha[:-1]), reverse=True)
        return u, {"states": jnp.append(before, last).astype(jnp.int32)}

    def row(key: Array, block: Array, u: Array, extra: Extra) -> tuple[Array, Extra]:
        s = extra["states"]
        here = s[:-1] == block
        to_first, to_second = jnp.sum(here & (s[1:] == 0)), jnp.sum(here & (s[1:] == 1))
        return u.at[block].set(logit_beta(key, 1.0 + to_first, 1.0 + to_second) / ROW), extra

    def mean(key: Array, block: Array, u: Array, extra: Extra) -> tuple[Array, Extra]:
        _, mu = read(u)
        mine = extra["states"] == block
        precision = mine.sum() + 1.0
        center = (jnp.sum(jnp.where(mine, y, 0.0)) + centers[block]) / precision
        low = jnp.where(block == 0, 0.0, mu[0])
        high = jnp.where(block == 0, mu[1], jnp.inf)
        mu = mu.at[block].set(truncated_normal(key, center, 1 / jnp.sqrt(precision), low, high))
        return u.at[2].set(jnp.log(mu[0])).at[3].set(jnp.log(mu[1] - mu[0])), extra

    def log_density(u: Array) -> Array:
        _, mu = read(u)
        rows = jax.nn.log_sigmoid(ROW * u[:2]) + jax.nn.log_sigmoid(-ROW * u[:2])
        prior = norm.logpdf(mu, centers, 1.0).sum()
        return jax.nn.logsumexp(filtered(u)[-1]) + prior + rows.sum() + u[2] + u[3]

    conditionals = {
        "states": Conditional(states),
        "theta": Conditional(row, size=2),
        "mu": Conditional(mean, size=2),
    }

    def start(key: Array, u: Array) -> Extra:
        return states(key, jnp.int32(0), u, {})[1]

    return KnownModel(Blocks(conditionals, start=start), log_density)


ROW = 2**0.5
"""Stan's free coordinate of a simplex of two times this is the logit of its first element (an isometric log
ratio)."""
