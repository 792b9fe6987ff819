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

ITERATIONS = 100
"""Of L-BFGS, at most."""
RISE, IDLE = 1e-3, 5
"""The climb ends after so many iterations in a row that bring less than so many nats each: in a narrow valley
single iterations may bring nothing."""
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


def random_origin(density: Density, key: Array, dim: int) -> Start:
    """A uniform point of finite density, and unit scales."""
    start = random_start(density.log_density, key, dim)
    return Start(start.position, jnp.ones(dim), start.found, Cost(densities=start.gradients))


def climbed_start(density: Density, key: Array, dim: int) -> Start:
    """The best point of `PATHS` climbs, and the scales there."""
    _, starts = lax.scan(lambda _, k: (None, _climb(density, k, dim)), None, jax.random.split(key, PATHS))
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
    idle: Array


def _climb(density: Density, key: Array, dim: int) -> _Climbed:
    """The point of a climb whose Gaussian has the best ELBO."""
    first, second = jax.random.split(key)
    start = random_start(density.log_density, first, dim)
    climb = climber(density.log_density)
    points = jnp.zeros((ITERATIONS + 1, dim)).at[0].set(start.position)
    begun = _Path(climb.begin(start.position), points, jnp.ones_like(points), jnp.int32(0))

    def going(path: _Path) -> Array:
        return (path.idle < IDLE) & (path.now.iteration < ITERATIONS) & (path.now.loss < NOWHERE)

    def iterate(path: _Path) -> _Path:
        before, now = path.now, climb.advance(path.now)
        moved, turned = now.position - before.position, now.gradient - before.gradient
        diagonal = secant_diagonal(path.variances[before.iteration], moved, turned)
        at = now.iteration
        points, variances = path.points.at[at].set(now.position), path.variances.at[at].set(diagonal)
        return _Path(now, points, variances, jnp.where(now.risen < RISE, path.idle + 1, 0))

    path = lax.while_loop(going, iterate, begun)

    def consider(index: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        own = jax.random.fold_in(second, index)
        value = _elbo(density.log_density, own, path.points[index], path.variances[index])
        better = value > best[0]
        return jnp.where(better, value, best[0]), jnp.where(better, index, best[1])

    ends = path.now.iteration
    nothing = jnp.asarray(-jnp.inf), jnp.zeros_like(ends)
    elbo, best = lax.fori_loop(0, ends + 1, consider, nothing)
    densities = start.gradients + DRAWS * (ends + 1)
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
