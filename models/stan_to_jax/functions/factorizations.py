"""Cholesky factors, inverses, linear systems, determinants, eigenvalues, QR and singular values.

All take leading rows as batches. Where a factorisation does not exist the result is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..errors import UnsupportedStanError
from ..numeric import is_concrete, log, namespace
from ..values import MATRIX, REAL, VECTOR, Value, at_level, deepest
from .products import matmul, multiply, transpose, transposed
from .registry import NoOverload, register

Array = Any
Solver = Callable[[Array, Array], Array]


def _or_nan(function: Callable[..., np.ndarray], shape: tuple[int, ...], *arrays: np.ndarray) -> np.ndarray:
    try:
        return function(*arrays)
    except np.linalg.LinAlgError:
        return np.full(shape, np.nan)


def cholesky(x: Array) -> Array:
    """The lower factor of a symmetric matrix, of which the lower triangle is read.

    The derivative is that of the symmetric matrix: it may stand above the diagonal where Stan's stands
    below, which is the same once it has passed through what made the matrix symmetric.
    """
    if is_concrete(x):
        return _or_nan(np.linalg.cholesky, np.shape(x), x)
    return jnp.tril(lax.linalg.cholesky(x, symmetrize_input=False))


@register("cholesky_decompose")
def cholesky_decompose(x: Value) -> Value:
    factor = Value(MATRIX, cholesky(x.data), x.level)
    factor.factored = x.data
    return factor


# -- linear systems -----------------------------------------------------------------------------------


def solve_general(a: Array, b: Array) -> Array:
    """A⁻¹ B for matrices with the same batch axes."""
    if is_concrete(a, b):
        return _or_nan(np.linalg.solve, np.shape(b), a, b)
    return jnp.linalg.solve(jnp.asarray(a), jnp.asarray(b))


def solve_lower(a: Array, b: Array) -> Array:
    """A⁻¹ B, where A's upper triangle is taken for 0."""
    if is_concrete(a, b):
        return _or_nan(np.linalg.solve, np.shape(b), np.tril(a), b)
    return lax.linalg.triangular_solve(jnp.asarray(a), jnp.asarray(b), left_side=True, lower=True)


def solve_lower_transposed(a: Array, b: Array) -> Array:
    """(A′)⁻¹ B, where A's upper triangle is taken for 0."""
    if is_concrete(a, b):
        return _or_nan(np.linalg.solve, np.shape(b), transposed(np.tril(a)), b)
    a, b = jnp.asarray(a), jnp.asarray(b)
    return lax.linalg.triangular_solve(a, b, left_side=True, lower=True, transpose_a=True)


def solve_spd(a: Array, b: Array) -> Array:
    """A⁻¹ B for a symmetric positive definite A."""
    factor = cholesky(a)
    return solve_lower_transposed(factor, solve_lower(factor, b))


def _solve(solver: Solver, a: Value, b: Value) -> Value:
    """A⁻¹ b for a vector or matrix b, of which either may have rows."""
    if a.kind != "matrix" or b.kind not in ("vector", "matrix") or a.arrays or b.arrays:
        raise NoOverload
    if a.shape[0] != a.shape[1] or a.shape[0] != b.shape[0]:
        raise UnsupportedStanError(f"sizes {a.shape} and {b.shape} do not match in a division by a matrix")
    level = deepest((a, b))
    x, y = at_level(a, level), at_level(b, level)
    if b.kind == "vector":
        y = y[..., None]
    if a.level is None and level is not None:  # the rows are further columns: one factorisation
        np_or_jnp, count, (size, columns) = namespace(y), level.size, np.shape(y)[-2:]
        wide = np_or_jnp.moveaxis(y, 0, 1).reshape(size, count * columns)
        result: Array = solver(x, wide).reshape(size, count, columns)
        result = namespace(result).moveaxis(result, 1, 0)
    else:
        if level is not None and b.level is None:
            y = namespace(y).broadcast_to(y, (level.size, *np.shape(y)))
        result = solver(x, y)
    return Value(b.type, result[..., 0] if b.kind == "vector" else result, level)


@register("mdivide_left")
def mdivide_left(a: Value, b: Value) -> Value:
    return _solve(solve_general, a, b)


@register("mdivide_left_tri_low")
def mdivide_left_tri_low(a: Value, b: Value) -> Value:
    return _solve(solve_lower, a, b)


@register("mdivide_left_spd")
def mdivide_left_spd(a: Value, b: Value) -> Value:
    return _solve(solve_spd, a, b)


@register("mdivide_right")
def mdivide_right(b: Value, a: Value) -> Value:
    """b A⁻¹ = (A′⁻¹ b′)′."""
    return transpose(_solve(solve_general, transpose(a), transpose(b)))


@register("mdivide_right_tri_low")
def mdivide_right_tri_low(b: Value, a: Value) -> Value:
    return transpose(_solve(solve_lower_transposed, a, transpose(b)))


@register("mdivide_right_spd")
def mdivide_right_spd(b: Value, a: Value) -> Value:
    return transpose(_solve(solve_spd, a, transpose(b)))


def _identity_like(x: Array) -> Array:
    return namespace(x).broadcast_to(np.eye(np.shape(x)[-1]), np.shape(x))


@register("inverse")
def inverse(x: Value) -> Value:
    return Value(MATRIX, solve_general(x.data, _identity_like(x.data)), x.level)


@register("inverse_spd")
def inverse_spd(x: Value) -> Value:
    return Value(MATRIX, solve_spd(x.data, _identity_like(x.data)), x.level)


@register("chol2inv")
def chol2inv(x: Value) -> Value:
    """(L L′)⁻¹."""
    inverted = solve_lower(x.data, _identity_like(x.data))
    return Value(MATRIX, matmul(transposed(inverted), inverted), x.level)


# -- determinants -------------------------------------------------------------------------------------


@register("determinant")
def determinant(x: Value) -> Value:
    return Value(REAL, namespace(x.data).linalg.det(x.data), x.level)


@register("log_determinant")
def log_determinant(x: Value) -> Value:
    """log |det|."""
    return Value(REAL, namespace(x.data).linalg.slogdet(x.data)[1], x.level)


@register("log_determinant_spd")
def log_determinant_spd(x: Value) -> Value:
    factor = cholesky(x.data)
    pivots = namespace(factor).diagonal(factor, axis1=-2, axis2=-1)
    return Value(REAL, 2.0 * namespace(factor).sum(log(pivots), axis=-1), x.level)


# -- spectra ------------------------------------------------------------------------------------------


@jax.custom_jvp
def _eigenvalues(x: Array) -> Array:
    return jnp.linalg.eigh(x)[0]


@_eigenvalues.defjvp
def _eigenvalues_derivative(primals: Any, tangents: Any) -> Any:
    values, vectors = jnp.linalg.eigh(primals[0])
    return values, jnp.sum(vectors * matmul(tangents[0], vectors), axis=-2)


@jax.custom_jvp
def _eigenvectors(x: Array) -> Array:
    return jnp.linalg.eigh(x)[1]


@_eigenvectors.defjvp
def _eigenvectors_derivative(primals: Any, tangents: Any) -> Any:
    values, vectors = jnp.linalg.eigh(primals[0])
    gaps = values[..., None, :] - values[..., :, None]
    largest = jnp.max(jnp.abs(values), axis=-1)[..., None, None]
    distinct = jnp.abs(gaps) > jnp.finfo(gaps.dtype).eps ** 0.6 * largest
    inverse_gaps = jnp.where(distinct, 1.0 / jnp.where(distinct, gaps, 1.0), 0.0)
    rotation = matmul(transposed(vectors), matmul(tangents[0], vectors))
    return vectors, matmul(vectors, inverse_gaps * rotation)


@register("eigenvalues_sym")
def eigenvalues_sym(x: Value) -> Value:
    """In ascending order."""
    values = np.linalg.eigvalsh(x.data) if is_concrete(x.data) else _eigenvalues(x.data)
    return Value(VECTOR, values, x.level)


@register("eigenvectors_sym")
def eigenvectors_sym(x: Value) -> Value:
    """In columns, by ascending eigenvalue. Their signs are LAPACK's, which are not always Stan's.

    The derivative by a rotation among eigenvectors of (nearly) equal eigenvalues is left out. It is
    undefined, or 0 for a function of the eigenspaces, and otherwise the rounding error divided by the
    gap: Stan's own gradient is that noise where a smooth covariance has many eigenvalues of about 0.
    """
    vectors = np.linalg.eigh(x.data)[1] if is_concrete(x.data) else _eigenvectors(x.data)
    return Value(MATRIX, vectors, x.level)


def _qr(x: Array, thin: bool) -> tuple[Array, Array]:
    """Q and R, with a diagonal of R that is not negative."""
    q, r = namespace(x).linalg.qr(x, mode="reduced" if thin else "complete")
    np_or_jnp = namespace(x)
    diagonal = np_or_jnp.diagonal(r, axis1=-2, axis2=-1)
    signs = np_or_jnp.where(diagonal < 0.0, -1.0, 1.0)
    missing = np.shape(q)[-1] - np.shape(signs)[-1]
    if missing:
        ones = np_or_jnp.ones((*np.shape(signs)[:-1], missing))
        signs = np_or_jnp.concatenate([signs, ones], axis=-1)
    return q * signs[..., None, :], r * signs[..., :, None]


@register("qr_thin_Q")
def qr_thin_q(x: Value) -> Value:
    return Value(MATRIX, _qr(x.data, True)[0], x.level)


@register("qr_thin_R")
def qr_thin_r(x: Value) -> Value:
    return Value(MATRIX, _qr(x.data, True)[1], x.level)


@register("qr_Q")
def qr_q(x: Value) -> Value:
    return Value(MATRIX, _qr(x.data, False)[0], x.level)


@register("qr_R")
def qr_r(x: Value) -> Value:
    return Value(MATRIX, _qr(x.data, False)[1], x.level)


@register("singular_values")
def singular_values(x: Value) -> Value:
    return Value(VECTOR, namespace(x.data).linalg.svd(x.data, compute_uv=False), x.level)


# -- powers and exponentials --------------------------------------------------------------------------


@register("matrix_power")
def matrix_power(x: Value, n: Value) -> Value:
    if n.level is not None or not n.concrete:
        raise NoOverload
    return Value(MATRIX, namespace(x.data).linalg.matrix_power(x.data, int(n.data)), x.level)


@register("matrix_exp")
def matrix_exp(x: Value) -> Value:
    if is_concrete(x.data):
        from scipy.linalg import expm  # slow to import, rarely used

        return Value(MATRIX, expm(x.data), x.level)
    return Value(MATRIX, jax.scipy.linalg.expm(x.data), x.level)


@register("matrix_exp_multiply")
def matrix_exp_multiply(a: Value, b: Value) -> Value:
    """e^A B."""
    return multiply(matrix_exp(a), b)


@register("scale_matrix_exp_multiply")
def scale_matrix_exp_multiply(t: Value, a: Value, b: Value) -> Value:
    """e^(tA) B."""
    level = deepest((t, a))
    scaled = at_level(t, level)[..., None, None] * at_level(a, level)
    return matrix_exp_multiply(Value(MATRIX, scaled, level), b)


@register("symmetrize_from_lower_tri")
def symmetrize_from_lower_tri(x: Value) -> Value:
    np_or_jnp = namespace(x.data)
    return Value(MATRIX, np_or_jnp.tril(x.data) + transposed(np_or_jnp.tril(x.data, -1)), x.level)


@register("generalized_inverse")
def generalized_inverse(x: Value) -> Value:
    """Of a matrix of full rank: (X′X)⁻¹X′, or X′(XX′)⁻¹."""
    rows, columns = x.shape
    if rows >= columns:
        return mdivide_left_spd(multiply(transpose(x), x), transpose(x))
    return mdivide_right_spd(transpose(x), multiply(x, transpose(x)))
