"""The programs of a fit: begin, take steps until a window's rule or the budget ends it, draw.

A lane is one fit with one learning rate: a program of its own, so that it costs nothing once it has ended. A
step's key follows from the lane's key and the step's number: results do not depend on how the work was cut.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from ..timing import Program
from .families import Family, Problem
from .objective import elbo_gradient, log_weights
from .settings import Fitting

DECAY_FROM = 0.6
"""Part of the steps after which the learning rate falls along a cosine."""
LOWEST = 0.01
"""What it falls to, over what it was."""
ADAM_B2 = 0.99
"""Of Adam: gradients shrink by orders of magnitude, and the default remembers a thousand steps."""
CLIP = 5.0
"""Root mean squares, as Adam remembers them, that one step's gradient may come to: a single draw in a heavy
tail would otherwise move every parameter by about ten times the rate."""
SETBACK = 5.0, 20.0
"""Nats, and standard errors, below the best window's ELBO at which a fit has been lost."""


class Lane(NamedTuple):
    """Where a fit stands."""

    params: Any
    optimizer: Any
    step: Array
    """Steps taken, ``i[]``"""
    window: tuple[Array, Array]
    """Sums of the ELBO and of its square over the steps of the present window"""
    elbo: Array
    """The ELBO's mean over the last window that is complete; −inf before there is one"""
    failed: Array
    """Draws so far at which the density could not be evaluated, ``i[]``"""
    halvings: Array
    """How often the rate has been halved, ``f[]``"""
    best: Any
    """The parameters at the end of the window with the best ELBO"""
    best_elbo: Array
    best_error: Array
    """Its standard error, from the steps of that window"""


class Programs(NamedTuple):
    begin: Program
    """``(problem, key) -> Lane``"""
    advance: Program
    """``(problem, lane, key, rate, total, until) -> Lane``: to step number ``until`` of ``total``"""
    draw: Program
    """``(problem, params, keys) -> (f[n, dim], f[n])``: draws on the target's space, and log p − log q"""


@functools.lru_cache(maxsize=64)
def programs_for(family: Family, fitting: Fitting) -> Programs:
    optimizer = optax.chain(
        optax.scale_by_adam(b2=ADAM_B2),
        optax.contrib.reduce_on_plateau(
            factor=0.5,
            patience=fitting.patience,
            rtol=0.0,
            atol=fitting.tolerance,
            accumulation_size=fitting.window,
        ),
    )

    def begin(problem: Problem, key: Array) -> Lane:
        params = family.init(key, problem.space)
        lowest, none = jnp.asarray(-jnp.inf), jnp.zeros(())
        zero = jnp.zeros((), jnp.int64 if jax.config.read("jax_enable_x64") else jnp.int32)
        sums = none, none
        return Lane(params, optimizer.init(params), zero, sums, lowest, zero, none, params, lowest, none)

    def step(problem: Problem, lane: Lane, key: Array, rate: Array, total: Array) -> Lane:
        keys = jax.random.split(jax.random.fold_in(key, lane.step), fitting.samples)
        found = elbo_gradient(family, problem, fitting.estimator, lane.params, keys)
        # +∞ is a log q that has overflowed: no better than NaN.
        elbo = jnp.where(jnp.isfinite(found.elbo), found.elbo, -jnp.inf)
        descent = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), -g, 0.0), found.gradient)
        descent = _clipped(descent, lane.optimizer[0])
        state: Any
        updates, state = optimizer.update(descent, lane.optimizer, lane.params, value=-elbo)
        size = rate * _tail(lane.step / total)
        params = jax.tree.map(lambda p, u: p - size * u, lane.params, updates)
        number, sums = lane.step + 1, (lane.window[0] + elbo, lane.window[1] + elbo**2)
        ended = number % fitting.window == 0
        mean, error = _window(sums, fitting.window)
        better = ended & (mean > lane.best_elbo)
        nats, errors = SETBACK
        lost = ended & ~(mean >= lane.best_elbo - nats - errors * lane.best_error)  # true of NaN
        best = _where(better, params, lane.best)
        plateau = state[1]
        halved = plateau._replace(scale=jnp.where(lost, plateau.scale / 2, plateau.scale))
        return Lane(
            params=_where(lost, best, params),
            optimizer=(state[0], halved),
            step=number,
            window=_where(ended, (jnp.zeros(()), jnp.zeros(())), sums),
            elbo=jnp.where(ended, mean, lane.elbo),
            failed=lane.failed + found.failed,
            halvings=jnp.round(-jnp.log2(halved.scale)),  # 5.999… of 2⁻⁶ else
            best=best,
            best_elbo=jnp.where(better, mean, lane.best_elbo),
            best_error=jnp.where(better, error, lane.best_error),
        )

    def advance(problem: Problem, lane: Lane, key: Array, rate: Array, total: Array, until: Array) -> Lane:
        def going(now: Lane) -> Array:
            return (now.step < until) & (now.halvings < fitting.halvings)

        return lax.while_loop(going, lambda now: step(problem, now, key, rate, total), lane)

    return Programs(
        Program(begin),
        Program(advance),
        Program(functools.partial(log_weights, family)),
    )


def _window(sums: tuple[Array, Array], steps: int) -> tuple[Array, Array]:
    """The mean over a window's steps, and its standard error."""
    mean = sums[0] / steps
    variance = jnp.maximum(sums[1] / steps - mean**2, 0.0)
    return mean, jnp.sqrt(variance / steps)


def _clipped(gradient: Any, adam: Any) -> Any:
    """Every element limited to `CLIP` times its root mean square so far."""
    seen = 1 - ADAM_B2**adam.count

    def clip(g: Array, square: Array) -> Array:
        limit = jnp.where(adam.count > 0, CLIP * jnp.sqrt(square / jnp.maximum(seen, 1e-9)), jnp.inf)
        # Where there was no gradient so far, as of what is above a diagonal, there is nothing to go by.
        return jnp.where(limit > 0, jnp.clip(g, -limit, limit), g)

    return jax.tree.map(clip, gradient, adam.nu)


def _where(condition: Array, a: Any, b: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def _tail(fraction: Array) -> Array:
    """What the rate is multiplied by after a fraction of all steps."""
    cosine = optax.cosine_decay_schedule(1.0, decay_steps=1, alpha=LOWEST)
    return jnp.asarray(cosine(jnp.clip((fraction - DECAY_FROM) / (1 - DECAY_FROM), 0.0, 1.0)))
