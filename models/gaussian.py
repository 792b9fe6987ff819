"""Gaussian targets whose geometry is known: standard, correlated, ill-conditioned."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .conditional import Blocks, Conditional
from .target import Target, jax_density, unconstrained_target


def standard_gaussian(dim: int) -> Target:
    """N(0, I). The log density is normalised."""
    return _diagonal("standard_gaussian", np.ones(dim))


def correlated_gaussian(
    dim: int, correlation: float = 0.9, *, structure: Literal["ar1", "equicorrelated"] = "ar1"
) -> Target:
    """N(0, C) with unit variances. The log density is normalised.

    Parameters
    ----------
    correlation : ρ; a number for which C is positive definite: |ρ| < 1 for ``"ar1"``,
        −1/(dim − 1) < ρ < 1 for ``"equicorrelated"``
    structure : ``"ar1"``, C_ij = ρ^|i−j|, or ``"equicorrelated"``, C_ij = ρ off the diagonal
    """
    if structure not in ("ar1", "equicorrelated"):
        raise ValueError(f"structure={structure!r} is not known: use 'ar1' or 'equicorrelated'")
    lowest = -1.0 if structure == "ar1" or dim < 2 else -1.0 / (dim - 1)
    if not lowest < correlation < 1:
        raise ValueError(f"correlation={correlation} must lie strictly between {lowest} and 1")
    i = np.arange(dim)
    covariance = (
        correlation ** np.abs(i[:, None] - i) if structure == "ar1" else np.full((dim, dim), correlation)
    )
    np.fill_diagonal(covariance, 1.0)
    root = np.linalg.cholesky(covariance)
    return _dense("correlated_gaussian", root, np.linalg.inv(root), f"{structure} {correlation!r}")


def ill_conditioned_gaussian(
    dim: int, condition_number: float = 1e4, *, rotation_seed: int | None = None
) -> Target:
    """N(0, Q Λ Qᵀ), Λ log-spaced from κ^−½ to κ^½. The log density is normalised.

    Parameters
    ----------
    condition_number : κ ≥ 1, of the covariance: the largest over the smallest variance
    rotation_seed : of a uniformly drawn orthogonal Q; None for Q = I, the coordinates as axes
    """
    if condition_number < 1:
        raise ValueError(f"condition_number={condition_number} must be at least 1")
    scales = np.geomspace(condition_number**-0.25, condition_number**0.25, dim)
    settings = f"{condition_number!r} {rotation_seed}"
    if rotation_seed is None:
        return _diagonal("ill_conditioned_gaussian", scales, settings)
    rotation = _orthogonal(dim, rotation_seed)
    return _dense("ill_conditioned_gaussian", rotation * scales, rotation.T / scales[:, None], settings)


def _orthogonal(dim: int, seed: int) -> np.ndarray:
    # QR of a Gaussian matrix is uniform once the signs are fixed (Mezzadri 2007).
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))
    return q * np.sign(np.diagonal(r))


def _diagonal(name: str, scales: np.ndarray, settings: str = "") -> Target:
    operand = jnp.asarray(scales)
    target = unconstrained_target(
        name,
        len(scales),
        jax_density(_diagonal_log_density, operand),
        exact=lambda key, n: operand * jax.random.normal(key, (n, len(scales))),
        settings=settings,
    )
    return replace(target, blocks=Blocks({"x": coordinates_given_others(np.diag(scales**-2.0))}))


def _dense(name: str, root: np.ndarray, whitening: np.ndarray, settings: str) -> Target:
    """N(0, R Rᵀ) from R and its inverse."""
    dim = len(root)
    factor = jnp.asarray(root)
    target = unconstrained_target(
        name,
        dim,
        jax_density(_dense_log_density, (jnp.asarray(whitening), jnp.linalg.slogdet(whitening)[1])),
        exact=lambda key, n: jax.random.normal(key, (n, dim)) @ factor.T,
        settings=settings,
    )
    return replace(target, blocks=Blocks({"x": coordinates_given_others(whitening.T @ whitening)}))


def coordinates_given_others(precision: np.ndarray) -> Conditional:
    """Single coordinates of N(0, Λ⁻¹): x_i given the others is N(−Σ_{j≠i} Λ_ij x_j / Λ_ii, 1/Λ_ii)."""
    matrix, own = jnp.asarray(precision), jnp.asarray(np.diagonal(precision))

    def draw(key: Array, i: Array, x: Array, extra: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        mean = x[i] - matrix[i] @ x / own[i]
        return x.at[i].set(mean + jax.random.normal(key) / jnp.sqrt(own[i])), extra

    return Conditional(draw, size=len(precision))


def _standard_log_density(z: Array) -> Array:
    return -0.5 * (z @ z + z.size * jnp.log(2 * jnp.pi))


def _diagonal_log_density(scales: Array, x: Array) -> Array:
    return _standard_log_density(x / scales) - jnp.log(scales).sum()


def _dense_log_density(operand: tuple[Array, Array], x: Array) -> Array:
    whitening, log_determinant = operand
    return _standard_log_density(whitening @ x) + log_determinant
