"""Scalar functions of arrays, concrete or traced, with derivatives that stay finite where Stan's do.

``jnp.where`` passes 0 · NaN from the branch not taken: both branches get arguments at which they and
their derivatives are finite.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special as scipy_special
from jax import lax
from jax.scipy import special as jax_special

from .. import numeric
from ..numeric import is_concrete, namespace, where

Array = Any

LOG_2 = math.log(2.0)
SQRT_2 = math.sqrt(2.0)

# -- powers and roots -------------------------------------------------------------------------------


def absolute(x: Array) -> Array:
    """|x|, of ints too. Its derivative at 0 is 0, as in Stan."""
    return abs(x) if is_concrete(x) else x * jnp.sign(x)


def square(x: Array) -> Array:
    return x * x


def inv(x: Array) -> Array:
    return 1.0 / x


def inv_square(x: Array) -> Array:
    return 1.0 / (x * x)


def sqrt(x: Array) -> Array:
    """Its derivative at 0 is 0, as in Stan."""
    if is_concrete(x):
        return np.sqrt(x)
    zero = x == 0.0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, x)))


def inv_sqrt(x: Array) -> Array:
    return 1.0 / np.sqrt(x) if is_concrete(x) else lax.rsqrt(x)


def cbrt(x: Array) -> Array:
    return namespace(x).cbrt(x)


def pow(x: Array, y: Array) -> Array:
    """x^y; by multiplications where y is one small integer. Derivatives at x = 0 are 0, as in Stan."""
    if is_concrete(x, y):
        return np.power(x, y)
    if is_concrete(y) and np.size(y) and np.all(y == np.ravel(y)[0]):
        exponent = float(np.ravel(y)[0])
        if np.ndim(y) > np.ndim(x):
            x = jnp.broadcast_to(x, jnp.broadcast_shapes(np.shape(x), np.shape(y)))
        if exponent.is_integer() and abs(exponent) <= 64:
            return jnp.ones_like(x) if exponent == 0 else lax.integer_pow(x, int(exponent))
        if exponent == 0.5:
            return sqrt(x)
        if exponent == -0.5:
            return lax.rsqrt(x)
    if is_concrete(x) and np.all(x != 0.0):
        return jnp.power(x, y)
    zero = x == 0.0
    at_zero = where(y == 0.0, 1.0, where(y > 0.0, 0.0, math.inf))
    return jnp.where(zero, at_zero, jnp.power(where(zero, 1.0, x), y))


def hypot(x: Array, y: Array) -> Array:
    return namespace(x, y).hypot(x, y)


# -- exponentials and logarithms ---------------------------------------------------------------------


def exp2(x: Array) -> Array:
    return namespace(x).exp2(x)


def log2(x: Array) -> Array:
    return namespace(x).log2(x)


def log10(x: Array) -> Array:
    return namespace(x).log10(x)


def log1m(x: Array) -> Array:
    return numeric.log1p(-x)


def log1p_exp(x: Array) -> Array:
    return -numeric.log_sigmoid(-x)


def log1m_exp(x: Array) -> Array:
    """log(1 − eˣ) (Mächler 2012); NaN for x > 0."""
    far = numeric.log1p(-numeric.exp(namespace(x).minimum(x, -LOG_2)))
    return where(x > -LOG_2, numeric.log(-numeric.expm1(x)), far)


def log_inv_logit(x: Array) -> Array:
    return numeric.log_sigmoid(x)


def log1m_inv_logit(x: Array) -> Array:
    return -log1p_exp(x)


def logit(x: Array) -> Array:
    return numeric.log(x) - numeric.log1p(-x)


def inv_cloglog(x: Array) -> Array:
    return -numeric.expm1(-numeric.exp(x))


def log_sum_exp(x: Array, y: Array) -> Array:
    """log(eˣ + eʸ); from −∞ and −∞ it is −∞, with finite derivatives."""
    same = x == y
    distance = where(same, 0.0, abs(where(same, 0.0, x) - where(same, 0.0, y)))
    return namespace(x, y).maximum(x, y) + numeric.log1p_of_unit(numeric.exp(-distance))


def log_diff_exp(x: Array, y: Array) -> Array:
    """log(eˣ − eʸ): −∞ where x = y, NaN where x < y."""
    same = (x == y) & (x < math.inf)
    difference = where(same, -1.0, y) - where(same, 0.0, x)
    return where(same, -math.inf, x + log1m_exp(difference))


def log_inv_logit_diff(x: Array, y: Array) -> Array:
    """log(logit⁻¹ x − logit⁻¹ y)."""
    return x - log1p_exp(x) + log1m_exp(y - x) - log1p_exp(y)


def multiply_log(x: Array, y: Array) -> Array:
    """x log y, which is 0 for x = y = 0."""
    both = (x == 0.0) & (y == 0.0)
    return where(both, 0.0, x * numeric.log(where(both, 1.0, y)))


def log_mix(theta: Array, x: Array, y: Array) -> Array:
    """log(θ eˣ + (1 − θ) eʸ)."""
    if is_concrete(theta, x, y):
        return np.logaddexp(np.log(theta) + x, np.log1p(-theta) + y)
    return _log_mix(jnp.asarray(theta, float), jnp.asarray(x, float), jnp.asarray(y, float))


@jax.custom_jvp
def _log_mix(theta: Array, x: Array, y: Array) -> Array:
    return log_sum_exp(jnp.log(theta) + x, jnp.log1p(-theta) + y)


@_log_mix.defjvp
def _log_mix_derivative(primals: Any, tangents: Any) -> Any:
    theta, x, y = primals
    d_theta, d_x, d_y = tangents
    mixed = _log_mix(theta, x, y)
    base = jnp.where(mixed == -math.inf, 0.0, mixed)
    share_x, share_y = jnp.exp(x - base), jnp.exp(y - base)
    # 0 · ∞: a component without weight has no share, however large it is
    weighted_x = jnp.where(theta == 0.0, 0.0, theta * share_x)
    weighted_y = jnp.where(theta == 1.0, 0.0, (1.0 - theta) * share_y)
    return mixed, weighted_x * d_x + weighted_y * d_y + (share_x - share_y) * d_theta


def binary_log_loss(outcome: Array, probability: Array) -> Array:
    return -numeric.log(where(outcome == 0.0, 1.0 - probability, probability))


# -- rounding and comparing --------------------------------------------------------------------------


def round_away(x: Array) -> Array:
    """The nearest integer; halves are rounded away from 0, as in C."""
    np_or_jnp = namespace(x)
    return np_or_jnp.sign(x) * np_or_jnp.floor(abs(x) + 0.5)


def trunc(x: Array) -> Array:
    return namespace(x).trunc(x)


def fmod(x: Array, y: Array) -> Array:
    return namespace(x, y).fmod(x, y)


def fmax(x: Array, y: Array) -> Array:
    """The larger one, or the one that is not NaN. At a tie the derivative is y's, or x's if y is constant."""
    np_or_jnp = namespace(x, y)
    first = x >= y if is_concrete(y) else x > y
    return np_or_jnp.where(first | np_or_jnp.isnan(y), x, y)


def fmin(x: Array, y: Array) -> Array:
    """As `fmax`."""
    np_or_jnp = namespace(x, y)
    first = x <= y if is_concrete(y) else x < y
    return np_or_jnp.where(first | np_or_jnp.isnan(y), x, y)


def fdim(x: Array, y: Array) -> Array:
    return where(x > y, x - y, where(x <= y, 0.0, math.nan))


def step(x: Array) -> Array:
    return where(x < 0.0, 0.0, 1.0)


# -- probabilities -----------------------------------------------------------------------------------


def erf(x: Array) -> Array:
    return scipy_special.erf(x) if is_concrete(x) else lax.erf(x)


def erfc(x: Array) -> Array:
    return scipy_special.erfc(x) if is_concrete(x) else lax.erfc(x)


def Phi(x: Array) -> Array:
    return 0.5 * erfc(x * (-1.0 / SQRT_2))


def Phi_approx(x: Array) -> Array:
    """The logistic approximation of Bowling et al. (2009)."""
    return numeric.sigmoid(x * (0.07056 * (x * x) + 1.5976))


def inv_Phi(p: Array) -> Array:
    return scipy_special.ndtri(p) if is_concrete(p) else _inv_Phi(p)


@jax.custom_jvp
def _inv_Phi(p: Array) -> Array:
    return jax_special.ndtri(p)


@_inv_Phi.defjvp
def _inv_Phi_derivative(primals: Any, tangents: Any) -> Any:
    x = _inv_Phi(*primals)
    return x, tangents[0] * (math.sqrt(2.0 * math.pi) * jnp.exp(0.5 * x * x))


def inv_erfc(x: Array) -> Array:
    return inv_Phi(0.5 * x) * (-1.0 / SQRT_2)


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)
_NODES, _WEIGHTS = 0.5 * (_NODES + 1.0), 0.5 * _WEIGHTS


def owens_t(h: Array, a: Array) -> Array:
    """Owen's T, (2π)⁻¹ ∫₀ᵃ exp(−h² (1 + x²)/2) / (1 + x²) dx (Owen 1956)."""
    if is_concrete(h, a):
        return scipy_special.owens_t(h, a)
    return _owens_t(*jnp.broadcast_arrays(jnp.asarray(h, float), jnp.asarray(a, float)))


@jax.custom_jvp
def _owens_t(h: Array, a: Array) -> Array:
    # for |a| > 1 by T(h, a) + T(ah, 1/a) = (Φ(h) + Φ(ah))/2 − Φ(h) Φ(ah) for a ≥ 0, h ≥ 0
    positive, size = jnp.abs(h), jnp.abs(a)
    large = size > 1.0
    slope = jnp.where(large, 1.0 / jnp.where(large, size, 1.0), size)
    height = jnp.where(large, size * positive, positive)
    x2 = (slope[..., None] * _NODES) ** 2
    integrand = jnp.exp(-0.5 * height[..., None] ** 2 * (1.0 + x2)) / (1.0 + x2)
    integral = slope * (integrand @ _WEIGHTS) / (2.0 * math.pi)
    # in terms of upper tails q: (Φ + Φ')/2 − ΦΦ' = (q + q')/2 − q q'
    upper, other = Phi(-positive), Phi(-size * positive)
    return jnp.sign(a) * jnp.where(large, 0.5 * (upper + other) - upper * other - integral, integral)


@_owens_t.defjvp
def _owens_t_derivative(primals: Any, tangents: Any) -> Any:
    (h, a), (d_h, d_a) = primals, tangents
    by_h = -jnp.exp(-0.5 * h * h) * erf(a * h / SQRT_2) / (2.0 * math.sqrt(2.0 * math.pi))
    by_a = jnp.exp(-0.5 * h * h * (1.0 + a * a)) / (2.0 * math.pi * (1.0 + a * a))
    return _owens_t(h, a), by_h * d_h + by_a * d_a
