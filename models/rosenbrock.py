"""The hybrid Rosenbrock distribution: curved, narrow, and with exact draws."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.stats import norm

from .target import Target, jax_density, unconstrained_target


class _Settings(NamedTuple):
    location: Array
    scale: Array
    noise: Array


def rosenbrock(
    blocks: int = 1,
    block_size: int = 2,
    *,
    location: float = 1.0,
    scale: float = 10**0.5,
    noise: float = 0.1**0.5,
) -> Target:
    """The hybrid Rosenbrock distribution; its log density is normalised.

    x[1] ~ N(location, scale²) is shared by all blocks; within a block each further coordinate is
    drawn around the square of the one before it, N(·², noise²). The defaults are those of the
    classical two-dimensional function over 20.

    Parameters
    ----------
    blocks, block_size : the dimension is ``blocks * (block_size - 1) + 1``; the order is x[1], then
        block by block

    References
    ----------
    Pagani, Wiegand, Nadarajah (2022). An n-dimensional Rosenbrock distribution for Markov chain
    Monte Carlo testing. Scandinavian Journal of Statistics 49, 657–680; equation 3.
    """
    if blocks < 1 or block_size < 2:
        raise ValueError(f"blocks={blocks} must be at least 1 and block_size={block_size} at least 2")
    if min(scale, noise) <= 0:
        raise ValueError(f"scale={scale} and noise={noise} must be positive")
    settings = _Settings(*(jnp.asarray(v, float) for v in (location, scale, noise)))
    return unconstrained_target(
        "rosenbrock",
        blocks * (block_size - 1) + 1,
        # The number of blocks is a shape, so it must reach the density as one.
        jax_density(_log_density, (settings, jnp.zeros((blocks, 0)))),
        exact=lambda key, n: _exact(key, n, settings, blocks, block_size),
        settings=f"{blocks} {block_size} {location!r} {scale!r} {noise!r}",
    )


def _log_density(operand: tuple[_Settings, Array], x: Array) -> Array:
    settings, shape = operand
    rest = x[1:].reshape(len(shape), -1)
    before = jnp.concatenate([jnp.broadcast_to(x[0], (len(shape), 1)), rest[:, :-1]], axis=1)
    first = norm.logpdf(x[0], settings.location, settings.scale)
    return first + norm.logpdf(rest, before**2, settings.noise).sum()


def _exact(key: Array, n: int, settings: _Settings, blocks: int, block_size: int) -> Array:
    first_key, rest_key = jax.random.split(key)
    first = settings.location + settings.scale * jax.random.normal(first_key, (n,))
    noise = settings.noise * jax.random.normal(rest_key, (block_size - 1, n, blocks))

    def following(before, noise):
        x = before**2 + noise
        return x, x

    _, rest = jax.lax.scan(following, jnp.broadcast_to(first[:, None], (n, blocks)), noise)
    return jnp.concatenate([first[:, None], jnp.moveaxis(rest, 0, -1).reshape(n, -1)], axis=1)
