"""Mixtures of spherical Gaussians: modes that a chain has to find and to leave."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp
from numpy.typing import ArrayLike

from .target import Target, digest_of, jax_density, unconstrained_target


def gaussian_mixture(
    dim: int = 2,
    *,
    means: ArrayLike | None = None,
    scales: float | Sequence[float] = 1.0,
    weights: Sequence[float] = (2 / 3, 1 / 3),
) -> Target:
    """Σ_k w_k N(m_k, s_k² I). The log density is normalised.

    By default two modes, eight standard deviations apart along x[1], that differ in weight: of modes
    with equal weight, chains that never change modes give the right mean by accident.

    Parameters
    ----------
    means : ``f[k, dim]``
    scales : one for all modes, or ``f[k]``
    weights : ``f[k]``, adding up to 1
    """
    centres = np.asarray(means, float) if means is not None else np.outer([-4.0, 4.0], np.eye(1, dim))
    if centres.ndim != 2 or centres.shape[1] != dim:
        raise ValueError(f"means must have shape [k, {dim}], got {centres.shape}")
    k = len(centres)
    spread, probability = np.broadcast_to(np.asarray(scales, float), k), np.asarray(weights, float)
    if probability.shape != (k,) or np.any(probability <= 0) or not np.isclose(probability.sum(), 1):
        raise ValueError(f"weights must be {k} positive numbers that add up to 1, got {weights}")
    if np.any(spread <= 0):
        raise ValueError(f"scales must be positive, got {scales}")
    operand = (jnp.asarray(centres), jnp.asarray(spread), jnp.log(probability))
    return unconstrained_target(
        "gaussian_mixture",
        dim,
        jax_density(_log_density, operand),
        exact=lambda key, n: _exact(key, n, operand),
        settings=digest_of(centres.tobytes(), spread.tobytes(), probability.tobytes()),
    )


def _log_density(operand: tuple[Array, Array, Array], x: Array) -> Array:
    means, scales, log_weights = operand
    squared = ((x - means) ** 2).sum(1) / scales**2
    return logsumexp(log_weights - 0.5 * squared - x.size * (jnp.log(scales) + 0.5 * jnp.log(2 * jnp.pi)))


def _exact(key: Array, n: int, operand: tuple[Array, Array, Array]) -> Array:
    means, scales, log_weights = operand
    mode_key, normal_key = jax.random.split(key)
    mode = jax.random.categorical(mode_key, log_weights, shape=(n,))
    z = jax.random.normal(normal_key, (n, means.shape[1]))
    return means[mode] + scales[mode][:, None] * z
