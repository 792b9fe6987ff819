"""Where log p is quadratic: the best factorized Gaussian in closed form, and the ELBO of every other one.

    log p(x) = log p(m) − ½ (x − m)ᵀ Λ (x − m)

The best factorized Gaussian has the means m and the variances 1/Λ_kk. Any other, with means a and variances
v, has an ELBO that is smaller by

    ½ (a − m)ᵀ Λ (a − m) + ½ Σ_k (Λ_kk v_k − 1 − log Λ_kk v_k)

which follows from E_q log p and the entropy. All is computed from gradients, so that it serves densities
without second derivatives: of a quadratic, a difference of two gradients is a product with Λ. No matrix is
formed.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from ...models.target import Density, Target
from ..base import Cost
from ..mode_search import RADIUS, climber
from .families import Problem
from .gaussian import Factors
from .hierarchical import AmortizedGaussian, Hierarchical

PAIRS = 3
"""Of points, for each of two probes of whether the gradient is affine."""
SPREAD = 3.0
"""Standard deviations about the mode in which the second probe looks."""
BATCH = 64
"""Gradients that are computed together for the diagonal."""
SINGULAR = 1e-12
"""A curvature, with the diagonal of Λ scaled to 1, that is not told from 0."""
RESIDUAL = 1e-10
"""What conjugate gradients leave of a residual, relatively; three rounds of them refine a mode."""
ROUNDS = 3
STATIONARY = 1e-6
"""Nats per standard deviation (1/√Λ_kk): the gradient at what is accepted for the mode."""
RISE, IDLE, ITERATIONS = 1e-9, 10, 2000
"""`ascended` ends after so many iterations in a row that bring less than so many nats each, or in all."""


class Gaussian(NamedTuple):
    """A quadratic log density; a pytree."""

    density: Density
    mode: Array
    """``f[dim]``"""
    top: Array
    """log p at the mode, with the constant that the density has"""
    precisions: Array
    """Λ_kk, ``f[dim]``"""

    @property
    def optimum(self) -> Factors:
        """The best factorized Gaussian."""
        return Factors(self.mode, -0.5 * jnp.log(self.precisions))

    @property
    def elbo(self) -> Array:
        """Of the optimum: E_q log p = log p(m) − dim/2, and the entropy."""
        dim = len(self.mode)
        return self.top + 0.5 * (dim * jnp.log(2 * jnp.pi) - jnp.log(self.precisions).sum())

    def shortfall(self, factors: Factors) -> Array:
        """By how many nats the ELBO of a factorized Gaussian is below the optimum's.

        One gradient, with which small shortfalls keep their digits: log p itself is a large number.
        """
        away = factors.loc - self.mode
        return -0.5 * jnp.vdot(away, self.density.value_and_grad(factors.loc)[1]) + self._of_spreads(factors)

    def relative_elbo(self, factors: Factors) -> Array:
        """The ELBO minus the optimum's, from log p: differentiable."""
        return self.density.log_density(factors.loc) - self.top - self._of_spreads(factors)

    def _of_spreads(self, factors: Factors) -> Array:
        ratio = 2 * factors.log_scale + jnp.log(self.precisions)  # log Λ_kk v_k
        return 0.5 * jnp.sum(jnp.expm1(ratio) - ratio)


def gaussian_of(target: Target, key: Array) -> tuple[Gaussian | None, Cost]:
    """The target as a quadratic, if it is one: its gradient is affine, to half of the digits of its numbers.

    That is probed at random points of the box in which chains start, and then about the mode. Costs about
    2 dim gradients where the target is Gaussian, 9 where it is not.

    Raises
    ------
    ValueError
        If log p is quadratic and has no maximum, or one that conjugate gradients do not find.
    """
    density, dim = target.density, target.dim
    keys = jax.random.split(key, 4)
    points = jax.random.uniform(keys[0], (2 * PAIRS, dim), minval=-RADIUS, maxval=RADIUS)
    spent = 3 * PAIRS
    if not bool(_is_affine(density, points[:PAIRS], points[PAIRS:])):
        return None, Cost(gradients=spent)
    identity = jnp.arange(dim)
    _, rough = _precisions(density, points[0], jnp.ones(dim))
    spent += dim + 1
    _refuse_improper(target, rough)
    scale = 1 / jnp.sqrt(rough)
    mode, cost = _maximum(target, density, identity, scale, keys[1])
    top, precisions = _precisions(density, mode, scale)
    spent += cost + dim + 1
    _refuse_improper(target, precisions)
    # Not in pairs about the mode: there the gradient of every symmetric density is odd, which looks affine.
    steps = SPREAD * jax.random.normal(keys[2], (2 * PAIRS, dim)) / jnp.sqrt(precisions)
    spent += 3 * PAIRS
    if not bool(_is_affine(density, mode + steps[:PAIRS], mode + steps[PAIRS:])):
        return None, Cost(gradients=spent)
    return Gaussian(density, mode, top, precisions), Cost(gradients=spent)


def tied_optimum(target: Target, gaussian: Gaussian, groups: np.ndarray, key: Array) -> tuple[Factors, Cost]:
    """The best factorized Gaussian whose factors are equal within groups of coordinates.

    With P the groups' indicators: the means Pa of the largest density, a = (PᵀΛP)⁻¹ PᵀΛm, and for a group of
    n_g coordinates the variance n_g / Σ Λ_kk.

    Parameters
    ----------
    groups : ``i[dim]``, the number of every coordinate's group: 0, 1, …
    """
    count, sums = np.bincount(groups), np.bincount(groups, np.asarray(gaussian.precisions))
    index, scale = jnp.asarray(groups), jnp.asarray(1 / np.sqrt(sums))
    mean, spent = _maximum(target, gaussian.density, index, scale, key)
    log_scale = 0.5 * np.log(count / sums)
    return Factors(mean[index], jnp.asarray(log_scale[groups])), Cost(gradients=spent)


class Ascended(NamedTuple):
    params: Hierarchical
    converged: bool
    cost: Cost


def ascended(
    family: AmortizedGaussian, problem: Problem, gaussian: Gaussian, params: Hierarchical
) -> Ascended:
    """A fit carried on to a maximum of its exact ELBO by L-BFGS: no Monte Carlo noise is left in it."""
    params, idle, evaluations = _ascend(family, problem, gaussian, params)
    return Ascended(params, int(idle) >= IDLE, Cost(gradients=int(evaluations)))


def factors_of(problem: Problem, factors: Factors) -> Factors:
    """Factors on the space of u as factors on the target's space, ``f[dim]``."""
    return Factors(problem.position(factors.loc), factors.log_scale + jnp.log(problem.scale))


@functools.partial(jax.jit, static_argnums=0)
def _ascend(
    family: AmortizedGaussian, problem: Problem, gaussian: Gaussian, params: Hierarchical
) -> tuple[Hierarchical, Array, Array]:
    start, unravel = ravel_pytree(params)

    def gain(flat: Array) -> Array:
        return gaussian.relative_elbo(factors_of(problem, family.factors(unravel(flat), problem.space)))

    climb = climber(gain)

    def going(now: tuple) -> Array:
        return (now[1] < IDLE) & (now[0].iteration < ITERATIONS)

    def iterate(now: tuple) -> tuple:
        after = climb.advance(now[0])
        return after, jnp.where(after.risen < RISE, now[1] + 1, 0)

    first = climb.begin(start)
    end, idle = lax.while_loop(going, iterate, (first, jnp.int32(0)))
    # A line search that fails may end below its start.
    best = jnp.where(end.loss <= first.loss, end.position, start)
    return unravel(best), idle, end.evaluations


@jax.jit
def _is_affine(density: Density, first: Array, second: Array) -> Array:
    """Whether the gradient halfway between points is the mean of theirs, coordinate by coordinate."""
    points = jnp.stack([first, second, (first + second) / 2])
    values, gradients = jax.vmap(jax.vmap(density.value_and_grad))(points)
    size = jnp.abs(gradients).max(axis=(0, 1))
    error = jnp.abs(gradients[2] - (gradients[0] + gradients[1]) / 2).max(axis=0)
    tolerance = jnp.sqrt(jnp.finfo(first.dtype).eps)
    return jnp.all(jnp.isfinite(values)) & jnp.all(error <= tolerance * size)


@jax.jit
def _precisions(density: Density, point: Array, steps: Array) -> tuple[Array, Array]:
    """log p, and Λ_kk by the change of the gradient along every coordinate, ``f[dim]``; dim + 1 gradients."""
    value, base = density.value_and_grad(point)

    def along(k: Array) -> Array:
        moved = density.value_and_grad(point.at[k].add(steps[k]))[1]
        return (base[k] - moved[k]) / steps[k]

    return value, lax.map(along, jnp.arange(len(point)), batch_size=min(BATCH, len(point)))


def _refuse_improper(target: Target, precisions: Array) -> None:
    if flat := np.flatnonzero(~(np.asarray(precisions) > 0)).tolist():
        raise ValueError(
            f"the log density of {target.name} is quadratic but no proper Gaussian's: it does not fall along"
            f" {len(flat)} coordinates, the first of them number {flat[0]}"
        )


def _maximum(target: Target, density: Density, groups: Array, scale: Array, key: Array) -> tuple[Array, int]:
    """Where a quadratic has its maximum among points whose coordinates are equal within groups.

    A random right-hand side comes first: along a direction in which log p is flat there is no solution, which
    the equations of the mode would not show.

    Parameters
    ----------
    scale : ``f[group]``, about 1/√ of the diagonal of what is solved

    Returns
    -------
    tuple
        The groups' values, ``f[group]``, and the gradients spent.
    """
    point = jnp.zeros(len(scale))
    probe = jax.random.normal(key, point.shape)
    solved = _newton(density, groups, scale, point, probe)
    spent = int(solved.gradients)
    if not bool(solved.definite):
        raise ValueError(
            f"the log density of {target.name} is quadratic but no proper Gaussian's, or too near to one that"
            " is not: along some direction it does not fall"
        )
    for _ in range(ROUNDS):
        solved = _newton(density, groups, scale, point, jnp.zeros_like(point))
        point, spent = point + solved.step, spent + int(solved.gradients)
    gradient = float(solved.steepness)
    if not gradient <= STATIONARY:
        raise ValueError(
            f"the mode of {target.name} was not found: after {ROUNDS} rounds of conjugate gradients the"
            f" gradient is {gradient:.2g} nats per standard deviation; less correlated parameters would help"
        )
    return point, spent


class _Solved(NamedTuple):
    step: Array
    definite: Array
    steepness: Array
    """The largest derivative after the step, with every coordinate in units of its scale."""
    gradients: Array


@jax.jit
def _newton(density: Density, groups: Array, scale: Array, point: Array, right: Array) -> _Solved:
    """The step from a point to the maximum, by conjugate gradients.

    Written out, as jax's own do not say how many products they took: each is a gradient, and is counted.

    Parameters
    ----------
    right : what the equations have on the right side in place of the gradient, where it is not 0
    """
    dim = len(scale)

    def slope(at: Array) -> Array:
        gradient = density.value_and_grad(at[groups])[1]
        return scale * jax.ops.segment_sum(gradient, groups, dim)

    base = slope(point)

    def product(v: Array) -> Array:
        # The difference is exact for any length: one of about a unit a coordinate loses no digits.
        length = jnp.sqrt(dim) / jnp.linalg.norm(v)
        return (base - slope(point + scale * length * v)) / length

    b = jnp.where(jnp.any(right != 0), right, base)
    goal = RESIDUAL * jnp.linalg.norm(b)

    def going(now: tuple) -> Array:
        _, residual, _, definite, iteration = now
        return definite & (jnp.linalg.norm(residual) > goal) & (iteration < 10 * dim + 10)

    def iterate(now: tuple) -> tuple:
        x, residual, direction, _, iteration = now
        image = product(direction)
        curvature, length = jnp.vdot(direction, image), jnp.vdot(residual, residual)
        definite = curvature > SINGULAR * jnp.vdot(direction, direction)
        size = jnp.where(definite, length / curvature, 0.0)
        left = residual - size * image
        onward = left + jnp.vdot(left, left) / length * direction
        return x + size * direction, left, onward, definite, iteration + 1

    begun = jnp.zeros(dim), b, b, jnp.asarray(True), jnp.int32(0)
    x, _, _, definite, iterations = lax.while_loop(going, iterate, begun)
    step = scale * x
    return _Solved(step, definite, jnp.abs(slope(point + step)).max(), iterations + 2)
