"""Densities of correlation and covariance matrices and of their Cholesky factors.

Formulas, constants and argument checks are those of Stan Math (Stan Functions Reference, "Correlation
matrix distributions" and "Covariance matrix distributions"). Of the Wishart densities Stan drops nothing
unless all is constant: they have one term.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..checks import TOLERANCE
from ..numeric import lgamma, log, namespace, where
from .base import Terms, density
from .linear import all_of, cholesky, diagonal, log_diagonal, not_empty, solved_matrix, sum_of_squares

_LOG_2, _LOG_PI = math.log(2.0), math.log(math.pi)


def _with_axis(array: Any) -> Any:
    return namespace(array).expand_dims(array, -1)


# -- correlations ---------------------------------------------------------------------------------


def _lkj_normalizer(eta: Any, size: int) -> Any:
    """The log of the LKJ density's constant (Lewandowski, Kurowicka & Joe 2009, theorem 5)."""
    if size == 0:
        return np.float64(0)
    k = np.arange(1, size)
    each = lgamma(_with_axis(eta) + 0.5 * (size - 1 - k))
    return (size - 1) * lgamma(eta + 0.5 * (size - 1)) - each.sum(-1) - 0.5 * _LOG_PI * k.sum()


@density(2, 0)
def lkj_corr(y: Any, eta: Any) -> Terms:
    positive = eta > 0
    eta = where(positive, eta, 1.0)
    factor, definite = cholesky(y)
    half_log_determinant, _ = log_diagonal(factor)
    unit = all_of(abs(diagonal(y) - 1.0) <= TOLERANCE, 1)
    terms = (_lkj_normalizer(eta, np.shape(y)[-1]), 2.0 * (eta - 1.0) * half_log_determinant)
    return Terms(terms, valid=(positive, unit, definite))


@density(2, 0)
def lkj_corr_cholesky(factor: Any, eta: Any) -> Terms:
    size = np.shape(factor)[-1]
    positive = eta > 0
    eta = where(positive, eta, 1.0)
    values = diagonal(factor)
    inside = values > 0
    logs = log(where(inside, values, 1.0))
    # Jacobian of L Lᵀ: L[k, k] to the power K − k (k from 1); the density of |L Lᵀ| to the power η − 1.
    kernel = ((size - 1 - np.arange(size)) * logs).sum(-1) + 2.0 * (eta - 1.0) * logs.sum(-1)
    lower = all_of(factor == namespace(factor).tril(factor), 2)
    terms = (_lkj_normalizer(eta, size), kernel)
    return Terms(terms, valid=(positive, lower, all_of(inside, 1), not_empty(factor)))


# -- covariances ----------------------------------------------------------------------------------


def _log_multigamma(size: int, x: Any) -> Any:
    """``log Γ_size(x)``, the multivariate gamma function."""
    shifts = 0.5 * np.arange(size)
    each = lgamma(_with_axis(x) - shifts)
    return 0.25 * size * (size - 1) * _LOG_PI + each.sum(-1)


def _trace_of_ratio(below: Any, above: Any) -> Any:
    """``tr((B Bᵀ)⁻¹ A Aᵀ)`` of two lower factors, as a sum of squares."""
    return sum_of_squares(solved_matrix(below, above), 2)


def _degrees(nu: Any, size: int) -> tuple[Any, Any]:
    """Degrees of freedom where they are more than size − 1, and whether they are."""
    valid = nu > size - 1
    return where(valid, nu, size + 1.0), valid


def _wishart(w: Any, nu: Any, scale: Any) -> tuple[Any, tuple[Any, ...]]:
    """The log Wishart density at ``W = L Lᵀ``, both matrices given by their factors, and its checks."""
    size = np.shape(w)[-1]
    nu, enough = _degrees(nu, size)
    half_log_w, w_positive = log_diagonal(w)
    half_log_scale, scale_positive = log_diagonal(scale)
    term = (
        -0.5 * size * _LOG_2 * nu
        - _log_multigamma(size, 0.5 * nu)
        - nu * half_log_scale
        - 0.5 * _trace_of_ratio(scale, w)
        + (nu - size - 1.0) * half_log_w
    )
    return term, (enough, w_positive, scale_positive)


def _inv_wishart(w: Any, nu: Any, scale: Any) -> tuple[Any, tuple[Any, ...]]:
    size = np.shape(w)[-1]
    nu, enough = _degrees(nu, size)
    half_log_w, w_positive = log_diagonal(w)
    half_log_scale, scale_positive = log_diagonal(scale)
    term = (
        -0.5 * size * _LOG_2 * nu
        - _log_multigamma(size, 0.5 * nu)
        + nu * half_log_scale
        - 0.5 * _trace_of_ratio(w, scale)
        - (nu + size + 1.0) * half_log_w
    )
    return term, (enough, w_positive, scale_positive)


@density(2, 0, 2)
def wishart(w: Any, nu: Any, sigma: Any) -> Terms:
    w_factor, w_definite = cholesky(w)
    factor, definite = cholesky(sigma)
    term, valid = _wishart(w_factor, nu, factor)
    return Terms((term,), valid=(*valid, w_definite, definite))


@density(2, 0, 2)
def inv_wishart(w: Any, nu: Any, sigma: Any) -> Terms:
    w_factor, w_definite = cholesky(w)
    factor, definite = cholesky(sigma)
    term, valid = _inv_wishart(w_factor, nu, factor)
    return Terms((term,), valid=(*valid, w_definite, definite))


def _factor_jacobian(factor: Any) -> Any:
    """The log Jacobian of ``L Lᵀ``, that is of ``2^K ∏ L[k, k]^(K − k + 1)``."""
    size = np.shape(factor)[-1]
    values = diagonal(factor)
    logs = log(where(values > 0, values, 1.0))
    return size * _LOG_2 + ((size - np.arange(size)) * logs).sum(-1)


@density(2, 0, 2)
def wishart_cholesky(factor: Any, nu: Any, scale: Any) -> Terms:
    term, valid = _wishart(factor, nu, scale)
    return Terms((term + _factor_jacobian(factor),), valid=valid)


@density(2, 0, 2)
def inv_wishart_cholesky(factor: Any, nu: Any, scale: Any) -> Terms:
    term, valid = _inv_wishart(factor, nu, scale)
    return Terms((term + _factor_jacobian(factor),), valid=valid)
