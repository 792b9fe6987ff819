"""The table of Stan's functions, and what its entries have in common.

An entry takes `Value`s and returns one. It raises `NoOverload` for types that it does not know;
`call` turns that into an error with the call's types.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..errors import UnsupportedStanError
from ..numeric import is_concrete
from ..values import Level, Type, Value, aligned

Function = Callable[..., Value]

TABLE: dict[str, Function] = {}
_COUNTS: dict[str, tuple[int, float]] = {}


class NoOverload(Exception):
    """The types of the arguments are none that the function is lowered for."""


def register(*names: str) -> Callable[[Function], Function]:
    """Enter a function under Stan's names; its own signature says how many arguments it takes."""

    def enter(function: Function) -> Function:
        parameters = inspect.signature(function).parameters.values()
        least = sum(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
        most = float("inf") if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(parameters)
        for name in names:
            assert name not in TABLE, f"{name} is registered twice"
            TABLE[name], _COUNTS[name] = function, (least, most)
        return function

    return enter


def known(name: str) -> bool:
    """Whether some overload of the function is lowered."""
    return name in TABLE


def call(name: str, arguments: Sequence[Value]) -> Value:
    """A function of Stan's library, with the type that Stan gives its result.

    Concrete arguments give a concrete result. Domain errors give NaN, as most of Stan's functions do.

    Raises
    ------
    UnsupportedStanError
        For a function or an overload that is not lowered, for sizes that do not fit.
    Ragged
        If the size of the result differs between rows.
    """
    least, most = _COUNTS.get(name, (0, -1))
    if not least <= len(arguments) <= most:
        raise _no_overload(name, arguments)
    try:
        with np.errstate(all="ignore"):  # infinities and NaN are values here
            return TABLE[name](*arguments)
    except NoOverload:
        raise _no_overload(name, arguments) from None


def _no_overload(name: str, arguments: Sequence[Value]) -> UnsupportedStanError:
    return UnsupportedStanError(f"the function '{name}({', '.join(str(a.type) for a in arguments)})'")


def floating(data: Any) -> Any:
    """The data as floats: concrete ones in float64, traced ones in the mode's precision."""
    if is_concrete(data):
        return np.asarray(data, np.float64)
    return data if jnp.issubdtype(data.dtype, jnp.floating) else data.astype(float)


def as_ints(condition: Any) -> Any:
    """Truth values as Stan's ints."""
    return np.asarray(condition).astype(np.int64) if is_concrete(condition) else condition.astype(int)


def real_type(kind_of: Type) -> Type:
    """The type with reals in place of ints."""
    return Type("real", kind_of.arrays) if kind_of.kind == "int" else kind_of


def container_type(values: Sequence[Value]) -> Type:
    """The type of the largest value: what a vectorised function returns, but for int or real."""
    return max(values, key=lambda value: (value.rank, -value.arrays)).type


def require_same_shape(what: str, values: Sequence[Value]) -> None:
    """Containers, as opposed to scalars, must agree in shape: Stan does not broadcast them."""
    shapes = [value.shape for value in values if value.rank]
    if any(shape != shapes[0] for shape in shapes[1:]):
        sizes = " and ".join("×".join(map(str, shape)) for shape in shapes)
        raise UnsupportedStanError(f"sizes {sizes} do not match in {what}")


def elementwise(name: str, function: Callable[..., Any], values: Sequence[Value]) -> Value:
    """``function`` of real arrays that broadcast, with the type of the largest argument."""
    require_same_shape(f"'{name}'", values)
    level, _, arrays = aligned(values)
    return Value(real_type(container_type(values)), function(*map(floating, arrays)), level)


def element_axes(value: Value) -> tuple[int, ...]:
    """All axes but that of rows."""
    return tuple(range(0 if value.level is None else 1, np.ndim(value.data)))


def leading(level: Level | None) -> int:
    """The number of axes before a value's own: 1 with rows, else 0."""
    return 0 if level is None else 1


def broadcast_rows(value: Value, level: Level | None, data: Any) -> Any:
    """``data``, which is the value's at the level, with the axis of rows that it may lack."""
    if level is None or value.level is not None:
        return data
    np_or_jnp = np if is_concrete(data) else jnp
    return np_or_jnp.broadcast_to(data, (level.size, *np.shape(data)))
