"""Covariance functions of Gaussian processes, over reals or vectors, with one scale or one a dimension.

What depends on the points alone is computed from them alone: concrete points make it a constant, and
scales of dimensions are then one product with the squared differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..errors import UnsupportedStanError
from ..numeric import exp, is_concrete, namespace
from ..values import MATRIX, Level, Value, at_level, deepest
from . import scalar
from .products import matmul, transposed
from .registry import NoOverload, floating, register

Array = Any


def _points(x: Value, level: Level | None) -> Array:
    """``f[…, n, d]``; d = 1 for reals."""
    if x.kind == "real" and x.arrays == 1:
        return floating(at_level(x, level))[..., None]
    if x.kind in ("vector", "row_vector") and x.arrays == 1:
        return floating(at_level(x, level))
    raise NoOverload


def _squares(x: Array, y: Array) -> Array:
    """``f[…, n, m, d]``: squared differences by dimension."""
    difference = x[..., :, None, :] - y[..., None, :, :]
    return difference * difference


def _scaled_squares(arguments: tuple[Value, ...], length: Value, level: Level | None) -> Array:
    """Σ_d (x_d − y_d)²/ℓ_d² for all pairs of points."""
    x = _points(arguments[0], level)
    y = _points(arguments[-1], level)
    if x.shape[-1] != y.shape[-1]:
        raise UnsupportedStanError(f"points in {x.shape[-1]} and in {y.shape[-1]} dimensions")
    scale = floating(at_level(length, level))
    if length.rank == 0:
        squares = _squares(x, y)
        return namespace(squares).sum(squares, axis=-1) * (1.0 / (scale * scale))[..., None, None]
    if length.shape[0] not in (1, x.shape[-1]):
        raise UnsupportedStanError(f"{length.shape[0]} length scales for {x.shape[-1]} dimensions")
    if is_concrete(x, y):
        squares = _squares(x, y)
        weights = namespace(scale).broadcast_to(1.0 / (scale * scale), (*scale.shape[:-1], x.shape[-1]))
        if x.ndim == 2 and weights.ndim == 1:
            return matmul(squares, weights)
        squares = squares * weights[..., None, None, :]
    else:
        squares = _squares(x / scale[..., None, :], y / scale[..., None, :])
    return namespace(squares).sum(squares, axis=-1)


def _split(arguments: tuple[Value, ...], scales: int) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
    """One or two sets of points, then the scales."""
    points, rest = arguments[: len(arguments) - scales], arguments[len(arguments) - scales :]
    if len(points) not in (1, 2):
        raise NoOverload
    return points, rest


def _amplitude(sigma: Value, level: Level | None) -> Array:
    magnitude = floating(at_level(sigma, level))
    return (magnitude * magnitude)[..., None, None]


def _enter_stationary(name: str, correlation: Callable[[Array], Array]) -> None:
    """σ² ρ(r²) with r² the squared distance in units of the length scales."""

    def entry(first: Value, second: Value, third: Value, *others: Value) -> Value:
        arguments = (first, second, third, *others)
        points, (sigma, length) = _split(arguments, 2)
        level = deepest(arguments)
        squares = _scaled_squares(points, length, level)
        return Value(MATRIX, _amplitude(sigma, level) * correlation(squares), level)

    register(name)(entry)


def _matern32(squares: Array) -> Array:
    r = math.sqrt(3.0) * scalar.sqrt(squares)
    return (1.0 + r) * exp(-r)


def _matern52(squares: Array) -> Array:
    r = math.sqrt(5.0) * scalar.sqrt(squares)
    return (1.0 + r + (5.0 / 3.0) * squares) * exp(-r)


for _name in ("gp_exp_quad_cov", "cov_exp_quad"):
    _enter_stationary(_name, lambda squares: exp(-0.5 * squares))
_enter_stationary("gp_exponential_cov", lambda squares: exp(-scalar.sqrt(squares)))
_enter_stationary("gp_matern32_cov", _matern32)
_enter_stationary("gp_matern52_cov", _matern52)


@register("gp_periodic_cov")
def gp_periodic_cov(first: Value, second: Value, third: Value, fourth: Value, *others: Value) -> Value:
    """σ² exp(−2 sin²(π |x − y|/p)/ℓ²)."""
    arguments = (first, second, third, fourth, *others)
    points, (sigma, length, period) = _split(arguments, 3)
    level = deepest(arguments)
    squares = _squares(_points(points[0], level), _points(points[-1], level))
    separation = scalar.sqrt(namespace(squares).sum(squares, axis=-1))
    frequency = math.pi / floating(at_level(period, level))[..., None, None]
    scale = floating(at_level(length, level))[..., None, None]
    angle = separation * frequency
    sine = namespace(angle).sin(angle)
    return Value(MATRIX, _amplitude(sigma, level) * exp(-2.0 * sine * sine / (scale * scale)), level)


@register("gp_dot_prod_cov")
def gp_dot_prod_cov(first: Value, second: Value, *others: Value) -> Value:
    """σ² + x′y."""
    arguments = (first, second, *others)
    points, (sigma,) = _split(arguments, 1)
    level = deepest(arguments)
    x, y = _points(points[0], level), _points(points[-1], level)
    return Value(MATRIX, _amplitude(sigma, level) + matmul(x, transposed(y)), level)
