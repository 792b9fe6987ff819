"""F-VI on the nonlinear latent model without Monte Carlo: its ELBO by quadrature, its optimum by search.

Given q(θ) = N(t, s²), the factor N(m, v²) of a local parameter adds to the ELBO

    f(m, v; x) = E[−½ z² − cos z − ½ w(z) ((x − t − h(z))² + s²)] + log v + const,
    w(z) = exp(−2 cos z),   h(z) = z + z sin z,

which depends on x by few moments: with B = E w, C = E w h, D = E w h²,

    f(m, v; x) = A − ½ [B ((x − t)² + s²) − 2 (x − t) C + D] + log v + const,   A = E[−½ z² − cos z].

Over a grid of (m, v) they are the same for all data: every datum is searched exhaustively, then improved by
Newton's method. Given the local factors q(θ) has a closed form; the two alternate until nothing changes.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

NODES = 64
"""Of Gauss and Hermite's rule: with twice as many no moment changes by more than 1e-9 of itself where v ≤ 1.
The optimum's v are below 0.85; the grid reaches farther, to find that."""
LOCS = np.linspace(-5.0, 5.0, 161)
LOG_SCALES = np.linspace(-3.0, 0.5, 29)
CHUNK = 1000
"""Data whose grid is held in memory together."""
NEWTON, STEPS = 20, 2
"""Steps after a search of the grid, and from one round to the next."""
ROUNDS, TOLERANCE = 1000, 1e-9
"""The alternation ends when q(θ)'s mean changes by less; the ELBO is then stationary to its square."""
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_nodes, _weights = np.polynomial.hermite_e.hermegauss(NODES)
_NODES, _WEIGHTS = jnp.asarray(_nodes), jnp.asarray(_weights / _weights.sum())


class Moments(NamedTuple):
    """A, B, C and D of factors, ``f[...]`` each."""

    prior: Array
    weight: Array
    first: Array
    second: Array


@dataclass(frozen=True, eq=False)
class Factorized:
    """A factorized Gaussian: of θ, and of every local parameter."""

    theta: float
    theta_scale: float
    loc: np.ndarray
    """``f[n]``"""
    scale: np.ndarray


def moments(loc: Array, scale: Array) -> Moments:
    """By quadrature; ``f[...]``."""
    z = loc[..., None] + scale[..., None] * _NODES
    w, h = jnp.exp(-2 * jnp.cos(z)), z + z * jnp.sin(z)
    return Moments(*(values @ _WEIGHTS for values in (-0.5 * z**2 - jnp.cos(z), w, w * h, w * h**2)))


def local_elbo(found: Moments, log_scale: Array, residual: Array, spread: Array) -> Array:
    """f: what local factors add to the ELBO, all constants included.

    Parameters
    ----------
    residual, spread : x − t, and s²
    """
    a, b, c, d = found
    quadratic = b * (residual**2 + spread) - 2 * residual * c + d
    return a - 0.5 * quadratic - 2 * HALF_LOG_2PI + log_scale + HALF_LOG_2PI + 0.5


def local_elbos(x: np.ndarray, q: Factorized) -> np.ndarray:
    """What every datum's factor adds to the ELBO, ``f[n]``."""
    loc, scale, residual = (jnp.asarray(values) for values in (q.loc, q.scale, x - q.theta))
    return np.asarray(
        local_elbo(moments(loc, scale), jnp.log(scale), residual, jnp.asarray(q.theta_scale**2))
    )


def elbo(x: np.ndarray, q: Factorized) -> float:
    """Of a factorized Gaussian; log p with all its constants."""
    theta = -HALF_LOG_2PI - 0.5 * (q.theta**2 + q.theta_scale**2) + math.log(q.theta_scale)
    return float(local_elbos(x, q).sum()) + theta + HALF_LOG_2PI + 0.5


# -- the optimum --------------------------------------------------------------------------------------


def factorized_optimum(x: np.ndarray) -> Factorized:
    """F-VI's best approximation of the posterior."""
    return _alternate(x, np.arange(len(x)))


def constant_optimum(x: np.ndarray) -> Factorized:
    """The same where all local parameters share one factor."""
    return _alternate(x, np.zeros(len(x), int))


def best_factors(residual: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """The best factors given q(θ): the grid's best, improved; means and log scales, ``f[n, 2]``.

    Parameters
    ----------
    residual, spread : x − t, and its variance (s², and that of the data that share the factor), ``f[n]``
    """
    factors, columns = _table()
    features = np.stack([np.ones_like(residual), residual**2 + spread, residual])
    parts = np.array_split(features, -(-len(residual) // CHUNK), axis=1)
    best = np.concatenate([np.argmax(columns @ part, axis=0) for part in parts])
    return _improve(factors[best], residual, spread, NEWTON)


@functools.cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    """The factors of the grid, ``f[g, 2]``, and f there as columns · (1, r² + s², r), ``f[g, 3]``."""
    loc, log_scale = (x.ravel() for x in np.meshgrid(LOCS, LOG_SCALES, indexing="ij"))
    a, b, c, d = (np.asarray(x) for x in moments(jnp.asarray(loc), jnp.asarray(np.exp(log_scale))))
    return np.stack([loc, log_scale], 1), np.stack([a + log_scale - 0.5 * d, -0.5 * b, c], 1)


def _improve(factors: np.ndarray, residual: np.ndarray, spread: np.ndarray, steps: int) -> np.ndarray:
    return np.asarray(_newton(*map(jnp.asarray, (factors, residual, spread, steps))))


@jax.jit
def _newton(factors: Array, residual: Array, spread: Array, steps: Array) -> Array:
    """Newton's method in two dimensions, each step kept only where it does not lower f."""

    def one(begin: Array, r: Array, s2: Array) -> Array:
        def value(p: Array) -> Array:
            return local_elbo(moments(p[0], jnp.exp(p[1])), p[1], r, s2)

        def step(_: int, p: Array) -> Array:
            moved = p - jnp.linalg.solve(jax.hessian(value)(p), jax.grad(value)(p))
            return jnp.where(value(moved) >= value(p), moved, p)  # not where it is NaN

        return jax.lax.fori_loop(0, steps, step, begin)

    return jax.vmap(one)(factors, residual, spread)


def _alternate(x: np.ndarray, group: np.ndarray) -> Factorized:
    """The best factorized Gaussian in which data of one group share their factor.

    Parameters
    ----------
    group : of every datum, ``i[n]``
    """
    # f is linear in r and r² + s²: its mean over a group is f of one datum at their means.
    size = np.bincount(group)
    center = np.bincount(group, x) / size
    within = np.bincount(group, (x - center[group]) ** 2) / size
    theta, variance = float(x.mean()), 1 / len(x)
    factors, searched = best_factors(center - theta, variance + within), True
    for _ in range(ROUNDS):
        found = moments(jnp.asarray(factors[:, 0]), jnp.asarray(np.exp(factors[:, 1])))
        weight, first = (size * np.asarray(values) for values in (found.weight, found.first))
        before, theta = theta, float(np.sum(weight * center - first)) / (1 + float(weight.sum()))
        variance = 1 / (1 + float(weight.sum()))
        settled = abs(theta - before) <= TOLERANCE
        if settled and searched:
            return Factorized(theta, variance**0.5, factors[group, 0], np.exp(factors[group, 1]))
        searched = settled  # everywhere once more, in case another maximum has become the best
        if searched:
            factors = best_factors(center - theta, variance + within)
        else:
            factors = _improve(factors, center - theta, variance + within, STEPS)
    raise RuntimeError(f"the alternation did not settle in {ROUNDS} rounds")
