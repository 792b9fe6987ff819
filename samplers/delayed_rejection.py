"""Delayed-rejection Hamiltonian Monte Carlo.

Modi, Barnett & Carpenter, "Delayed rejection Hamiltonian Monte Carlo for sampling multiscale
distributions", Bayesian Analysis 2023 (arXiv 2110.00610).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import jax
from jax import Array

from ..models.target import Density
from .adaptation import Tuning, WindowedAdaptation
from .base import Cost, Info, Kernel
from .driver import run_kernel
from .hmc import HMCState, init, moved, refresh
from .integrators import TrajectoryLength, log_joint
from .layouts import Execution
from .stages import Propose, StageSettings, flipped_trajectories, transition


@dataclass(frozen=True)
class DelayedRejectionHMC(StageSettings):
    """HMC that answers a rejection with another, finer trajectory from the same phase point.

    Parameters
    ----------
    stages, reduction, length, retry : see `StageSettings`.
    trajectory : how far the first stage integrates; gives N.
    adaptation : how the step size and the metric are found; aims at the first stage's acceptance.
    execution : how the chains run together; see `layouts`.
    """

    trajectory: TrajectoryLength = field(default_factory=TrajectoryLength)
    adaptation: WindowedAdaptation = field(default_factory=WindowedAdaptation)
    execution: Execution = "auto"

    equal_steps: ClassVar[bool] = False
    run = run_kernel

    def kernel(self, density: Density, tuning: Tuning) -> Kernel:
        """Up to K proposals a step, each with its ghosts; all their gradients are counted."""
        return retrying_kernel(
            self,
            density,
            tuning,
            lambda state: self.trajectory.steps(state.iteration, tuning.step_size, tuning.integration_time),
            lambda state, first: flipped_trajectories(density, tuning, self, first),
        )


def retrying_kernel(
    settings: StageSettings,
    density: Density,
    tuning: Tuning,
    first_steps: Callable[[HMCState], Array],
    proposals: Callable[[HMCState, Array], Propose],
) -> Kernel:
    """A fresh momentum and the stages from there.

    Parameters
    ----------
    first_steps : leapfrog steps of the first stage, ``i[]``
    proposals : of all stages, given those
    """
    metric = tuning.metric

    def step(key: Array, state: HMCState) -> tuple[HMCState, Info]:
        key_momentum, key_stages = jax.random.split(key)
        start = refresh(key_momentum, state, tuning)
        first = first_steps(state)
        propose = proposals(state, first)
        outcome = transition(key_stages, start, propose, lambda x: log_joint(metric, x), settings)
        info = Info(
            cost=Cost(gradients=outcome.gradients),
            acceptance=outcome.first_acceptance,
            divergent=outcome.diverged,
            extra={
                "energy": -log_joint(metric, outcome.chosen),
                "num_integration_steps": first,
                "accepted_stage": outcome.accepted_stage,
                "tried_stages": outcome.tried_stages,
            },
        )
        return moved(state, outcome.chosen), info

    return Kernel(
        init=lambda key, position: init(density, position),
        step=step,
        position=lambda state: state.position,
        gradient=lambda state: state.gradient,
    )
