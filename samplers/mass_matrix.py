"""Estimating the metric from a chain's positions and the gradients that it has there anyway.

Two estimators: the (co)variance of the positions, regularized as in Stan; and the minimizer of the
empirical Fisher divergence to a standard normal, which uses the gradients too (Seyboldt, Carlson &
Carpenter, "Preconditioning Hamiltonian Monte Carlo by minimizing Fisher divergence", 2026,
arXiv 2603.18845). On a Gaussian whose coordinates are independent the second is exact from any two
positions.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular

SHRINKAGE = 5.0
"""The weight of the prior guess in observations: Stan's constant."""
INITIAL_BOUNDS = (1e-10, 1e10)
"""Of the first guess: a start far out in a tail says little about scales."""


class Welford(NamedTuple):
    """Running mean and sum of squared deviations (Welford 1962)."""

    mean: Array
    deviations: Array
    """``f[dim]``, or ``f[dim, dim]`` for a dense metric."""
    observations: Array


def start_welford(dim: int, dense: bool, dtype) -> Welford:
    """No observation yet."""
    shape = (dim, dim) if dense else (dim,)
    return Welford(jnp.zeros(dim, dtype), jnp.zeros(shape, dtype), jnp.zeros((), dtype))


def update_welford(state: Welford, values: Array) -> Welford:
    """Take in a group's vectors, ``f[chain, dim]``, one after the other."""

    def one(state: Welford, x: Array) -> tuple[Welford, None]:
        n = state.observations + 1.0
        before = x - state.mean
        mean = state.mean + before / n
        after = x - mean
        product = jnp.outer(after, before) if state.deviations.ndim == 2 else after * before
        return Welford(mean, state.deviations + product, n), None

    return jax.lax.scan(one, state, values)[0]


def sample_variance(state: Welford) -> Array:
    """The unbiased sample (co)variance; 0 for a single observation."""
    return state.deviations / jnp.maximum(state.observations - 1.0, 1.0)


def regularized_variance(state: Welford) -> Array:
    """The sample (co)variance shrunk towards 10⁻³ I, with the weight of five observations."""
    n = state.observations
    shrunk = n / (n + SHRINKAGE) * sample_variance(state)
    floor = 1e-3 * SHRINKAGE / (n + SHRINKAGE)
    return shrunk + floor * (jnp.eye(len(shrunk)) if shrunk.ndim == 2 else 1.0)


class Moments(NamedTuple):
    """What is kept of the positions of a window and, for the Fisher estimate, of the gradients there."""

    positions: Welford
    gradients: Welford | None


def start_moments(dim: int, dense: bool, dtype, gradients: bool) -> Moments:
    """Nothing observed yet."""
    empty = start_welford(dim, dense, dtype)
    return Moments(empty, empty if gradients else None)


def update_moments(state: Moments, positions: Array, gradients: Array | None) -> Moments:
    """Take in a group's positions and gradients, ``f[chain, dim]``."""
    if state.gradients is None:
        return Moments(update_welford(state.positions, positions), None)
    assert gradients is not None
    return Moments(update_welford(state.positions, positions), update_welford(state.gradients, gradients))


def fisher_diagonal(variance: Array, gradient_variance: Array) -> Array:
    """√(Var xᵢ / Var gᵢ), the diagonal M⁻¹ of smallest Fisher divergence; scales as xᵢ² does.

    NaN where either variance is 0 or not finite: a coordinate that never moved, or a density that is
    exponential in it, says nothing about the scale.
    """
    ratio = jnp.sqrt(variance) / jnp.sqrt(gradient_variance)
    return jnp.where((ratio > 0) & jnp.isfinite(ratio), ratio, jnp.nan)


def geometric_mean(covariance: Array, gradient_covariance: Array) -> Array:
    """The positive definite X with X·Cov(g)·X = Cov(x): the mean of Cov(x) and Cov(g)⁻¹.

    The dense M⁻¹ of smallest Fisher divergence. With Cov(g) = L Lᵀ, X = L⁻ᵀ (Lᵀ Cov(x) L)^½ L⁻¹.
    """
    factor = jnp.linalg.cholesky(gradient_covariance)
    values, vectors = jnp.linalg.eigh(factor.T @ covariance @ factor)
    # X = R Rᵀ with R = L⁻ᵀ V Λ^¼: symmetric whatever rounding does.
    root = solve_triangular(factor, vectors * values**0.25, lower=True, trans="T")
    return root @ root.T


def fisher_dense(covariance: Array, gradient_covariance: Array, observations: Array) -> Array:
    """The dense Fisher estimate, its correlations shrunk with the weight of five observations.

    Both covariances are shrunk towards their own diagonals: fewer observations than dimensions then
    still give a positive definite estimate, which without any correlation is `fisher_diagonal`, and
    rescaling a coordinate rescales the estimate.
    """
    variance, gradient_variance = jnp.diag(covariance), jnp.diag(gradient_covariance)
    scale = jnp.sqrt(fisher_diagonal(variance, gradient_variance))
    keep = observations / (observations + SHRINKAGE)

    def shrunk(matrix: Array) -> Array:
        return keep * matrix + (1.0 - keep) * jnp.diag(jnp.diag(matrix))

    # In units of `scale` both have the same diagonal; what is badly scaled need not be ill-conditioned.
    mean = geometric_mean(
        shrunk(covariance / jnp.outer(scale, scale)), shrunk(gradient_covariance * jnp.outer(scale, scale))
    )
    return mean * jnp.outer(scale, scale)


def estimated(state: Moments, fallback: Array) -> Array:
    """The inverse mass matrix of a window; coordinates that it says nothing about keep ``fallback``'s.

    A dense estimate is taken as a whole or not at all. An estimate that is not finite (variances that
    overflow) is not taken.
    """
    if state.gradients is None:
        estimate = regularized_variance(state.positions)
    else:
        pair = sample_variance(state.positions), sample_variance(state.gradients)
        dense = fallback.ndim == 2
        estimate = fisher_dense(*pair, state.positions.observations) if dense else fisher_diagonal(*pair)
    usable = jnp.isfinite(estimate)
    return jnp.where(jnp.all(usable) if fallback.ndim == 2 else usable, estimate, fallback)


def initial_inverse(gradients: Array, dense: bool) -> Array:
    """A diagonal inverse mass matrix before any draw, 1/|gᵢ|; 1 where a gradient is 0.

    At a distance of k·σᵢ from the mode of a Gaussian |gᵢ| = k/σᵢ: the guess puts wildly different
    scales into the right order, half way to the variances.

    Parameters
    ----------
    gradients : of a group, ``f[chain, dim]``; their root mean square counts
    dense : whether the answer is ``f[dim, dim]`` or ``f[dim]``
    """
    size = jnp.sqrt(jnp.mean(gradients**2, axis=0))
    known = (size > 0) & jnp.isfinite(size)
    inverse = jnp.clip(1.0 / jnp.where(known, size, 1.0), *INITIAL_BOUNDS)
    return jnp.diag(inverse) if dense else inverse
