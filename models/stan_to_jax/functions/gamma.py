"""The gamma function's family, of arrays that are concrete or traced."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.special as scipy_special
from jax.scipy import special as jax_special

from .. import numeric
from ..errors import UnsupportedStanError
from ..numeric import is_concrete, namespace

Array = Any


def tgamma(x: Array) -> Array:
    return scipy_special.gamma(x) if is_concrete(x) else jax_special.gamma(x)


def trigamma(x: Array) -> Array:
    """By reflection for x < 0: ψ₁(1 − x) + ψ₁(x) = π²/sin²(πx)."""
    np_or_jnp = namespace(x)
    negative = x < 0.0
    inside = np_or_jnp.where(negative, 1.0 - x, x)
    value = (scipy_special if is_concrete(x) else jax_special).polygamma(1, inside)
    sine = np_or_jnp.sin(math.pi * np_or_jnp.where(negative, x, 0.5))
    return np_or_jnp.where(negative, (math.pi / sine) ** 2 - value, value)


def lbeta(x: Array, y: Array) -> Array:
    """log B(x, y); of a large argument without the cancellation of lgamma(y) − lgamma(x + y)."""
    if is_concrete(x, y):
        return scipy_special.betaln(x, y)
    small, large = jnp.minimum(x, y), jnp.maximum(x, y)
    far = large >= _STIRLING
    near_large, far_large = jnp.where(far, _STIRLING, large), jnp.where(far, large, _STIRLING)
    near = numeric.lgamma(near_large) - numeric.lgamma(small + near_large)
    total = small + far_large
    stirling = small - (far_large - 0.5) * jnp.log1p(small / far_large) - small * jnp.log(total)
    stirling = stirling + _stirling_error(far_large) - _stirling_error(total)
    return numeric.lgamma(small) + jnp.where(far, stirling, near)


_STIRLING = 10.0


def _stirling_error(x: Array) -> Array:
    """log Γ(x) less Stirling's formula, to 2·10⁻¹⁴ for x ≥ 10 (Abramowitz and Stegun 6.1.41)."""
    y = 1.0 / (x * x)
    series = 1.0 / 1188.0 - y * (691.0 / 360360.0)
    for coefficient in (-1.0 / 1680.0, 1.0 / 1260.0, -1.0 / 360.0, 1.0 / 12.0):
        series = coefficient + y * series
    return series / x


def beta(x: Array, y: Array) -> Array:
    return numeric.exp(lbeta(x, y))


def lchoose(n: Array, k: Array) -> Array:
    """log of n over k, for real n ≥ k ≥ 0."""
    return -numeric.log1p(n) - lbeta(n - k + 1.0, k + 1.0)


def lmgamma(order: Array, x: Array) -> Array:
    """The logarithm of the multivariate gamma function, ¼k(k − 1) log π + Σⱼ lgamma(x + (1 − j)/2)."""
    if not is_concrete(order):
        raise UnsupportedStanError("the dimension of 'lmgamma' depends on parameters")
    most = int(np.max(order, initial=0))
    order = np.asarray(order)
    total: Array = 0.25 * order * (order - 1.0) * math.log(math.pi)
    for j in range(most):
        # at lgamma(2) = 0 where the order is smaller
        total = total + numeric.lgamma(numeric.where(j < order, x - 0.5 * j, 2.0))
    return total


def log_rising_factorial(x: Array, n: Array) -> Array:
    return numeric.lgamma(x + n) - numeric.lgamma(x)


def log_falling_factorial(x: Array, n: Array) -> Array:
    return numeric.lgamma(x + 1.0) - numeric.lgamma(x - n + 1.0)


_LONGEST_PRODUCT = 32


def rising_factorial(x: Array, n: Array) -> Array:
    """x (x + 1) … (x + n − 1)."""
    if is_concrete(x, n):
        return scipy_special.poch(x, n)
    return _product(x, n, 1.0, log_rising_factorial)


def falling_factorial(x: Array, n: Array) -> Array:
    """x (x − 1) … (x − n + 1)."""
    if is_concrete(x, n):
        return scipy_special.poch(x - n + 1.0, n)
    return _product(x, n, -1.0, log_falling_factorial)


def _product(x: Array, n: Array, direction: float, logarithm: Any) -> Array:
    if not is_concrete(n) or np.max(n, initial=0) > _LONGEST_PRODUCT:
        return numeric.exp(logarithm(x, n))
    result = jnp.ones_like(x + n)
    for i in range(int(np.max(n, initial=0))):
        result = result * jnp.where(i < np.asarray(n), x + direction * i, 1.0)
    return result


def choose(n: Array, k: Array) -> Array:
    """n over k for integers, which is 0 for k > n; as floats, exact below 2⁵³."""
    if is_concrete(n, k):
        return np.round(scipy_special.binom(n, k)) * (k <= n)
    k = jnp.minimum(k, n)
    return jnp.round(jnp.exp(lchoose(n, k)))


def gamma_p(a: Array, x: Array) -> Array:
    if is_concrete(a, x):
        return scipy_special.gammainc(a, x)
    return jax_special.gammainc(jnp.asarray(a, float), jnp.asarray(x, float))


def gamma_q(a: Array, x: Array) -> Array:
    if is_concrete(a, x):
        return scipy_special.gammaincc(a, x)
    return jax_special.gammaincc(jnp.asarray(a, float), jnp.asarray(x, float))


def inc_beta(a: Array, b: Array, x: Array) -> Array:
    """The regularised incomplete beta function, with a derivative by x only."""
    if is_concrete(a, b, x):
        return scipy_special.betainc(a, b, x)
    if not is_concrete(a, b):
        raise UnsupportedStanError("the shape parameters of 'inc_beta' depend on parameters")
    return jax_special.betainc(a, b, x)


# -- Bessel functions ---------------------------------------------------------------------------------


def bessel_first_kind(order: Array, x: Array) -> Array:
    return _concrete_bessel("bessel_first_kind", scipy_special.jv, order, x)


def bessel_second_kind(order: Array, x: Array) -> Array:
    return _concrete_bessel("bessel_second_kind", scipy_special.yv, order, x)


def modified_bessel_second_kind(order: Array, x: Array) -> Array:
    return _concrete_bessel("modified_bessel_second_kind", scipy_special.kv, order, x)


def modified_bessel_first_kind(order: Array, x: Array) -> Array:
    if is_concrete(order, x):
        return scipy_special.iv(order, x)
    return _order("modified_bessel_first_kind", order, jax_special.i0, jax_special.i1)(x)


def log_modified_bessel_first_kind(order: Array, x: Array) -> Array:
    if is_concrete(order, x):
        return np.log(scipy_special.ive(order, x)) + abs(x)
    scaled = _order("log_modified_bessel_first_kind", order, jax_special.i0e, jax_special.i1e)
    return jnp.log(scaled(x)) + abs(x)


def _concrete_bessel(name: str, function: Any, order: Array, x: Array) -> Array:
    if not is_concrete(order, x):
        raise UnsupportedStanError(f"'{name}' of parameters")
    return function(order, x)


def _order(name: str, order: Array, zero: Any, one: Any) -> Any:
    if is_concrete(order):
        if np.all(order == 0.0):
            return zero
        if np.all(order == 1.0):
            return one
    raise UnsupportedStanError(f"'{name}' of parameters, except of order 0 or 1,")
