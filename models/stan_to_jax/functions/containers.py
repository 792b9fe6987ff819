"""Containers made from scalars and from each other: constants, repetition, appending, conversion."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import UnsupportedStanError
from ..numeric import namespace
from ..values import MATRIX, REAL, ROW_VECTOR, VECTOR, Type, Value, at_level, deepest, uniform_int
from .products import as_matrix, transposed
from .registry import NoOverload, broadcast_rows, floating, leading, real_type, register
from .scalar import log2, log10

Array = Any
INTS, REALS = Type("int", 1), Type("real", 1)

# -- constants ----------------------------------------------------------------------------------------

_CONSTANTS = {
    "pi": math.pi,
    "e": math.e,
    "sqrt2": math.sqrt(2.0),
    "positive_infinity": math.inf,
    "negative_infinity": -math.inf,
    "not_a_number": math.nan,
    "machine_precision": 2.0**-52,
}


def _enter_constant(name: str, number: float) -> None:
    register(name)(lambda: Value(REAL, np.float64(number)))


for _name, _number in _CONSTANTS.items():
    _enter_constant(_name, _number)


@register("log2")
def logarithm_2(x: Value | None = None) -> Value:
    """log₂ x; without an argument log 2."""
    if x is None:
        return Value(REAL, np.float64(math.log(2.0)))
    return Value(real_type(x.type), log2(floating(x.data)), x.level)


@register("log10")
def logarithm_10(x: Value | None = None) -> Value:
    """log₁₀ x; without an argument log 10."""
    if x is None:
        return Value(REAL, np.float64(math.log(10.0)))
    return Value(real_type(x.type), log10(floating(x.data)), x.level)


# -- regular containers -------------------------------------------------------------------------------

_SUFFIXES = {"vector": VECTOR, "row_vector": ROW_VECTOR, "array": REALS, "int_array": INTS}


def _of_type(kind: Type, data: Any) -> Value:
    return Value(kind, np.asarray(data, np.int64 if kind.kind == "int" else np.float64))


def _size(value: Value, name: str) -> int:
    size = uniform_int(value, f"the size in '{name}'")
    if size < 0:
        raise UnsupportedStanError(f"the size in '{name}' is {size}")
    return size


def _spaced(size: int, lower: Array, upper: Array) -> Array:
    """Reals from lower to upper; upper alone if there is one."""
    if size == 1:
        return namespace(upper).stack([upper], axis=-1)
    return lower[..., None] + np.arange(size) / max(size - 1, 1) * (upper - lower)[..., None]


def _spaced_ints(size: int, lower: int, upper: int) -> np.ndarray:
    """Ints from lower to at most upper with equal steps; repeated where there are too few."""
    if size == 1:
        return np.array([upper])
    if upper - lower >= size - 1:
        return lower + np.arange(size) * ((upper - lower) // (size - 1))
    repeats = -(-size // (upper - lower + 1))
    return lower + np.arange(size) // repeats


def _enter_regular(suffix: str, kind: Type) -> None:
    def zeros(n: Value) -> Value:
        return _of_type(kind, np.zeros(_size(n, f"zeros_{suffix}")))

    def ones(n: Value) -> Value:
        return _of_type(kind, np.ones(_size(n, f"ones_{suffix}")))

    def one_hot(n: Value, k: Value) -> Value:
        size = _size(n, f"one_hot_{suffix}")
        if not k.concrete:
            raise NoOverload
        return Value(kind, (np.arange(1, size + 1) == np.asarray(k.data)[..., None]) * _one(kind), k.level)

    def linspaced(n: Value, lower: Value, upper: Value) -> Value:
        size = _size(n, f"linspaced_{suffix}")
        if kind == INTS:
            ends = [uniform_int(end, f"an end in 'linspaced_{suffix}'") for end in (lower, upper)]
            return _of_type(kind, _spaced_ints(size, *ends))
        level = deepest((lower, upper))
        return Value(kind, _spaced(size, *(floating(at_level(end, level)) for end in (lower, upper))), level)

    for prefix, entry in (("zeros", zeros), ("ones", ones), ("one_hot", one_hot), ("linspaced", linspaced)):
        register(f"{prefix}_{suffix}")(entry)


def _one(kind: Type) -> Any:
    return np.int64(1) if kind.kind == "int" else np.float64(1.0)


for _suffix, _kind in _SUFFIXES.items():
    _enter_regular(_suffix, _kind)


@register("uniform_simplex")
def uniform_simplex(n: Value) -> Value:
    size = _size(n, "uniform_simplex")
    return Value(VECTOR, np.full(size, 1.0 / size))


@register("identity_matrix")
def identity_matrix(n: Value) -> Value:
    return Value(MATRIX, np.eye(_size(n, "identity_matrix")))


# -- repetition ---------------------------------------------------------------------------------------


def _repeated(x: Value, sizes: tuple[int, ...]) -> Array:
    rows = leading(x.level)
    shape = np.shape(x.data)
    data = x.data.reshape(shape[:rows] + (1,) * len(sizes) + shape[rows:])
    return namespace(data).broadcast_to(data, shape[:rows] + sizes + shape[rows:])


@register("rep_array")
def rep_array(x: Value, size: Value, *sizes: Value) -> Value:
    counts = tuple(_size(n, "rep_array") for n in (size, *sizes))
    return Value(Type(x.kind, x.arrays + len(counts)), _repeated(x, counts), x.level)


@register("rep_vector")
def rep_vector(x: Value, size: Value) -> Value:
    return Value(VECTOR, floating(_repeated(x, (_size(size, "rep_vector"),))), x.level)


@register("rep_row_vector")
def rep_row_vector(x: Value, size: Value) -> Value:
    return Value(ROW_VECTOR, floating(_repeated(x, (_size(size, "rep_row_vector"),))), x.level)


@register("rep_matrix")
def rep_matrix(x: Value, first: Value, second: Value | None = None) -> Value:
    """m × n copies of a scalar, n columns that are a vector, or m rows that are a row vector."""
    count = _size(first, "rep_matrix")
    if second is not None:
        return Value(MATRIX, floating(_repeated(x, (count, _size(second, "rep_matrix")))), x.level)
    if x.kind not in ("vector", "row_vector") or x.arrays:
        raise NoOverload
    copies = _repeated(x, (count,))
    return Value(MATRIX, transposed(copies) if x.kind == "vector" else copies, x.level)


# -- appending ----------------------------------------------------------------------------------------


def _append(x: Value, y: Value, scalar_container: Type, axis: int) -> Value:
    """Along rows (axis −2) or columns (axis −1); two vectors (scalars) that lie along it make a vector."""
    if x.arrays or y.arrays:
        raise NoOverload
    level = deepest((x, y))
    kinds = {x.kind, y.kind} - {"int", "real"}
    linear = kinds <= {scalar_container.kind}
    parts = []
    for value in (x, y):
        data = floating(at_level(value, level))
        if value.rank == 0:
            data = data[..., None]
        elif not linear:
            data = as_matrix(value, data)
        parts.append(broadcast_rows(value, level, data))
    joined = namespace(*parts).concatenate(parts, axis=-1 if linear else axis)
    return Value(scalar_container if linear else MATRIX, joined, level)


@register("append_row")
def append_row(x: Value, y: Value) -> Value:
    return _append(x, y, VECTOR, -2)


@register("append_col")
def append_col(x: Value, y: Value) -> Value:
    return _append(x, y, ROW_VECTOR, -1)


@register("append_array")
def append_array(x: Value, y: Value) -> Value:
    if x.rank != y.rank or not x.arrays or not y.arrays:
        raise NoOverload
    if x.shape[0] == 0 or y.shape[0] == 0:  # the other sizes of an empty array may be anything
        return y if x.shape[0] == 0 else x
    level = deepest((x, y))
    parts = [broadcast_rows(value, level, at_level(value, level)) for value in (x, y)]
    kind = x.type if x.kind == y.kind else real_type(x.type)
    return Value(kind, namespace(*parts).concatenate(parts, axis=leading(level)), level)


# -- conversion ---------------------------------------------------------------------------------------


def _flat(x: Value) -> Array:
    """All elements: of a matrix by columns, of arrays by their last index."""
    data = transposed(x.data) if x.kind == "matrix" and not x.arrays else x.data
    return data.reshape((*np.shape(x.data)[: leading(x.level)], math.prod(x.shape)))


@register("to_vector")
def to_vector(x: Value) -> Value:
    return Value(VECTOR, floating(_flat(x)), x.level)


@register("to_row_vector")
def to_row_vector(x: Value) -> Value:
    return Value(ROW_VECTOR, floating(_flat(x)), x.level)


@register("to_array_1d")
def to_array_1d(x: Value) -> Value:
    return Value(INTS if x.kind == "int" else REALS, _flat(x), x.level)


@register("to_array_2d")
def to_array_2d(x: Value) -> Value:
    return Value(Type("real", 2), x.data, x.level)


@register("to_matrix")
def to_matrix(
    x: Value, rows: Value | None = None, columns: Value | None = None, by_columns: Value | None = None
) -> Value:
    """The same matrix, or one made of a vector, of an array of vectors, of nested arrays, or of a given size.

    A given size is filled by columns, or by rows if the last argument is 0.
    """
    if rows is None or columns is None:
        data = floating(x.data) if x.arrays else as_matrix(x, floating(x.data))
        if np.ndim(data) - leading(x.level) != 2:
            raise NoOverload
        return Value(MATRIX, transposed(data) if x.arrays and x.kind == "vector" else data, x.level)
    m, n = _size(rows, "to_matrix"), _size(columns, "to_matrix")
    if m * n != math.prod(x.shape):
        raise UnsupportedStanError(f"'to_matrix' of {math.prod(x.shape)} elements to {m}×{n}")
    batch = np.shape(x.data)[: leading(x.level)]
    elements = floating(_flat(x))
    if by_columns is not None and uniform_int(by_columns, "the order in 'to_matrix'") == 0:
        return Value(MATRIX, elements.reshape((*batch, m, n)), x.level)
    return Value(MATRIX, transposed(elements.reshape((*batch, n, m))), x.level)
