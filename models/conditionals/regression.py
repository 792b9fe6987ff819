"""Normal linear regressions: β | σ is Gaussian, and log σ | β has a log-concave density.

y ~ N(Xβ, σ²), β flat or N(0, s²), σ with a flat, half-normal or half-Cauchy prior. Coordinates: β_1 … β_D,
log σ.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike

from ..conditional import Blocks, Conditional
from .base import Extra, KnownModel
from .scales import Flat, HalfCauchy, HalfNormal, ScalePrior, log_scale


def regression(
    design: ArrayLike,
    outcome: ArrayLike,
    prior: ScalePrior,
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
        sigma = jnp.exp(u[d])
        # The conditional precision times σ², which is finite where σ is tiny.
        factor = jnp.linalg.cholesky(gram + sigma**2 * precision * jnp.eye(d))
        half = solve_triangular(factor, moment, lower=True) + sigma * jax.random.normal(key, (d,))
        return u.at[:d].set(solve_triangular(factor, half, lower=True, trans="T")), extra

    def noise(key: Array, block: Array, u: Array, extra: Extra) -> tuple[Array, Extra]:
        squares = jnp.sum((y - x @ u[:d]) ** 2)
        return u.at[d].set(log_scale(key, n, squares, prior)), extra

    def log_density(u: Array) -> Array:
        beta, log_sigma = u[:d], u[d]
        fit = -0.5 * jnp.sum((y - x @ beta) ** 2) * jnp.exp(-2 * log_sigma) - n * log_sigma
        return fit - 0.5 * precision * beta @ beta + prior.log_density(jnp.exp(log_sigma)) + log_sigma

    return KnownModel(Blocks({"beta": Conditional(coefficients), "sigma": Conditional(noise)}), log_density)


def blr(data: dict[str, Any]) -> KnownModel:
    return regression(_column(data, "X"), _column(data, "y"), HalfNormal(10.0), precision=1e-2)


def kidscore_momiq(data: dict[str, Any]) -> KnownModel:
    design = _with_intercept(_column(data, "mom_iq"))
    return regression(design, _column(data, "kid_score"), HalfCauchy(2.5))


def kidscore_interaction(data: dict[str, Any]) -> KnownModel:
    school, iq = _column(data, "mom_hs"), _column(data, "mom_iq")
    design = _with_intercept(school, iq, school * iq)
    return regression(design, _column(data, "kid_score"), HalfCauchy(2.5))


def earn_height(data: dict[str, Any]) -> KnownModel:
    return regression(_with_intercept(_column(data, "height")), _column(data, "earn"), Flat())


def logmesquite_logvas(data: dict[str, Any]) -> KnownModel:
    first, second, canopy, total, density = (
        jnp.log(_column(data, name))
        for name in ("diam1", "diam2", "canopy_height", "total_height", "density")
    )
    area = first + second
    design = _with_intercept(area + canopy, area, first - second, total, density, _column(data, "group"))
    return regression(design, jnp.log(_column(data, "weight")), Flat())


def nes(data: dict[str, Any]) -> KnownModel:
    names = ("real_ideo", "race_adj")
    ages = [(_column(data, "age_discrete") == k).astype(float) for k in (2, 3, 4)]
    last = [_column(data, name) for name in ("educ1", "gender", "income")]
    return regression(
        _with_intercept(*(_column(data, n) for n in names), *ages, *last), _column(data, "partyid7"), Flat()
    )


def _column(data: dict[str, Any], name: str) -> Array:
    return jnp.asarray(data[name], float)


def _with_intercept(*columns: Array) -> Array:
    return jnp.stack([jnp.ones(len(columns[0])), *columns], axis=1)
