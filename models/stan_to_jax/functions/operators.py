"""Stan's operators on `Value`s."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import UnsupportedStanError
from ..linear_predictor import LinearPredictor, column, intercept
from ..numeric import is_concrete, namespace
from ..values import INT, Level, Type, Value, aligned
from . import scalar
from .factorizations import mdivide_left, mdivide_right
from .products import multiply, transpose
from .registry import NoOverload, as_ints, container_type, elementwise, register, require_same_shape

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    ".*": operator.mul,
}


def binary(symbol: str, left: Value, right: Value) -> Value:
    """``left symbol right``, with the type that Stan gives it; ints stay ints.

    ``&&`` and ``||`` take both operands.

    Raises
    ------
    UnsupportedStanError
        For types that do not go together, for sizes that do not match, for a concrete int division by 0.
    """
    try:
        with np.errstate(all="ignore"):  # infinities and NaN are values here
            return _binary(symbol, left, right)
    except NoOverload:
        raise UnsupportedStanError(f"the operator '{left.type} {symbol} {right.type}'") from None


def _binary(symbol: str, left: Value, right: Value) -> Value:
    containers = left.rank > 0 and right.rank > 0
    if symbol in _ARITHMETIC:
        if containers and symbol == "*":
            return multiply(left, right)
        return _arithmetic(symbol, left, right)
    if symbol in _COMPARISONS:
        level, _, (x, y) = aligned((left, right))
        return Value(INT, as_ints(_COMPARISONS[symbol](x, y)), level)
    if symbol == "/":
        if left.kind == right.kind == "int":
            return _divide_ints(left, right)
        if right.kind == "matrix" and containers:
            return mdivide_right(left, right)
        return elementwise("/", operator.truediv, (left, right))
    if symbol == "./":
        return elementwise("./", operator.truediv, (left, right))
    if symbol == "%/%":
        return _divide_ints(left, right)
    if symbol == "%":
        return _remainder(left, right)
    if symbol in ("^", ".^"):
        return elementwise(symbol, scalar.pow, (left, right))
    if symbol == "\\":
        return mdivide_left(left, right)
    if symbol in ("&&", "||"):
        level, _, (x, y) = aligned((left, right))
        yes, no = x != 0, y != 0
        return Value(INT, as_ints(yes & no if symbol == "&&" else yes | no), level)
    raise NoOverload


def _arithmetic(symbol: str, left: Value, right: Value) -> Value:
    predictor = _predictor(symbol, left, right)
    if predictor is not None:
        return predictor
    level, _, (x, y) = aligned((left, right))
    if left.rank and right.rank:
        require_same_shape(f"'{symbol}'", (left, right))
        if left.type != right.type:
            raise NoOverload
    result = container_type((left, right))
    if result.kind == "int" and not left.kind == right.kind == "int":
        result = Type("real", result.arrays)
    return Value(result, _ARITHMETIC[symbol](x, y), level)


def _predictor(symbol: str, left: Value, right: Value) -> Value | None:
    """The result as a linear predictor, if it is one that more terms may join."""
    if symbol in ("*", ".*"):
        data, number = (left, right) if left.concrete else (right, left)
        if not (data.concrete and data.kind != "matrix" and _flat(data) and _number(number)):
            return None
        found, level = column(data.data, number.data), data.level
    else:
        if left.rank and right.rank and left.type != right.type:
            return None
        level = left.level if left.predictor is not None else right.level
        size = next((v.predictor.size for v in (left, right) if v.predictor is not None), 0)
        parts = [_as_predictor(value, size, level) for value in (left, right)]
        if size == 0 or parts[0] is None or parts[1] is None:
            return None
        found = parts[0].plus(parts[1], 1 if symbol == "+" else -1)
    if found is None:
        return None
    kind = right.type if left.kind in ("int", "real") and left.rank == 0 else left.type
    return Value(kind if kind.kind != "int" else Type("real"), found, level)


def _flat(value: Value) -> bool:
    """Whether its data have the one axis of a linear predictor: a vector, or a number with rows."""
    return value.rank == (1 if value.level is None else 0) and value.arrays == 0


def _number(value: Value) -> bool:
    """Whether it is a traced real that all rows share."""
    return not value.concrete and value.rank == 0 and value.level is None and value.kind == "real"


def _as_predictor(value: Value, size: int, level: Level | None) -> LinearPredictor | None:
    if value.predictor is not None:
        return value.predictor if value.level is level and value.predictor.size == size else None
    if _number(value):
        return intercept(size, value.data)
    if value.rank == 0 and value.level is None:
        return LinearPredictor(size, (), (value.data,))
    if value.level is level and _flat(value) and np.shape(value.data)[0] == size:
        return LinearPredictor(size, (), (value.data,))
    return None


def _ints(left: Value, right: Value) -> tuple[Any, Any, Any]:
    level, rank, (x, y) = aligned((left, right))
    if rank or left.kind != "int" or right.kind != "int":
        raise NoOverload
    if is_concrete(y) and np.any(np.asarray(y) == 0):
        raise UnsupportedStanError("an int is divided by 0")
    return level, x, y


def _divide_ints(left: Value, right: Value) -> Value:
    """The quotient, truncated towards 0."""
    level, x, y = _ints(left, right)
    quotient = abs(x) // abs(y)
    return Value(INT, namespace(x, y).where((x < 0) != (y < 0), -quotient, quotient), level)


def _remainder(left: Value, right: Value) -> Value:
    """With the sign of the dividend."""
    level, x, y = _ints(left, right)
    return Value(INT, namespace(x, y).fmod(x, y), level)


def unary(symbol: str, operand: Value) -> Value:
    """``+x``, ``-x``, ``!x``, or ``x'``.

    Raises
    ------
    UnsupportedStanError
        For a type that the operator does not have.
    """
    if symbol == "+":
        return operand
    if symbol == "-":
        return Value(operand.type, -operand.data, operand.level)
    if symbol == "!":
        return Value(INT, as_ints(operand.data == 0), operand.level)
    try:
        if symbol != "'":
            raise NoOverload
        return transpose(operand)
    except NoOverload:
        raise UnsupportedStanError(f"the operator '{symbol}' on {operand.type}") from None


# -- operators as functions ---------------------------------------------------------------------------

_BINARY_NAMES = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "elt_multiply": ".*",
    "elt_divide": "./",
    "modulus": "%",
    "idivide": "%/%",
    "logical_eq": "==",
    "logical_neq": "!=",
    "logical_lt": "<",
    "logical_lte": "<=",
    "logical_gt": ">",
    "logical_gte": ">=",
    "logical_and": "&&",
    "logical_or": "||",
}


def _enter(name: str, symbol: str) -> None:
    def entry(left: Value, right: Value) -> Value:
        return _binary(symbol, left, right)

    register(name)(entry)


for _name, _symbol in _BINARY_NAMES.items():
    _enter(_name, _symbol)
register("minus")(lambda x: unary("-", x))
register("plus")(lambda x: x)
register("logical_negation")(lambda x: unary("!", x))
