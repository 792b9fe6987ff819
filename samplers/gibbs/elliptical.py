"""Elliptical slice sampling of a block with a Gaussian prior (Murray, Adams & MacKay, AISTATS 2010)."""

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
"""Angles that may be tried; beyond them the chain stays where it is."""


class GaussianPrior(NamedTuple):
    """N(mean, L Lᵀ) of a block."""

    mean: Array
    factor: Array
    """L, ``f[k, k]``, or its diagonal ``f[k]``"""

    def draw(self, key: Array) -> Array:
        """Less the mean."""
        z = jax.random.normal(key, self.mean.shape)
        return self.factor @ z if self.factor.ndim == 2 else self.factor * z

    def log_density(self, x: Array) -> Array:
        """Up to a constant in x."""
        offset = x - self.mean
        if self.factor.ndim == 2:
            whitened = jax.scipy.linalg.solve_triangular(self.factor, offset, lower=True)
        else:
            whitened = offset / self.factor
        return -0.5 * whitened @ whitened


class _Arc(NamedTuple):
    angle: Array
    low: Array
    high: Array
    x: Array
    log_density: Array
    inside: Array
    evaluations: Array


@dataclass(frozen=True)
class EllipticalSliceUpdate:
    """A block on an ellipse through its value and a draw of its prior.

    Parameters
    ----------
    coordinates : unconstrained ones.
    prior : ``position f[dim] -> GaussianPrior`` of the block, which may depend on the other coordinates; what
        the log density has besides it is the likelihood.
    """

    coordinates: tuple[int, ...]
    prior: Callable[[Array], GaussianPrior]

    @property
    def size(self) -> int:
        return 1

    def start(self, point: Point) -> tuple[()]:
        return ()

    def step(
        self, key: Array, block: Array, state: tuple[()], point: Point, density: Density, adapting: bool
    ) -> Outcome:
        other_key, level_key, first_key, more = jax.random.split(key, 4)
        chosen = jnp.asarray(self.coordinates)
        point, first = evaluated(density, point)
        prior = self.prior(point.position)
        here = point.position[chosen]
        offset, other = here - prior.mean, prior.draw(other_key)
        level = point.log_density - prior.log_density(here) - jax.random.exponential(level_key)

        def at(angle: Array) -> tuple[Array, Array, Array]:
            x = prior.mean + offset * jnp.cos(angle) + other * jnp.sin(angle)
            value = density.log_density(point.position.at[chosen].set(x))
            return x, value, value - prior.log_density(x) > level

        def body(now: _Arc) -> _Arc:
            x, value, inside = at(now.angle)
            low, high = (
                jnp.where(now.angle < 0, now.angle, now.low),
                jnp.where(now.angle < 0, now.high, now.angle),
            )
            own = jax.random.fold_in(more, now.evaluations)
            angle = jax.random.uniform(own, (), minval=low, maxval=high)
            return _Arc(angle, low, high, x, value, inside, now.evaluations + 1)

        angle = jax.random.uniform(first_key, (), maxval=2 * jnp.pi)
        none = jnp.int32(0)
        begun = _Arc(angle, angle - 2 * jnp.pi, angle, here, point.log_density, jnp.asarray(False), none)
        end = lax.while_loop(lambda now: ~now.inside & (now.evaluations < SHRINKAGES), body, begun)
        moved = point._replace(
            position=point.position.at[chosen].set(jnp.where(end.inside, end.x, here)),
            log_density=jnp.where(end.inside, end.log_density, point.log_density),
        )
        return Outcome((), moved, Cost(densities=first + end.evaluations), jnp.ones(()))
