"""Stochastic gradient Langevin dynamics.

    θ ← θ + h ĝ(θ) + √(2hT) ξ,   ξ ~ N(0, I)

with ĝ an unbiased estimate of ∇ log p. h is ε/2 of Welling & Teh (2011, ICML), equation 4. There is no
accept/reject step: on a Gaussian of curvature λ the variance comes out as (2T + hV)/(λ(2 − hλ)), V the
variance of ĝ, where T/λ is right. T = 1 samples p, another T the *fully tempered* p^(1/T).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax import Array

from .stochastic.engine import Dynamics, Step
from .stochastic.sampler import StochasticSettings
from .stochastic.settings import Gradients


@dataclass(frozen=True)
class Langevin:
    """The overdamped Langevin equation by the Euler–Maruyama method."""

    def start(self, key: Array, position: Array) -> tuple[()]:
        return ()

    def step(
        self, key: Array, state: tuple[()], position: Array, gradient: Callable[[Array], Array], step: Step
    ) -> tuple[tuple[()], Array]:
        noise = step.noise * jnp.sqrt(2 * step.size * step.temperature)
        return (), position + step.size * gradient(position) + noise * jax.random.normal(key, position.shape)


@dataclass(frozen=True)
class SGLD(StochasticSettings):
    """Stochastic gradient Langevin dynamics; biased by its step size and by the noise of its gradients.

    Parameters are those of `StochasticSettings`; `ControlVariateSGLD` has control variates by default.
    """

    @property
    def dynamics(self) -> Dynamics:
        return Langevin()


@dataclass(frozen=True)
class ControlVariateSGLD(SGLD):
    """SGLD whose gradients have control variates about the mode (Baker et al. 2019)."""

    gradients: Gradients = field(default_factory=lambda: Gradients(estimator="control-variates"))
