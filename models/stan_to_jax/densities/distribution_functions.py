"""Distribution functions of the Stan language: ``_cdf``, ``_lcdf`` and ``_lccdf``.

Each function here gives the log of one tail: P(Y > y) if ``upper``, else P(Y ≤ y). Parametrisations are
those of the densities. Tails are computed directly, never as 1 − the other tail, where a closed form allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..numeric import arctan2, exp, is_concrete, log, log1p, log_sigmoid, namespace, where
from .base import DISTRIBUTION_FUNCTIONS, Density, Terms, guarded
from .incomplete import log_beta_tails, log_gamma_tail, log_probability
from .special import LOG_2, log1m_exp, log_ndtr, log_rising_factorial

Tail = Callable[..., Terms]


def distribution(*ranks: int, suffixes: tuple[str, ...] = ("cdf", "lcdf", "lccdf")) -> Callable[[Tail], Tail]:
    """Registers the tails of a distribution under the function's name, with the suffixes that Stan has."""

    def register(tail: Tail) -> Tail:
        def lcdf(*arguments: Any) -> Terms:
            return _log_tail(tail, False, arguments)

        def lccdf(*arguments: Any) -> Terms:
            return _log_tail(tail, True, arguments)

        def cdf(*arguments: Any) -> Terms:
            terms = _log_tail(tail, False, arguments)
            return terms._replace(terms=(exp(terms.terms[0]),))

        for function in (lcdf, lccdf, cdf):
            name = f"{tail.__name__}_{function.__name__}"
            if function.__name__ in suffixes:
                DISTRIBUTION_FUNCTIONS[name] = Density(name, function, ranks)
        return tail

    return register


def _log_tail(tail: Tail, upper: bool, arguments: tuple[Any, ...]) -> Terms:
    """The tail, where data may have infinite outcomes (no bound): 0 or 1 without a NaN derivative."""
    y, *parameters = arguments
    if not is_concrete(y) or not np.isinf(y).any():
        return tail(upper, y, *parameters)
    terms = tail(upper, np.where(np.isinf(y), 1.0, y), *parameters)
    return terms._replace(terms=(_certain(upper, y == -np.inf, y == np.inf, terms.terms[0]),))


def _certain(upper: bool, below: Any, above: Any, value: Any) -> Any:
    """The log tail where all outcomes lie above y (``below``), where none does (``above``), elsewhere."""
    value = where(below, 0.0 if upper else -np.inf, value)
    return where(above, -np.inf if upper else 0.0, value)


def _finite(argument: Any) -> Any:
    # Unlike a density, a tail at an infinite location or scale is finite: the check cannot be left out.
    return abs(argument) < math.inf


def _positive_finite(argument: Any) -> Any:
    return (argument > 0) & (argument < math.inf)


# -- unbounded --------------------------------------------------------------------------------------


@distribution(0, 0, 0)
def normal(upper, y, mu, sigma):
    z = (y - mu) / sigma
    return Terms((log_ndtr(-z if upper else z),), valid=(sigma > 0, _finite(mu)))


@distribution(0)
def std_normal(upper, y):
    return Terms((log_ndtr(-y if upper else y),))


@distribution(0, 0, 0)
def cauchy(upper, y, mu, sigma):
    # The angle between the half line to (∓z, 1) and the first axis: no cancellation in the tail.
    z = (y - mu) / sigma
    angle = arctan2(1.0, z if upper else -z)
    return Terms((log(angle) - math.log(math.pi),), valid=(_positive_finite(sigma), _finite(mu)))


@distribution(0, 0, 0)
def logistic(upper, y, mu, sigma):
    z = (y - mu) / sigma
    return Terms((log_sigmoid(-z if upper else z),), valid=(_positive_finite(sigma), _finite(mu)))


@distribution(0, 0, 0)
def double_exponential(upper, y, mu, sigma):
    z = (mu - y) / sigma if upper else (y - mu) / sigma
    far = z < 0
    value = where(far, z - LOG_2, log1p(-0.5 * exp(-where(far, 0.0, z))))
    return Terms((value,), valid=(_positive_finite(sigma), _finite(mu)))


@distribution(0, 0, 0, 0)
def skew_double_exponential(upper, y, mu, sigma, tau):
    left = y < mu
    z = 2.0 * (y - mu) / sigma
    log_below = log(tau) + (1.0 - tau) * where(left, z, 0.0)
    log_above = log1p(-tau) - tau * where(left, 0.0, z)
    if upper:
        value = where(left, log1m_exp(-log_below), log_above)
    else:
        value = where(left, log_below, log1m_exp(-log_above))
    return Terms((value,), valid=(_positive_finite(sigma), _finite(mu), (tau >= 0) & (tau <= 1)))


@distribution(0, 0, 0)
def gumbel(upper, y, mu, beta):
    z = (y - mu) / beta
    # From a hazard of 600 on the upper tail is 1; its derivative would be 0 · ∞.
    hazard = exp(-namespace(z).maximum(z, -6.4)) if upper else exp(-z)
    return Terms((log1m_exp(hazard) if upper else -hazard,), valid=(beta > 0, _finite(mu)))


@distribution(0, 0, 0, 0)
def student_t(upper, y, nu, mu, sigma):
    z = (y - mu) / sigma
    square = z * z
    # Of the two complementary arguments each comes from z directly: neither is 1 minus the other.
    at_center = square == 0
    safe = guarded(~at_center, square, 1.0)
    tail = log_beta_tails(0.5 * nu, 0.5, nu / (nu + safe), safe / (nu + safe))[0] - LOG_2
    beyond = (z > 0) if upper else (z < 0)
    value = where(beyond, tail, log1m_exp(-tail))
    # z² hides the derivative at 0: there the log tail is a line whose slope is the density over ½.
    slope = 2.0 * exp(log_rising_factorial(0.5 * nu, 0.5) - 0.5 * log(math.pi * nu))
    center = (-slope if upper else slope) * z - LOG_2
    return Terms(
        (where(at_center, center, value),),
        valid=(_positive_finite(nu), _positive_finite(sigma), _finite(mu)),
    )


# -- bounded ----------------------------------------------------------------------------------------


@distribution(0, 0, 0)
def uniform(upper, y, alpha, beta):
    # Stan gives the values of a y below the interval to a y above it, too.
    outside = (y < alpha) | (y > beta)
    part = (beta - y) if upper else (y - alpha)
    value = log_probability(part / guarded(beta > alpha, beta - alpha, 1.0))
    return Terms(
        (_certain(upper, outside, False, value),), valid=(beta > alpha, _finite(alpha), _finite(beta))
    )


@distribution(0, 0, 0)
def beta(upper, theta, alpha, beta):
    return Terms(
        (_beta_tail(upper, theta, alpha, beta),),
        valid=(_positive_finite(alpha), _positive_finite(beta), (theta >= 0) & (theta <= 1)),
    )


@distribution(0, 0, 0, suffixes=("lcdf", "lccdf"))
def beta_proportion(upper, theta, mu, kappa):
    return Terms(
        (_beta_tail(upper, theta, mu * kappa, kappa - mu * kappa),),
        valid=((mu > 0) & (mu < 1), _positive_finite(kappa), (theta >= 0) & (theta <= 1)),
    )


def _beta_tail(upper, theta, a, b):
    below, above = theta <= 0, theta >= 1
    inner = guarded(~(below | above), theta, 0.5)
    return _certain(upper, below, above, log_beta_tails(a, b, inner, 1.0 - inner)[int(upper)])


# -- positive ---------------------------------------------------------------------------------------


@distribution(0, 0, 0)
def lognormal(upper, y, mu, sigma):
    below = y <= 0
    z = (log(guarded(~below, y, 1.0)) - mu) / sigma
    value = _certain(upper, below, False, log_ndtr(-z if upper else z))
    return Terms((value,), valid=(y >= 0, _positive_finite(sigma), _finite(mu)))


@distribution(0, 0)
def exponential(upper, y, beta):
    return _from_hazard(upper, beta * y, (y >= 0, _positive_finite(beta)))


@distribution(0, 0, 0)
def weibull(upper, y, alpha, sigma):
    hazard = _power(y, sigma, alpha)
    return _from_hazard(upper, hazard, (y >= 0, _positive_finite(alpha), _positive_finite(sigma)))


@distribution(0, 0)
def rayleigh(upper, y, sigma):
    z = y / sigma
    return _from_hazard(upper, 0.5 * z * z, (y >= 0, sigma > 0))


@distribution(0, 0, 0)
def frechet(upper, y, alpha, sigma):
    # The mirror image: −log of the lower tail is the hazard.
    hazard = exp(alpha * (log(sigma) - log(y)))
    return _from_hazard(not upper, hazard, (y > 0, _positive_finite(alpha), _positive_finite(sigma)))


@distribution(0, 0, 0)
def pareto(upper, y, y_min, alpha):
    below = y < y_min
    hazard = alpha * (log(where(below, 1.0, y)) - log(where(below, 1.0, y_min)))
    terms = _from_hazard(upper, hazard, (y >= 0, _positive_finite(y_min), _positive_finite(alpha)))
    return terms._replace(terms=(_certain(upper, below, False, terms.terms[0]),))


@distribution(0, 0, 0, 0)
def pareto_type_2(upper, y, mu, scale, alpha):
    hazard = alpha * log1p((y - mu) / scale)
    return _from_hazard(upper, hazard, (y >= mu, _positive_finite(scale), _positive_finite(alpha)))


def _from_hazard(upper: bool, hazard: Any, valid: tuple[Any, ...]) -> Terms:
    """Tails of a distribution by its cumulative hazard −log P(Y > y)."""
    return Terms((-hazard if upper else log1m_exp(hazard),), valid=valid)


def _power(y: Any, scale: Any, exponent: Any) -> Any:
    """(y/scale)^exponent, 0 at y = 0."""
    positive = y > 0
    value = exp(exponent * (log(guarded(positive, y, 1.0)) - log(scale)))
    return value * where(positive, 1.0, 0.0)


@distribution(0, 0, 0, suffixes=("cdf",))
def loglogistic(upper, y, alpha, beta):
    below = y <= 0
    z = beta * (log(guarded(~below, y, 1.0)) - log(alpha))
    value = _certain(upper, below, False, log_sigmoid(-z if upper else z))
    return Terms((value,), valid=(y >= 0, _positive_finite(alpha), _positive_finite(beta)))


@distribution(0, 0, 0)
def gamma(upper, y, alpha, beta):
    value = log_gamma_tail(upper, alpha, beta * y)
    return Terms((value,), valid=(y >= 0, _positive_finite(alpha), _positive_finite(beta)))


@distribution(0, 0)
def chi_square(upper, y, nu):
    return Terms((log_gamma_tail(upper, 0.5 * nu, 0.5 * y),), valid=(y >= 0, _positive_finite(nu)))


@distribution(0, 0, 0)
def inv_gamma(upper, y, alpha, beta):
    return _inverse(upper, y, alpha, beta, (y >= 0, _positive_finite(alpha), _positive_finite(beta)))


@distribution(0, 0)
def inv_chi_square(upper, y, nu):
    return _inverse(upper, y, 0.5 * nu, 0.5, (y >= 0, _positive_finite(nu)))


@distribution(0, 0, 0)
def scaled_inv_chi_square(upper, y, nu, sigma):
    scale = 0.5 * nu * sigma * sigma
    return _inverse(upper, y, 0.5 * nu, scale, (y >= 0, _positive_finite(nu), _positive_finite(sigma)))


def _inverse(upper, y, shape, scale, valid):
    """1/Y has a gamma distribution: its other tail."""
    below = y <= 0
    value = log_gamma_tail(not upper, shape, scale / guarded(~below, y, 1.0))
    return Terms((_certain(upper, below, False, value),), valid=valid)


# -- discrete ---------------------------------------------------------------------------------------


@distribution(0, 0)
def bernoulli(upper, y, theta):
    tail = log_probability(theta) if upper else log_probability(1.0 - theta)
    return Terms((_certain(upper, y < 0, y >= 1, tail),), valid=((theta >= 0) & (theta <= 1),))


@distribution(0, 0, 0)
def binomial(upper, n, trials, theta):
    below, above = n < 0, n >= trials
    k = np.where(below | above, 0, n)
    size = np.where(trials > 0, trials, 1)
    certain = (theta <= 0) | (theta >= 1)
    inner = guarded(~certain, theta, 0.5)
    value = log_beta_tails(size - k, k + 1.0, 1.0 - inner, inner)[int(upper)]
    # With θ = 1 all trials succeed, with θ = 0 none does.
    value = _certain(upper, theta >= 1, theta <= 0, value)
    return Terms((_certain(upper, below, above, value),), valid=(trials >= 0, (theta >= 0) & (theta <= 1)))


@distribution(0, 0)
def poisson(upper, n, rate):
    below = n < 0
    value = log_gamma_tail(not upper, np.where(below, 0, n) + 1.0, rate)
    return Terms((_certain(upper, below, False, value),), valid=(rate >= 0,))


@distribution(0, 0, 0)
def neg_binomial(upper, n, alpha, beta):
    return _negative_binomial_tail(
        upper,
        n,
        alpha,
        beta / (1.0 + beta),
        1.0 / (1.0 + beta),
        (_positive_finite(alpha), _positive_finite(beta)),
    )


@distribution(0, 0, 0)
def neg_binomial_2(upper, n, mu, phi):
    return _negative_binomial_tail(
        upper, n, phi, phi / (mu + phi), mu / (mu + phi), (_positive_finite(mu), _positive_finite(phi))
    )


def _negative_binomial_tail(upper, n, shape, success, failure, valid):
    below = n < 0
    k = np.where(below, 0, n)
    value = log_beta_tails(shape, k + 1.0, success, failure)[int(upper)]
    return Terms((_certain(upper, below, False, value),), valid=valid)
