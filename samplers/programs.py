"""The compiled loops of a run: initialization, warmup and sampling of one group of chains."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from ..models.target import Density
from .adaptation import (
    AdaptationState,
    Tuning,
    WindowedAdaptation,
    adapt,
    first_tuning,
    start_adaptation,
)
from .base import Cost, Info, Kernel, add_cost
from .groups import over_group
from .integrators import TrajectoryLength
from .mode_search import RADIUS, TRIES
from .timing import Program
from .trajectory_time import pilot

WARMUP = 1
"""The stream of keys of warmup's steps."""
BUFFER = 1024
"""Draws that one call of the sampling loop can hold."""


class KernelSampler(Protocol):
    """What the driver needs of a sampler: a frozen, hashable configuration with a kernel."""

    @property
    def adaptation(self) -> WindowedAdaptation: ...

    @property
    def execution(self) -> str:
        """How the chains run together: one of `layouts.EXECUTIONS`."""
        ...

    equal_steps: ClassVar[bool]
    """Whether the steps of all chains cost the same at every iteration."""

    def kernel(self, density: Density, tuning: Tuning) -> Kernel: ...


class Group(NamedTuple):
    """Where a group of chains stands; leaves have a leading chain axis unless they say otherwise."""

    keys: Array
    states: Any
    adaptation: AdaptationState
    """Shared by the group, no chain axis."""
    cost: Cost
    drawn: Array
    """Sampling steps taken, ``i[]``."""
    finite: Array
    """Whether a position of finite density was found at the start."""

    @property
    def spent(self) -> Array:
        """Evaluations so far, ``i[chain]``: gradients, densities and conditional draws count one each."""
        return work(self.cost)


def work(cost: Cost) -> Any:
    """What a cost takes from a budget: a gradient, a density, a conditional draw count as one each."""
    return cost.gradients + cost.densities + cost.conditional_draws


class Chunk(NamedTuple):
    """Draws and infos of some steps, ``[step, chain, …]``; the first ``filled`` rows are filled."""

    draws: Array
    info: Info
    filled: Array


class Programs(NamedTuple):
    """The three compiled loops of one sampler configuration."""

    start: Program
    """``(density, keys) -> Group``"""
    warm: Program
    """``(density, group, until, stop, warmup budget) -> Group``: to the step ``until``, or until ``stop``
    gradients are spent"""
    pilot: Program
    """``(density, group, tuning, warmup budget) -> (Group, f[chain, step])``: NUTS trajectories' times"""
    sample: Program
    """``(density, group, tuning, wanted, budget) -> (Group, Chunk)``"""


@functools.lru_cache(maxsize=128)
def programs_for(sampler: KernelSampler, dim: int) -> Programs:
    """The programs of a configuration in ``dim`` dimensions, made once in a process."""
    return Programs(
        start=Program(functools.partial(_start, sampler, dim)),
        warm=Program(functools.partial(_warm, sampler)),
        pilot=Program(functools.partial(_pilot, sampler)),
        sample=Program(functools.partial(_sample, sampler)),
    )


def _start(sampler: KernelSampler, dim: int, density: Density, keys: Array) -> Group:
    # Three keys a chain: what is drawn for one purpose must not decide what is drawn for another.
    streams = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, 0), 3))(keys)
    positions, evaluated, finite, tries = _initial_positions(density, streams[:, 0], dim)
    # The evaluations are handed on: XLA would merge a second one with the one of `kernel.init`, and
    # fewer would be executed than are counted.
    config, trajectory = sampler.adaptation, trajectory_of(sampler)
    first = first_tuning(config, dim, positions.dtype, trajectory)
    gradients = config.uses_gradients(sampler.kernel(density, first))
    adaptation, spent = start_adaptation(
        config, streams[0, 1], density, positions, evaluated, gradients, trajectory
    )
    kernel = sampler.kernel(density, adaptation.tuning)
    states, cost = over_group(kernel.init)(streams[:, 2], positions)
    chains = keys.shape[0]
    cost = add_cost(_counted(cost, (chains,)), _counted(Cost(gradients=tries + spent), (chains,)))
    return Group(keys, states, adaptation, cost, jnp.asarray(0, int), finite)


class _Initial(NamedTuple):
    positions: Array
    evaluated: tuple[Array, Array]
    """Log densities and gradients at the positions."""
    finite: Array
    tries: Array


def _initial_positions(density: Density, keys: Array, dim: int) -> _Initial:
    """Uniform positions, drawn again where the density is 0; also whether found, and the tries.

    The chains of a group try together, so that each pays for as many tries as the unluckiest.
    """

    def propose(trial: Array) -> tuple[Array, tuple[Array, Array]]:
        def one(key: Array) -> Array:
            key = jax.random.fold_in(key, trial)
            return jax.random.uniform(key, (dim,), minval=-RADIUS, maxval=RADIUS)

        positions = jax.vmap(one)(keys)
        return positions, over_group(density.value_and_grad)(positions)

    def body(carry: _Initial) -> _Initial:
        def keep(old: Array, new: Array) -> Array:
            return jnp.where(carry.finite.reshape(-1, *[1] * (new.ndim - 1)), old, new)

        new = propose(carry.tries)
        positions, evaluated = jax.tree.map(keep, (carry.positions, carry.evaluated), new)
        return _Initial(positions, evaluated, jnp.isfinite(evaluated[0]), carry.tries + 1)

    chains = keys.shape[0]
    nowhere = jnp.zeros((chains, dim))
    start = _Initial(nowhere, (jnp.zeros(chains), nowhere), jnp.zeros(chains, bool), jnp.int32(0))
    return jax.lax.while_loop(lambda c: ~jnp.all(c.finite) & (c.tries < TRIES), body, start)


def _warm(
    sampler: KernelSampler, density: Density, group: Group, until: Array, stop: Array, budget: Array
) -> Group:
    config, trajectory = sampler.adaptation, trajectory_of(sampler)

    def body(group: Group) -> Group:
        state = group.adaptation
        states, info = _step(sampler, density, state.tuning, group, WARMUP, state.step)
        if warms_itself(sampler):
            cost = add_cost(group.cost, info.cost)
            return group._replace(states=states, adaptation=state._replace(step=state.step + 1), cost=cost)
        spent = group.spent + work(info.cost)
        kernel = sampler.kernel(density, state.tuning)
        key = jax.random.fold_in(jax.random.fold_in(group.keys[0], 2), state.step)
        state, extra = adapt(
            config,
            key,
            density,
            state,
            over_group(kernel.position)(states),
            over_group(kernel.gradient)(states)
            if kernel.gradient and config.uses_gradients(kernel)
            else None,
            info.acceptance,
            progress=jnp.max(spent) / budget,
            **({"unit_time": trajectory.integration_time} if trajectory else {}),
        )
        cost = add_cost(group.cost, add_cost(info.cost, _counted(Cost(extra), spent.shape)))
        return group._replace(states=states, adaptation=state, cost=cost)

    def unfinished(group: Group) -> Array:
        return (group.adaptation.step < until) & (jnp.max(group.spent) < stop)

    return jax.lax.while_loop(unfinished, body, group)


def _pilot(
    sampler: KernelSampler, density: Density, group: Group, tuning: Tuning, budget: Array
) -> tuple[Group, Array]:
    from .peers.blackjax import NUTS  # which is itself run by the driver, above this floor

    trajectory = trajectory_of(sampler)
    assert trajectory is not None
    doublings = max(1, (trajectory.max_num_integration_steps + 1).bit_length() - 1)
    kernel = NUTS(max_num_doublings=doublings).kernel(density, tuning)
    position = over_group(sampler.kernel(density, tuning).position)
    key = jax.random.fold_in(group.keys[0], 4)
    times, spent = pilot(
        kernel, key, position(group.states), tuning.step_size, (budget - jnp.max(group.spent)) // 2
    )
    return group._replace(cost=add_cost(group.cost, _counted(Cost(gradients=spent), spent.shape))), times


def warms_itself(sampler: KernelSampler) -> bool:
    """Whether the kernel adapts in its own steps of warmup; it then warms up for its part of the budget."""
    return bool(getattr(sampler, "warms_itself", False))


def trajectory_of(sampler: KernelSampler) -> TrajectoryLength | None:
    """How far a sampler integrates, None for samplers that decide as they go."""
    found = getattr(sampler, "trajectory", None)
    return found if isinstance(found, TrajectoryLength) else None


def _sample(
    sampler: KernelSampler,
    density: Density,
    group: Group,
    tuning: Tuning,
    wanted: Array,
    budget: Array,
) -> tuple[Group, Chunk]:
    position = over_group(sampler.kernel(density, tuning).position)

    def body(carry: tuple[Group, Chunk]) -> tuple[Group, Chunk]:
        group, chunk = carry
        states, info = _step(sampler, density, tuning, group, 3, group.drawn)

        def put(buffer: Array, row: Array) -> Array:
            return jax.lax.dynamic_update_index_in_dim(buffer, row, chunk.filled, 0)

        draws, infos = jax.tree.map(put, (chunk.draws, chunk.info), (position(states), info))
        group = group._replace(states=states, cost=add_cost(group.cost, info.cost), drawn=group.drawn + 1)
        return group, Chunk(draws, infos, chunk.filled + 1)

    def unfinished(carry: tuple[Group, Chunk]) -> Array:
        group, chunk = carry
        return (chunk.filled < wanted) & (jnp.max(group.spent) < budget)

    row = jax.eval_shape(
        lambda group: (position(group.states), _step(sampler, density, tuning, group, 3, 0)[1]), group
    )
    draws, info = jax.tree.map(lambda leaf: jnp.zeros((BUFFER, *leaf.shape), leaf.dtype), row)
    return jax.lax.while_loop(unfinished, body, (group, Chunk(draws, info, jnp.asarray(0, int))))


def _step(
    sampler: KernelSampler,
    density: Density,
    tuning: Tuning,
    group: Group,
    stream: int,
    step: Array | int,
) -> tuple[Any, Info]:
    """One step of every chain of a group; its key follows from the chain, the phase and the step."""

    def key_of(key: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(key, stream), step)

    kernel = sampler.kernel(density, tuning)
    take = kernel.warm if stream == WARMUP and kernel.warm else kernel.step
    states, info = over_group(take)(jax.vmap(key_of)(group.keys), group.states)
    return states, info._replace(cost=_counted(info.cost, group.spent.shape))


def trace_step(sampler: KernelSampler, density: Density, dim: int, started: Callable[[], None]) -> None:
    """Trace a start and then a sampling step of two chains together, executing nothing.

    ``started`` is called in between.
    """
    group = jax.eval_shape(
        lambda keys: _start(sampler, dim, density, keys), jax.random.split(jax.random.key(0))
    )
    started()
    jax.eval_shape(lambda g: _step(sampler, density, g.adaptation.tuning, g, 3, 0), group)


def _counted(cost: Cost, shape: tuple[int, ...]) -> Cost:
    """The same cost with one integer a chain in every field."""
    return Cost(*(jnp.broadcast_to(jnp.asarray(x).astype(int), shape) for x in cost))
