"""Cyclical stochastic gradient Langevin dynamics: step sizes that fall and start again, to visit many modes.

Zhang, Li, Zhang, Chen & Wilson (2020, ICLR), equation 1 and algorithm 1. In a cycle of L steps, of which step
k has r = (k mod L)/L behind it,

    h_k = h₀/2 (cos πr + 1)
    r < β: exploration, θ ← θ + h_k ĝ(θ), and no iterate is kept
    r ≥ β: sampling, SGLD's steps, whose iterates are the draws

The draws of all cycles count alike. What they are draws of is no stationary law: exploration leaves a chain
near a mode, with less than the posterior's variance, the large step sizes at the beginning of a sampling part
inflate it, and nothing makes a mode's share of the visits its mass but the noise of those large steps. On a
Gaussian of curvature λ with gradients of variance V the variance v_k of iterate k follows

    v_{k+1} = (1 − h_k λ)² v_k + h_k² V + 2 h_k T [r ≥ β]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from .sgld import Langevin
from .stochastic.plans import Plan
from .stochastic.sampler import StochasticSettings


@dataclass(frozen=True)
class Cosine:
    """h₀/2 (cos πr + 1), and noise from r = β on."""

    length: int
    """L, in steps"""
    explored: int
    """Steps of a cycle without noise"""

    def __call__(self, number: Array, first: Array) -> tuple[Array, Array]:
        place = number % self.length
        size = first / 2 * (1 + jnp.cos(jnp.pi * place / self.length))
        return size, jnp.where(place >= self.explored, 1.0, 0.0)


@dataclass(frozen=True)
class CyclicalSGLD(StochasticSettings):
    """SGLD with cosine step sizes, restarted; it explores without noise and draws in the rest of a cycle.

    Parameters
    ----------
    gradients, temperature : see `StochasticSettings`.
    schedule : ``step_size`` is h₀, the largest of a cycle. By rule it is such that sampling begins
        with SGLD's h. ``decay`` must be 0. Burn-in may end within a cycle.
    cycles : in a run, of equally many steps; the few left over are not taken.
    exploration : β, the part of a cycle without noise.
    """

    cycles: int = 10
    exploration: float = 0.5

    def __post_init__(self) -> None:
        if self.cycles < 1:
            raise ValueError(f"cycles={self.cycles}: give at least 1")
        if not 0 <= self.exploration < 1:
            raise ValueError(f"exploration={self.exploration}: give a value from 0 to below 1")
        if self.schedule.decay:
            raise ValueError(
                f"decay={self.schedule.decay}: step sizes that go in cycles do not decay; give 0"
            )

    @property
    def dynamics(self) -> Langevin:
        return Langevin()

    def plan(self, steps: int) -> Plan:
        """Evenly spaced draws of the sampling parts that lie after the burn-in."""
        length = max(1, steps // self.cycles)
        explored = math.ceil(self.exploration * length)
        steps = min(steps, self.cycles * length)
        burn_in = int(self.schedule.burn_in * steps)
        number = np.arange(burn_in, steps)
        sampling = number[number % length >= explored]
        every = max(1, len(sampling) // self.schedule.draws)
        kept = sampling[every - 1 :: every][: self.schedule.draws] + 1
        return Plan(int(kept[-1]) if len(kept) else 0, burn_in, kept, Cosine(length, explored))

    def first_step_size(self, size: Array) -> Array:
        return 2 * size / (1 + math.cos(math.pi * self.exploration))
