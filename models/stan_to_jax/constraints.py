"""Declared variables: their shapes, and Stan's transforms from unconstrained numbers to their values.

The transforms, their log Jacobians and the order in which free numbers are read are those of Stan 2.37
and later (Stan Reference Manual, "Constraint transforms").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import numeric
from .checks import STRUCTURE_CHECKS, within_bounds
from .errors import UnsupportedStanError
from .matrix_constraints import (
    cholesky_factor_corr,
    cholesky_factor_cov,
    column_stochastic_matrix,
    corr_matrix,
    cov_matrix,
    ordered,
    positive_ordered,
    row_stochastic_matrix,
    simplex,
    sum_to_zero_matrix,
    sum_to_zero_vector,
    unit_vector,
)
from .numeric import is_concrete
from .values import Kind, Type

Dims = tuple[int, ...]
Transform = Callable[[jax.Array, Dims], tuple[jax.Array, jax.Array]]


@dataclass(frozen=True)
class _Structure:
    """A type whose elements (vectors, matrices) are transformed as a whole."""

    kind: Kind
    shape: Callable[[Dims], Dims]
    """From the declared dimensions to those of the value."""
    free: Callable[[Dims], int]
    """The number of free values of one element."""
    transform: Transform


def _square(dims: Dims) -> Dims:
    return (dims[0], dims[-1])


def _below_diagonal(dims: Dims) -> int:
    return dims[0] * (dims[0] - 1) // 2


def _lower_trapezoid(dims: Dims) -> int:
    rows, columns = _square(dims)
    return columns * (columns + 1) // 2 + (rows - columns) * columns


def _vector(free: Callable[[Dims], int], transform: Transform) -> _Structure:
    return _Structure("vector", lambda dims: dims, free, transform)


def _matrix(free: Callable[[Dims], int], transform: Transform) -> _Structure:
    return _Structure("matrix", _square, free, transform)


_STRUCTURES: dict[str, _Structure] = {
    "simplex": _vector(lambda d: d[0] - 1, simplex),
    "ordered": _vector(lambda d: d[0], ordered),
    "positive_ordered": _vector(lambda d: d[0], positive_ordered),
    "unit_vector": _vector(lambda d: d[0], unit_vector),
    "sum_to_zero_vector": _vector(lambda d: d[0] - 1, sum_to_zero_vector),
    "sum_to_zero_matrix": _matrix(lambda d: (d[0] - 1) * (d[1] - 1), sum_to_zero_matrix),
    "corr_matrix": _matrix(_below_diagonal, corr_matrix),
    "cov_matrix": _matrix(lambda d: _below_diagonal(d) + d[0], cov_matrix),
    "cholesky_factor_corr": _matrix(_below_diagonal, cholesky_factor_corr),
    "cholesky_factor_cov": _matrix(_lower_trapezoid, cholesky_factor_cov),
    "column_stochastic_matrix": _matrix(lambda d: (d[0] - 1) * d[1], column_stochastic_matrix),
    "row_stochastic_matrix": _matrix(lambda d: d[0] * (d[1] - 1), row_stochastic_matrix),
}
_PLAIN: tuple[Kind, ...] = ("int", "real", "vector", "row_vector", "matrix")


@dataclass(frozen=True)
class Declared:
    """``array[arrays] base<bounds>[dims]`` with its sizes evaluated."""

    base: str
    arrays: tuple[int, ...] = ()
    dims: tuple[int, ...] = ()
    """As declared: ``corr_matrix[K]`` has one, ``cholesky_factor_cov`` one or two."""
    bounds: Mapping[str, Any] = field(default_factory=dict)
    """Some of ``lower``, ``upper``, ``offset``, ``multiplier``: arrays that broadcast to `shape`."""

    def __post_init__(self) -> None:
        if self.base not in _STRUCTURES and self.base not in _PLAIN:
            raise UnsupportedStanError(f"the type {self.base!r}")

    @property
    def kind(self) -> Kind:
        if self.base in _STRUCTURES:
            return _STRUCTURES[self.base].kind
        return next(kind for kind in _PLAIN if kind == self.base)

    @property
    def type(self) -> Type:
        return Type(self.kind, len(self.arrays))

    @property
    def element_shape(self) -> tuple[int, ...]:
        return _STRUCTURES[self.base].shape(self.dims) if self.base in _STRUCTURES else self.dims

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the value: array dimensions, then those of its vectors or matrices."""
        return self.arrays + self.element_shape


def free_size(declared: Declared) -> int:
    """The number of unconstrained values of a parameter; 0 for an empty one."""
    if prod(declared.shape) == 0:
        return 0
    if declared.base in _STRUCTURES:
        return prod(declared.arrays) * _STRUCTURES[declared.base].free(declared.dims)
    return prod(declared.shape)


def constrain(declared: Declared, free: Any) -> tuple[jax.Array, jax.Array]:
    """Stan's value of a parameter.

    Parameters
    ----------
    free : f[free_size(declared)], in Stan's order: arrays row by row, matrices column by column, and the
        free values of simplexes, Cholesky factors, … as their transforms read them

    Returns
    -------
    data : f[declared.shape]
    log_jacobian : f[], the log of the absolute determinant of the transform's Jacobian; −inf where Stan
        rejects the bounds (``lower ≥ upper``, a multiplier that is not positive) or a zero unit vector
    """
    free = jnp.asarray(free, float)
    if prod(declared.shape) == 0:
        return jnp.zeros(declared.shape, free.dtype), jnp.zeros((), free.dtype)
    if declared.base in _STRUCTURES:
        structure = _STRUCTURES[declared.base]
        elements = free.reshape(*declared.arrays, structure.free(declared.dims))
        data, log_jacobian = structure.transform(elements, declared.dims)
        return data, jnp.sum(log_jacobian)
    return _bounded(_columns_first(declared, free), declared.bounds)


def _columns_first(declared: Declared, free: jax.Array) -> jax.Array:
    if declared.kind != "matrix":
        return free.reshape(declared.shape)
    rows, columns = declared.dims
    return free.reshape(*declared.arrays, columns, rows).swapaxes(-1, -2)


def _bounded(free: jax.Array, bounds: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
    lower, upper = bounds.get("lower"), bounds.get("upper")
    if lower is not None and is_concrete(lower) and np.all(np.isneginf(lower)):
        lower = None
    if upper is not None and is_concrete(upper) and np.all(np.isposinf(upper)):
        upper = None
    if lower is not None and upper is not None:
        return _between(free, lower, upper)
    if lower is not None:
        return _one_sided(free, lower, 1.0)
    if upper is not None:
        return _one_sided(free, upper, -1.0)
    if "offset" in bounds or "multiplier" in bounds:
        return _affine(free, bounds.get("offset", np.float64(0)), bounds.get("multiplier", np.float64(1)))
    return free, jnp.zeros((), free.dtype)


def _one_sided(free: jax.Array, bound: Any, sign: float) -> tuple[jax.Array, jax.Array]:
    """``bound + sign · exp(free)``, or ``free`` where the bound is −sign · ∞: there is none."""
    absent = bound == -sign * np.inf
    if is_concrete(absent) and not np.any(absent):
        data, exponent = bound + sign * jnp.exp(free), free
    else:
        # Far from 0 the exponential of a value that is not transformed could overflow: its gradient too.
        exponent = jnp.where(absent, 0.0, free)
        data = jnp.where(absent, free, numeric.where(absent, 0.0, bound) + sign * jnp.exp(exponent))
    valid = absent | numeric.namespace(bound).isfinite(bound)
    return data, _rejected_unless(valid, jnp.sum(exponent))


def _between(free: jax.Array, lower: Any, upper: Any) -> tuple[jax.Array, jax.Array]:
    """``lower + (upper − lower) · logit⁻¹(free)``; where a bound is infinite, as if it were not there."""
    space = numeric.namespace(lower, upper)
    no_lower, no_upper = space.isneginf(lower), space.isposinf(upper)
    both = ~(no_lower | no_upper)
    base = numeric.where(both, lower, 0.0)
    width = numeric.where(both, upper, 1.0) - base
    valid = width > 0
    width = numeric.where(valid, width, 1.0)
    magnitude = jnp.abs(free)
    data = base + width * jax.nn.sigmoid(free)
    log_jacobian = numeric.log(width) - magnitude - 2 * jnp.log1p(jnp.exp(-magnitude))
    if not (is_concrete(both) and np.all(both)):
        above, _ = _one_sided(free, numeric.where(both, 0.0, lower), 1.0)
        below, _ = _one_sided(free, numeric.where(both, 0.0, upper), -1.0)
        data = jnp.where(both, data, jnp.where(no_lower, below, above))
        log_jacobian = jnp.where(both, log_jacobian, jnp.where(no_lower & no_upper, 0.0, free))
    return data, _rejected_unless(valid, jnp.sum(log_jacobian))


def _affine(free: jax.Array, offset: Any, multiplier: Any) -> tuple[jax.Array, jax.Array]:
    """``offset + multiplier · free``"""
    space = numeric.namespace(offset, multiplier)
    positive = (multiplier > 0) & space.isfinite(multiplier)
    scale = numeric.where(positive, multiplier, 1.0)
    log_jacobian = numeric.log(scale) * (free.size // max(np.size(scale), 1))
    valid = positive & space.isfinite(offset)
    return offset + scale * free, _rejected_unless(valid, jnp.sum(jnp.asarray(log_jacobian, free.dtype)))


def _rejected_unless(valid: Any, log_jacobian: jax.Array) -> jax.Array:
    if is_concrete(valid) and np.all(valid):
        return log_jacobian
    return jnp.where(jnp.all(valid), log_jacobian, -jnp.inf)


def satisfied(declared: Declared, data: Any) -> Any:
    """Whether a datum or a transformed parameter is what it is declared to be: Stan's check, ``b[]``.

    Concrete data and bounds give a concrete answer. A type without constraint is always satisfied, and so
    are ``offset`` and ``multiplier``, which Stan does not check.
    """
    if prod(declared.shape) == 0:
        return np.bool_(True)
    data = np.asarray(data) if is_concrete(data) else data
    if declared.base in STRUCTURE_CHECKS:
        return STRUCTURE_CHECKS[declared.base](data)
    return within_bounds(data, declared.bounds)
