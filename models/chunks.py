"""Densities written in JAX, evaluated some points at a time.

Under a wide ``vmap`` every intermediate array is as wide as the batch and falls out of a CPU's cache.
The batch is therefore cut into chunks, one after the other, each by ``vmap``; an accelerator gets the
batch whole.

How a batch is cut changes the last bits of the results: a matrix times sixteen points sums in another
order than times one. The chunk is therefore a part of what is recorded. It follows by default from the
program and the platform (`default_chunk`); what a clock finds (`chunk_tuning`) is for those who ask for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap
from jax.extend.core import Jaxpr, jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr

from .target import Density, guarded

LogDensity = Callable[[Array], Array]


def chunked(log_density: LogDensity, chunk: int | None) -> Density:
    """The `Density` of a function written in JAX, failures turned into (−inf, 0).

    Parameters
    ----------
    log_density : ``f[dim] -> f[]``, differentiable. Densities of equal functions share compiled programs;
        within ``jax.jit`` it is traced once for all of them.
    chunk : points evaluated together under ``jax.vmap``, nested ones included: 1, or more, or None for
        all of them. What is left out by ``active`` is left out by chunks: wanted points are gathered
        into as few chunks as they fill, and the others are not executed.

    Raises
    ------
    ValueError
        If ``chunk`` is less than 1.
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk={chunk}: give 1, a larger number of points, or None for all of a batch")
    return Density(
        fused=_Fused(log_density, chunk),
        value=_Value(log_density, chunk),
        operand=(),
        masked=_Masked(log_density, chunk),
    )


# Dataclasses, so that those of equal log densities are equal: jit would take others for new programs.


@dataclass(frozen=True)
class _Fused:
    log_density: LogDensity
    chunk: int | None

    def __call__(self, operand: Any, x: Array) -> tuple[Array, Array]:
        return _batched(_guarded_gradient(self.log_density), self.chunk)(x)


@dataclass(frozen=True)
class _Value:
    log_density: LogDensity
    chunk: int | None

    def __call__(self, operand: Any, x: Array) -> Array:
        return _batched(_guarded_value(self.log_density), self.chunk)(x)


@dataclass(frozen=True)
class _Masked:
    log_density: LogDensity
    chunk: int | None

    def __call__(self, operand: Any, x: Array, active: Array) -> tuple[Array, Array]:
        return _masked(_guarded_gradient(self.log_density), self.chunk)(x, active)


def _guarded_gradient(log_density: LogDensity) -> Callable[[Array], tuple[Array, Array]]:
    return lambda x: guarded(*jax.value_and_grad(log_density)(x))


def _guarded_value(log_density: LogDensity) -> LogDensity:
    def value(x: Array) -> Array:
        out = log_density(x)
        return jnp.where(jnp.isfinite(out), out, -jnp.inf)

    return value


def _batched(function: Callable[[Array], Any], chunk: int | None) -> Callable[[Array], Any]:
    """``function`` of one point, chunked under any number of ``vmap``; differentiable as it is."""

    @custom_vmap
    def evaluate(points: Array) -> Any:
        shape = points.shape[:-1]
        if not shape:
            return function(points)
        out = in_chunks(function, points.reshape(-1, points.shape[-1]), chunk)
        return jax.tree.map(lambda leaf: leaf.reshape(shape + leaf.shape[1:]), out)

    @evaluate.def_vmap
    def _(axis_size: int, in_batched: Any, points: Array) -> Any:
        out = evaluate(points)  # one axis more
        return out, jax.tree.map(lambda _: True, out)

    # A function with a batching rule has no reverse mode: derivatives are the plain function's.
    @jax.custom_jvp
    def differentiable(x: Array) -> Any:
        return evaluate(x)

    @differentiable.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        return jax.jvp(function, primals, tangents)

    return differentiable


def _masked(
    function: Callable[[Array], tuple[Array, Array]], chunk: int | None
) -> Callable[[Array, Array], tuple[Array, Array]]:
    """``function`` of the points whose flag is True, (−inf, 0) elsewhere, under any number of ``vmap``."""

    @custom_vmap
    def evaluate(points: Array, active: Array) -> tuple[Array, Array]:
        shape = active.shape
        value, gradient = wanted_in_chunks(
            function, points.reshape(-1, points.shape[-1]), active.reshape(-1), chunk
        )
        return value.reshape(shape), gradient.reshape(points.shape)

    @evaluate.def_vmap
    def _(axis_size: int, in_batched: Any, points: Array, active: Array) -> Any:
        points, active = (
            leaf if batched else jnp.broadcast_to(leaf, (axis_size, *leaf.shape))
            for leaf, batched in zip((points, active), in_batched, strict=True)
        )
        return evaluate(points, active), (True, True)

    return evaluate


def in_chunks(function: Callable[[Array], Any], points: Array, chunk: int | None) -> Any:
    """``function`` of every point, ``chunk`` of them at a time: ``f[n, dim] -> [n, …]``."""
    n = len(points)
    if chunk is None or chunk >= n:
        return jax.vmap(function)(points)
    each = jax.vmap(function) if chunk > 1 else function
    cut = _cut(points, chunk)
    out = lax.map(each, cut if chunk > 1 else cut[:, 0])
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n] if chunk > 1 else leaf[:n], out)


def wanted_in_chunks(
    function: Callable[[Array], tuple[Array, Array]], points: Array, active: Array, chunk: int | None
) -> tuple[Array, Array]:
    """As `in_chunks` where ``active`` (``bool[n]``), (−inf, 0) elsewhere; idle chunks are not executed."""
    n, width = len(points), min(chunk or len(points), len(points))

    def evaluate(cut: tuple[Array, Array]) -> tuple[Array, Array]:
        some, wanted = cut
        nothing = (jnp.full(width, -jnp.inf, points.dtype), jnp.zeros_like(some))
        return lax.cond(jnp.any(wanted), jax.vmap(function), lambda _: nothing, some)

    if width == n:
        value, gradient = evaluate((points, active))
    elif width == 1:
        value, gradient = (leaf[:, 0] for leaf in lax.map(evaluate, (points[:, None], active[:, None])))
    else:
        # The wanted ones first: row i goes to place[i]. A sort would take twice as long.
        before = jnp.cumsum(active)
        place = jnp.where(active, before - 1, before[-1] + jnp.arange(n) - before)
        order = jnp.zeros(n, int).at[place].set(jnp.arange(n), unique_indices=True)
        cut = _cut(points[order], width), _cut(jnp.arange(n) < before[-1], width)
        value, gradient = (leaf.reshape(-1, *leaf.shape[2:])[place] for leaf in lax.map(evaluate, cut))
    return jnp.where(active, value, -jnp.inf), jnp.where(active[:, None], gradient, 0.0)


def _cut(rows: Array, chunk: int) -> Array:
    """``[n, …] -> [chunks, chunk, …]``, the last row repeated where one chunk is not full.

    A shorter last chunk would be a second program of the same size to compile.
    """
    short = -len(rows) % chunk
    fill = jnp.broadcast_to(rows[-1:], (short, *rows.shape[1:]))
    return jnp.concatenate([rows, fill]).reshape(-1, chunk, *rows.shape[1:])


# -- the chunk by rule ----------------------------------------------------------------------------

WIDE_OPERATION = 512
"""Bytes that an operation makes of one point, on average, from which on one point fills a CPU's vectors."""
NARROW_CHUNK = 64
"""Points evaluated together where operations are narrower than that."""
LARGE_OPERATION = 5000
"""Bytes from which on products of matrices no longer make up for what falls out of the cache."""
PRODUCT_CHUNK = 16
"""Points evaluated together where a matrix of data multiplies all of their coefficients at once."""


def default_chunk(log_density: LogDensity, dim: int) -> int | None:
    """The chunk that follows from the program and the platform, never from a clock.

    None, the whole batch, on an accelerator. On a CPU, where the operations on one point are wide (a
    likelihood of all data at once), that point alone, or `PRODUCT_CHUNK` if there are matrix products,
    which read their data once for all points; where they are narrow (a recurrence, a small matrix),
    `NARROW_CHUNK`. A loop that runs until a condition holds (an adaptive ODE solver) takes one point:
    together, all would wait for the slowest. docs/performance.md has the measurements.
    """
    if jax.default_backend() != "cpu":
        return None
    program = jax.make_jaxpr(jax.value_and_grad(log_density))(jnp.zeros(dim)).jaxpr
    used, _ = dce_jaxpr(program, [True] * len(program.outvars))
    work = _work(used)
    if work.waits:
        return 1
    if work.bytes < WIDE_OPERATION * work.operations:
        return NARROW_CHUNK
    return PRODUCT_CHUNK if work.products and work.bytes < LARGE_OPERATION * work.operations else 1


class _Work(NamedTuple):
    operations: int
    bytes: int
    """Of the results of all operations."""
    waits: bool
    """Whether there is a loop of unknown length."""
    products: bool
    """Whether there are products of matrices."""


def _work(program: Jaxpr) -> _Work:
    """What a program executes, the bodies of loops of known length as often as they run."""
    total = _Work(0, 0, False, False)
    for equation in program.eqns:
        inner = [_work(sub) for sub in jaxprs_in_params(equation.params)]
        if inner:
            times = equation.params["length"] if equation.primitive.name == "scan" else 1
        else:
            made = sum(_size(variable.aval) for variable in equation.outvars)
            inner, times = [_Work(1, made, False, equation.primitive.name == "dot_general")], 1
        total = _Work(
            total.operations + times * sum(work.operations for work in inner),
            total.bytes + times * sum(work.bytes for work in inner),
            total.waits or equation.primitive.name == "while" or any(work.waits for work in inner),
            total.products or any(work.products for work in inner),
        )
    return total


def _size(aval: Any) -> int:
    return math.prod(aval.shape) * aval.dtype.itemsize
