"""The invariance test: exact draws in, steps taken, bounded test functions must not move."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from essper.models import Target
from essper.samplers import Kernel
from jax import Array

type TestFunctions = Callable[[Array], Array]
"""``f[dim] -> f[m]``, every one bounded."""


def drift(
    kernel: Kernel, target: Target, functions: TestFunctions, *, steps: int, n: int = 50_000, seed: int = 0
) -> np.ndarray:
    """z of the mean change of every test function, ``f[m]``.

    Every chain starts from an exact draw, so that a kernel which leaves the target invariant has
    E[f(x_T) − f(x_0)] = 0 however slowly it mixes. The functions are bounded, so that the standard
    error is one.
    """
    assert target.exact is not None
    key_exact, key_steps = jax.random.split(jax.random.key(seed))
    start = target.exact(key_exact, n)

    def chain(arguments: tuple[Array, Array]) -> Array:
        key, position = arguments
        state, _ = kernel.init(key, position)
        keys = jax.random.split(key, steps)
        state, _ = jax.lax.scan(lambda state, k: (kernel.step(k, state)[0], None), state, keys)
        return functions(kernel.position(state)) - functions(position)

    run = jax.jit(lambda *a: jax.lax.map(chain, a, batch_size=500))
    change = np.asarray(run(jax.random.split(key_steps, n), start))
    error = change.std(axis=0, ddof=1) / np.sqrt(n)
    return np.where(error > 0, change.mean(axis=0) / np.where(error > 0, error, 1), 0.0)


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
