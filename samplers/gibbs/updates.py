"""What a Gibbs sampler is made of: updates of blocks, and the point that they hand on to one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jax import Array, lax

from ...models.conditional import Conditional
from ...models.target import Density
from ..base import Cost


class Point(NamedTuple):
    """Where a chain is."""

    position: Array
    """``f[dim]``, unconstrained"""
    extra: dict[str, Array]
    """What is sampled besides, by name: discrete labels, hidden states."""
    log_density: Array
    """Of the target at the position, where it is known."""
    known: Array
    """``b[]``"""


class Outcome(NamedTuple):
    """What an update did."""

    state: Any
    """The update's own: what it adapts."""
    point: Point
    cost: Cost
    acceptance: Array
    """In [0, 1]; 1 of an update that cannot reject."""


class Update(Protocol):
    """Updates of one or several blocks that are alike, each leaving the target invariant: pure, one chain."""

    @property
    def size(self) -> int:
        """How many blocks."""
        ...

    def start(self, point: Point) -> Any:
        """Its own state, before anything is adapted."""
        ...

    def step(
        self, key: Array, block: Array, state: Any, point: Point, density: Density, adapting: bool
    ) -> Outcome:
        """Update block number ``block``, ``i[]``; what it adapts changes only where ``adapting``."""
        ...


@dataclass(frozen=True)
class Exact:
    """Draws from conditionals that the target knows."""

    conditional: Conditional

    @property
    def size(self) -> int:
        return self.conditional.size

    def start(self, point: Point) -> tuple[()]:
        return ()

    def step(
        self, key: Array, block: Array, state: tuple[()], point: Point, density: Density, adapting: bool
    ) -> Outcome:
        position, extra = self.conditional.draw(key, block, point.position, point.extra)
        moved = Point(position, extra, jnp.full_like(point.log_density, jnp.nan), jnp.asarray(False))
        return Outcome((), moved, Cost(conditional_draws=self.conditional.draws), jnp.ones(()))


def evaluated(density: Density, point: Point) -> tuple[Point, Array]:
    """The point with its log density, and the evaluations that took: none where an update has left it."""
    value = lax.cond(point.known, lambda: point.log_density, lambda: density.log_density(point.position))
    return point._replace(log_density=value, known=jnp.asarray(True)), jnp.where(point.known, 0, 1)


def coordinates_of(chosen: tuple[int, ...] | None, point: Point) -> Array:
    """The coordinates of a block, all where none are named: ``i[k]``."""
    return jnp.arange(len(point.position)) if chosen is None else jnp.asarray(chosen)
