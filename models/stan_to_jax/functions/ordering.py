"""Sorting, ranks, quantiles, reversal."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import UnsupportedStanError
from ..numeric import namespace
from ..values import INT, REAL, Type, Value, at_level, deepest
from .registry import NoOverload, leading, register

Array = Any


def _require_list(x: Value) -> None:
    if x.rank != 1:
        raise NoOverload


@register("sort_asc")
def sort_asc(x: Value) -> Value:
    _require_list(x)
    return Value(x.type, namespace(x.data).sort(x.data, axis=-1), x.level)


@register("sort_desc")
def sort_desc(x: Value) -> Value:
    _require_list(x)
    return Value(x.type, namespace(x.data).sort(x.data, axis=-1)[..., ::-1], x.level)


def _indices(x: Value, data: Array) -> Value:
    _require_list(x)
    return Value(Type("int", 1), namespace(data).argsort(data, axis=-1, stable=True) + 1, x.level)


@register("sort_indices_asc")
def sort_indices_asc(x: Value) -> Value:
    return _indices(x, x.data)


@register("sort_indices_desc")
def sort_indices_desc(x: Value) -> Value:
    return _indices(x, -x.data)


@register("rank")
def rank(x: Value, position: Value) -> Value:
    """The number of elements that are less than the one at a position."""
    _require_list(x)
    level = deepest((x, position))
    data, at = at_level(x, level), at_level(position, level)
    here = np.arange(1, x.shape[0] + 1) == np.asarray(at)[..., None] if position.concrete else None
    if here is None:
        raise NoOverload
    np_or_jnp = namespace(data)
    element = np_or_jnp.sum(np_or_jnp.where(here, data, 0), axis=-1, keepdims=True)
    return Value(INT, np_or_jnp.sum(data < element, axis=-1), level)


@register("reverse")
def reverse(x: Value) -> Value:
    if not x.arrays and x.rank != 1:
        raise NoOverload
    return Value(x.type, namespace(x.data).flip(x.data, axis=leading(x.level)), x.level)


@register("quantile")
def quantile(x: Value, probability: Value) -> Value:
    """Of data, by linear interpolation between order statistics (type 7 of Hyndman and Fan 1996)."""
    if not x.concrete or not probability.concrete or x.level is not None or probability.level is not None:
        raise NoOverload
    if np.size(x.data) == 0:
        raise UnsupportedStanError("'quantile' of nothing")
    kind = REAL if probability.rank == 0 else Type("real", 1)
    return Value(kind, np.quantile(x.data, probability.data))
