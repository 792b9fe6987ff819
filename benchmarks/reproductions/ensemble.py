"""Many chains with a fixed tuning, run until each has spent its gradients.

What reproductions of published claims measure with: no warmup, no adaptation; starting points and tuning are
part of the claim. Counted is what the algorithm needs, chain by chain (`samplers.base.Cost`), since claims
are about gradients and not about a machine. Chains of a sampler whose steps all cost the same move in
lockstep, others run one after the other in the same compiled program; draws do not depend on it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from arviz_stats.base.array import array_stats
from jax import Array
from numpy.typing import ArrayLike

from ...models.target import Density, Target
from ...samplers.adaptation import Tuning, over_group
from ...samplers.base import Kernel, chain_keys
from ...samplers.metrics import make_metric

ROWS = 512
"""Rows that one call of a compiled loop fills; between calls a run can be stopped."""
PILOT = 8
"""Rows of the first call, from which the cost of a row is estimated."""
SLICES = 10
"""Calls in which `chain_means` spends a chain's gradients."""
DISCARDED = 0.2
"""Part of the gradients whose draws are dropped before anything is estimated."""
PER = 1000
"""Efficiency is ESS per this many gradients."""

_ess: Callable[..., Any] = array_stats.ess

type Observe = Callable[[Array], Array]
"""``f[dim] -> f[statistic]``: what is recorded of a position; a function that is kept, since programs are."""


class FixedSampler(Protocol):
    """What is needed of a sampler: a frozen, hashable configuration with a kernel."""

    equal_steps: ClassVar[bool]

    def kernel(self, density: Density, tuning: Tuning) -> Kernel: ...


class Stopped(Exception):
    """A run was asked to stop before its end; nothing of it is kept."""


class Trace(NamedTuple):
    """What was recorded of all chains, the starting points not included."""

    values: np.ndarray
    """``f[chain, draw, statistic]``; every chain has the same number of draws."""
    gradients: np.ndarray
    """``i[chain, draw]``: spent up to and including the draw."""

    def kept(self, discarded: float = DISCARDED) -> Trace:
        """Without the first part by gradients, mean over chains; what is left counts from 0.

        Draws are dropped at the same number for all chains: a chain that lost fewer because its draws cost
        more would be weighted by where it has been.
        """
        mean = self.gradients.mean(axis=0)
        first = int(np.searchsorted(mean, discarded * mean[-1])) + 1
        if first >= len(mean):
            raise ValueError(
                f"{len(mean)} recorded draws leave none after the first {discarded:.0%}: give more gradients"
            )
        return Trace(self.values[:, first:], self.gradients[:, first:] - self.gradients[:, first - 1 : first])


def run_ensemble(
    sampler: FixedSampler,
    target: Target,
    key: Array,
    starts: ArrayLike,
    *,
    step_size: float,
    gradients: int,
    observe: Observe,
    inverse_mass_matrix: ArrayLike | None = None,
    thin: int = 1,
    stop: threading.Event | None = None,
) -> Trace:
    """Run a kernel from given points until every chain has spent at least ``gradients``.

    All chains make as many steps as the one that needs most of them to spend its gradients, so that no
    chain's weight depends on what its draws cost. A chain's draws depend on its key and its number alone.

    Parameters
    ----------
    starts : ``f[chain, dim]``
    step_size, inverse_mass_matrix : the tuning; the identity where no matrix is given
    gradients : that every chain spends at least, initialisation included
    thin : one draw in so many is recorded; its gradients count all the steps in between
    stop : asked between calls of the compiled loop

    Raises
    ------
    Stopped
        When ``stop`` is set.
    ValueError
        If a step costs no gradient.
    """
    program = _recording(sampler, observe, thin)
    tuning, groups = _start(sampler, target, key, starts, step_size, inverse_mass_matrix)
    values: list[list[np.ndarray]] = [[] for _ in groups]
    spent: list[list[np.ndarray]] = [[] for _ in groups]
    rows = 0
    while (wanted := _wanted(groups, rows, gradients)) > 0:
        for i, group in enumerate(groups):
            _check(stop)
            groups[i], new, cost = program(target.density, tuning, group, jnp.asarray(wanted))
            values[i].append(np.asarray(new)[:wanted].copy())
            spent[i].append(np.asarray(cost)[:wanted].copy())
        rows += wanted
    recorded = Trace(
        np.concatenate([np.swapaxes(np.concatenate(parts), 0, 1) for parts in values]),
        np.concatenate([np.concatenate(parts).T for parts in spent]).astype(np.int64),
    )
    # How many rows a call fills is a matter of speed, so it must not decide where the trace ends.
    end = int(np.searchsorted(recorded.gradients.min(axis=0), gradients)) + 1
    return Trace(recorded.values[:, :end], recorded.gradients[:, :end])


def chain_means(
    sampler: FixedSampler,
    target: Target,
    key: Array,
    starts: ArrayLike,
    *,
    step_size: float,
    gradients: int,
    observe: Observe,
    inverse_mass_matrix: ArrayLike | None = None,
    stop: threading.Event | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Each chain's mean over its draws up to its own budget: ``f[chain, statistic]``, and ``i[chain]`` spent.

    A draw counts if its step began while something was left. Parameters as of `run_ensemble`.
    """
    program = _summing(sampler, observe)
    tuning, groups = _start(sampler, target, key, starts, step_size, inverse_mass_matrix)
    means, spent = [], []
    for group in groups:
        totals = jnp.zeros((len(group.keys), *_shape(observe, target.dim)))
        counts = jnp.zeros(len(group.keys), int)
        for limit in np.linspace(0, gradients, SLICES + 1)[1:].astype(int):
            _check(stop)
            group, totals, counts = program(
                target.density, tuning, group, totals, counts, jnp.asarray(limit), jnp.asarray(gradients)
            )
        means.append(np.asarray(totals / counts[:, None]))
        spent.append(np.asarray(group.spent))
    return np.concatenate(means), np.concatenate(spent)


def bulk_ess(values: np.ndarray) -> np.ndarray:
    """Rank-normalised split bulk ESS over all chains of ``f[chain, draw, function]``: ``f[function]``.

    arviz-stats', as in `metrics`. A function that is the same number everywhere has ESS 0. One that is
    constant in *some* chains has not: the indicator of a tail may be 0 in a chain that moves well; whether
    chains are stuck is asked of positions (`stuck_chains`).
    """
    values = np.asarray(values, dtype=float)
    if values.shape[1] < 4:
        return np.zeros(values.shape[2])
    with np.errstate(all="ignore"):  # a constant divides 0 by 0
        found = np.asarray(_ess(values, chain_axis=0, draw_axis=1, method="bulk"), dtype=float)
    constant = np.ptp(values, axis=(0, 1)) == 0
    return np.where(constant | ~np.isfinite(found), 0.0, found)


def stuck_chains(values: np.ndarray) -> int:
    """How many chains never moved, of ``f[chain, draw, function]``."""
    return int(np.sum(np.all(np.ptp(values, axis=1) == 0, axis=1)))


def per_gradient(ess: np.ndarray, trace: Trace) -> np.ndarray:
    """ESS of all chains per `PER` gradients of all chains, of a trace as `Trace.kept` made it."""
    return PER * ess / trace.gradients[:, -1].sum()


class _Group(NamedTuple):
    """Some chains that move together; leaves have a leading chain axis but for the step."""

    keys: Array
    states: Any
    spent: Array
    step: Array


def _start(
    sampler: FixedSampler,
    target: Target,
    key: Array,
    starts: ArrayLike,
    step_size: float,
    inverse_mass_matrix: ArrayLike | None,
) -> tuple[Tuning, list[_Group]]:
    points = jnp.asarray(starts, float)
    if points.ndim != 2 or points.shape[1] != target.dim:
        raise ValueError(f"starts of shape {points.shape}: {target.name} needs [chain, {target.dim}]")
    inverse = jnp.ones(target.dim) if inverse_mass_matrix is None else jnp.asarray(inverse_mass_matrix, float)
    tuning = Tuning(step_size=jnp.asarray(step_size, float), metric=make_metric(inverse))
    keys = chain_keys(key, len(points))
    size = len(points) if sampler.equal_steps else 1
    program = _starting(sampler)
    return tuning, [
        program(target.density, tuning, keys[i : i + size], points[i : i + size])
        for i in range(0, len(points), size)
    ]


def _wanted(groups: list[_Group], rows: int, gradients: int) -> int:
    """Rows that every group is to fill next: about what the slowest chain needs; 0 when it is done."""
    slowest = min(int(np.min(group.spent)) for group in groups)
    if slowest >= gradients:
        return 0
    if rows == 0:
        return PILOT
    if slowest <= 1:  # the one of the initialisation
        raise ValueError("steps of this kernel cost no gradient: a budget of gradients would never be spent")
    return int(np.clip(np.ceil((gradients - slowest) / (slowest / rows)), 1, ROWS))


def _check(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise Stopped


def _shape(observe: Observe, dim: int) -> tuple[int, ...]:
    return jax.eval_shape(observe, jax.ShapeDtypeStruct((dim,), float)).shape


@functools.lru_cache(maxsize=64)
def _starting(sampler: FixedSampler) -> Callable[..., _Group]:
    @jax.jit
    def start(density: Density, tuning: Tuning, keys: Array, points: Array) -> _Group:
        kernel = sampler.kernel(density, tuning)
        states, cost = over_group(kernel.init)(jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys), points)
        spent = jnp.broadcast_to(jnp.asarray(cost.gradients, int), (len(points),))
        return _Group(keys, states, spent, jnp.asarray(0, int))

    return start


def _advanced(kernel: Kernel, group: _Group) -> _Group:
    """One step of every chain of a group."""
    keys = jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, 1), group.step))(group.keys)
    states, info = over_group(kernel.step)(keys, group.states)
    return _Group(group.keys, states, group.spent + info.cost.gradients, group.step + 1)


def _observed(kernel: Kernel, observe: Observe, group: _Group) -> Array:
    return over_group(lambda state: observe(kernel.position(state)))(group.states)


@functools.lru_cache(maxsize=64)
def _recording(sampler: FixedSampler, observe: Observe, thin: int) -> Callable[..., tuple]:
    """``(density, tuning, group, rows) -> (group, values [row, chain, …], gradients [row, chain])``."""

    @jax.jit
    def record(density: Density, tuning: Tuning, group: _Group, rows: Array) -> tuple[_Group, Array, Array]:
        kernel = sampler.kernel(density, tuning)
        shape = jax.eval_shape(lambda group: _observed(kernel, observe, group), group)

        def row(i: Array, carry: tuple[_Group, Array, Array]) -> tuple[_Group, Array, Array]:
            group, values, spent = carry
            group = jax.lax.fori_loop(0, thin, lambda _, g: _advanced(kernel, g), group)
            values = jax.lax.dynamic_update_index_in_dim(values, _observed(kernel, observe, group), i, 0)
            return group, values, jax.lax.dynamic_update_index_in_dim(spent, group.spent, i, 0)

        buffers = jnp.zeros((ROWS, *shape.shape), shape.dtype), jnp.zeros((ROWS, len(group.keys)), int)
        return jax.lax.fori_loop(0, rows, row, (group, *buffers))

    return record


@functools.lru_cache(maxsize=64)
def _summing(sampler: FixedSampler, observe: Observe) -> Callable[..., tuple]:
    """``(density, tuning, group, totals, counts, limit, budget) -> (group, totals, counts)``."""

    @jax.jit
    def add(
        density: Density,
        tuning: Tuning,
        group: _Group,
        totals: Array,
        counts: Array,
        limit: Array,
        budget: Array,
    ) -> tuple[_Group, Array, Array]:
        kernel = sampler.kernel(density, tuning)

        def body(carry: tuple[_Group, Array, Array]) -> tuple[_Group, Array, Array]:
            group, totals, counts = carry
            # A chain of a group that has spent its budget goes on with the others, and no longer counts.
            counted = group.spent < budget
            moved = _advanced(kernel, group)
            spent = jnp.where(counted, moved.spent, group.spent)
            values = _observed(kernel, observe, moved)
            totals = totals + jnp.where(counted[:, None], values, 0.0)
            return moved._replace(spent=spent), totals, counts + counted

        def unfinished(carry: tuple[_Group, Array, Array]) -> Array:
            return jnp.min(carry[0].spent) < limit

        return jax.lax.while_loop(unfinished, body, (group, totals, counts))

    return add
