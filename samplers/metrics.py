"""Euclidean metrics: the kinetic energy of Hamiltonian samplers and the momenta that match it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular


class Metric(NamedTuple):
    """A constant mass matrix M, held by its inverse (the scale of the positions).

    The shape of the inverse says the kind: ``f[dim]`` is diagonal, ``f[dim, dim]`` dense.
    """

    inverse_mass_matrix: Array
    factor: Array
    """Of the inverse: its square root (diagonal) or lower Cholesky factor (dense)."""


def make_metric(inverse_mass_matrix: Array) -> Metric:
    """The metric of a positive diagonal ``f[dim]`` or a positive definite ``f[dim, dim]``."""
    dense = inverse_mass_matrix.ndim == 2
    factor = jnp.linalg.cholesky(inverse_mass_matrix) if dense else jnp.sqrt(inverse_mass_matrix)
    return Metric(inverse_mass_matrix, factor)


def sample_momentum(key: Array, metric: Metric) -> Array:
    """p ~ N(0, M): ``f[dim]``."""
    factor = metric.factor
    return coloured(metric, jax.random.normal(key, factor.shape[:1], factor.dtype))


def coloured(metric: Metric, z: Array) -> Array:
    """The momentum p = L⁻ᵀ z, where M⁻¹ = L Lᵀ: z ~ N(0, I) gives p ~ N(0, M)."""
    factor = metric.factor
    return solve_triangular(factor, z, lower=True, trans="T") if factor.ndim == 2 else z / factor


def whitened(metric: Metric, momentum: Array) -> Array:
    """z = Lᵀ p, the inverse of `coloured`."""
    factor = metric.factor
    return factor.T @ momentum if factor.ndim == 2 else factor * momentum


def velocity(metric: Metric, momentum: Array) -> Array:
    """M⁻¹ p: ``f[dim]``."""
    inverse = metric.inverse_mass_matrix
    return inverse @ momentum if inverse.ndim == 2 else inverse * momentum


def kinetic_energy(metric: Metric, momentum: Array) -> Array:
    """½ pᵀ M⁻¹ p: ``f[]``; the normalizing constant is the same everywhere and left out."""
    return 0.5 * jnp.dot(momentum, velocity(metric, momentum))
