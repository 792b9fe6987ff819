"""HMC within Gibbs: a trajectory of a block's coordinates, all others held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ...models.target import Density
from ..base import Cost
from ..integrators import PhasePoint, log_joint, trajectory
from ..metrics import make_metric, sample_momentum
from ..step_size import DualAveraging, start_averaging, update_averaging
from .updates import Outcome, Point, coordinates_of

FIRST = 0.1
"""The step size before anything is known."""
ENOUGH = 20
"""Positions before their variances are used as the metric."""


class Trajectories(NamedTuple):
    """What is adapted."""

    averaging: DualAveraging
    mean: Array
    squares: Array
    """Sums of squares about the mean, ``f[k]``"""
    positions: Array
    """How many those are of"""


@dataclass(frozen=True)
class HMCUpdate:
    """A leapfrog trajectory of fixed length and an acceptance test.

    Parameters
    ----------
    coordinates : unconstrained ones; None for all.
    num_integration_steps : of a trajectory; it costs one gradient more.
    target_acceptance : what dual averaging of the step size aims at in warmup.
    """

    coordinates: tuple[int, ...] | None = None
    num_integration_steps: int = 8
    target_acceptance: float = 0.8

    def __post_init__(self) -> None:
        if self.num_integration_steps < 1:
            raise ValueError(f"num_integration_steps={self.num_integration_steps}: give at least 1")
        if not 0 < self.target_acceptance < 1:
            raise ValueError(f"target_acceptance={self.target_acceptance}: give a value in (0, 1)")

    @property
    def size(self) -> int:
        return 1

    def start(self, point: Point) -> Trajectories:
        zeros = jnp.zeros(len(coordinates_of(self.coordinates, point)))
        return Trajectories(start_averaging(jnp.asarray(FIRST), 1.0), zeros, zeros, jnp.zeros(()))

    def step(
        self, key: Array, block: Array, state: Trajectories, point: Point, density: Density, adapting: bool
    ) -> Outcome:
        momentum_key, accept = jax.random.split(key)
        chosen = coordinates_of(self.coordinates, point)
        metric = make_metric(_variances(state))
        averaged = state.averaging.log_step_size if adapting else state.averaging.log_averaged
        step_size = jnp.exp(jnp.where(state.averaging.updates > 0, averaged, jnp.log(FIRST)))

        def fused(_: tuple[()], x: Array) -> tuple[Array, Array]:
            value, gradient = density.value_and_grad(point.position.at[chosen].set(x))
            return value, gradient[chosen]

        def value(_: tuple[()], x: Array) -> Array:
            return density.log_density(point.position.at[chosen].set(x))

        of_block, here = Density(fused, value, ()), point.position[chosen]
        start = PhasePoint(here, sample_momentum(momentum_key, metric), *of_block.value_and_grad(here))
        end = trajectory(of_block, metric, start, step_size, self.num_integration_steps)
        change = log_joint(metric, end) - log_joint(metric, start)
        change = jnp.where(jnp.isfinite(change), change, -jnp.inf)
        accepted = -jax.random.exponential(accept) <= change
        x = jnp.where(accepted, end.position, start.position)
        log_density = jnp.where(accepted, end.log_density, start.log_density)
        moved = Point(point.position.at[chosen].set(x), point.extra, log_density, jnp.asarray(True))
        acceptance = jnp.exp(jnp.minimum(0.0, change))
        if adapting:
            state = _adapted(state, x, acceptance, self.target_acceptance)
        return Outcome(state, moved, Cost(gradients=jnp.int32(self.num_integration_steps + 1)), acceptance)


def _variances(state: Trajectories) -> Array:
    """The inverse metric: the variances of the positions so far."""
    found = (state.squares + 1e-3) / jnp.maximum(state.positions - 1, 1)
    return jnp.where(state.positions > ENOUGH, found, 1.0)


def _adapted(state: Trajectories, x: Array, acceptance: Array, target: float) -> Trajectories:
    count = state.positions + 1
    before = x - state.mean
    mean = state.mean + before / count
    averaging = update_averaging(state.averaging, acceptance, target)
    return Trajectories(averaging, mean, state.squares + before * (x - mean), count)
