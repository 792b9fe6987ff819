"""Gibbs sampling: one sweep over blocks, each updated given all the rest.

Geman & Geman (1984); Gelfand & Smith (1990). An update is exact (`Conditional`) or any kernel that leaves the
conditional distribution invariant (slice, Metropolis, HMC): Metropolis within Gibbs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ...models.conditional import nothing
from ...models.target import Density
from ..base import Cost, Info, Kernel, add_cost
from .scans import Scan, is_fixed, order_of
from .updates import Point, Update

type Start = Callable[[Array, Array], dict[str, Array]]


class GibbsState(NamedTuple):
    point: Point
    updates: tuple[Any, ...]
    """What every update adapts."""


def gibbs_kernel(
    density: Density,
    updates: Sequence[Update],
    scan: Scan,
    weights: Sequence[float] | None = None,
    start: Start = nothing,
) -> Kernel:
    """A step is a sweep: as many updates as there are blocks.

    ``acceptance`` is the mean over the updates of a sweep.
    """
    sizes = [update.size for update in updates]
    blocks = sum(sizes)

    def init(key: Array, position: Array) -> tuple[GibbsState, Cost]:
        point = Point(position, start(key, position), jnp.full((), jnp.nan), jnp.asarray(False))
        return GibbsState(point, tuple(update.start(point) for update in updates)), Cost()

    def one(
        number: int, key: Array, block: Array, state: GibbsState, adapting: bool
    ) -> tuple[GibbsState, Cost, Array]:
        own = state.updates[number]
        out = updates[number].step(key, block, own, state.point, density, adapting)
        all_own = (*state.updates[:number], out.state, *state.updates[number + 1 :])
        return GibbsState(out.point, all_own), _integers(out.cost), out.acceptance

    def fixed(key: Array, state: GibbsState, adapting: bool) -> tuple[GibbsState, Cost, Array]:
        """Update after update; the blocks of one in a loop."""
        carry = state, _integers(Cost()), jnp.zeros(())
        numbers = range(len(updates)) if scan == "systematic" else reversed(range(len(updates)))
        for number in numbers:
            size = sizes[number]
            own_key = jax.random.fold_in(key, number)

            def body(
                j: Array, carry: tuple, number: int = number, own_key: Array = own_key, size: int = size
            ) -> tuple:
                state, cost, acceptance = carry
                block = j if scan == "systematic" else size - 1 - j
                state, more, accepted = one(number, jax.random.fold_in(own_key, j), block, state, adapting)
                return state, add_cost(cost, more), acceptance + accepted

            carry = lax.fori_loop(0, size, body, carry) if size > 1 else body(jnp.int32(0), carry)
        return carry

    def shuffled(key: Array, state: GibbsState, adapting: bool) -> tuple[GibbsState, Cost, Array]:
        which = jnp.repeat(jnp.arange(len(updates)), jnp.asarray(sizes), total_repeat_length=blocks)
        inside = jnp.concatenate([jnp.arange(size) for size in sizes])
        order_key, key = jax.random.split(key)
        order = order_of(scan, order_key, blocks, weights)
        branches = [
            lambda key, block, state, n=number: one(n, key, block, state, adapting)
            for number in range(len(updates))
        ]

        def body(j: Array, carry: tuple) -> tuple:
            state, cost, acceptance = carry
            own, b = jax.random.fold_in(key, j), order[j]
            state, more, accepted = lax.switch(which[b], branches, own, inside[b], state)
            return state, add_cost(cost, more), acceptance + accepted

        return lax.fori_loop(0, blocks, body, (state, _integers(Cost()), jnp.zeros(())))

    def sweep(key: Array, state: GibbsState, adapting: bool) -> tuple[GibbsState, Info]:
        go = fixed if is_fixed(scan) else shuffled
        state, cost, acceptance = go(key, state, adapting)
        return state, Info(cost, acceptance / blocks, jnp.asarray(False), dict(state.point.extra))

    return Kernel(
        init=init,
        step=lambda key, state: sweep(key, state, False),
        position=lambda state: state.point.position,
        warm=lambda key, state: sweep(key, state, True),
    )


def _integers(cost: Cost) -> Cost:
    return Cost(*(jnp.asarray(value, jnp.int32) for value in cost))
