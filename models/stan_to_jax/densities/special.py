"""Special functions that densities need, stable where the plain formula cancels."""

from __future__ import annotations

import math
from typing import Any

from .. import numeric
from ..numeric import exp, expm1, is_concrete, lgamma, log, log1p, namespace, where
from .base import guarded

LOG_2 = math.log(2.0)
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
_LARGE = 10.0


def log_rising_factorial(x: Any, n: Any) -> Any:
    """log Γ(x + n) − log Γ(x) for x > 0, n ≥ 0.

    The difference of two log gammas loses all digits when x is large (the precision of a negative
    binomial that is nearly Poisson). From x = 10 on it is the difference of two Stirling series instead
    (Abramowitz and Stegun 1964, 6.1.41), in which nothing large cancels.
    """
    large = x >= _LARGE
    small_x, large_x = where(large, 1.0, x), where(large, x, _LARGE)
    plain = lgamma(small_x + n) - lgamma(small_x)
    stirling = (
        (large_x + n - 0.5) * log1p(n / large_x)
        + n * (log(large_x) - 1.0)
        + _stirling_remainder(large_x + n)
        - _stirling_remainder(large_x)
    )
    return where(large, stirling, plain)


def _stirling_remainder(x: Any) -> Any:
    """log Γ(x) − ((x − ½) log x − x + ½ log 2π) for x ≥ 10, to double precision."""
    inverse = 1.0 / x
    square = inverse * inverse
    series = 0.0
    for coefficient in reversed(_STIRLING):
        series = series * square + coefficient
    return series * inverse


def log_ndtr(t: Any) -> Any:
    """log Φ(t), with a derivative that is accurate in the far lower tail, too."""
    if is_concrete(t):
        return numeric.log_ndtr(t)
    tail = t < -20.0
    far = where(tail, t, -20.0)
    return where(tail, log_ndtr_without_square(far) - 0.5 * far * far, numeric.log_ndtr(where(tail, 0.0, t)))


def log_ndtr_without_square(t: Any) -> Any:
    """log Φ(t) + t²/2 for t ≤ −20 (the asymptotic series, Abramowitz and Stegun 1964, 26.2.12)."""
    inverse_square = 1.0 / (t * t)
    series = 1.0
    for odd in (17, 15, 13, 11, 9, 7, 5, 3, 1):
        series = 1.0 - odd * inverse_square * series
    return log(series) - log(-t) - 0.5 * math.log(2.0 * math.pi)


def log1m_exp(x: Any) -> Any:
    """log(1 − exp(−x)) for x ≥ 0 (Mächler 2012); −inf with a derivative of 0 at x = 0."""
    impossible = x <= 0
    x = guarded(~impossible, x, 1.0)
    small = x < LOG_2
    value = where(small, log(-expm1(-where(small, x, LOG_2))), log1p(-exp(-where(small, LOG_2, x))))
    return where(impossible, -math.inf, value)


def log_beta(a: Any, b: Any) -> Any:
    """log B(a, b) for a, b > 0. (``jax.scipy.special.betaln`` has errors of 1e-7 from a = 8 on.)"""
    either = namespace(a, b)
    smaller, larger = either.minimum(a, b), either.maximum(a, b)
    return lgamma(smaller) - log_rising_factorial(larger, smaller)


def log_choose(n: Any, k: Any) -> Any:
    """The log of the binomial coefficient, 0 ≤ k ≤ n."""
    return -log1p(n) - log_beta(n - k + 1.0, k + 1.0)
