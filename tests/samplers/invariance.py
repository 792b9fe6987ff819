"""The invariance test: exact draws in, steps taken, bounded test functions must not move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from essper.models import Target
from essper.samplers import Kernel
from jax import Array

type TestFunctions = Callable[[Array], Array]
"""``f[dim] -> f[m]``, every one bounded."""

OPTIMIZED = {"xla_backend_optimization_level": 3}
"""As outside of the tests: these programs run long."""
BATCH = 500
"""Chains that are stepped together. Their states stay in a CPU's cache; the funnel's cases took two to
three times as long in batches of 5000."""


class Drift(NamedTuple):
    """How far the test functions have moved, as z of their mean change, ``f[m]``."""

    after_one: np.ndarray
    after_all: np.ndarray
    acceptance: float
    """Mean acceptance probability of the steps (of the first stage, where there are several)."""

    @property
    def worst(self) -> float:
        return float(np.abs([self.after_one, self.after_all]).max())


def drift(
    kernel: Kernel,
    target: Target,
    functions: TestFunctions,
    *,
    steps: int = 20,
    n: int = 50_000,
    seed: int = 0,
) -> Drift:
    """The drift after one step and after ``steps`` of them, over ``n`` chains.

    Every chain starts from an exact draw, so that a kernel which leaves the target invariant has
    E[f(x_T) − f(x_0)] = 0 however slowly it mixes. The functions are bounded, so that the standard
    error is one.
    """
    return drifts(lambda _: kernel, [0.0], target, functions, steps=steps, n=n, seed=seed)[0]


def drifts(
    kernel_of: Callable[[Array], Kernel],
    operands: Sequence[float],
    target: Target,
    functions: TestFunctions,
    *,
    steps: int,
    n: int,
    seed: int = 0,
) -> list[Drift]:
    """`drift` of ``kernel_of(operand)`` for every operand, which is traced: one compiled program for all."""
    assert target.exact is not None
    key_exact, key_steps = jax.random.split(jax.random.key(seed))
    start, keys = target.exact(key_exact, n), jax.random.split(key_steps, n)

    @partial(jax.jit, compiler_options=OPTIMIZED)
    def run(operand: Array, keys: Array, start: Array) -> tuple[Array, Array, Array]:
        kernel = kernel_of(operand)

        def chain(arguments: tuple[Array, Array]) -> tuple[Array, Array, Array]:
            key, position = arguments
            key_start, key = jax.random.split(key)
            state, _ = kernel.init(key_start, position)
            before = functions(kernel.position(state))

            def step(state, key):
                state, info = kernel.step(key, state)
                return state, (functions(kernel.position(state)) - before, info.acceptance)

            _, (changes, acceptance) = jax.lax.scan(step, state, jax.random.split(key, steps))
            return changes[0], changes[-1], jnp.mean(acceptance)

        return jax.lax.map(chain, (keys, start), batch_size=BATCH)

    found = []
    for operand in operands:
        one, many, acceptance = map(np.asarray, run(jnp.asarray(operand), keys, start))
        found.append(Drift(z_scores(one), z_scores(many), float(acceptance.mean())))
    return found


def z_scores(change: np.ndarray) -> np.ndarray:
    """z of the mean over the first axis; 0 for what never changed."""
    error = change.std(axis=0, ddof=1) / np.sqrt(len(change))
    return np.where(error > 0, change.mean(axis=0) / np.where(error > 0, error, 1), 0.0)


def in_phase_space(kernel: Kernel) -> Kernel:
    """The kernel of a state with a momentum, which then is part of its position: ``f[2 dim]``."""
    return kernel._replace(position=lambda state: jnp.concatenate([state.position, state.momentum]))


def with_momentum(functions: TestFunctions) -> TestFunctions:
    """Functions of the position, and some of a standard normal momentum and of both together."""

    def joint(point: Array) -> Array:
        x, z = jnp.split(point, 2)
        radius = (z @ z < z.size).astype(z.dtype)
        return jnp.concatenate([functions(x), jnp.tanh(z[:2]), jnp.tanh(x[:2] * z[:2]), radius[None]])

    return joint


def funnel_functions(x: Array) -> Array:
    """Of Neal's funnel: quantile indicators of v ~ N(0, 3²), and where the x stand given v."""
    v, rest = x[0], x[1:]
    quantiles = 3.0 * jnp.array([-2.326, -1.645, -0.674, 0.0, 0.674, 1.645, 2.326])
    radius = jnp.sum(rest**2) * jnp.exp(-v)
    return jnp.concatenate(
        [
            (v < quantiles).astype(x.dtype),
            jnp.tanh(v / 3.0)[None],
            (radius < jnp.array([4.0, 8.0, 15.0])).astype(x.dtype),
            jnp.tanh(rest[:2]),
            (jnp.abs(rest[:1]) < 1.0).astype(x.dtype),
        ]
    )


def coordinate_functions(x: Array) -> Array:
    """Of any target: squashed coordinates, their squares and one product."""
    return jnp.concatenate(
        [jnp.tanh(x), jnp.exp(-0.5 * x**2), jnp.tanh(x[:1] * x[1:2]), (x < 0.5).astype(x.dtype)]
    )


def rosenbrock_functions(x: Array) -> Array:
    """Of the two-dimensional Rosenbrock distribution: along the ridge, and how far beside it."""
    along = (x[0] - 1.0) / 10**0.5
    beside = (x[1] - x[0] ** 2) / 0.1**0.5
    quantiles = jnp.array([-1.645, -0.674, 0.674, 1.645])
    return jnp.concatenate(
        [
            (along < quantiles).astype(x.dtype),
            (beside < quantiles).astype(x.dtype),
            jnp.tanh(jnp.stack([along, beside, along * beside])),
        ]
    )
