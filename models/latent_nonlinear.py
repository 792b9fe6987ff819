"""A nonlinear model with one local parameter a datum, whose noise depends on it.

    θ ~ N(0, 1),   z_k ~ N(0, 1),   x_k ~ N(θ + z_k + z_k sin z_k, exp(2 cos z_k)),   k = 1 … n

(Margossian & Blei 2024, section 4.) The likelihood's standard deviation depends on z_k, so that its
logarithm, cos z_k, is part of the density. Local parameters are independent given θ, and equal data have
equal factors: a map from x_k to the factor of z_k exists. It has no closed form, and need not be continuous:
where the best factor moves from one mode of p(z_k | x_k) to another it jumps.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.stats import norm

from .hierarchy import Hierarchy
from .target import Target, digest_of, jax_density


def mean_of(theta: Array, z: Array) -> Array:
    """E[x | θ, z]"""
    return theta + z + z * jnp.sin(z)


def log_sd_of(z: Array) -> Array:
    """The logarithm of the standard deviation of x given z."""
    return jnp.cos(z)


class Simulated(NamedTuple):
    """Data, and what they were made from."""

    x: np.ndarray
    """``f[n]``"""
    theta: float
    z: np.ndarray


def simulate_latent_nonlinear(n: int, seed: int, *, theta: float | None = None) -> Simulated:
    """Data as the model has them; θ from its prior unless it is given."""
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal()
    theta = float(drawn) if theta is None else theta
    z = rng.standard_normal(n)
    x = theta + z + z * np.sin(z) + np.exp(np.cos(z)) * rng.standard_normal(n)
    return Simulated(x, theta, z)


def latent_nonlinear(x: np.ndarray) -> Target:
    """The posterior of (θ, z_1, …, z_n); the log density has all its constants.

    Raises
    ------
    ValueError
        If there are no data.
    """
    x = np.asarray(x, float)
    if x.ndim != 1 or not len(x):
        raise ValueError(f"x has the shape {x.shape}: give at least one datum, in one row")
    n = len(x)
    return Target(
        name="latent_nonlinear",
        dim=1 + n,
        density=jax_density(_log_density, jnp.asarray(x)),
        param_names=("theta", *(f"z[{k + 1}]" for k in range(n))),
        constrain=np.asarray,
        digest=digest_of("latent_nonlinear", x.tobytes()),
        hierarchy=Hierarchy(1 + n, np.arange(1, 1 + n)[:, None], x[:, None], ("x",)),
    )


def _log_density(x: Array, position: Array) -> Array:
    theta, z = position[0], position[1:]
    likelihood = norm.logpdf(x, mean_of(theta, z), jnp.exp(log_sd_of(z)))
    return norm.logpdf(theta) + norm.logpdf(z).sum() + likelihood.sum()
