"""Where fits begin: a point on the way to a mode, and the scale of every coordinate there.

L-BFGS climbs from a random point. At each of its iterations it has an estimate of the diagonal of the
inverse Hessian, the one of Gilbert & Lemaréchal (1989) that Pathfinder uses (Zhang, Carpenter, Gelman &
Vehtari 2022, algorithm 3), and with it a Gaussian at that point. As in Pathfinder the point with the best
ELBO is taken, of all climbs, not the highest: a mode may be a pole of the density.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.stats import norm

from ...models.target import Density
from ..base import Cost
from ..mode_search import NOWHERE, Climb, LogDensity, climber, random_start
from .families import Locals

ITERATIONS = 400
"""Of L-BFGS, at most."""
RISE, IDLE = 1e-3, 15
"""The climb ends after so many iterations in a row that bring less than so many nats each: in a narrow valley
a dozen of them may bring nothing."""
STATIONARY = 1e-6
"""Nats per standard deviation, as the diagonal has it: where the gradient is no more, the climb ends."""
SHARE = 10
"""The climbs take no more than a tenth of the budget: towards a pole of the density they would not end."""
PATHS = 4
"""Climbs from different points, of which the one with the best ELBO is taken: some end in a poor mode."""
DRAWS = 4
"""Of every Gaussian, for its ELBO."""
CURVED = 1e-10
"""A change of gradient that goes less along the change of position than this says nothing of the scale."""


class Start(NamedTuple):
    """One fit's origin and units."""

    center: Array
    scale: Array
    """``f[dim]``, standard deviations"""
    found: Array
    """Whether a point of finite density was found, ``b[]``"""
    cost: Cost


def random_origin(density: Density, key: Array, dim: int, budget: Array | int) -> Start:
    """A uniform point of finite density, and unit scales."""
    start = random_start(density.log_density, key, dim)
    return Start(start.position, jnp.ones(dim), start.found, Cost(densities=start.gradients))


def climbed_start(density: Density, key: Array, dim: int, budget: Array | int) -> Start:
    """The best point of `PATHS` climbs, and the scales there.

    Parameters
    ----------
    budget : gradients of the start and of all that comes after it
    """
    limit = budget // (SHARE * PATHS)
    _, starts = lax.scan(
        lambda _, k: (None, _climb(density, k, dim, limit)), None, jax.random.split(key, PATHS)
    )
    best = jnp.argmax(jnp.where(starts.found, starts.elbo, -jnp.inf))
    center, scale, found = starts.center[best], starts.scale[best], starts.found[best]
    cost = Cost(gradients=starts.gradients.sum(), densities=starts.densities.sum())
    return Start(center, scale, found, cost)


class _Climbed(NamedTuple):
    center: Array
    scale: Array
    elbo: Array
    found: Array
    gradients: Array
    densities: Array


class _Path(NamedTuple):
    now: Climb
    points: Array
    """``f[iteration, dim]``"""
    variances: Array
    heights: Array
    """log p"""
    idle: Array


def _climb(density: Density, key: Array, dim: int, limit: Array | int) -> _Climbed:
    """The point of a climb whose Gaussian has the best ELBO; not much more than ``limit`` gradients."""
    first, second = jax.random.split(key)
    start = random_start(density.log_density, first, dim)
    climb = climber(density.log_density)
    points = jnp.zeros((ITERATIONS + 1, dim)).at[0].set(start.position)
    first_climb = climb.begin(start.position)
    heights = jnp.zeros(ITERATIONS + 1).at[0].set(-first_climb.loss)
    begun = _Path(first_climb, points, jnp.ones_like(points), heights, jnp.int32(0))

    def going(path: _Path) -> Array:
        now = path.now
        steepness = jnp.abs(now.gradient * jnp.sqrt(path.variances[now.iteration])).max()
        left = (now.iteration < ITERATIONS) & (now.evaluations < limit) & (now.loss < NOWHERE)
        return left & (path.idle < IDLE) & (steepness > STATIONARY)

    def iterate(path: _Path) -> _Path:
        before, now = path.now, climb.advance(path.now)
        moved, turned = now.position - before.position, now.gradient - before.gradient
        diagonal = secant_diagonal(path.variances[before.iteration], moved, turned)
        at = now.iteration
        points, variances = path.points.at[at].set(now.position), path.variances.at[at].set(diagonal)
        heights = path.heights.at[at].set(-now.loss)
        return _Path(now, points, variances, heights, jnp.where(now.risen < RISE, path.idle + 1, 0))

    path = lax.while_loop(going, iterate, begun)
    ends = path.now.iteration

    def consider(back: Array, best: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        """From the end on: most points before it are far too low to be the best."""
        index = ends - back
        own = jax.random.fold_in(second, index)
        variances = path.variances[index]
        # Where log p is concave, E_q log p is no more than log p at the mean.
        most = path.heights[index] + 0.5 * jnp.sum(jnp.log(2 * jnp.pi * jnp.e * variances))
        value = lax.cond(
            most > best[0],
            lambda: _elbo(density.log_density, own, path.points[index], variances),
            lambda: jnp.asarray(-jnp.inf),
        )
        better, judged = value > best[0], best[2] + jnp.where(most > best[0], DRAWS, 0)
        return jnp.where(better, value, best[0]), jnp.where(better, index, best[1]), judged

    nothing = jnp.asarray(-jnp.inf), jnp.zeros_like(ends), jnp.int32(0)
    elbo, best, judged = lax.fori_loop(0, ends + 1, consider, nothing)
    densities = start.gradients + judged
    scale = jnp.sqrt(path.variances[best])
    return _Climbed(path.points[best], scale, elbo, start.found, path.now.evaluations, densities)


def secant_diagonal(diagonal: Array, moved: Array, turned: Array) -> Array:
    """The diagonal of the inverse Hessian after a step, from that before it; all ``f[dim]``.

    Parameters
    ----------
    moved, turned : the change of position, s, and of the gradient of −log p, y
    """
    a = jnp.vdot(turned, diagonal * turned)
    b = jnp.vdot(turned, moved)
    c = jnp.vdot(moved, moved / diagonal)
    updated = 1 / (a / (b * diagonal) + turned**2 / b - a * moved**2 / (b * c * diagonal**2))
    good = (b > CURVED * jnp.vdot(turned, turned)) & jnp.all(jnp.isfinite(updated) & (updated > 0))
    return jnp.where(good, updated, diagonal)


def _elbo(log_density: LogDensity, key: Array, center: Array, variance: Array) -> Array:
    scale = jnp.sqrt(variance)
    points = center + scale * jax.random.normal(key, (DRAWS, len(center)))
    bounds = jax.vmap(log_density)(points) - norm.logpdf(points, center, scale).sum(axis=1)
    return bounds.mean()  # −inf where any is


def tied(start: Start, locals: Locals) -> Start:
    """The same origin and units for every datum's local parameters: their mean, and the geometric mean.

    A map from data to factors would otherwise have to undo what differs between the data.
    """
    places = locals.places
    center = start.center.at[places].set(start.center[places].mean(axis=0))
    scale = start.scale.at[places].set(jnp.exp(jnp.log(start.scale[places]).mean(axis=0)))
    return start._replace(center=center, scale=scale)
