"""Logs of the regularized incomplete beta and gamma functions, with derivatives by every argument."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special as scipy_special
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.scipy import special as jax_special

from ..numeric import is_concrete, log, where
from .base import guarded
from .special import log1m_exp, log_beta

_MAX_ITERATIONS = 20_000
_TINY = 1e-300


def log_probability(p: Any) -> Any:
    """log p, −inf with a derivative of 0 where p = 0."""
    impossible = p <= 0
    return where(impossible, -np.inf, log(guarded(~impossible, p, 1.0)))


def log_beta_tails(a: Any, b: Any, x: Any, complement: Any) -> tuple[Any, Any]:
    """log I_x(a, b) and log(1 − I_x(a, b)); ``complement`` is 1 − x, accurate where x is near 1.

    a, b > 0 and 0 < x < 1. The smaller of the two tails comes from the continued fraction without
    cancellation or underflow; the derivatives by a and b are those of the fraction.
    """
    if is_concrete(a, b, x, complement):
        lower = np.where(x < 0.5, scipy_special.betainc(a, b, x), scipy_special.betaincc(b, a, complement))
        upper = np.where(x < 0.5, scipy_special.betaincc(a, b, x), scipy_special.betainc(b, a, complement))
        return log(lower), log(upper)
    normalizer = log_beta(a, b)  # of the arguments' own shape, and concrete if they are
    a, b, x, complement = jnp.broadcast_arrays(*(jnp.asarray(v, float) for v in (a, b, x, complement)))
    swap = x * (a + b + 2.0) > a + 1.0
    first, second = jnp.where(swap, b, a), jnp.where(swap, a, b)
    small, large = jnp.where(swap, complement, x), jnp.where(swap, x, complement)
    # Each logarithm from the argument that is accurate for it: log(1 − 1e-13) times 1e13 is −1, not −0.9992.
    near_zero = small < 0.5
    log_large = jnp.where(near_zero, jnp.log1p(-jnp.where(near_zero, small, 0.0)), log(large))
    scale = first * log(small) + second * log_large - log(first) - normalizer
    direct = scale + _log_fraction(first, second, small)
    direct = jnp.minimum(direct, 0.0)
    other = log1m_exp(-direct)
    return jnp.where(swap, other, direct), jnp.where(swap, direct, other)


@jax.custom_jvp
def _log_fraction(a: Any, b: Any, x: Any) -> Any:
    """log of 1/(1 + d₁/(1 + d₂/(1 + …))), DLMF 8.17.22, for x < (a + 1)/(a + b + 2)."""
    return _lentz(a, b, x)


def _log_fraction_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    # The recurrence runs once in forward mode, in the direction of each argument at a time, so that the
    # rule is linear in the tangents and can be transposed. A shape that is data costs nothing.
    wanted = [i for i, direction in enumerate(tangents) if not isinstance(direction, SymbolicZero)]

    def along(unit: Any) -> tuple[Any, Any]:
        directions = tuple(jnp.broadcast_to(unit[i], jnp.shape(p)) for i, p in enumerate(primals))
        return jax.jvp(_lentz, tuple(primals), directions)

    units = np.eye(3)[wanted].astype(primals[2].dtype)
    value, partials = jax.vmap(along, out_axes=(None, 0))(units)
    return value, sum(partials[k] * tangents[i] for k, i in enumerate(wanted))


_log_fraction.defjvp(_log_fraction_jvp, symbolic_zeros=True)


@jax.jit  # traced and compiled once for each shape, also where it is called without a jit around it
def _lentz(a: Any, b: Any, x: Any) -> Any:
    """The modified Lentz algorithm on pairs of coefficients, until all elements have converged.

    It stops some iterations after the value has converged: the derivatives lag behind.
    """
    epsilon = float(jnp.finfo(x.dtype).eps)

    def away_from_zero(value: Any) -> Any:
        return jnp.where(jnp.abs(value) < _TINY, _TINY, value)

    def step(c: Any, d: Any, coefficient: Any) -> tuple[Any, Any]:
        d = 1.0 / away_from_zero(1.0 + coefficient * d)
        c = away_from_zero(1.0 + coefficient / c)
        return c, d

    def advance(state: Any) -> Any:
        m, settled, c, d, log_value = state
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        c, d = step(c, d, even)
        change = c * d
        c, d = step(c, d, odd)
        change = change * c * d
        converged = jnp.all(jnp.abs(change - 1.0) <= 2.0 * epsilon)
        settled = jnp.where(converged, settled + 1, 0)
        return m + 1, settled, c, d, log_value + jnp.log(change)

    def unfinished(state: Any) -> Any:
        m, settled = state[0], state[1]
        return (settled < 4 + m // 4) & (m < _MAX_ITERATIONS)

    d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    state = jnp.asarray(1), jnp.asarray(0), jnp.ones_like(x), d, jnp.log(d)
    return lax.while_loop(unfinished, advance, state)[4]


def log_gamma_tail(upper: bool, a: Any, x: Any) -> Any:
    """log Q(a, x) if ``upper``, else log P(a, x), for a > 0 and x ≥ 0."""
    if is_concrete(a, x):
        return log(scipy_special.gammaincc(a, x) if upper else scipy_special.gammainc(a, x))
    tail = jax_special.gammaincc if upper else jax_special.gammainc
    return log_probability(tail(jnp.asarray(a, float), jnp.asarray(x, float)))
