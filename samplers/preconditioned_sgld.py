"""Stochastic gradient Langevin dynamics with RMSprop's preconditioner.

    θ ← θ + h (G ĝ(θ) + T Γ) + √(2hTG) ξ,   ξ ~ N(0, I),   Γ_i = Σ_j ∂G_ij/∂θ_j
    V ← αV + (1 − α) ĝ²,   G = diag((1 + δ) s / (√V + δ s))

Li, Chen, Carlson & Carin (2016, AAAI), algorithm 1, but for this:

- G is of the gradients before this step's. Theirs has the newest in it too, and then E[Gĝ] is not
  E[G] ∇ log p, however small h is.
- V is of the whole estimate ĝ, and of the mean gradient of a row in the paper: a factor that s takes up.
- s, the largest √V_i over the first `SETTLING` steps (in which G = 1), makes G about 1 in the coordinate with
  the largest gradients, and at most 1 + 1/δ anywhere: the step size that the rule finds for SGLD suits it.
  Their δ is absolute, 10⁻⁵.

**Γ.** The paper states it and, where α is near 1, leaves it out in practice; so do most implementations. G
depends on the path, so what Γ has to be depends on how fast V forgets. As h → 0 with α fixed, V averages
gradients at a point that hardly moves, θ follows a diffusion with Ḡ(θ) = E[G | θ], and Γ is Ḡ's derivative:
the mean of −(1 + δ) s D / (2√V (√V + δ s)²), D_i the average, with the weights of V, of 2ĝ_i ∂ĝ_i/∂θ_i. The
Hessian's diagonal in it is estimated by u ⊙ (∇ĝ u), u random signs, without bias; the product costs as much
as the gradient and is counted (`PRODUCT_COST`). What is sampled:

    h → 0, α fixed        with Γ p^(1/T); without it, in one dimension, something ∝ p^(1/T)/Ḡ: of a
                          Gaussian's exact gradients, up to twice its variance
    α → 1, h fixed        G no longer depends on θ: without Γ p^(1/T); with it there is a constant drift
                          too many, 0 only where p is symmetric

Between the two neither is exact. With Γ keep 1 − α well above hGλ, λ the curvature. The noise of minibatches
makes V nearly constant and Γ small: both then agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .base import Cost
from .stochastic.engine import Step
from .stochastic.estimators import Estimator, estimator_for
from .stochastic.problem import Problem
from .stochastic.sampler import StochasticSettings
from .stochastic.start import PRODUCT_COST

SETTLING = 100
"""Steps of plain SGLD after which s is set."""
NOTHING = 1e-300
"""Added to √V, which is 0 where a gradient has always been."""


class Squares(NamedTuple):
    """Averages over the past: of all of it while settling, running ones from there."""

    number: Array
    """Gradients so far, ``i[]``"""
    square: Array
    """V, ``f[dim]``"""
    slope: Array
    """D, its derivative, ``f[dim]``"""
    scale: Array
    """s, ``f[]``; 0 before it is set"""


@dataclass(frozen=True)
class Preconditioned:
    """The Langevin equation with a diagonal metric that follows the gradients."""

    averaging: float
    damping: float
    drift_correction: bool

    def start(self, key: Array, position: Array) -> Squares:
        zeros = jnp.zeros_like(position)
        return Squares(jnp.int32(0), zeros, zeros, jnp.zeros((), position.dtype))

    def step(
        self, key: Array, state: Squares, position: Array, gradient: Callable[[Array], Array], step: Step
    ) -> tuple[Squares, Array]:
        moves, signs = jax.random.split(key)
        if self.drift_correction:
            probe = jax.random.rademacher(signs, position.shape, position.dtype)
            found, product = jax.jvp(gradient, (position,), (probe,))
            slope = 2 * found * probe * product
        else:
            found, slope = gradient(position), jnp.zeros_like(position)

        metric, drift = self.metric(state)
        noise = step.noise * jnp.sqrt(2 * step.size * step.temperature * metric)
        moved = position + step.size * (metric * found + step.noise * step.temperature * drift)
        moved = moved + noise * jax.random.normal(moves, position.shape)

        number = state.number + 1
        new = jnp.where(number > SETTLING, 1 - self.averaging, 1 / number)
        square = state.square + new * (found**2 - state.square)
        slope = state.slope + new * (slope - state.slope)
        scale = jnp.where(number == SETTLING, jnp.sqrt(jnp.max(square)), state.scale)
        return Squares(number, square, slope, scale), moved

    def metric(self, state: Squares) -> tuple[Array, Array]:
        """The diagonal of G, and Γ: ``f[dim]`` both."""
        root = jnp.sqrt(state.square) + NOTHING
        factor, damped = (1 + self.damping) * state.scale, root + self.damping * state.scale
        drift = -factor * state.slope / (2 * root * damped**2)
        settled = state.scale > 0
        return jnp.where(settled, factor / damped, 1.0), jnp.where(settled, drift, 0.0)


@dataclass(frozen=True)
class WithProduct:
    """An estimator of which every estimate is taken together with its derivative along a vector."""

    estimator: Estimator

    def start(self, problem: Problem, key: Array, position: Array) -> Any:
        return self.estimator.start(problem, key, position)

    def estimate(
        self, problem: Problem, key: Array, state: Any, position: Array, number: Array
    ) -> tuple[Array, Any]:
        return self.estimator.estimate(problem, key, state, position, number)

    def start_cost(self, problem: Problem) -> int:
        return self.estimator.start_cost(problem)

    def cost(self, problem: Problem, steps: int) -> int:
        return PRODUCT_COST * self.estimator.cost(problem, steps)

    def communications(self, steps: int) -> int:
        return self.estimator.communications(steps)


@dataclass(frozen=True)
class PreconditionedSGLD(StochasticSettings):
    """SGLD with a diagonal preconditioner from running averages of squared gradients.

    Parameters
    ----------
    gradients, schedule, temperature : see `StochasticSettings`. SVRG is for ``drift_correction=False`` only.
    averaging : α, the weight of the past in a running average; 0.99 in the paper, where there is no Γ.
    damping : δ, relative to the largest root mean square of a gradient: G is at most 1 + 1/δ.
    drift_correction : whether Γ is estimated and added, which doubles the cost of a step.
    """

    averaging: float = 0.9
    damping: float = 0.01
    drift_correction: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.averaging < 1:
            raise ValueError(f"averaging={self.averaging}: give a value from 0 to below 1")
        if not self.damping > 0:
            raise ValueError(f"damping={self.damping}: give a positive value")
        if self.drift_correction and self.gradients.estimator == "svrg":
            raise ValueError(
                "estimator='svrg' takes snapshots within a step, through which Γ is not differentiated: "
                "give drift_correction=false, or another estimator"
            )

    @property
    def dynamics(self) -> Preconditioned:
        return Preconditioned(self.averaging, self.damping, self.drift_correction)

    def estimator(self, problem: Problem, positions: Array) -> tuple[Estimator, Cost]:
        plain = estimator_for(self.gradients, problem.n)
        return (WithProduct(plain) if self.drift_correction else plain), Cost()
