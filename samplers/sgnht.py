"""The stochastic gradient Nosé–Hoover thermostat: friction that adapts to the noise of the gradients.

    v ← (1 − α) v + h ĝ(θ) + √(2ahT) ξ,   ξ ~ N(0, I)
    θ ← θ + v
    α ← α + γ ((1 − α/2) v·v / (dim hT) − 1)

Ding, Fang, Babbush, Chen, Skeel & Neven (2014, NeurIPS), in the displacements v of `sghmc`. The noise of ĝ
heats, by an amount that nobody tells the sampler; friction grows until the kinetic energy is right. On a
Gaussian of curvature λ with gradients of variance V that is where 2α − αhλ/(2 − α) = 2a + hV/T, at about
α = a + hV/(2T).

Two things are not theirs. Their γ is hT, for a thermal mass of 1; the mass is free (in continuous time it
changes how α varies and not the law of θ), and γ = a²/10 does not depend on the units of θ: α then has
standard deviation a/√(10 dim), and follows in some 10/a steps, in more where it has to grow far beyond a.
And they compare v·v with dim hT, which is right for h → 0 with α ∝ √h. But whatever α and V are, this
recurrence has E[v²] = 2hλ/(2 − α) Var[θ] on a Gaussian, so that their comparison makes Var[θ]
(1 − α/2) T/λ. With the factor 1 − α/2 it is T/λ, as far as α holds still.

One friction serves all coordinates: where the noise is not the same in all of them, kinetic energy is right
on average only, and θ too hot in some directions and too cold in others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .sghmc import underdamped_step_size
from .stochastic.engine import Step
from .stochastic.sampler import StochasticSettings

RESPONSE = 0.1
"""γ/a²: how fast the friction follows the kinetic energy."""


class Thermostat(NamedTuple):
    displacement: Array
    """v, ``f[dim]``"""
    friction: Array
    """α, ``f[]``"""


@dataclass(frozen=True)
class NoseHoover:
    """The Langevin equation with a thermostat instead of a known friction."""

    diffusion: float

    def start(self, key: Array, position: Array) -> Thermostat:
        """At rest, with the friction that exact gradients need."""
        return Thermostat(jnp.zeros_like(position), jnp.asarray(self.diffusion, position.dtype))

    def step(
        self,
        key: Array,
        state: Thermostat,
        position: Array,
        gradient: Callable[[Array], Array],
        step: Step,
    ) -> tuple[Thermostat, Array]:
        noise = step.noise * jnp.sqrt(2 * self.diffusion * step.size * step.temperature)
        moved = (1 - state.friction) * state.displacement + step.size * gradient(position)
        moved = moved + noise * jax.random.normal(key, position.shape)
        wanted = step.size * step.temperature
        heat = (1 - state.friction / 2) * jnp.mean(moved**2) / wanted - 1
        friction = state.friction + RESPONSE * self.diffusion**2 * heat
        return Thermostat(moved, friction), position + moved


@dataclass(frozen=True)
class SGNHT(StochasticSettings):
    """The Nosé–Hoover thermostat with stochastic gradients; biased where their noise is not isotropic.

    Parameters
    ----------
    gradients, schedule, temperature : see `StochasticSettings`.
    diffusion : a, of the injected noise, and the friction at the start.
    """

    diffusion: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.diffusion <= 1:
            raise ValueError(f"diffusion={self.diffusion}: give a value above 0, at most 1")

    @property
    def dynamics(self) -> NoseHoover:
        return NoseHoover(self.diffusion)

    def first_step_size(self, size: Array) -> Array:
        """The same as SGHMC's, whose friction is a."""
        return underdamped_step_size(self, self.diffusion, size)
