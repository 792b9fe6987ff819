"""Univariate mass functions of the Stan language.

Formulas and parametrisations are those of the Stan Functions Reference, parts "Binary distributions",
"Bounded discrete distributions" and "Unbounded discrete distributions". What is a term of its own, and
whether an outcome out of bounds is an exception or a probability of 0, is Stan Math's.
"""

from __future__ import annotations

import numpy as np

from ..numeric import exp, lgamma, log, log1p, log_sigmoid
from .base import Terms, density, finite, guarded, positive_finite
from .special import log_choose, log_rising_factorial

# -- bounded ----------------------------------------------------------------------------------------


@density(0, 0, discrete=True)
def bernoulli(y, theta):
    return _trials(y, 1, theta)


@density(0, 0, 0, discrete=True)
def binomial(n, trials, theta):
    terms = _trials(n, trials, theta)
    return terms._replace(terms=(*terms.terms, log_choose(trials, n)))


def _trials(successes, trials, theta):
    """A probability of 0 or 1 is impossible only where an outcome contradicts it."""
    failures = trials - successes
    log_success = log(guarded(theta > 0, theta, 1.0))
    log_failure = log1p(-guarded(theta < 1, theta, 0.0))
    return Terms(
        (successes * log_success + failures * log_failure,),
        support=((theta > 0) | (successes == 0), (theta < 1) | (failures == 0)),
        valid=((theta >= 0) & (theta <= 1), (successes >= 0) & (failures >= 0), np.greater_equal(trials, 0)),
    )


@density(0, 0, discrete=True)
def bernoulli_logit(y, alpha):
    return Terms((log_sigmoid((2 * y - 1) * alpha),), valid=((y >= 0) & (y <= 1),))


@density(0, 0, 0, discrete=True)
def binomial_logit(n, trials, alpha):
    return Terms(
        (n * log_sigmoid(alpha) + (trials - n) * log_sigmoid(-alpha), log_choose(trials, n)),
        valid=((n >= 0) & (n <= trials), trials >= 0, finite(alpha)),
    )


@density(0, 0, 0, 0, discrete=True)
def beta_binomial(n, trials, alpha, beta):
    inside = (n >= 0) & (n <= trials)
    successes, failures = guarded(inside, n, 0), guarded(inside, trials - n, 0)
    # The ratio of two beta functions, without the cancellation that their difference in logs has.
    ratio = (
        log_rising_factorial(alpha, successes)
        + log_rising_factorial(beta, failures)
        - log_rising_factorial(alpha + beta, successes + failures)
    )
    return Terms(
        (ratio, log_choose(trials, successes)),
        support=(inside,),
        valid=(trials >= 0, positive_finite(alpha), positive_finite(beta)),
    )


@density(0, 0, 0, 0, discrete=True)
def hypergeometric(n, trials, a, b):
    return Terms(
        (log_choose(a, n) + log_choose(b, trials - n) - log_choose(a + b, trials),),
        valid=((n >= 0) & (n <= a), (trials >= n) & (trials - n <= b), trials <= a + b),
    )


@density(0, 0, 0, discrete=True)
def discrete_range(y, lower, upper):
    return Terms(
        (-log(upper - lower + 1.0),), support=((y >= lower) & (y <= upper),), valid=(upper >= lower,)
    )


# -- unbounded --------------------------------------------------------------------------------------


@density(0, 0, discrete=True)
def poisson(n, rate):
    inside = rate > 0
    return Terms(
        (n * log(guarded(inside, rate, 1.0)) - rate, -lgamma(n + 1.0)),
        support=(inside | (n == 0),),
        valid=(n >= 0, rate >= 0),
    )


@density(0, 0, discrete=True)
def poisson_log(n, alpha):
    return Terms((n * alpha - exp(alpha), -lgamma(n + 1.0)), valid=(n >= 0,))


@density(0, 0, 0, discrete=True)
def neg_binomial(n, alpha, beta):
    return Terms(
        (_log_coefficient(n, alpha), -alpha * log1p(1.0 / beta) - n * log1p(beta)),
        valid=(n >= 0, positive_finite(alpha), positive_finite(beta)),
    )


@density(0, 0, 0, discrete=True)
def neg_binomial_2(n, mu, phi):
    return Terms(
        (_log_coefficient(n, phi), n * log(mu), -phi * log1p(mu / phi) - n * log(mu + phi)),
        valid=(n >= 0, positive_finite(mu), positive_finite(phi)),
    )


@density(0, 0, 0, discrete=True)
def neg_binomial_2_log(n, eta, phi):
    log_phi = log(phi)
    log_ratio = -log_sigmoid(log_phi - eta)
    return Terms(
        (_log_coefficient(n, phi), n * eta, -phi * log_ratio - n * (log_phi + log_ratio)),
        valid=(n >= 0, finite(eta), positive_finite(phi)),
    )


def _log_coefficient(n, phi):
    """The binomial coefficient of n + φ − 1 and n. Stan keeps −log n! where φ is a parameter."""
    return log_rising_factorial(phi, n) - lgamma(n + 1.0)
