"""Climbing a log density from a random point: L-BFGS with a line search (optax), every evaluation counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from ..models.target import Target

RADIUS = 2.0
"""Chains start uniformly in (−2, 2) in every unconstrained coordinate, as in Stan."""
TRIES = 100
"""Points that may be tried for one of finite density, as in Stan."""
LINE_SEARCH = 10
"""Evaluations in one iteration, at most."""
NOWHERE = 1e100
"""Minus the log density where it is not finite: the line search turns back."""

type LogDensity = Callable[[Array], Array]


class Started(NamedTuple):
    """One chain's first position."""

    position: Array
    gradients: Array
    """Gradients of the whole density that finding it has cost, ``i[]``."""
    found: Array
    """Whether it is what was looked for: a point of finite density, or a mode."""


def random_start(log_density: LogDensity, key: Array, dim: int) -> Started:
    """A uniform point of finite density; every one that is tried costs a gradient."""

    def propose(trial: Array) -> Started:
        point = jax.random.uniform(jax.random.fold_in(key, trial), (dim,), minval=-RADIUS, maxval=RADIUS)
        return Started(point, trial + 1, jnp.isfinite(log_density(point)))

    return lax.while_loop(
        lambda s: ~s.found & (s.gradients < TRIES), lambda s: propose(s.gradients), propose(jnp.int32(0))
    )


def nowhere(target: Target) -> str:
    """What to say where none is found."""
    reason = getattr(target.counter, "last_error", None)
    return (
        f"no initial position of finite density was found for {target.name}: {TRIES} tries in"
        f" (−{RADIUS:g}, {RADIUS:g}) on every unconstrained coordinate"
        + (f"; the last evaluation that failed said: {reason}" if reason else "")
    )


class Climb(NamedTuple):
    """Where a search stands."""

    position: Array
    state: Any
    """optax's; its last part holds minus the log density at the position, and the gradient of that."""
    iteration: Array
    evaluations: Array
    risen: Array
    """By how much the last iteration has raised the log density; infinite before the first."""

    @property
    def loss(self) -> Array:
        """Minus the log density, `NOWHERE` where that is not finite."""
        return self.state[-1].value

    @property
    def gradient(self) -> Array:
        """Of the loss."""
        return self.state[-1].grad


class Climber(NamedTuple):
    begin: Callable[[Array], Climb]
    """``f[dim] -> Climb``; costs one evaluation"""
    advance: Callable[[Climb], Climb]
    """One iteration; its line search costs up to `LINE_SEARCH` evaluations"""


def climber(log_density: LogDensity) -> Climber:
    """L-BFGS on minus a log density."""

    def loss(theta: Array) -> Array:
        value = -log_density(theta)
        return jnp.where(jnp.isfinite(value), value, NOWHERE)

    search = optax.scale_by_zoom_linesearch(max_linesearch_steps=LINE_SEARCH, initial_guess_strategy="one")
    optimizer: Any = optax.lbfgs(linesearch=search)  # whose state optax types as any tree

    def begin(position: Array) -> Climb:
        value, gradient = jax.value_and_grad(loss)(position)
        *before, line = optimizer.init(position)
        state = (*before, line._replace(value=value, grad=gradient))
        return Climb(position, state, jnp.int32(0), jnp.int32(1), jnp.full_like(value, jnp.inf))

    def advance(now: Climb) -> Climb:
        line = now.state[-1]
        updates, state = optimizer.update(
            line.grad, now.state, now.position, value=line.value, grad=line.grad, value_fn=loss
        )
        return Climb(
            position=jnp.asarray(optax.apply_updates(now.position, updates)),
            state=state,
            iteration=now.iteration + 1,
            evaluations=now.evaluations + state[-1].info.num_linesearch_steps.astype(jnp.int32),
            risen=line.value - state[-1].value,
        )

    return Climber(begin, advance)
