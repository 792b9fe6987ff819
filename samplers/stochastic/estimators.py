"""Estimates of ∇ log p(θ) from a part of the data.

All are unbiased: with a minibatch B of m rows drawn with replacement and ℓ_i the log likelihood of row i,

    minibatch           ∇ log prior(θ) + n/m Σ_{i∈B} ∇ℓ_i(θ)
    control variates    ∇ log prior(θ) + Σ_i ∇ℓ_i(θ̂) + n/m Σ_{i∈B} (∇ℓ_i(θ) − ∇ℓ_i(θ̂))
    SVRG                the same about a snapshot of the chain, taken anew every epoch

Welling & Teh (2011); Baker, Fearnhead, Fox & Nemeth (2019, Statistics and Computing 29) for control variates
about the mode; Dubey et al. (2016, NeurIPS) for SVRG in Langevin dynamics. A minibatch costs m
datum-gradients; the other two 2m a step, and n at θ̂, or at every snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array, lax

from .problem import Problem
from .settings import Gradients


class Estimator(Protocol):
    """One chain's estimates: pure functions, under ``jit`` and ``vmap`` too; equal if they do the same."""

    def start(self, problem: Problem, key: Array, position: Array) -> Any:
        """The state at the start, which has cost `start_cost`."""
        ...

    def estimate(
        self, problem: Problem, key: Array, state: Any, position: Array, number: Array
    ) -> tuple[Array, Any]:
        """The estimate ``f[dim]`` in step ``number`` of the chain, and the next state."""
        ...

    def start_cost(self, problem: Problem) -> int:
        """Datum-gradients."""
        ...

    def cost(self, problem: Problem, steps: int) -> int:
        """Datum-gradients of steps 0 to ``steps`` − 1."""
        ...

    def communications(self, steps: int) -> int:
        """Rounds of communication in steps 0 to ``steps`` − 1, the start included."""
        ...


def rows_of(key: Array, batch: int, n: int) -> Array:
    """A minibatch: ``i[batch]``, with replacement."""
    return jax.random.randint(key, (batch,), 0, n)


@dataclass(frozen=True)
class Minibatch:
    """The plain estimate."""

    batch: int

    def start(self, problem: Problem, key: Array, position: Array) -> tuple[()]:
        return ()

    def estimate(
        self, problem: Problem, key: Array, state: tuple[()], position: Array, number: Array
    ) -> tuple[Array, tuple[()]]:
        rows = rows_of(key, self.batch, problem.n)
        scale = problem.n / self.batch

        def log_density(theta: Array) -> Array:
            return problem.log_prior(theta) + scale * problem.log_likelihood(theta, rows)

        return jax.grad(log_density)(position), ()

    def start_cost(self, problem: Problem) -> int:
        return 0

    def cost(self, problem: Problem, steps: int) -> int:
        return steps * self.batch

    def communications(self, steps: int) -> int:
        return 0


class Anchor(NamedTuple):
    """A point and the gradient of the whole likelihood there."""

    position: Array
    gradient: Array


def anchored(problem: Problem, position: Array) -> Anchor:
    """n datum-gradients."""
    gradient = jax.grad(problem.log_likelihood)(position, jnp.arange(problem.n))
    return Anchor(position, gradient)


def difference(problem: Problem, key: Array, batch: int, anchor: Anchor, position: Array) -> Array:
    """The estimate with an anchor as its control variate; 2m datum-gradients."""
    rows = rows_of(key, batch, problem.n)
    gradient = jax.grad(problem.log_likelihood)
    change = gradient(position, rows) - gradient(anchor.position, rows)
    return jax.grad(problem.log_prior)(position) + anchor.gradient + problem.n / batch * change


@dataclass(frozen=True)
class ControlVariates:
    """Control variates about where the chain starts: the mode."""

    batch: int

    def start(self, problem: Problem, key: Array, position: Array) -> Anchor:
        return anchored(problem, position)

    def estimate(
        self, problem: Problem, key: Array, state: Anchor, position: Array, number: Array
    ) -> tuple[Array, Anchor]:
        return difference(problem, key, self.batch, state, position), state

    def start_cost(self, problem: Problem) -> int:
        return problem.n

    def cost(self, problem: Problem, steps: int) -> int:
        return 2 * steps * self.batch

    def communications(self, steps: int) -> int:
        return 0


@dataclass(frozen=True)
class SVRG:
    """Control variates about a snapshot of the chain, taken every ``epoch`` steps."""

    batch: int
    epoch: int

    def start(self, problem: Problem, key: Array, position: Array) -> Anchor:
        return Anchor(position, jnp.zeros_like(position))

    def estimate(
        self, problem: Problem, key: Array, state: Anchor, position: Array, number: Array
    ) -> tuple[Array, Anchor]:
        # Chains are in the same step: under vmap the condition is one, and only one branch is executed.
        state = lax.cond(number % self.epoch == 0, lambda: anchored(problem, position), lambda: state)
        return difference(problem, key, self.batch, state, position), state

    def start_cost(self, problem: Problem) -> int:
        return 0

    def cost(self, problem: Problem, steps: int) -> int:
        return 2 * steps * self.batch + problem.n * -(-steps // self.epoch)

    def communications(self, steps: int) -> int:
        return 0


def estimator_for(gradients: Gradients, n: int) -> Estimator:
    """The estimator that a configuration asks for, of n rows."""
    if gradients.estimator == "control-variates":
        return ControlVariates(gradients.batch)
    if gradients.estimator == "svrg":
        return SVRG(gradients.batch, gradients.epoch or max(1, n // gradients.batch))
    return Minibatch(gradients.batch)
