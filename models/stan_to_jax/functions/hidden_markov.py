"""The marginal density of a hidden Markov model."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from jax import lax

from ..numeric import is_concrete, log, namespace
from ..values import REAL, Value, deepest, per_row, with_rows
from .products import matmul
from .registry import NoOverload, floating, register

Array = Any


def _forward(log_omegas: Array, gamma: Array, rho: Array) -> Array:
    """log Σ over paths of ρ Π Γ Π ω, by the forward algorithm with normalised probabilities.

    The sum of the normalisers' logarithms is the result (Rabiner 1989, section V.A).
    """
    np_or_jnp = namespace(log_omegas, gamma, rho)
    largest = np_or_jnp.max(log_omegas, axis=0)
    if not is_concrete(log_omegas):
        largest = lax.stop_gradient(largest)  # the result does not depend on it
    omegas = np_or_jnp.exp(log_omegas - largest).T  # [time, state]

    def step(carry: tuple[Array, Array], omega: Array) -> tuple[tuple[Array, Array], None]:
        predicted, total = carry
        joint = predicted * omega
        norm = np_or_jnp.sum(joint)
        return (matmul(joint / norm, gamma), total + log(norm)), None

    start = (floating(rho), np_or_jnp.zeros(()))
    if is_concrete(log_omegas, gamma, rho):
        final = functools.reduce(lambda carry, omega: step(carry, omega)[0], omegas, start)
    else:
        final = lax.scan(step, (np_or_jnp.asarray(start[0]), start[1]), omegas)[0]
    return final[1] + np_or_jnp.sum(largest)


@register("hmm_marginal")
def hmm_marginal(log_omegas: Value, gamma: Value, rho: Value) -> Value:
    """``log_omegas[k, t]`` the log density of datum t in state k, Γ the transitions, ρ the start."""
    if (log_omegas.kind, gamma.kind, rho.kind) != ("matrix", "matrix", "vector"):
        raise NoOverload
    arguments = (log_omegas, gamma, rho)
    level = deepest(arguments)
    if level is not None and all(value.concrete for value in arguments):
        rows = zip(*(with_rows(value, level) for value in arguments), strict=True)
        return Value(REAL, np.stack([_forward(*row) for row in rows]), level)
    data, level = per_row(_forward, arguments)
    return Value(REAL, data, level)
