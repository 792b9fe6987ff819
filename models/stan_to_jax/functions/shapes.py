"""Sizes, which are concrete and the same in all rows."""

from __future__ import annotations

import math

import numpy as np

from ..values import Type, Value, integer
from .registry import NoOverload, register


@register("size")
def size(x: Value) -> Value:
    """Of an array its first dimension, of a matrix the number of its elements, of a scalar 1."""
    return integer(x.shape[0] if x.arrays else math.prod(x.shape))


@register("num_elements")
def num_elements(x: Value) -> Value:
    return integer(math.prod(x.shape))


@register("dims")
def dims(x: Value) -> Value:
    return Value(Type("int", 1), np.array(x.shape, np.int64))


@register("rows")
def rows(x: Value) -> Value:
    if x.arrays or x.rank == 0:
        raise NoOverload
    return integer(1 if x.kind == "row_vector" else x.shape[0])


@register("cols")
def cols(x: Value) -> Value:
    if x.arrays or x.rank == 0:
        raise NoOverload
    return integer(1 if x.kind == "vector" else x.shape[-1])
