"""Gaussian families: factorized, full rank, and low rank plus a diagonal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.stats import norm

from .families import Space


class Factors(NamedTuple):
    """Means and log standard deviations of independent Gaussians."""

    loc: Array
    log_scale: Array


class Triangular(NamedTuple):
    """A mean, and a Cholesky factor by its part below the diagonal and the logarithm of its diagonal."""

    loc: Array
    below: Array
    """``f[dim, dim]``; what is not below the diagonal has no effect"""
    log_diagonal: Array

    @property
    def factor(self) -> Array:
        """L of the covariance L Lᵀ."""
        return jnp.tril(self.below, -1) + jnp.diag(jnp.exp(self.log_diagonal))


class LowRank(NamedTuple):
    """A mean, and the covariance W Wᵀ + D."""

    loc: Array
    factor: Array
    """W, ``f[dim, rank]``"""
    log_diagonal: Array
    """log D, ``f[dim]``"""


def draw_factors(key: Array, factors: Factors) -> tuple[Array, Array]:
    """A draw of independent Gaussians and the log density there: ``f[dim], f[]``."""
    u = factors.loc + jnp.exp(factors.log_scale) * jax.random.normal(
        key, factors.loc.shape, factors.loc.dtype
    )
    return u, factors_log_prob(factors, u)


def factors_log_prob(factors: Factors, u: Array) -> Array:
    """Of independent Gaussians: ``f[dim] -> f[]``."""
    return norm.logpdf(u, factors.loc, jnp.exp(factors.log_scale)).sum()


@dataclass(frozen=True)
class MeanFieldGaussian:
    """Independent Gaussians: F-VI."""

    def init(self, key: Array, space: Space) -> Factors:
        return Factors(jnp.zeros(space.dim), jnp.zeros(space.dim))

    def sample(self, params: Factors, key: Array, space: Space) -> tuple[Array, Array]:
        return draw_factors(key, params)

    def log_prob(self, params: Factors, u: Array, space: Space) -> Array:
        return factors_log_prob(params, u)


@dataclass(frozen=True)
class FullRankGaussian:
    """A Gaussian of any covariance."""

    def init(self, key: Array, space: Space) -> Triangular:
        return Triangular(jnp.zeros(space.dim), jnp.zeros((space.dim, space.dim)), jnp.zeros(space.dim))

    def sample(self, params: Triangular, key: Array, space: Space) -> tuple[Array, Array]:
        # Not by `log_prob`: where a fit goes astray the factor is too ill-conditioned to be inverted, and
        # log q so wrong that the ELBO would seem to be enormous.
        z = jax.random.normal(key, params.loc.shape, params.loc.dtype)
        return params.loc + params.factor @ z, norm.logpdf(z).sum() - params.log_diagonal.sum()

    def log_prob(self, params: Triangular, u: Array, space: Space) -> Array:
        from numpyro.distributions import MultivariateNormal  # half a second: only where something is fitted

        return MultivariateNormal(params.loc, scale_tril=params.factor).log_prob(u)


@dataclass(frozen=True)
class LowRankGaussian:
    """A Gaussian whose covariance is of rank ``rank`` plus a diagonal (Ong, Nott & Smith 2018)."""

    rank: int

    def init(self, key: Array, space: Space) -> LowRank:
        # W = 0 would be a saddle: its gradient vanishes there.
        factor = 0.01 * jax.random.normal(key, (space.dim, min(self.rank, space.dim)))
        return LowRank(jnp.zeros(space.dim), factor, jnp.zeros(space.dim))

    def sample(self, params: LowRank, key: Array, space: Space) -> tuple[Array, Array]:
        first, second = jax.random.split(key)
        rank, diagonal = params.factor.shape[1], jnp.exp(0.5 * params.log_diagonal)
        z = jax.random.normal(first, (rank,), params.loc.dtype)
        e = jax.random.normal(second, params.loc.shape, params.loc.dtype)
        u = params.loc + params.factor @ z + diagonal * e
        log_q = self.log_prob(params, u, space)
        # The value follows the draw, for the reason given above; the derivative is that of `log_prob`.
        return u, log_q + lax.stop_gradient(_low_rank_log_prob(params, z, e) - log_q)

    def log_prob(self, params: LowRank, u: Array, space: Space) -> Array:
        from numpyro.distributions import LowRankMultivariateNormal

        found: Any = LowRankMultivariateNormal(params.loc, params.factor, jnp.exp(params.log_diagonal))
        return found.log_prob(u)


def _low_rank_log_prob(params: LowRank, z: Array, e: Array) -> Array:
    """log q at m + W z + √D e, without a difference of large numbers.

    With D^(−1/2) W = U S Vᵀ the quadratic form is |e|² − |Uᵀe|² + Σ_i (s_i (Vᵀz)_i + (Uᵀe)_i)² / (1 + s_i²).
    """
    scaled = lax.stop_gradient(params.factor * jnp.exp(-0.5 * params.log_diagonal)[:, None])
    u, s, v = jnp.linalg.svd(scaled, full_matrices=False)
    inside, along = u.T @ e, v @ z
    size = jnp.hypot(1.0, s)  # s² may overflow
    form = e @ e - inside @ inside + jnp.sum(((s / size) * along + inside / size) ** 2)
    return -0.5 * (form + params.log_diagonal.sum() + len(e) * jnp.log(2 * jnp.pi)) - jnp.log(size).sum()
