"""Hamiltonian Monte Carlo whose jittered trajectory length does not depend on the state.

Duane, Kennedy, Pendleton & Roweth (1987); Neal, "MCMC using Hamiltonian dynamics" (2011).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..models.target import Density
from .adaptation import Tuning, WindowedAdaptation
from .base import Cost, Info, Kernel
from .driver import run_kernel
from .integrators import (
    DIVERGENCE_THRESHOLD,
    PhasePoint,
    TrajectoryLength,
    log_joint,
    trajectory,
)
from .layouts import Execution
from .metrics import sample_momentum
from .stages import log_uniform


class HMCState(NamedTuple):
    """Where a chain is, with the cached evaluation there."""

    position: Array
    log_density: Array
    gradient: Array
    iteration: Array
    """Steps taken so far; the jitter of the trajectory length follows it."""


def init(density: Density, position: Array) -> tuple[HMCState, Cost]:
    """The state at ``position``; one gradient."""
    log_density, gradient = density.value_and_grad(position)
    return HMCState(position, log_density, gradient, jnp.int32(0)), Cost(gradients=1)


def refresh(key: Array, state: HMCState, tuning: Tuning) -> PhasePoint:
    """The chain's phase point with a fresh momentum from N(0, M)."""
    momentum = sample_momentum(key, tuning.metric)
    return PhasePoint(state.position, momentum, state.log_density, state.gradient)


def moved(state: HMCState, point: PhasePoint) -> HMCState:
    """The state after a step that ended at ``point``."""
    return HMCState(point.position, point.log_density, point.gradient, state.iteration + 1)


@dataclass(frozen=True)
class HMC:
    """Metropolis-adjusted leapfrog trajectories whose length does not depend on the state.

    Parameters
    ----------
    trajectory : how far to integrate.
    adaptation : how the step size and the metric are found.
    execution : how the chains run together; see `layouts`.
    """

    trajectory: TrajectoryLength = field(default_factory=TrajectoryLength)
    adaptation: WindowedAdaptation = field(default_factory=WindowedAdaptation)
    execution: Execution = "auto"

    equal_steps: ClassVar[bool] = True
    run = run_kernel

    def kernel(self, density: Density, tuning: Tuning) -> Kernel:
        """One trajectory and one acceptance test a step; as many gradients as integration steps."""

        def step(key: Array, state: HMCState) -> tuple[HMCState, Info]:
            key_momentum, key_accept = jax.random.split(key)
            start = refresh(key_momentum, state, tuning)
            steps = self.trajectory.steps(state.iteration, tuning.step_size, tuning.integration_time)
            end = trajectory(density, tuning.metric, start, tuning.step_size, steps)

            energy_change = log_joint(tuning.metric, start) - log_joint(tuning.metric, end)
            log_acceptance = jnp.minimum(0.0, -energy_change)
            accepted = log_uniform(key_accept, 0) <= log_acceptance
            chosen = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), end, start)
            info = Info(
                cost=Cost(gradients=steps),
                acceptance=jnp.exp(log_acceptance),
                divergent=energy_change > DIVERGENCE_THRESHOLD,
                extra={
                    "energy": -log_joint(tuning.metric, chosen),
                    "num_integration_steps": steps,
                    "accepted": accepted,
                },
            )
            return moved(state, chosen), info

        return Kernel(
            init=lambda key, position: init(density, position),
            step=step,
            position=lambda state: state.position,
            gradient=lambda state: state.gradient,
        )
