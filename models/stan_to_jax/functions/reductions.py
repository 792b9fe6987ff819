"""Functions of a whole container: sums, norms, log_sum_exp, softmax, moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..errors import UnsupportedStanError
from ..numeric import is_concrete, namespace
from ..values import INT, REAL, Type, Value, aligned, at_level, deepest
from . import scalar
from .registry import NoOverload, element_axes, elementwise, floating, register, require_same_shape

Array = Any


def _scalar_type(x: Value) -> Type:
    return INT if x.kind == "int" else REAL


def _nonempty(name: str, x: Value) -> None:
    if 0 in x.shape:
        raise UnsupportedStanError(f"'{name}' of nothing")


@register("sum")
def total(x: Value) -> Value:
    return Value(_scalar_type(x), namespace(x.data).sum(x.data, axis=element_axes(x)), x.level)


@register("prod")
def prod(x: Value) -> Value:
    return Value(_scalar_type(x), namespace(x.data).prod(x.data, axis=element_axes(x)), x.level)


def _extreme(name: str, of_container: str, of_two: str, nothing: float) -> None:
    def entry(x: Value, y: Value | None = None) -> Value:
        if y is not None:
            level, rank, (a, b) = aligned((x, y))
            if rank:
                raise NoOverload
            kind = INT if x.kind == y.kind == "int" else REAL
            return Value(kind, getattr(namespace(a, b), of_two)(a, b), level)
        if 0 in x.shape and x.kind != "int":
            return Value(REAL, np.full(() if x.level is None else (x.level.size,), nothing), x.level)
        _nonempty(name, x)
        return Value(_scalar_type(x), _chosen(of_container, x.data, element_axes(x)), x.level)

    register(name)(entry)


def _chosen(of_container: str, x: Array, axes: tuple[int, ...]) -> Array:
    """The first largest or smallest element, to which also the derivative belongs: that is Stan's rule.

    JAX's rule looks for the elements that equal the extreme. Where a compiler evaluates an element twice and
    rounds otherwise there is none, and the derivative is infinite.
    """
    if is_concrete(x):
        return getattr(np, of_container)(x, axis=axes)
    flat = jnp.reshape(x, (*x.shape[: x.ndim - len(axes)], -1))
    first = getattr(jnp, f"arg{of_container}")(flat, axis=-1, keepdims=True)
    here = jnp.arange(flat.shape[-1]) == first
    return jnp.sum(jnp.where(here, flat, 0), axis=-1, dtype=flat.dtype)


_extreme("max", "max", "maximum", -np.inf)
_extreme("min", "min", "minimum", np.inf)


def _reduction(name: str, function: Callable[[Array, tuple[int, ...]], Array]) -> None:
    """A real function of all elements, of which there is at least one."""

    def entry(x: Value) -> Value:
        _nonempty(name, x)
        return Value(REAL, function(floating(x.data), element_axes(x)), x.level)

    register(name)(entry)


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    return namespace(x).mean(x, axis=axes)


def _variance(x: Array, axes: tuple[int, ...]) -> Array:
    """With n − 1, and 0 for one element."""
    np_or_jnp = namespace(x)
    count = int(np.prod([np.shape(x)[axis] for axis in axes], dtype=int))
    residual = x - np_or_jnp.mean(x, axis=axes, keepdims=True)
    return np_or_jnp.sum(residual * residual, axis=axes) / max(count - 1, 1)


def _sd(x: Array, axes: tuple[int, ...]) -> Array:
    return scalar.sqrt(_variance(x, axes))


_reduction("mean", _mean)
_reduction("variance", _variance)
_reduction("sd", _sd)


# -- norms and distances ------------------------------------------------------------------------------


@register("norm1")
def norm1(x: Value) -> Value:
    return Value(REAL, namespace(x.data).sum(scalar.absolute(x.data), axis=-1), x.level)


def _length(x: Array) -> Array:
    return scalar.sqrt(namespace(x).sum(x * x, axis=-1))


@register("norm2")
def norm2(x: Value) -> Value:
    return Value(REAL, _length(floating(x.data)), x.level)


def _difference(x: Value, y: Value) -> tuple[Array, Any]:
    require_same_shape("a distance", (x, y))
    level = deepest((x, y))
    return floating(at_level(x, level)) - floating(at_level(y, level)), level


@register("distance")
def distance(x: Value, y: Value) -> Value:
    difference, level = _difference(x, y)
    if x.rank == 0:
        return Value(REAL, scalar.absolute(difference), level)
    return Value(REAL, _length(difference), level)


@register("squared_distance")
def squared_distance(x: Value, y: Value) -> Value:
    difference, level = _difference(x, y)
    squares = difference * difference
    return Value(REAL, namespace(squares).sum(squares, axis=-1) if x.rank else squares, level)


# -- exponentials -------------------------------------------------------------------------------------


def log_sum_exp_of(x: Array, axes: int | tuple[int, ...], keepdims: bool = False) -> Array:
    """log Σ eˣ; from −∞ alone, or from nothing, it is −∞ with finite derivatives."""
    np_or_jnp = namespace(x)
    largest = np_or_jnp.max(x, axis=axes, keepdims=True, initial=-np.inf)
    if not is_concrete(x):
        largest = lax.stop_gradient(largest)
    shift = np_or_jnp.where(abs(largest) == np.inf, 0.0, largest)
    scaled = np_or_jnp.sum(np_or_jnp.exp(x - shift), axis=axes, keepdims=True)
    nothing = scaled == 0.0
    result = np_or_jnp.where(nothing, -np.inf, np_or_jnp.log(np_or_jnp.where(nothing, 1.0, scaled)) + shift)
    return result if keepdims else np_or_jnp.squeeze(result, axes)


@register("log_sum_exp")
def log_sum_exp(x: Value, y: Value | None = None) -> Value:
    if y is not None:
        return elementwise("log_sum_exp", scalar.log_sum_exp, (x, y))
    return Value(REAL, log_sum_exp_of(floating(x.data), element_axes(x)), x.level)


def _softmax(x: Array) -> Array:
    np_or_jnp = namespace(x)
    largest = np_or_jnp.max(x, axis=-1, keepdims=True, initial=-np.inf)
    if not is_concrete(x):
        largest = lax.stop_gradient(largest)
    weights = np_or_jnp.exp(x - largest)
    return weights / np_or_jnp.sum(weights, axis=-1, keepdims=True)


@register("softmax")
def softmax(x: Value) -> Value:
    return Value(x.type, _softmax(floating(x.data)), x.level)


@register("log_softmax")
def log_softmax(x: Value) -> Value:
    data = floating(x.data)
    return Value(x.type, data - log_sum_exp_of(data, -1, keepdims=True), x.level)


@register("log_mix")
def log_mix(theta: Value, x: Value, y: Value | None = None) -> Value:
    """log(θ eˣ + (1 − θ) eʸ), or log Σₖ θₖ exp(xₖ), of arrays of vectors x the sum of them."""
    if y is not None:
        return elementwise("log_mix", scalar.log_mix, (theta, x, y))
    if theta.rank != 1 or x.rank not in (1, 2) or theta.shape[0] != x.shape[-1]:
        raise NoOverload
    level, _, (weights, logs) = aligned((theta, x))
    mixed = _mixture(floating(weights), floating(logs))
    if x.rank == 2:
        mixed = namespace(mixed).sum(mixed, axis=-1)
    return Value(REAL, mixed, level)


def _mixture(theta: Array, x: Array) -> Array:
    if is_concrete(theta, x):
        return log_sum_exp_of(np.log(theta) + x, -1)
    return _traced_mixture(jnp.asarray(theta, float), jnp.asarray(x, float))


@jax.custom_jvp
def _traced_mixture(theta: Array, x: Array) -> Array:
    return log_sum_exp_of(jnp.log(theta) + x, -1)


@_traced_mixture.defjvp
def _mixture_derivative(primals: Any, tangents: Any) -> Any:
    (theta, x), (d_theta, d_x) = primals, tangents
    mixed = _traced_mixture(theta, x)
    base = jnp.where(mixed == -jnp.inf, 0.0, mixed)
    share = jnp.exp(x - base[..., None])
    weighted = jnp.where(theta == 0.0, 0.0, theta * share)
    return mixed, jnp.sum(weighted * d_x + share * d_theta, axis=-1)


# -- cumulative ---------------------------------------------------------------------------------------


@register("cumulative_sum")
def cumulative_sum(x: Value) -> Value:
    if x.rank != 1:
        raise NoOverload
    return Value(x.type, namespace(x.data).cumsum(x.data, axis=-1), x.level)
