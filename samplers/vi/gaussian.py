"""Gaussian families, of numpyro's distributions: factorized, full rank, and low rank plus a diagonal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
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


@dataclass(frozen=True)
class _Distributions:
    """A family of one of numpyro's reparameterized distributions on R^dim."""

    def distribution(self, params: Any) -> Any:
        raise NotImplementedError

    def sample(self, params: Any, key: Array, space: Space) -> tuple[Array, Array]:
        found = self.distribution(params)
        u = found.rsample(key)
        return u, found.log_prob(u)

    def log_prob(self, params: Any, u: Array, space: Space) -> Array:
        return self.distribution(params).log_prob(u)


@dataclass(frozen=True)
class MeanFieldGaussian(_Distributions):
    """Independent Gaussians: F-VI."""

    def init(self, key: Array, space: Space) -> Factors:
        return Factors(jnp.zeros(space.dim), jnp.zeros(space.dim))

    def distribution(self, params: Factors) -> Any:
        from numpyro.distributions import Normal  # half a second: only where something is fitted

        return Normal(params.loc, jnp.exp(params.log_scale)).to_event(1)


@dataclass(frozen=True)
class FullRankGaussian(_Distributions):
    """A Gaussian of any covariance."""

    def init(self, key: Array, space: Space) -> Triangular:
        return Triangular(jnp.zeros(space.dim), jnp.zeros((space.dim, space.dim)), jnp.zeros(space.dim))

    def sample(self, params: Triangular, key: Array, space: Space) -> tuple[Array, Array]:
        # Not by `log_prob`: where a fit goes astray the factor is too ill-conditioned to be inverted, and
        # log q so wrong that the ELBO would seem to be enormous.
        z = jax.random.normal(key, params.loc.shape, params.loc.dtype)
        return params.loc + params.factor @ z, norm.logpdf(z).sum() - params.log_diagonal.sum()

    def distribution(self, params: Triangular) -> Any:
        from numpyro.distributions import MultivariateNormal

        return MultivariateNormal(params.loc, scale_tril=params.factor)


@dataclass(frozen=True)
class LowRankGaussian(_Distributions):
    """A Gaussian whose covariance is of rank ``rank`` plus a diagonal (Ong, Nott & Smith 2018)."""

    rank: int

    def init(self, key: Array, space: Space) -> LowRank:
        # W = 0 would be a saddle: its gradient vanishes there.
        factor = 0.01 * jax.random.normal(key, (space.dim, min(self.rank, space.dim)))
        return LowRank(jnp.zeros(space.dim), factor, jnp.zeros(space.dim))

    def distribution(self, params: LowRank) -> Any:
        from numpyro.distributions import LowRankMultivariateNormal

        return LowRankMultivariateNormal(params.loc, params.factor, jnp.exp(params.log_diagonal))
