"""Normal linear regressions: β | σ is Gaussian, and σ² | β inverse gamma, times what its prior adds.

y ~ N(Xβ, σ²), β flat or N(0, s²), σ with a flat, half-normal or half-Cauchy prior. Coordinates: β_1 … β_D,
log σ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.linalg import solve_triangular

from ..conditional import Blocks, Conditional
from .base import Extra, KnownModel


@dataclass(frozen=True)
class Flat:
    """σ with a constant density."""

    def log_density(self, sigma: Array) -> Array:
        return jnp.zeros(())

    def draw(self, key: Array, n: int, squares: Array, sigma: Array) -> Array:
        """σ² given the sum of squares: σ^−n exp(−S/2σ²) dσ is an inverse gamma ((n − 1)/2, S/2) of σ²."""
        return _inverse_gamma(key, 0.5 * (n - 1), 0.5 * squares)


@dataclass(frozen=True)
class HalfNormal:
    scale: float

    def log_density(self, sigma: Array) -> Array:
        return -0.5 * (sigma / self.scale) ** 2

    def draw(self, key: Array, n: int, squares: Array, sigma: Array) -> Array:
        """By rejection from the flat prior's: this one is at most 1, and nearly so for small σ/scale."""

        def body(now: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            propose, accept = jax.random.split(jax.random.fold_in(key, now[2]))
            variance = Flat().draw(propose, n, squares, sigma)
            keep = jnp.log(jax.random.uniform(accept)) < self.log_density(jnp.sqrt(variance))
            return variance, keep, now[2] + 1

        begun = sigma**2, jnp.asarray(False), jnp.int32(0)
        return lax.while_loop(lambda now: ~now[1], body, begun)[0]


@dataclass(frozen=True)
class HalfCauchy:
    scale: float

    def log_density(self, sigma: Array) -> Array:
        return -jnp.log1p((sigma / self.scale) ** 2)

    def draw(self, key: Array, n: int, squares: Array, sigma: Array) -> Array:
        """σ² | a ~ IG(1/2, 1/a), a ~ IG(1/2, 1/A²) (Makalic & Schmidt 2016): a given σ first, then σ given a.

        An update that leaves the conditional invariant, not an independent draw of it.
        """
        first, second = jax.random.split(key)
        auxiliary = _inverse_gamma(first, 1.0, 1 / self.scale**2 + 1 / sigma**2)
        return _inverse_gamma(second, 0.5 * (n + 1), 0.5 * squares + 1 / auxiliary)


def _inverse_gamma(key: Array, shape: float, rate: Array) -> Array:
    return rate / jax.random.gamma(key, shape)


def regression(
    design: np.ndarray,
    outcome: np.ndarray,
    prior: Flat | HalfNormal | HalfCauchy = Flat(),
    precision: float = 0.0,
) -> KnownModel:
    """The conditionals of a regression.

    Parameters
    ----------
    design, outcome : X, ``f[n, d]``, of full rank, and y, ``f[n]``
    prior : of σ
    precision : 1/s² of β's prior; 0 where it is flat
    """
    x, y = jnp.asarray(design, float), jnp.asarray(outcome, float)
    n, d = x.shape
    gram, moment = x.T @ x, x.T @ y

    def coefficients(key: Array, block: Array, u: Array, extra: Extra) -> tuple[Array, Extra]:
        scale = jnp.exp(-2 * u[d])
        factor = jnp.linalg.cholesky(scale * gram + precision * jnp.eye(d))
        half = solve_triangular(factor, scale * moment, lower=True) + jax.random.normal(key, (d,))
        return u.at[:d].set(solve_triangular(factor, half, lower=True, trans="T")), extra

    def noise(key: Array, block: Array, u: Array, extra: Extra) -> tuple[Array, Extra]:
        squares = jnp.sum((y - x @ u[:d]) ** 2)
        return u.at[d].set(0.5 * jnp.log(prior.draw(key, n, squares, jnp.exp(u[d])))), extra

    def log_density(u: Array) -> Array:
        beta, log_sigma = u[:d], u[d]
        fit = -0.5 * jnp.sum((y - x @ beta) ** 2) * jnp.exp(-2 * log_sigma) - n * log_sigma
        return fit - 0.5 * precision * beta @ beta + prior.log_density(jnp.exp(log_sigma)) + log_sigma

    return KnownModel(Blocks({"beta": Conditional(coefficients), "sigma": Conditional(noise)}), log_density)


def blr(data: dict[str, Any]) -> KnownModel:
    return regression(_columns(data["X"]), _column(data, "y"), HalfNormal(10.0), precision=1e-2)


def kidscore_momiq(data: dict[str, Any]) -> KnownModel:
    design = _with_intercept(_column(data, "mom_iq"))
    return regression(design, _column(data, "kid_score"), HalfCauchy(2.5))


def kidscore_interaction(data: dict[str, Any]) -> KnownModel:
    school, iq = _column(data, "mom_hs"), _column(data, "mom_iq")
    design = _with_intercept(school, iq, school * iq)
    return regression(design, _column(data, "kid_score"), HalfCauchy(2.5))


def earn_height(data: dict[str, Any]) -> KnownModel:
    return regression(_with_intercept(_column(data, "height")), _column(data, "earn"))


def logmesquite_logvas(data: dict[str, Any]) -> KnownModel:
    first, second, canopy, total, density = (
        np.log(_column(data, name)) for name in ("diam1", "diam2", "canopy_height", "total_height", "density")
    )
    area = first + second
    design = _with_intercept(area + canopy, area, first - second, total, density, _column(data, "group"))
    return regression(design, np.log(_column(data, "weight")))


def nes(data: dict[str, Any]) -> KnownModel:
    names = ("real_ideo", "race_adj")
    ages = [(_column(data, "age_discrete") == k).astype(float) for k in (2, 3, 4)]
    last = [_column(data, name) for name in ("educ1", "gender", "income")]
    return regression(
        _with_intercept(*(_column(data, n) for n in names), *ages, *last), _column(data, "partyid7")
    )


def _column(data: dict[str, Any], name: str) -> np.ndarray:
    return np.asarray(data[name], float)


def _columns(values: Any) -> np.ndarray:
    return np.asarray(values, float)


def _with_intercept(*columns: np.ndarray) -> np.ndarray:
    return np.stack([np.ones(len(columns[0])), *columns], axis=1)
