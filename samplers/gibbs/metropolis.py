"""Random-walk Metropolis on a block, adapted in warmup (Haario, Saksman & Tamminen 2001)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ...models.target import Density
from ..base import Cost
from .updates import Outcome, Point, coordinates_of, evaluated

ONE, MANY = 0.44, 0.234
"""Acceptance rates that are best in one dimension and in many (Roberts, Gelman & Gilks 1997)."""
DECAY = 0.6
"""The scale's steps fall as t^−0.6 (Andrieu & Thoms 2008)."""
ENOUGH = 5
"""Positions per dimension before their covariance is used."""
RIDGE = 1e-8


class Walk(NamedTuple):
    """What is adapted."""

    log_scale: Array
    factor: Array
    """Cholesky factor of the proposals' covariance at scale 1, ``f[k, k]``"""
    mean: Array
    scatter: Array
    """Sum of squares and products about the mean"""
    positions: Array
    """How many those are of"""


@dataclass(frozen=True)
class MetropolisUpdate:
    """All coordinates of a block together, by a Gaussian random walk.

    Parameters
    ----------
    coordinates : unconstrained ones; None for all.
    target_acceptance : None for 0.44 of one coordinate and 0.234 of more.
    """

    coordinates: tuple[int, ...] | None = None
    target_acceptance: float | None = None

    def __post_init__(self) -> None:
        if self.target_acceptance is not None and not 0 < self.target_acceptance < 1:
            raise ValueError(f"target_acceptance={self.target_acceptance}: give a value in (0, 1), or None")

    @property
    def size(self) -> int:
        return 1

    def start(self, point: Point) -> Walk:
        k = len(coordinates_of(self.coordinates, point))
        zeros = jnp.zeros(k)
        return Walk(jnp.log(2.38 / jnp.sqrt(k)), jnp.eye(k), zeros, jnp.zeros((k, k)), jnp.zeros(()))

    def step(
        self, key: Array, block: Array, state: Walk, point: Point, density: Density, adapting: bool
    ) -> Outcome:
        propose, accept = jax.random.split(key)
        chosen = coordinates_of(self.coordinates, point)
        point, first = evaluated(density, point)
        move = jnp.exp(state.log_scale) * state.factor @ jax.random.normal(propose, chosen.shape)
        position = point.position.at[chosen].add(move)
        value = density.log_density(position)
        change = jnp.where(jnp.isfinite(value), value - point.log_density, -jnp.inf)
        accepted = -jax.random.exponential(accept) <= change
        moved = point._replace(
            position=jnp.where(accepted, position, point.position),
            log_density=jnp.where(accepted, value, point.log_density),
        )
        acceptance = jnp.exp(jnp.minimum(0.0, change))
        if adapting:
            target = self.target_acceptance or (ONE if len(chosen) == 1 else MANY)
            state = _adapted(state, moved.position[chosen], acceptance - target)
        return Outcome(state, moved, Cost(densities=first + 1), acceptance)


def _adapted(state: Walk, x: Array, excess: Array) -> Walk:
    count = state.positions + 1
    before = x - state.mean
    mean = state.mean + before / count
    scatter = state.scatter + jnp.outer(before, x - mean)
    k = len(x)
    covariance = scatter / jnp.maximum(count - 1, 1) + RIDGE * jnp.eye(k)
    factor = jnp.where(count > ENOUGH * k + 1, jnp.linalg.cholesky(covariance), state.factor)
    log_scale = state.log_scale + excess * count**-DECAY
    return Walk(log_scale, jnp.where(jnp.isfinite(factor).all(), factor, state.factor), mean, scatter, count)
