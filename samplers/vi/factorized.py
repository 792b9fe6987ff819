"""ELBOs of factorized Gaussians, to compare: exact if log p is quadratic, else on common random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ...models.target import Density
from ..base import Cost
from .gaussian import Factors
from .gaussian_optimum import Gaussian

CHUNK, BATCH = 512, 32
"""Pairs of draws in one call of a program, and those of them that are evaluated together."""


@dataclass(frozen=True)
class Bounds:
    """Of several distributions on the same draws."""

    values: np.ndarray
    """``f[distribution, pair]``: log p − log q, the mean of a pair of draws; one column where exact."""
    offset: float
    """To be added to all of them."""
    cost: Cost

    @property
    def elbos(self) -> np.ndarray:
        return self.values.mean(axis=1) + self.offset

    def difference(self, better: int, worse: int) -> tuple[float, float]:
        """One ELBO minus another, and the Monte Carlo standard error of that."""
        return _mean(self.values[better] - self.values[worse])

    def error(self, which: int) -> float:
        """Monte Carlo standard error of an ELBO."""
        return _mean(self.values[which])[1]


def exact_bounds(gaussian: Gaussian, candidates: Sequence[Factors]) -> Bounds:
    """Without Monte Carlo error, relative to the optimum's, so that differences keep their digits."""
    values = [-float(_shortfall(gaussian, factors)) for factors in candidates]
    return Bounds(np.array(values)[:, None], float(gaussian.elbo), Cost(gradients=len(candidates)))


def sampled_bounds(density: Density, candidates: Sequence[Factors], key: Array, pairs: int) -> Bounds:
    """From pairs of draws m ± s ε, with the same ε for every distribution.

    −∞ where the density is 0. Costs 2 · pairs evaluations of the density for every distribution.
    """
    keys = jax.random.split(key, pairs)
    values = [[_bounds(density, f, keys[i : i + CHUNK]) for i in range(0, pairs, CHUNK)] for f in candidates]
    found = np.array([np.concatenate(parts) for parts in values])
    return Bounds(found, 0.0, Cost(densities=2 * pairs * len(candidates)))


@jax.jit
def _shortfall(gaussian: Gaussian, factors: Factors) -> Array:
    return gaussian.shortfall(factors)


@jax.jit
def _bounds(density: Density, factors: Factors, keys: Array) -> Array:
    """``f[pair]``"""
    loc, log_scale = factors
    dim = len(loc)

    def pair(key: Array) -> Array:
        noise = jax.random.normal(key, (dim,))
        step = jnp.exp(log_scale) * noise
        heights = density.log_density(loc + step) + density.log_density(loc - step)
        return heights / 2 + log_scale.sum() + 0.5 * (noise @ noise + dim * jnp.log(2 * jnp.pi))

    return lax.map(pair, keys, batch_size=min(BATCH, len(keys)))


def _mean(values: np.ndarray) -> tuple[float, float]:
    with np.errstate(invalid="ignore"):  # −inf − (−inf)
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
        return float(values.mean()), float(error)
