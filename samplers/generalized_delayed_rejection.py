"""Delayed-rejection generalized Hamiltonian Monte Carlo.

Turok, Modi & Carpenter, "Sampling from multiscale densities with delayed rejection generalized
Hamiltonian Monte Carlo" (arXiv 2406.02741, 2024); partial refreshment is Horowitz's (1991).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..models.target import Density
from .adaptation import Tuning, WindowedAdaptation
from .base import Cost, Info, Kernel, add_cost
from .driver import run_kernel
from .integrators import PhasePoint, TrajectoryLength, log_joint
from .layouts import Execution
from .metrics import coloured, whitened
from .stages import StageSettings, flipped_trajectories, transition

FIRST_TARGET = 0.9
"""A rejected momentum turns around: the first stage should be rejected less often than HMC's."""


class GeneralizedState(NamedTuple):
    """Where a chain is in phase space, with the cached evaluation there."""

    position: Array
    log_density: Array
    gradient: Array
    iteration: Array
    momentum: Array
    """In units in which it is standard normal, so that it stays so when the metric changes."""


@dataclass(frozen=True)
class DelayedRejectionGeneralizedHMC(StageSettings):
    """Delayed rejection of short trajectories whose momentum persists.

    A transition refreshes the momentum in part, ρ ← √(1−γ) ρ + √γ ξ with ξ ~ N(0, M), tries the
    stages, and reverses the momentum whatever happened: after an acceptance the chain goes on in its
    direction, after a rejection it turns around.

    Parameters
    ----------
    stages, reduction, length, retry : see `StageSettings`.
    damping : γ in (0, 1]; 1 forgets the momentum at every transition, which is `DelayedRejectionHMC`.
        None forgets it at the rate 1/T of the trajectory's integration time T: the correlation of the
        momenta before and after a transition of N steps ε is exp(−N ε/T).
    transitions : how many make one draw; None for as many as cover the integration time, so that the
        draws are about as costly as HMC's.
    trajectory : its integration time is T, found as HMC's is. A transition's first stage is a single step
        unless ``num_integration_steps`` says otherwise; T is then not searched for.
    adaptation : how the step size and the metric are found; aims at the first stage's acceptance.
    execution : how the chains run together; see `layouts`.
    """

    damping: float | None = None
    transitions: int | None = None
    trajectory: TrajectoryLength = field(default_factory=TrajectoryLength)
    adaptation: WindowedAdaptation = field(
        default_factory=lambda: WindowedAdaptation(target_acceptance=FIRST_TARGET)
    )
    execution: Execution = "auto"

    equal_steps: ClassVar[bool] = False
    run = run_kernel

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.damping is not None and not 0 < self.damping <= 1:
            raise ValueError(f"damping={self.damping}: give a value in (0, 1], or None")
        if self.transitions is not None and self.transitions < 1:
            raise ValueError(f"transitions={self.transitions}: give at least 1, or None")

    def kernel(self, density: Density, tuning: Tuning) -> Kernel:
        """Transitions of up to K proposals each; all their gradients are counted."""
        metric = tuning.metric

        def init(key: Array, position: Array) -> tuple[GeneralizedState, Cost]:
            log_density, gradient = density.value_and_grad(position)
            momentum = jax.random.normal(key, position.shape, position.dtype)
            state = GeneralizedState(position, log_density, gradient, jnp.int32(0), momentum)
            return state, Cost(gradients=1)

        def one(key: Array, state: GeneralizedState) -> tuple[GeneralizedState, Info]:
            key_momentum, key_stages = jax.random.split(key)
            steps = self._steps(state.iteration, tuning)
            momentum = coloured(metric, self._refreshed(key_momentum, state.momentum, steps, tuning))
            start = PhasePoint(state.position, momentum, state.log_density, state.gradient)
            propose = flipped_trajectories(density, tuning, self, steps)
            outcome = transition(key_stages, start, propose, lambda x: log_joint(metric, x), self)
            end = outcome.chosen
            info = Info(
                cost=Cost(gradients=outcome.gradients),
                acceptance=outcome.first_acceptance,
                divergent=outcome.diverged,
                extra={
                    "energy": -log_joint(metric, end),
                    "num_integration_steps": steps,
                    "accepted": (outcome.accepted_stage > 0).astype(float),
                    "tried_stages": outcome.tried_stages,
                },
            )
            turned = -whitened(metric, end.momentum)
            state = GeneralizedState(end.position, end.log_density, end.gradient, state.iteration + 1, turned)
            return state, info

        def several(key: Array, state: GeneralizedState) -> tuple[GeneralizedState, Info]:
            count = self._transitions(state, tuning)

            def more(i: Array, carry: tuple[GeneralizedState, Info]) -> tuple[GeneralizedState, Info]:
                state, before = carry
                state, info = one(jax.random.fold_in(key, i), state)
                return state, _together(before, info)

            # Traced once: the loop starts from nothing instead of from a first transition.
            nothing = jax.tree.map(
                lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(one, key, state)[1]
            )
            state, info = jax.lax.fori_loop(0, count, more, (state, nothing))
            accepted = info.extra["accepted"] / count
            return state, info._replace(
                acceptance=info.acceptance / count, extra={**info.extra, "accepted": accepted}
            )

        return Kernel(
            init=init,
            step=one if self.transitions == 1 else several,
            position=lambda state: state.position,
            gradient=lambda state: state.gradient,
        )

    def _steps(self, iteration: Array, tuning: Tuning) -> Array:
        if self.trajectory.num_integration_steps is None:
            return jnp.int32(1)
        return self.trajectory.steps(iteration, tuning.step_size)

    def _refreshed(self, key: Array, momentum: Array, steps: Array, tuning: Tuning) -> Array:
        fresh = jax.random.normal(key, momentum.shape, momentum.dtype)
        if self.damping is None:
            damping = -jnp.expm1(-2.0 * steps * tuning.step_size / self._time(tuning))
        else:
            damping = jnp.asarray(self.damping, momentum.dtype)
        return jnp.sqrt(1.0 - damping) * momentum + jnp.sqrt(damping) * fresh

    def _transitions(self, state: GeneralizedState, tuning: Tuning) -> Array | int:
        if self.transitions is not None:
            return self.transitions
        count = jnp.ceil(self._time(tuning) / (self._steps(state.iteration, tuning) * tuning.step_size))
        return jnp.clip(count, 1, self.trajectory.max_num_integration_steps).astype(jnp.int32)

    def _time(self, tuning: Tuning) -> Array | float:
        found = tuning.integration_time
        return self.trajectory.integration_time if found is None else found


def _together(before: Info, info: Info) -> Info:
    """Two transitions of one draw: sums, except that the energy is the last one's."""
    extra = {name: before.extra[name] + value for name, value in info.extra.items()}
    return Info(
        cost=add_cost(before.cost, info.cost),
        acceptance=before.acceptance + info.acceptance,
        divergent=before.divergent | info.divergent,
        extra={**extra, "energy": info.extra["energy"]},
    )
