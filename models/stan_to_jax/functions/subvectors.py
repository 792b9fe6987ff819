"""Parts of containers: head, tail, segment, blocks, rows and columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import UnsupportedStanError
from ..numeric import namespace
from ..rows import take_rows
from ..values import ROW_VECTOR, VECTOR, Value, at_level, deepest, integer, uniform_int
from .registry import NoOverload, leading, register

Array = Any


def _part(name: str, x: Value, axis: int, start: Value, count: int) -> Value:
    """``count`` positions along an axis (rows not counted) from ``start``, which counts from 1."""
    size = x.shape[axis]
    if start.concrete:
        first = np.asarray(start.data) - 1
        if count and first.size and (first.min() < 0 or first.max() + count > size):
            bad = int(first.min() if first.min() < 0 else first.max()) + 1
            raise UnsupportedStanError(f"'{name}' of {count} from position {bad} of {size}")
        if first.size and (first == first.flat[0]).all():
            at = int(first.flat[0])
            where = (slice(None),) * (leading(x.level) + axis) + (slice(at, at + count),)
            return Value(x.type, x.data[where], x.level)
    level = deepest((x, start))
    positions = at_level(start, level)[..., None] - 1 + np.arange(count)  # [rows?, count]
    data = namespace(x.data).moveaxis(x.data, leading(x.level) + axis, leading(x.level))
    data = at_level(Value(x.type, data, x.level), level)
    if x.level is None:
        taken = take_rows(data, positions.ravel())
        taken = taken.reshape((*positions.shape, *np.shape(data)[1:]))
    else:
        assert level is not None
        shape = np.shape(data)
        within = size * np.arange(level.size)[:, None] + positions
        taken = take_rows(data.reshape((shape[0] * shape[1], *shape[2:])), within.ravel())
        taken = taken.reshape((level.size, count, *shape[2:]))
    return Value(x.type, namespace(taken).moveaxis(taken, leading(level), leading(level) + axis), level)


def _sub(name: str, x: Value, axis: int, start: Value, count: Value) -> Value:
    return _part(name, x, axis, start, uniform_int(count, f"the size in '{name}'"))


def _single(name: str, x: Value, axis: int, at: Value) -> Value:
    """One row or column, without its axis."""
    part = _part(name, x, axis, at, 1)
    return Value(
        ROW_VECTOR if axis == 0 else VECTOR, part.data.squeeze(leading(part.level) + axis), part.level
    )


def _require_matrix(x: Value) -> None:
    if x.kind != "matrix" or x.arrays:
        raise NoOverload


def _require_list(x: Value) -> None:
    if not x.arrays and x.rank != 1:
        raise NoOverload


@register("head")
def head(x: Value, count: Value) -> Value:
    _require_list(x)
    return _sub("head", x, 0, integer(1), count)


@register("tail")
def tail(x: Value, count: Value) -> Value:
    _require_list(x)
    number = uniform_int(count, "the size in 'tail'")
    return _part("tail", x, 0, integer(x.shape[0] - number + 1), number)


@register("segment")
def segment(x: Value, start: Value, count: Value) -> Value:
    _require_list(x)
    return _sub("segment", x, 0, start, count)


@register("row")
def row(x: Value, at: Value) -> Value:
    _require_matrix(x)
    return _single("row", x, 0, at)


@register("col")
def col(x: Value, at: Value) -> Value:
    _require_matrix(x)
    return _single("col", x, 1, at)


@register("block")
def block(x: Value, first_row: Value, first_column: Value, rows: Value, columns: Value) -> Value:
    _require_matrix(x)
    return _sub("block", _sub("block", x, 0, first_row, rows), 1, first_column, columns)


@register("sub_row")
def sub_row(x: Value, row_at: Value, column: Value, count: Value) -> Value:
    """``count`` elements of a row, from a column on."""
    _require_matrix(x)
    return _single("sub_row", _sub("sub_row", x, 1, column, count), 0, row_at)


@register("sub_col")
def sub_col(x: Value, first_row: Value, column: Value, count: Value) -> Value:
    """``count`` elements of a column, from a row on."""
    _require_matrix(x)
    return _single("sub_col", _sub("sub_col", x, 0, first_row, count), 1, column)
