"""Densities of categories and of counts over categories, ordered or not.

Formulas, constants and argument checks are those of Stan Math (Stan Functions Reference, "Bounded discrete
distributions" and "Multivariate discrete distributions").
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from ..numeric import is_concrete, lgamma, log, log_sigmoid, total, where
from .base import Terms, density, finite
from .linear import all_of, not_empty
from .multivariate import is_simplex
from .special import log1m_exp, log_ndtr, log_rising_factorial

_FEW = 32
"""Up to so many categories, comparing with each is cheaper than a gather, whose gradient is a scatter."""


def _picked(table: Any, index: Any) -> Any:
    """``table[..., index]`` for ``table: f[..., m]`` and indices that broadcast to its leading axes."""
    size = np.shape(table)[-1]
    if size == 0:
        return np.zeros(np.broadcast_shapes(np.shape(table)[:-1], np.shape(index)))
    index = np.clip(index, 0, size - 1) if is_concrete(index) else jnp.clip(index, 0, size - 1)
    batch = np.broadcast_shapes(np.shape(table)[:-1], np.shape(index))
    if is_concrete(table, index):
        spread = np.broadcast_to(table, (*batch, size))
        return np.take_along_axis(spread, np.broadcast_to(index, batch)[..., None], -1)[..., 0]
    if size <= _FEW:
        chosen = jnp.asarray(index)[..., None] == np.arange(size)
        return jnp.where(chosen, table, 0.0).sum(-1)
    spread = jnp.broadcast_to(table, (*batch, size))
    return jnp.take_along_axis(spread, jnp.broadcast_to(index, batch)[..., None], -1)[..., 0]


def _log_softmax(logits: Any) -> Any:
    if is_concrete(logits):
        return logits - scipy.special.logsumexp(logits, axis=-1, keepdims=True)
    return jax.nn.log_softmax(logits, -1)


def _one_to(size: int, y: Any) -> Any:
    return (y >= 1) & (y <= size)


@density(0, 1, discrete=True)
def categorical(y: Any, theta: Any) -> Terms:
    probability = _picked(theta, y - 1)
    inside = probability > 0
    term = log(where(inside, probability, 1.0))
    return Terms((term,), (inside,), (_one_to(np.shape(theta)[-1], y), is_simplex(theta)))


@density(0, 1, discrete=True)
def categorical_logit(y: Any, beta: Any) -> Terms:
    valid = (_one_to(np.shape(beta)[-1], y), all_of(finite(beta), 1))
    return Terms((_picked(_log_softmax(beta), y - 1),), valid=valid)


def _log_coefficient(counts: Any) -> Any:
    """The log of the multinomial coefficient over the last axis."""
    return lgamma(counts.sum(-1) + 1.0) - lgamma(counts + 1.0).sum(-1)


def _counts(n: Any) -> tuple[Any, Any]:
    """Counts that are not negative, as reals, and whether they were."""
    valid = n >= 0
    return where(valid, n, 0) * 1.0, all_of(valid, 1)


@density(1, 1, discrete=True)
def multinomial(n: Any, theta: Any) -> Terms:
    counts, valid = _counts(n)
    inside = (theta > 0) | (counts == 0)
    kernel = total(counts * log(where(theta > 0, theta, 1.0)), -1)
    return Terms((_log_coefficient(counts), kernel), (all_of(inside, 1),), (valid, is_simplex(theta)))


@density(1, 1, discrete=True)
def multinomial_logit(n: Any, beta: Any) -> Terms:
    counts, valid = _counts(n)
    kernel = total(counts * _log_softmax(beta), -1)
    return Terms((_log_coefficient(counts), kernel), valid=(valid, all_of(finite(beta), 1)))


@density(1, 1, discrete=True)
def dirichlet_multinomial(n: Any, alpha: Any) -> Terms:
    counts, valid = _counts(n)
    positive = alpha > 0
    alpha = where(positive, alpha, 1.0)
    sums = alpha.sum(-1)
    kernel = total(log_rising_factorial(alpha, counts), -1) - log_rising_factorial(sums, counts.sum(-1))
    # One term: Stan keeps the coefficient here.
    term = _log_coefficient(counts) + kernel
    return Terms((term,), valid=(valid, all_of(positive, 1), all_of(finite(alpha), 1)))


# -- ordered --------------------------------------------------------------------------------------


def _cut_points(y: Any, cuts: Any) -> tuple[Any, Any, Any, Any, tuple[Any, ...]]:
    """The cut points below and above category y, whether there are such, and Stan's checks.

    Category k of 1…K lies between the cut points k − 1 and k; the first has none below, the last none above.
    """
    size = np.shape(cuts)[-1]
    has_lower, has_upper = y > 1, y <= size
    lower, upper = _picked(cuts, y - 2), _picked(cuts, y - 1)
    valid = (
        _one_to(size + 1, y),
        all_of(cuts[..., 1:] > cuts[..., :-1], 1),
        all_of(finite(cuts), 1),
    )
    return lower, upper, has_lower, has_upper, valid


@density(0, 0, 1, discrete=True)
def ordered_logistic(y: Any, eta: Any, cuts: Any) -> Terms:
    """``log(σ(c[k] − η) − σ(c[k−1] − η))``, with c[0] = −∞ and c[K] = ∞.

    Since σ(a) − σ(b) = σ(a) σ(−b) (1 − exp(b − a)), no difference of probabilities is taken.
    """
    lower, upper, has_lower, has_upper, valid = _cut_points(y, cuts)
    between = has_lower & has_upper
    width = where(between, upper - lower, 1.0)
    term = (
        where(has_upper, log_sigmoid(upper - eta), 0.0)
        + where(has_lower, log_sigmoid(eta - lower), 0.0)
        + where(between, log1m_exp(width), 0.0)
    )
    return Terms((term,), valid=(*valid, finite(eta)))


@density(0, 0, 1, discrete=True)
def ordered_probit(y: Any, eta: Any, cuts: Any) -> Terms:
    """``log(Φ(c[k] − η) − Φ(c[k−1] − η))``, with c[0] = −∞ and c[K] = ∞.

    Stan's value, but not quite its gradient: Stan Math approximates the derivative of log Φ by rational
    functions with relative errors up to 5e-5; here it is exact to rounding.
    """
    lower, upper, has_lower, has_upper, valid = _cut_points(y, cuts)
    between = has_lower & has_upper
    below, above = lower - eta, upper - eta
    # In the upper tail the difference is taken between the complements, which are small there.
    flipped = has_lower & (~has_upper | (below > 0))
    log_larger = log_ndtr(where(flipped, -below, above))
    log_smaller = log_ndtr(where(flipped, -above, below))
    term = log_larger + where(between, log1m_exp(where(between, log_larger - log_smaller, 1.0)), 0.0)
    return Terms((term,), valid=(*valid, finite(eta), not_empty(cuts)))
