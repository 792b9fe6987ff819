"""Functions that Stan vectorises: of scalars, and of containers element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from .. import numeric
from ..numeric import is_concrete, namespace
from ..values import INT, REAL, Type, Value, aligned
from . import gamma, scalar
from .registry import NoOverload, as_ints, container_type, elementwise, floating, real_type, register


def _numpy(name: str) -> Callable[[Any], Any]:
    concrete, traced = getattr(np, name), getattr(jnp, name)
    return lambda x: concrete(x) if is_concrete(x) else traced(x)


_UNARY: dict[str, Callable[[Any], Any]] = {
    **{name: _numpy(name) for name in ("floor", "ceil", "sin", "cos", "tan", "sinh", "cosh", "tanh")},
    **{f"a{name}": _numpy(f"arc{name}") for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "exp": numeric.exp,
    "expm1": numeric.expm1,
    "log": numeric.log,
    "log1p": numeric.log1p,
    "inv_logit": numeric.sigmoid,
    "lgamma": numeric.lgamma,
    "digamma": numeric.digamma,
    "tgamma": gamma.tgamma,
    "trigamma": gamma.trigamma,
    "fabs": scalar.absolute,
    "round": scalar.round_away,
    "std_normal_qf": scalar.inv_Phi,
    **{
        name: getattr(scalar, name)
        for name in (
            *("sqrt", "cbrt", "square", "inv", "inv_sqrt", "inv_square", "exp2", "trunc", "log1m"),
            *("log1p_exp", "log1m_exp", "log_inv_logit", "log1m_inv_logit", "logit", "inv_cloglog"),
            *("erf", "erfc", "inv_erfc", "Phi", "Phi_approx", "inv_Phi", "step"),
        )
    },
}

_SEVERAL: dict[str, Callable[..., Any]] = {
    "pow": scalar.pow,
    "lmultiply": scalar.multiply_log,
    "atan2": lambda y, x: namespace(y, x).arctan2(y, x),
    "fma": lambda x, y, z: x * y + z,
    "ldexp": lambda x, n: x * 2.0**n,
    "binomial_coefficient_log": gamma.lchoose,
    **{
        name: getattr(scalar, name)
        for name in (
            *("fmax", "fmin", "fdim", "fmod", "hypot", "log_diff_exp", "log_inv_logit_diff"),
            *("multiply_log", "binary_log_loss", "owens_t"),
        )
    },
    **{
        name: getattr(gamma, name)
        for name in (
            *("beta", "lbeta", "lchoose", "lmgamma", "log_rising_factorial", "log_falling_factorial"),
            *("gamma_p", "gamma_q", "inc_beta", "bessel_first_kind", "bessel_second_kind"),
            *("modified_bessel_first_kind", "modified_bessel_second_kind"),
            "log_modified_bessel_first_kind",
        )
    },
}

_ARGUMENTS = {"fma": 3, "inc_beta": 3}


def _enter_unary(name: str, function: Callable[[Any], Any]) -> None:
    def entry(x: Value) -> Value:
        return Value(real_type(x.type), function(floating(x.data)), x.level)

    register(name)(entry)


def _enter_binary(name: str, function: Callable[..., Any]) -> None:
    def entry(x: Value, y: Value) -> Value:
        return elementwise(name, function, (x, y))

    register(name)(entry)


def _enter_ternary(name: str, function: Callable[..., Any]) -> None:
    def entry(x: Value, y: Value, z: Value) -> Value:
        return elementwise(name, function, (x, y, z))

    register(name)(entry)


for _name, _function in _UNARY.items():
    _enter_unary(_name, _function)
for _name, _function in _SEVERAL.items():
    (_enter_ternary if _ARGUMENTS.get(_name) == 3 else _enter_binary)(_name, _function)


# -- functions that return ints -----------------------------------------------------------------------


@register("abs")
def absolute(x: Value) -> Value:
    return Value(x.type, scalar.absolute(x.data), x.level)


@register("int_step")
def int_step(x: Value) -> Value:
    return Value(INT, as_ints(x.data > 0), x.level)


@register("is_nan")
def is_nan(x: Value) -> Value:
    return Value(INT, as_ints(x.data != x.data), x.level)


@register("is_inf")
def is_inf(x: Value) -> Value:
    return Value(INT, as_ints(abs(x.data) == np.inf), x.level)


@register("to_int")
def to_int(x: Value) -> Value:
    """Truncates towards 0."""
    if is_concrete(x.data):
        return Value(Type("int", x.arrays), np.trunc(x.data).astype(np.int64), x.level)
    raise NoOverload


def _of_ints(name: str, function: Callable[..., Any]) -> None:
    """A function whose result is an int for ints."""

    def entry(x: Value, y: Value) -> Value:
        result = elementwise(name, function, (x, y))
        if x.kind == y.kind == "int":
            return Value(
                container_type((x, y)), namespace(result.data).round(result.data).astype(int), result.level
            )
        return result

    register(name)(entry)


_of_ints("choose", gamma.choose)
_of_ints("rising_factorial", gamma.rising_factorial)
_of_ints("falling_factorial", gamma.falling_factorial)


@register("if_else")
def if_else(condition: Value, yes: Value, no: Value) -> Value:
    level, _, (c, y, n) = aligned((condition, yes, no))
    kind = yes.type if yes.kind == no.kind == "int" else REAL
    return Value(kind, numeric.where(c != 0, y, n), level)
