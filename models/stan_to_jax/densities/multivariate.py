"""Densities of vectors: normal and Student's t, Gaussian processes, Dirichlet.

Formulas and argument checks are those of Stan Math (Stan Functions Reference, "Distributions over unbounded
vectors" and "Simplex distributions"). What makes up one term is what Stan drops together: of Student's t and
of Gaussian processes only the constant of π, whatever is a parameter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..numeric import is_concrete, lgamma, log, log1p, namespace, where
from ..values import MATRIX, Value
from .base import Terms, density, finite, positive_finite
from .linear import (
    all_of,
    cholesky,
    log_diagonal,
    not_empty,
    quadratic,
    solved,
    solved_matrix,
    sum_of_squares,
)

_LOG_2PI = math.log(2 * math.pi)


def _not_nan(array: Any) -> Any:
    # NaN in a traced argument makes the density NaN, which fails the evaluation no less.
    return ~np.isnan(array) if is_concrete(array) else True


def _location_checks(y: Any, mu: Any) -> tuple[Any, ...]:
    return all_of(_not_nan(y), 1), all_of(finite(mu), 1)


def _gaussian_constant(size: int) -> Any:
    return np.float64(-0.5 * size * _LOG_2PI)


@density(1, 1, 2)
def multi_normal(y: Any, mu: Any, sigma: Any) -> Terms:
    half_log_determinant, square, definite = quadratic(sigma, y - mu)
    terms = (_gaussian_constant(np.shape(y)[-1]), -half_log_determinant, -0.5 * square)
    return Terms(terms, valid=(*_location_checks(y, mu), definite, not_empty(sigma)))


@density(1, 1, 2)
def multi_normal_cholesky(y: Any, mu: Any, factor: Any) -> Terms:
    half_log_determinant, positive = log_diagonal(factor)
    square = sum_of_squares(solved(factor, y - mu), 1)
    terms = (_gaussian_constant(np.shape(y)[-1]), -half_log_determinant, -0.5 * square)
    return Terms(terms, valid=(*_location_checks(y, mu), positive))


def of_the_matrix(name: str, arguments: Sequence[Value]) -> tuple[str, tuple[Value, ...]] | None:
    """``multi_normal_cholesky`` of a factor that the program has computed, as ``multi_normal`` of its matrix.

    The same density; its derivative by the matrix needs no derivative of the factor.
    """
    if name != "multi_normal_cholesky" or len(arguments) != 3 or arguments[2].factored is None:
        return None
    y, mu, factor = arguments
    return "multi_normal", (y, mu, Value(MATRIX, factor.factored, factor.level))


@density(1, 1, 2)
def multi_normal_prec(y: Any, mu: Any, precision: Any) -> Terms:
    factor, definite = cholesky(precision)
    half_log_determinant, _ = log_diagonal(factor)
    residual = y - mu
    # As squares of Lᵀr, so that the value is never negative.
    square = sum_of_squares(namespace(factor, residual).einsum("...ij,...i->...j", factor, residual), 1)
    terms = (_gaussian_constant(np.shape(y)[-1]), half_log_determinant, -0.5 * square)
    return Terms(terms, valid=(*_location_checks(y, mu), definite, not_empty(factor)))


def _student_t(y: Any, nu: Any, mu: Any, factor: Any, valid: tuple[Any, ...]) -> Terms:
    size = np.shape(y)[-1]
    positive = nu > 0
    nu = where(positive, nu, 1.0)
    half_log_determinant, diagonal_positive = log_diagonal(factor)
    square = sum_of_squares(solved(factor, y - mu), 1)
    kernel = (
        lgamma(0.5 * (nu + size))
        - lgamma(0.5 * nu)
        - 0.5 * size * log(nu)
        - half_log_determinant
        - 0.5 * (nu + size) * log1p(square / nu)
    )
    terms = (np.float64(-0.5 * size * math.log(math.pi)), kernel)
    return Terms(terms, valid=(positive, *_location_checks(y, mu), diagonal_positive, *valid))


def _is_infinite(nu: Any) -> bool:
    return is_concrete(nu) and bool(np.all(np.isposinf(nu)))


@density(1, 0, 1, 2)
def multi_student_t(y: Any, nu: Any, mu: Any, sigma: Any) -> Terms:
    """With infinite degrees of freedom, the normal."""
    if _is_infinite(nu):
        return multi_normal(y, mu, sigma)
    factor, definite = cholesky(sigma)
    return _student_t(y, nu, mu, factor, (definite,))


@density(1, 0, 1, 2)
def multi_student_t_cholesky(y: Any, nu: Any, mu: Any, factor: Any) -> Terms:
    if _is_infinite(nu):
        return multi_normal_cholesky(y, mu, factor)
    return _student_t(y, nu, mu, factor, (not_empty(factor),))


def _gaussian_processes(y: Any, factor: Any, w: Any, valid: tuple[Any, ...]) -> Terms:
    """Rows ``y[d]`` of ``f[..., D, N]`` are normal with covariance ``L Lᵀ / w[d]``."""
    rows, size = np.shape(y)[-2:]
    positive = positive_finite(w)
    w = where(positive, w, 1.0)
    half_log_determinant, diagonal_positive = log_diagonal(factor)
    standardized = solved_matrix(factor, y.swapaxes(-1, -2))
    kernel = (
        0.5 * size * log(w).sum(-1)
        - rows * half_log_determinant
        - 0.5 * (w * (standardized * standardized).sum(-2)).sum(-1)
    )
    terms = (rows * _gaussian_constant(size), kernel)
    return Terms(terms, valid=(all_of(positive, 1), all_of(finite(y), 2), diagonal_positive, *valid))


@density(2, 2, 1)
def multi_gp(y: Any, sigma: Any, w: Any) -> Terms:
    factor, definite = cholesky(sigma)
    return _gaussian_processes(y, factor, w, (definite,))


@density(2, 2, 1)
def multi_gp_cholesky(y: Any, factor: Any, w: Any) -> Terms:
    return _gaussian_processes(y, factor, w, ())


@density(1, 1)
def dirichlet(theta: Any, alpha: Any) -> Terms:
    positive = alpha > 0
    alpha = where(positive, alpha, 1.0)
    inside = theta > 0
    normalizer = lgamma(alpha.sum(-1)) - lgamma(alpha).sum(-1)
    kernel = ((alpha - 1.0) * log(where(inside, theta, 1.0))).sum(-1)
    return Terms(
        (normalizer, kernel),
        # On the border the density is 0 or ∞ or not defined: log gives Stan's value, which fails.
        support=(all_of(inside | (alpha == 1.0), 1),),
        valid=(all_of(positive, 1), is_simplex(theta)),
    )


def is_simplex(theta: Any) -> Any:
    """Stan's check of each vector of ``f[..., K]``."""
    return (abs(theta.sum(-1) - 1.0) <= 1e-8) & all_of(theta >= 0, 1)
