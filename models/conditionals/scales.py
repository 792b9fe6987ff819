"""The scale σ of normal observations with a known mean: exact draws given their sum of squares.

In t = log σ the density σ^−n exp(−S/2σ²) p(σ) dσ is log-concave for every prior here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import Array

from .log_concave import log_concave


class ScalePrior(Protocol):
    """A prior of σ > 0 whose log density is concave in log σ."""

    def log_density(self, sigma: Array) -> Array:
        """Up to a constant."""
        ...

    def mode(self, n: Array | int, squares: Array) -> tuple[Array | float, Array | float, Array]:
        """(p, q, r) of the equation p v² + q v = r, p, r ≥ 0, that v = σ² at the mode in t solves."""
        ...


@dataclass(frozen=True)
class Flat:
    """A constant density; proper given two observations or more."""

    def log_density(self, sigma: Array) -> Array:
        return jnp.zeros(())

    def mode(self, n: Array | int, squares: Array) -> tuple[Array | float, Array | float, Array]:
        return 0.0, n - 1, squares


@dataclass(frozen=True)
class HalfNormal:
    scale: float

    def log_density(self, sigma: Array) -> Array:
        return -0.5 * (sigma / self.scale) ** 2

    def mode(self, n: Array | int, squares: Array) -> tuple[Array | float, Array | float, Array]:
        return self.scale**-2, n - 1, squares


@dataclass(frozen=True)
class HalfCauchy:
    scale: float

    def log_density(self, sigma: Array) -> Array:
        return -jnp.log1p((sigma / self.scale) ** 2)

    def mode(self, n: Array | int, squares: Array) -> tuple[Array | float, Array | float, Array]:
        return n + 1, (n - 1) * self.scale**2 - squares, squares * self.scale**2


def log_scale(key: Array, n: Array | int, squares: Array, prior: ScalePrior) -> Array:
    """A draw of log σ, ``f[]``, given the sum of squares of n observations about their mean.

    NaN where there is no such distribution (without observations under a flat prior).
    """

    def log_density(t: Array) -> Array:
        return (1 - n) * t - 0.5 * squares * jnp.exp(-2 * t) + prior.log_density(jnp.exp(t))

    p, q, r = (jnp.asarray(value, float) for value in prior.mode(n, squares))
    root = jnp.sqrt(q**2 + 4 * p * r)
    # The positive root, without cancellation.
    square = jnp.where(q > 0, 2 * r / (q + root), (root - q) / (2 * p))
    mode = 0.5 * jnp.log(square)
    curvature = -jax.grad(jax.grad(log_density))(mode)
    return log_concave(key, log_density, mode, jnp.sqrt(2 / curvature))
