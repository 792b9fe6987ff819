"""Measuring batches of gradients: programs set up, batches evaluated in a compiled loop, ways in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ...models.chunks import chunked, default_chunk
from ...models.stan_source import read_data, read_program
from ...models.stan_to_jax import Lowered, lower
from ...models.stan_to_jax.model import Precision
from ...models.target import Density
from ...posteriordb_adapter.posterior import Posterior
from ...samplers.timing import worker_threads

SECONDS = 0.2
"""What one measurement takes, about."""


class Seconds(NamedTuple):
    """Per gradient."""

    wall: float
    cpu: float


Measure = Callable[[], Seconds]


# -- set-up ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setup:
    """Seconds until a program is ready to evaluate a batch."""

    read: float
    """text and data to a `Lowered`, transformed data included"""
    trace: float
    """value and gradient to a jaxpr"""
    compile: float
    """of the batch, in the chunks of the rule"""


def set_up(posterior: Posterior, chains: int, precision: Precision) -> tuple[Setup, Lowered, Array]:
    """A posterior lowered, what that took, and points of finite density, ``f[chains, dim]``."""
    lower(read_program("parameters { real x; } model { x ~ normal(0, 1); }", "warm_up"), {})
    start = time.perf_counter()
    source = read_program(posterior.program_path(), posterior.name)
    lowered = lower(source, read_data(posterior.data_text(), posterior.name), precision=precision)
    read = time.perf_counter()
    log_density = jax.jit(lowered.log_density)
    jax.make_jaxpr(jax.value_and_grad(log_density))(jnp.zeros(lowered.dim))
    traced = time.perf_counter()
    density = chunked(log_density, default_chunk(log_density, lowered.dim))
    batch = jnp.zeros((chains, lowered.dim))
    jax.jit(jax.vmap(density.fused, (None, 0))).lower((), batch).compile()
    compiled = time.perf_counter()
    setup = Setup(read - start, traced - read, compiled - traced)
    return setup, lowered, points_near_0(density, chains, lowered.dim)


def points_near_0(density: Density, n: int, dim: int) -> Array:
    """Points of finite density, drawn from N(0, 1/4) and halved where there is none: ``f[n, dim]``."""
    points = jax.random.normal(jax.random.key(0), (n, dim)) / 2
    evaluate = jax.jit(jax.vmap(density.value_and_grad))
    for _ in range(20):
        finite = jnp.isfinite(evaluate(points)[0])
        if finite.all():
            return points
        points = jnp.where(finite[:, None], points, points / 2)
    raise ValueError("no points of finite density were found near 0: nothing can be measured")


# -- measuring ------------------------------------------------------------------------------------

Evaluate = Callable[[Density, Array], tuple[Array, Array]]


def together(density: Density, points: Array) -> tuple[Array, Array]:
    """All chains by ``vmap``."""
    return jax.vmap(density.value_and_grad)(points)


def one_by_one(density: Density, points: Array) -> tuple[Array, Array]:
    """One chain after the other, in a compiled loop."""
    return lax.map(density.value_and_grad, points)


def measure_of(evaluate: Evaluate, density: Density, groups: Sequence[Array]) -> Measure:
    """Gradients of groups of points, over and over in a compiled loop, compiled and run once.

    Each group is one call from a thread, as samplers run groups of chains.
    """

    @jax.jit
    def loop(density: Density, points: Array, steps: int) -> Array:
        # Moved by next to nothing, so that no evaluation is the same as the one before.
        return lax.fori_loop(0, steps, lambda _, x: x + 1e-30 * evaluate(density, x)[1], points)

    pool = ThreadPoolExecutor(min(len(groups), worker_threads()))

    def seconds(steps: int) -> Seconds:
        wall, cpu = time.perf_counter(), time.process_time()
        list(pool.map(lambda points: jax.block_until_ready(loop(density, points, steps)), groups))
        spent = steps * sum(map(len, groups))
        return Seconds((time.perf_counter() - wall) / spent, (time.process_time() - cpu) / spent)

    seconds(1)  # compiles
    once = seconds(1).wall * sum(map(len, groups))
    steps = max(1, round(SECONDS / once))
    return lambda: seconds(steps)


def in_turns(measures: dict[str, Measure], repetitions: int) -> dict[str, list[Seconds]]:
    """All of them, one round after the other."""
    rounds = [{way: measure() for way, measure in measures.items()} for _ in range(repetitions)]
    return {way: [found[way] for found in rounds] for way in measures}
