"""Linear algebra of the multivariate densities: over leading axes, and concrete where all arrays are."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from ..checks import TOLERANCE
from ..numeric import is_concrete, log, namespace, where


def all_of(condition: Any, axes: int) -> Any:
    """Whether a condition holds over the last axes; a condition without axes stays as it is."""
    if np.ndim(condition) == 0:
        return condition
    return namespace(condition).all(condition, axis=tuple(range(-axes, 0)))


def not_empty(array: Any) -> Any:
    """Stan's check that a vector or matrix has elements, which some densities make and others do not."""
    return np.bool_(np.shape(array)[-1] > 0)


def diagonal(matrix: Any) -> Any:
    return namespace(matrix).diagonal(matrix, axis1=-2, axis2=-1)


def log_diagonal(factor: Any) -> Any:
    """``Σ log L[i, i]`` over the last two axes, and whether the diagonal is positive."""
    values = diagonal(factor)
    positive = values > 0
    return log(where(positive, values, 1.0)).sum(-1), all_of(positive, 1)


def cholesky(matrix: Any) -> tuple[Any, Any]:
    """The lower Cholesky factor, and whether there is one; Stan's check of symmetry is part of that."""
    symmetric = all_of(abs(matrix - matrix.swapaxes(-1, -2)) <= TOLERANCE, 2)
    if is_concrete(matrix):
        try:
            factor = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            factor = np.broadcast_to(np.eye(np.shape(matrix)[-1]), np.shape(matrix))
            return factor, np.zeros(np.shape(matrix)[:-2], bool)
    else:
        factor = jnp.linalg.cholesky(matrix)
    return factor, symmetric & all_of(diagonal(factor) > 0, 1)


def quadratic(matrix: Any, vector: Any) -> tuple[Any, Any, Any]:
    """½ log |Σ|, v′Σ⁻¹v over leading axes, and whether Σ has a Cholesky factor."""
    if is_concrete(matrix) or np.ndim(matrix) > 2:
        factor, definite = cholesky(matrix)
        return log_diagonal(factor)[0], sum_of_squares(solved(factor, vector), 1), definite
    half_log_determinant, square, definite = _quadratic(matrix, jnp.asarray(vector, float))
    symmetric = all_of(abs(matrix - matrix.T) <= TOLERANCE, 2)
    return half_log_determinant, square, definite & symmetric


@jax.custom_jvp
def _quadratic(matrix: Any, vectors: Any) -> tuple[Any, Any, Any]:
    factor = jnp.linalg.cholesky(matrix)
    half_log_determinant, definite = log_diagonal(factor)
    return half_log_determinant, sum_of_squares(solved(factor, vectors), 1), definite


@_quadratic.defjvp
def _(primals: Any, tangents: Any) -> Any:
    """d ½ log|Σ| = ½ tr Σ⁻¹dΣ and d v′Σ⁻¹v = 2 a′dv − a′dΣ a with a = Σ⁻¹v (Petersen & Pedersen 2012)."""
    (matrix, vectors), (d_matrix, d_vectors) = primals, tangents
    size, shape = len(matrix), vectors.shape
    factor = jnp.linalg.cholesky(matrix)
    half_log_determinant, definite = log_diagonal(factor)
    columns = jnp.concatenate([jnp.eye(size, dtype=matrix.dtype), vectors.reshape(-1, size).T], axis=1)
    columns = solve_triangular(factor, columns, lower=True)
    square = sum_of_squares(columns[:, size:].T.reshape(shape), 1)
    solutions = columns[:, :size].T @ columns
    precision, solution = solutions[:, :size], solutions[:, size:].T.reshape(shape)
    d_square = 2 * (solution * d_vectors).sum(-1) - ((solution @ d_matrix) * solution).sum(-1)
    change = 0.5 * (precision * d_matrix).sum(), d_square, np.zeros((), jax.dtypes.float0)
    return (half_log_determinant, square, definite), change


def solved(factor: Any, vectors: Any) -> Any:
    """``L⁻¹ v`` for lower triangular ``L: f[..., k, k]`` and ``v: f[..., k]``."""
    space = namespace(factor, vectors)
    if is_concrete(factor):
        # Stan, too, multiplies by the inverse factor; here it is computed once, while tracing.
        inverse = np.linalg.solve(np.tril(factor), np.eye(np.shape(factor)[-1]))
        return space.einsum("...ij,...j->...i", inverse, vectors)
    size = factor.shape[-1]
    if factor.ndim == 2:
        count = math.prod(np.shape(vectors)[:-1])
        columns = solve_triangular(factor, jnp.reshape(vectors, (count, size)).T, lower=True)
        return jnp.reshape(columns.T, np.shape(vectors))
    batch = np.broadcast_shapes(factor.shape[:-2], np.shape(vectors)[:-1])
    vectors = jnp.broadcast_to(vectors, (*batch, size))
    if factor.ndim == len(batch) + 2 and factor.shape[-3] == 1:
        # One factor per row of the level: its vectors are columns of one system.
        columns = solve_triangular(factor[..., 0, :, :], vectors.swapaxes(-1, -2), lower=True)
        return columns.swapaxes(-1, -2)
    factor = jnp.broadcast_to(factor, (*batch, size, size))
    return solve_triangular(factor, vectors[..., None], lower=True)[..., 0]


def solved_matrix(factor: Any, matrix: Any) -> Any:
    """``L⁻¹ M`` for lower triangular ``L: f[..., k, k]`` and ``M: f[..., k, m]``."""
    if is_concrete(factor, matrix):
        return np.linalg.solve(np.tril(factor), matrix)
    batch = np.broadcast_shapes(np.shape(factor)[:-2], np.shape(matrix)[:-2])
    factor = jnp.broadcast_to(factor, (*batch, *np.shape(factor)[-2:]))
    return solve_triangular(factor, jnp.broadcast_to(matrix, (*batch, *np.shape(matrix)[-2:])), lower=True)


def sum_of_squares(array: Any, axes: int) -> Any:
    return (array * array).sum(tuple(range(-axes, 0)))
