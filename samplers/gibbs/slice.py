"""Univariate slice sampling with stepping out and shrinkage (Neal 2003, Annals of Statistics 31)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ...models.target import Density
from ..base import Cost
from .updates import Outcome, Point, evaluated

SHRINKAGES = 100
"""Points that may be tried in a slice; beyond them the chain stays where it is."""
MOVES_PER_WIDTH = 3.0
"""The adapted width over the mean absolute move: about the width of a slice of a Gaussian."""
PRIOR_MOVES = 5.0
"""Moves that the first width counts for while it is adapted."""


class Widths(NamedTuple):
    """The widths of all coordinates, ``f[k]``, and the moves that they come from."""

    width: Array
    moved: Array
    """Sums of absolute moves"""
    moves: Array


@dataclass(frozen=True)
class SliceUpdate:
    """One coordinate after the other, each by a slice of its own.

    Parameters
    ----------
    coordinates : unconstrained ones; a block each.
    width : of the first interval; adapted in warmup, coordinate by coordinate, then held.
    steps : intervals to which a slice may be stepped out (Neal's m).
    """

    coordinates: tuple[int, ...]
    width: float = 1.0
    steps: int = 16

    def __post_init__(self) -> None:
        if not self.width > 0 or self.steps < 1:
            raise ValueError(
                f"width={self.width}, steps={self.steps}: give a positive width and 1 step or more"
            )

    @property
    def size(self) -> int:
        return len(self.coordinates)

    def start(self, point: Point) -> Widths:
        zeros = jnp.zeros(self.size)
        return Widths(jnp.full(self.size, self.width), zeros, zeros)

    def step(
        self, key: Array, block: Array, state: Widths, point: Point, density: Density, adapting: bool
    ) -> Outcome:
        coordinate = jnp.asarray(self.coordinates)[block]
        level_key, place, sides, shrink = jax.random.split(key, 4)
        point, first = evaluated(density, point)
        here, width = point.position[coordinate], state.width[block]
        level = point.log_density - jax.random.exponential(level_key)

        def height(x: Array) -> Array:
            return density.log_density(point.position.at[coordinate].set(x))

        left = here - width * jax.random.uniform(place)
        below = jax.random.randint(sides, (), 0, self.steps)
        lower = _stepped_out(height, level, left, -width, below)
        upper = _stepped_out(height, level, left + width, width, self.steps - 1 - below)
        found = _shrunk(height, level, shrink, here, lower.edge, upper.edge, point.log_density)
        position = point.position.at[coordinate].set(found.x)
        moved = point._replace(position=position, log_density=found.height)
        cost = Cost(densities=first + lower.evaluations + upper.evaluations + found.evaluations)
        if adapting:
            state = _adapted(state, block, jnp.abs(found.x - here), self.width)
        return Outcome(state, moved, cost, jnp.ones(()))


class _Edge(NamedTuple):
    edge: Array
    left: Array
    """Steps that may still be taken"""
    outside: Array
    evaluations: Array


def _stepped_out(
    height: Callable[[Array], Array], level: Array, edge: Array, move: Array, steps: Array | int
) -> _Edge:
    """An end of the interval, moved until it lies outside of the slice (Neal 2003, figure 3)."""

    def body(now: _Edge) -> _Edge:
        outside = ~(height(now.edge) > level)
        edge = jnp.where(outside, now.edge, now.edge + move)
        return _Edge(edge, now.left - 1, outside, now.evaluations + 1)

    begun = _Edge(edge, jnp.asarray(steps), jnp.asarray(False), jnp.int32(0))
    return lax.while_loop(lambda now: ~now.outside & (now.left > 0), body, begun)


class _Found(NamedTuple):
    x: Array
    height: Array
    low: Array
    high: Array
    inside: Array
    evaluations: Array


def _shrunk(
    height: Callable[[Array], Array],
    level: Array,
    key: Array,
    here: Array,
    low: Array,
    high: Array,
    height_here: Array,
) -> _Found:
    """A uniform point of the slice within an interval that shrinks about ``here`` (Neal 2003, figure 5)."""

    def body(now: _Found) -> _Found:
        own = jax.random.fold_in(key, now.evaluations)
        x = now.low + (now.high - now.low) * jax.random.uniform(own)
        value = height(x)
        inside = value > level
        low, high = jnp.where(x < here, x, now.low), jnp.where(x < here, now.high, x)
        return _Found(x, value, low, high, inside, now.evaluations + 1)

    begun = _Found(here, height_here, low, high, jnp.asarray(False), jnp.int32(0))
    end = lax.while_loop(lambda now: ~now.inside & (now.evaluations < SHRINKAGES), body, begun)
    x, value = jnp.where(end.inside, end.x, here), jnp.where(end.inside, end.height, height_here)
    return end._replace(x=x, height=value)


def _adapted(state: Widths, block: Array, move: Array, first: float) -> Widths:
    moved, moves = state.moved.at[block].add(move), state.moves.at[block].add(1.0)
    mean = (moved[block] + PRIOR_MOVES * first / MOVES_PER_WIDTH) / (moves[block] + PRIOR_MOVES)
    return Widths(state.width.at[block].set(MOVES_PER_WIDTH * mean), moved, moves)
