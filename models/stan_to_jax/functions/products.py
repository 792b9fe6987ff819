"""Products of vectors and matrices, with and without rows.

A matrix that all rows share and a vector with rows are one matrix product; vectors with rows are
multiplied and summed, which XLA fuses.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from ..errors import UnsupportedStanError
from ..linear_predictor import LinearPredictor, product
from ..numeric import is_concrete, namespace
from ..values import MATRIX, REAL, ROW_VECTOR, VECTOR, Value, at_level, deepest
from .registry import NoOverload, floating, register

Array = Any


def matmul(x: Array, y: Array) -> Array:
    """As numpy's; in float32 without the reduced precision that accelerators default to."""
    if is_concrete(x, y):
        return np.matmul(x, y)
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)


def transposed(x: Array) -> Array:
    """Of the last two axes."""
    return namespace(x).swapaxes(x, -1, -2)


def dot(x: Array, y: Array, x_rows: bool, y_rows: bool) -> Array:
    """Σₖ xₖ yₖ of vectors, either of which may have rows."""
    if x_rows != y_rows or (not x_rows and (is_concrete(x) or is_concrete(y))):
        return matmul(x, y) if not y_rows else matmul(y, x)
    return namespace(x, y).sum(x * y, axis=-1)


def _apply(matrix: Array, vector: Array, matrix_rows: bool, vector_rows: bool) -> Array:
    """Matrix times vector."""
    if vector_rows and not matrix_rows:
        return matmul(vector, matrix.T)
    if vector_rows:
        return namespace(matrix, vector).sum(matrix * vector[..., None, :], axis=-1)
    return matmul(matrix, vector)


_PRODUCTS = {
    ("row_vector", "vector"),
    ("matrix", "vector"),
    ("row_vector", "matrix"),
    ("vector", "row_vector"),
    ("matrix", "matrix"),
}


def multiply(left: Value, right: Value) -> Value:
    """``left * right`` of vectors, row vectors and matrices."""
    level = deepest((left, right))
    x, y = floating(at_level(left, level)), floating(at_level(right, level))
    x_rows, y_rows = left.level is not None, right.level is not None
    kinds = (left.kind, right.kind)
    if kinds not in _PRODUCTS or left.arrays or right.arrays:
        raise NoOverload
    inner = left.shape[-1] if left.kind != "vector" else 1
    if inner != (right.shape[0] if right.kind != "row_vector" else 1):
        raise UnsupportedStanError(f"sizes {left.shape} and {right.shape} do not match in '*'")
    if kinds == ("row_vector", "vector"):
        return Value(REAL, _predictor(left, right) or dot(x, y, x_rows, y_rows), level)
    if kinds == ("matrix", "vector"):
        return Value(VECTOR, _predictor(left, right) or _apply(x, y, x_rows, y_rows), level)
    if kinds == ("row_vector", "matrix"):
        return Value(ROW_VECTOR, _apply(transposed(y), x, y_rows, x_rows), level)
    if kinds == ("vector", "row_vector"):
        return Value(MATRIX, x[..., :, None] * y[..., None, :], level)
    return Value(MATRIX, matmul(x, y), level)


def _predictor(left: Value, right: Value) -> LinearPredictor | None:
    """A concrete matrix, one of data or one row per iteration, times a traced vector."""
    if not left.concrete or right.concrete or right.level is not None:
        return None
    if left.rank + (left.level is not None) != 2:
        return None
    return product(left.data, right.data)


def _vectors(x: Value, y: Value) -> tuple[Any, Array, Array]:
    """Two vectors of whichever kind, of one length."""
    if x.rank != 1 or y.rank != 1:
        raise NoOverload
    if x.shape != y.shape:
        raise UnsupportedStanError(
            f"sizes {x.shape[0]} and {y.shape[0]} do not match in a product of vectors"
        )
    level = deepest((x, y))
    return level, floating(at_level(x, level)), floating(at_level(y, level))


@register("dot_product")
def dot_product(x: Value, y: Value) -> Value:
    level, a, b = _vectors(x, y)
    found = _predictor(x, y) or _predictor(y, x)
    return Value(REAL, found or dot(a, b, x.level is not None, y.level is not None), level)


@register("dot_self")
def dot_self(x: Value) -> Value:
    data = floating(x.data)
    return Value(REAL, namespace(data).sum(data * data, axis=-1), x.level)


def _rowwise(x: Value, y: Value, columns: bool) -> Value:
    """Dot products of the rows, or of the columns, of two matrices (or vectors, seen as matrices)."""
    if x.kind != y.kind or x.arrays:
        raise NoOverload
    level = deepest((x, y))
    a, b = (as_matrix(v, floating(at_level(v, level))) for v in (x, y))
    return Value(
        ROW_VECTOR if columns else VECTOR, namespace(a, b).sum(a * b, axis=-2 if columns else -1), level
    )


def as_matrix(value: Value, data: Array) -> Array:
    """The data of a vector as a matrix of one column, of a row vector as one of one row."""
    if value.kind == "vector":
        return data[..., :, None]
    if value.kind == "row_vector":
        return data[..., None, :]
    return data


@register("rows_dot_product")
def rows_dot_product(x: Value, y: Value) -> Value:
    return _rowwise(x, y, columns=False)


@register("columns_dot_product")
def columns_dot_product(x: Value, y: Value) -> Value:
    return _rowwise(x, y, columns=True)


@register("rows_dot_self")
def rows_dot_self(x: Value) -> Value:
    return _rowwise(x, x, columns=False)


@register("columns_dot_self")
def columns_dot_self(x: Value) -> Value:
    return _rowwise(x, x, columns=True)


# -- diagonals ----------------------------------------------------------------------------------------


@register("diag_matrix")
def diag_matrix(x: Value) -> Value:
    return Value(MATRIX, floating(x.data)[..., None] * np.eye(x.shape[-1]), x.level)


@register("diagonal")
def diagonal(x: Value) -> Value:
    return Value(VECTOR, namespace(x.data).diagonal(x.data, axis1=-2, axis2=-1), x.level)


@register("add_diag")
def add_diag(x: Value, diagonal: Value) -> Value:
    level = deepest((x, diagonal))
    d = floating(at_level(diagonal, level))
    d = d[..., None, None] if diagonal.rank == 0 else d[..., :, None]
    rows, columns = x.shape
    return Value(
        MATRIX, at_level(x, level) + d * np.eye(rows, columns)[: None if diagonal.rank == 0 else rows], level
    )


@register("diag_pre_multiply")
def diag_pre_multiply(diagonal: Value, x: Value) -> Value:
    level = deepest((diagonal, x))
    return Value(MATRIX, at_level(diagonal, level)[..., :, None] * at_level(x, level), level)


@register("diag_post_multiply")
def diag_post_multiply(x: Value, diagonal: Value) -> Value:
    level = deepest((x, diagonal))
    return Value(MATRIX, at_level(x, level) * at_level(diagonal, level)[..., None, :], level)


@register("quad_form_diag")
def quad_form_diag(x: Value, diagonal: Value) -> Value:
    level = deepest((x, diagonal))
    d = at_level(diagonal, level)
    return Value(MATRIX, at_level(x, level) * (d[..., :, None] * d[..., None, :]), level)


# -- quadratic forms ----------------------------------------------------------------------------------


@register("quad_form", "quad_form_sym")
def quad_form(a: Value, b: Value) -> Value:
    """B′ A B, a real where B is a vector."""
    product = multiply(a, b)
    if b.kind == "vector":
        return dot_product(product, b)
    return multiply(transpose(b), product)


@register("trace")
def trace(x: Value) -> Value:
    return Value(REAL, namespace(x.data).trace(x.data, axis1=-2, axis2=-1), x.level)


def _trace_of_product(x: Value, y: Value) -> Value:
    """tr(X′ Y)."""
    level = deepest((x, y))
    product = at_level(x, level) * at_level(y, level)
    return Value(REAL, namespace(product).sum(product, axis=(-2, -1)), level)


@register("trace_quad_form")
def trace_quad_form(a: Value, b: Value) -> Value:
    """tr(B′ A B)."""
    return quad_form(a, b) if b.kind == "vector" else _trace_of_product(b, multiply(a, b))


@register("trace_gen_quad_form")
def trace_gen_quad_form(d: Value, a: Value, b: Value) -> Value:
    """tr(D B′ A B)."""
    return _trace_of_product(multiply(b, transpose(d)), multiply(a, b))


@register("crossprod")
def crossprod(x: Value) -> Value:
    return multiply(transpose(x), x)


@register("tcrossprod")
def tcrossprod(x: Value) -> Value:
    return multiply(x, transpose(x))


@register("multiply_lower_tri_self_transpose")
def multiply_lower_tri_self_transpose(x: Value) -> Value:
    return tcrossprod(Value(MATRIX, namespace(x.data).tril(x.data), x.level))


@register("transpose")
def transpose(x: Value) -> Value:
    if x.arrays or x.rank == 0:
        raise NoOverload
    if x.kind == "matrix":
        return Value(MATRIX, transposed(x.data), x.level)
    return Value(ROW_VECTOR if x.kind == "vector" else VECTOR, x.data, x.level)


# -- sparse matrices ----------------------------------------------------------------------------------


@register("csr_matrix_times_vector")
def csr_matrix_times_vector(m: Value, n: Value, w: Value, v: Value, u: Value, b: Value) -> Value:
    """A matrix in compressed rows (values w, columns v, starts of rows u, from 1) times a vector."""
    if any(x.level is not None for x in (w, v, u, b)) or not is_concrete(v.data, u.data):
        raise NoOverload
    columns, counts = np.asarray(v.data) - 1, np.diff(np.asarray(u.data))
    size = int(m.data)
    rows = np.repeat(np.arange(size), counts)
    if is_concrete(w.data, b.data):
        return Value(VECTOR, np.bincount(rows, w.data * b.data[columns], size))
    products = w.data * jnp.asarray(b.data)[columns]
    sums = jnp.zeros(size, products.dtype).at[rows].add(products, indices_are_sorted=True)
    return Value(VECTOR, sums)
