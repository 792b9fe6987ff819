"""Univariate densities of the Stan language with continuous outcomes.

Formulas and parametrisations are those of the Stan Functions Reference, part "Continuous distributions".
What is a term of its own, and whether an argument out of bounds is an exception or a density of 0, is
Stan Math's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..numeric import cos, exp, lgamma, log, log1p, log1p_of_unit, log_bessel_i0, sign, where
from .base import Scaled, Terms, density, finite, guarded, positive_finite
from .special import log_ndtr, log_ndtr_without_square, log_rising_factorial

LOG_2 = math.log(2.0)
LOG_PI = math.log(math.pi)
HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)

LARGE = 8
"""Elements from which on a scale that they share is worth treating apart."""


def _shared(scale: Any, array: Any) -> bool:
    return np.ndim(scale) == 0 and np.size(array) >= LARGE


def _over(residual: Any, scale: Any) -> Any:
    """residual / scale, with one division where the scale is shared."""
    return residual * (1.0 / scale) if _shared(scale, residual) else residual / scale


def _half_square(residual: Any, sigma: Any) -> Any:
    """−½ (residual / σ)²; with a shared σ the sum of squares is scaled, as a sufficient statistic is."""
    if _shared(sigma, residual):
        return Scaled(-0.5 / sigma / sigma, residual * residual)
    z = residual / sigma
    return -0.5 * z * z


# -- unbounded --------------------------------------------------------------------------------------


@density(0, 0, 0)
def normal(y, mu, sigma):
    return Terms((_half_square(y - mu, sigma), -log(sigma), -HALF_LOG_2PI), valid=(sigma > 0, finite(mu)))


@density(0)
def std_normal(y):
    return Terms((-0.5 * y * y, -HALF_LOG_2PI))


@density(0, 0, 0)
def cauchy(y, mu, sigma):
    z = _over(y - mu, sigma)
    return Terms((-log1p(z * z), -log(sigma), -LOG_PI), valid=(positive_finite(sigma), finite(mu)))


@density(0, 0, 0, 0)
def student_t(y, nu, mu, sigma):
    z = _over(y - mu, sigma)
    normalizer = log_rising_factorial(0.5 * nu, 0.5) - 0.5 * log(nu)
    return Terms(
        (Scaled(-(0.5 * nu + 0.5), log1p(z * z / nu)), normalizer, -log(sigma), -0.5 * LOG_PI),
        valid=(positive_finite(nu), positive_finite(sigma), finite(mu)),
    )


@density(0, 0, 0)
def double_exponential(y, mu, sigma):
    return Terms(
        (Scaled(-1.0 / sigma, _distance(y, mu)), -log(sigma), -LOG_2),
        valid=(positive_finite(sigma), finite(y), finite(mu)),
    )


@density(0, 0, 0)
def logistic(y, mu, sigma):
    # Symmetric in y − mu: of the two forms, the one that cannot overflow.
    z = _over(_distance(y, mu), sigma)
    return Terms(
        (-z - 2.0 * log1p_of_unit(exp(-z)), -log(sigma)),
        valid=(positive_finite(sigma), finite(y), finite(mu)),
    )


@density(0, 0, 0)
def gumbel(y, mu, beta):
    z = _over(y - mu, beta)
    return Terms((-z - exp(-z), -log(beta)), valid=(beta > 0, finite(y), finite(mu)))


@density(0, 0, 0)
def von_mises(y, mu, kappa):
    return Terms(
        (kappa * cos(mu - y), -log_bessel_i0(kappa), -math.log(2.0 * math.pi)),
        valid=((kappa >= 0) & finite(kappa), finite(y), finite(mu)),
    )


@density(0, 0, 0, 0)
def skew_normal(y, xi, omega, alpha):
    z = (y - xi) / omega
    return Terms(
        (-0.5 * z * z, log_ndtr(alpha * z) + LOG_2, -log(omega), -HALF_LOG_2PI),
        valid=(omega > 0, finite(xi), abs(alpha) < math.inf),
    )


@density(0, 0, 0, 0)
def exp_mod_normal(y, mu, sigma, rate):
    z = _over(y - mu, sigma)
    t = z - rate * sigma
    # In the lower tail of Φ(t), exp(−t²/2) cancels against what it is multiplied by.
    tail = t < -20.0
    bulk = rate * (mu - y + 0.5 * rate * sigma * sigma) + log_ndtr(where(tail, 0.0, t))
    tail_value = log_ndtr_without_square(where(tail, t, -20.0)) - 0.5 * z * z
    return Terms(
        (where(tail, tail_value, bulk) + LOG_2, log(rate), -LOG_2),
        valid=(positive_finite(sigma), positive_finite(rate), finite(mu)),
    )


@density(0, 0, 0, 0)
def skew_double_exponential(y, mu, sigma, tau):
    weight = where(y < mu, 1.0 - tau, tau)
    return Terms(
        (-2.0 * weight * _distance(y, mu) / sigma, -log(sigma), log(tau) + log1p(-tau), LOG_2),
        valid=(positive_finite(sigma), finite(y), finite(mu), (tau >= 0) & (tau <= 1)),
    )


def _distance(y, mu):
    """|y − μ|, whose derivative at y = μ is 0 as in Stan."""
    return (y - mu) * sign(y - mu)


# -- bounded ----------------------------------------------------------------------------------------


@density(0, 0, 0)
def uniform(y, alpha, beta):
    width = beta - alpha
    return Terms(
        (-log(guarded(width > 0, width, 1.0)),),
        support=((y >= alpha) & (y <= beta),),
        valid=(beta > alpha, finite(alpha), finite(beta)),
    )


@density(0, 0, 0)
def beta(theta, alpha, beta):
    return Terms(
        (
            (alpha - 1.0) * log(theta),
            (beta - 1.0) * log1p(-theta),
            lgamma(alpha + beta),
            -lgamma(alpha),
            -lgamma(beta),
        ),
        valid=(positive_finite(alpha), positive_finite(beta), (theta >= 0) & (theta <= 1)),
    )


@density(0, 0, 0)
def beta_proportion(theta, mu, kappa):
    alpha, beta = mu * kappa, kappa - mu * kappa
    return Terms(
        (
            (alpha - 1.0) * log(theta) + (beta - 1.0) * log1p(-theta),
            lgamma(kappa),
            -lgamma(alpha) - lgamma(beta),
        ),
        valid=((mu > 0) & (mu < 1), positive_finite(kappa), (theta >= 0) & (theta <= 1)),
    )


# -- positive ---------------------------------------------------------------------------------------


@density(0, 0, 0)
def lognormal(y, mu, sigma):
    log_y = log(guarded(y > 0, y, 1.0))
    z = _over(log_y - mu, sigma)
    return Terms(
        # Stan keeps this constant, unlike normal's.
        (-0.5 * z * z - HALF_LOG_2PI, -log_y, -log(sigma)),
        support=(y > 0,),
        valid=(y >= 0, positive_finite(sigma), finite(mu)),
    )


@density(0, 0, 0)
def gamma(y, alpha, beta):
    return Terms(
        (Scaled(alpha - 1.0, log(y)), Scaled(-beta, y), alpha * log(beta), -lgamma(alpha)),
        valid=(positive_finite(y), positive_finite(alpha), positive_finite(beta)),
    )


@density(0, 0, 0)
def inv_gamma(y, alpha, beta):
    inside = y > 0
    y = guarded(inside, y, 1.0)
    return Terms(
        (Scaled(-(alpha + 1.0), log(y)), Scaled(-beta, 1.0 / y), alpha * log(beta), -lgamma(alpha)),
        support=(inside,),
        valid=(positive_finite(alpha), positive_finite(beta)),
    )


@density(0, 0)
def exponential(y, beta):
    return Terms((Scaled(-beta, y), log(beta)), valid=(y >= 0, positive_finite(beta)))


@density(0, 0)
def chi_square(y, nu):
    return Terms(
        ((0.5 * nu - 1.0) * log(y), -0.5 * y, -0.5 * LOG_2 * nu - lgamma(0.5 * nu)),
        valid=(y >= 0, positive_finite(nu)),
    )


@density(0, 0)
def inv_chi_square(y, nu):
    inside = y > 0
    y = guarded(inside, y, 1.0)
    return Terms(
        (-(0.5 * nu + 1.0) * log(y), -0.5 / y, -0.5 * LOG_2 * nu - lgamma(0.5 * nu)),
        support=(inside,),
        valid=(positive_finite(nu),),
    )


@density(0, 0, 0)
def scaled_inv_chi_square(y, nu, sigma):
    inside = y > 0
    y = guarded(inside, y, 1.0)
    half = 0.5 * nu
    return Terms(
        (
            -(half + 1.0) * log(y),
            -half * sigma * sigma / y,
            half * log(half) - lgamma(half),
            nu * log(sigma),
        ),
        support=(inside,),
        valid=(positive_finite(nu), positive_finite(sigma)),
    )


@density(0, 0, 0)
def weibull(y, alpha, sigma):
    inside = y >= 0
    log_y = log(guarded(inside, y, 1.0))
    return Terms(
        (
            -exp(alpha * (log_y - log(sigma))),
            (alpha - 1.0) * log_y,
            -alpha * log(sigma),
            log(alpha),
        ),
        support=(inside,),
        valid=(positive_finite(alpha), positive_finite(sigma), finite(y)),
    )


@density(0, 0, 0)
def frechet(y, alpha, sigma):
    log_y, log_sigma = log(y), log(sigma)
    return Terms(
        (-exp(alpha * (log_sigma - log_y)), -(alpha + 1.0) * log_y, alpha * log_sigma, log(alpha)),
        valid=(y > 0, positive_finite(alpha), positive_finite(sigma)),
    )


@density(0, 0)
def rayleigh(y, sigma):
    z = y / sigma
    return Terms((-0.5 * z * z, log(y), -2.0 * log(sigma)), valid=(y > 0, sigma > 0))


@density(0, 0, 0)
def loglogistic(y, alpha, beta):
    log_y, log_alpha = log(y), log(alpha)
    distance = beta * (log_y - log_alpha)
    return Terms(
        ((beta - 1.0) * log_y - 2.0 * log1p(exp(distance)), log(beta) - beta * log_alpha),
        valid=(y > 0, positive_finite(alpha), positive_finite(beta)),
    )


@density(0, 0, 0)
def pareto(y, y_min, alpha):
    return Terms(
        (-(alpha + 1.0) * log(guarded(y > 0, y, 1.0)), alpha * log(y_min), log(alpha)),
        support=(y >= y_min,),
        valid=(positive_finite(y_min), positive_finite(alpha)),
    )


@density(0, 0, 0, 0)
def pareto_type_2(y, mu, scale, alpha):
    return Terms(
        (-(alpha + 1.0) * log1p((y - mu) / scale), -log(scale), log(alpha)),
        valid=(y >= mu, positive_finite(scale), positive_finite(alpha)),
    )
