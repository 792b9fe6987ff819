"""Stochastic gradient Hamiltonian Monte Carlo: Langevin dynamics with a momentum and friction.

    v ← (1 − α) v + h ĝ(θ) + √(2αhT) ξ,   ξ ~ N(0, I)
    θ ← θ + v

with ĝ an unbiased estimate of ∇ log p. This is equation 15 of Chen, Fox & Guestrin (2014, ICML), h their η,
but for β̂, an estimate of the noise in ĝ that may be subtracted from α in √(2αhT): it is 0 here, and that
noise is not corrected for. v is a displacement, ε times a velocity where h = ε²; α = 1 is SGLD, step by step.

On a Gaussian of curvature λ, with gradients of variance V, θ is an autoregression of order 2 with
coefficients 2 − α − hλ and −(1 − α), whose variance is (Yule–Walker)

    (2T + hV/α) / (λ (2 − hλ/(2 − α)));   T/λ is right.

The noise of the gradients counts 1/α times what it does in SGLD of the same h, and the step size itself less:
momentum buys speed where gradients are nearly exact, and nothing where their noise limits the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from .stochastic.engine import Step
from .stochastic.sampler import StochasticSettings


@dataclass(frozen=True)
class Underdamped:
    """The Langevin equation with friction α a step; the state is the displacement v, ``f[dim]``."""

    friction: float

    def start(self, key: Array, position: Array) -> Array:
        """At rest: that is forgotten in 1/α steps."""
        return jnp.zeros_like(position)

    def step(
        self, key: Array, state: Array, position: Array, gradient: Callable[[Array], Array], step: Step
    ) -> tuple[Array, Array]:
        noise = step.noise * jnp.sqrt(2 * self.friction * step.size * step.temperature)
        moved = (1 - self.friction) * state + step.size * gradient(position)
        moved = moved + noise * jax.random.normal(key, position.shape)
        return moved, position + moved


@dataclass(frozen=True)
class SGHMC(StochasticSettings):
    """Stochastic gradient HMC; biased by its step size and by the noise of its gradients.

    Parameters
    ----------
    gradients, schedule, temperature : see `StochasticSettings`.
    friction : α, the part of the displacement that a step loses.
    """

    friction: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.friction <= 1:
            raise ValueError(f"friction={self.friction}: give a value above 0, at most 1")

    @property
    def dynamics(self) -> Underdamped:
        return Underdamped(self.friction)

    def first_step_size(self, size: Array) -> Array:
        return underdamped_step_size(self, self.friction, size)


def underdamped_step_size(settings: StochasticSettings, friction: float, size: Array) -> Array:
    """h whose inflation of a Gaussian's variance is about that of SGLD with h = ``size``.

    With V = νλ and i the inflation, (2 + hνλ/α)/(2 − hλ/(2 − α)) = 1 + i where hλ is
    2i/(ν/α + (1 + i)/(2 − α)); SGLD's is 2i/(ν + 1 + i). Plain minibatches have α times SGLD's h: right for
    large ν, too small for others, and along soft directions as fast as SGLD. Gradients with control variates
    could have 2 − α times it if their ν were 0. It is of the order of dim/m, which counts 1/α times: they
    have SGLD's h, which halves what the step size does and leaves the rest to the noise.
    """
    return (friction if settings.gradients.estimator == "minibatch" else 1.0) * size
