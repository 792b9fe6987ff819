"""Delayed rejection that abandons hopeless trajectories, with lengths of many scales.

Two changes of delayed-rejection HMC for targets whose scales differ by orders of magnitude.

*Abandoned trajectories.* A stage's trajectory z₀ = x, z₁, …, z_N is given up, with acceptance 0, as soon
as max_i H(z_i) − min_i H(z_i) > Δ. The leapfrog map is reversible: from the flipped end point the
trajectory visits the flipped points z_N, …, z₀, whose energies are the same, so that it is given up from
one end if and only if it is given up from the other. With A the set of points whose trajectory is not
given up, F(A) = A for the flipped map F, an involution that preserves volume, and

    α₁(x) = 1[x ∈ A] · (1 ∧ π(F x)/π(x))        satisfies        π(x) α₁(x) = π(F x) α₁(F x).

The same holds at every stage and for every ghost, because `stages.attempt` needs nothing of F_k but
that: a trajectory given up is a proposal of zero density. (Two ends that compute an energy differently
by rounding can disagree only where the range is within rounding of Δ.) A first step far too large for
a narrow region then costs one or two gradients instead of N; and a ghost that would have ended at a low
energy by the accident of an unstable trajectory no longer forbids the finer stage's proposal.

*Lengths of many scales.* The first stage's number of steps is log-uniform between N/s and N·s, along a
low-discrepancy sequence that does not depend on the state, which keeps the target invariant: where the
scale is short the short ones move as far at a fraction of the cost, where it is long only the long ones do.

Related: reversible energy-error checks along an orbit in Sherlock, Urbas & Ludkin, "The apogee to
apogee path sampler" (2023), and in Bou-Rabee, Carpenter, Kleppe & Liu, "The within-orbit adaptive
leapfrog no-U-turn sampler" (2025).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from ..models.target import Density
from .adaptation import Tuning, WindowedAdaptation
from .base import Kernel
from .delayed_rejection import retrying_kernel
from .driver import run_kernel
from .hmc import HMCState
from .integrators import PhasePoint, TrajectoryLength, flip, leapfrog, log_joint, van_der_corput
from .layouts import Execution
from .metrics import Metric
from .stages import Propose, StageSettings


def bounded_trajectory(
    density: Density,
    metric: Metric,
    start: PhasePoint,
    step_size: Array,
    num_steps: Array,
    energy_range: Array,
) -> tuple[PhasePoint, Array]:
    """The end of a trajectory, of zero density where the energies along it differ by more than a range.

    Returns
    -------
    the end point or, of a trajectory given up, the point where it was; gradients spent ``i[]``
    """
    energy = log_joint(metric, start)

    def unfinished(carry: tuple[Array, PhasePoint, Array, Array]) -> Array:
        i, _, lowest, highest = carry
        return (i < num_steps) & (highest - lowest <= energy_range)

    def body(carry: tuple[Array, PhasePoint, Array, Array]) -> tuple[Array, PhasePoint, Array, Array]:
        i, point, lowest, highest = carry
        point = leapfrog(density, metric, point, step_size, unfinished(carry))
        value = log_joint(metric, point)
        return i + 1, point, jnp.minimum(lowest, value), jnp.maximum(highest, value)

    first = (jnp.zeros_like(num_steps), start, energy, energy)
    steps, end, lowest, highest = jax.lax.while_loop(unfinished, body, first)
    kept = highest - lowest <= energy_range
    return end._replace(log_density=jnp.where(kept, end.log_density, -jnp.inf)), steps


@dataclass(frozen=True)
class AbandoningDelayedRejectionHMC(StageSettings):
    """Delayed-rejection HMC that gives up trajectories and mixes their lengths.

    A step is called divergent where it ends in rejection and its last stage was given up.

    Parameters
    ----------
    stages, reduction, length, retry : see `StageSettings`.
    energy_range : Δ > 0, at which a trajectory is given up.
    grace : steps of a chain before the first trajectory is given up. A chain that starts far out falls by
        trajectories that lose energy by the hundreds, which a limit would forbid it.
    spread : s ≥ 1; lengths are log-uniform between N/s and N·s. 1 keeps N.
    trajectory : how far the first stage integrates; gives N.
    adaptation : how the step size and the metric are found; aims at the first stage's acceptance.
    """

    energy_range: float = 5.0
    grace: int = 100
    spread: float = 2.0
    trajectory: TrajectoryLength = field(default_factory=lambda: TrajectoryLength(jitter=0.0))
    adaptation: WindowedAdaptation = field(default_factory=WindowedAdaptation)
    execution: Execution = "auto"

    equal_steps: ClassVar[bool] = False
    run = run_kernel

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.energy_range > 0:
            raise ValueError(f"energy_range={self.energy_range}: give a positive energy")
        if self.grace < 0:
            raise ValueError(f"grace={self.grace}: give 0 steps or more")
        if self.trajectory.jitter:
            raise ValueError(f"jitter={self.trajectory.jitter}: lengths are spread already; give spread")
        if not self.spread >= 1:
            raise ValueError(f"spread={self.spread}: give a factor of 1 or more")

    def kernel(self, density: Density, tuning: Tuning) -> Kernel:
        """Up to K proposals a step, each with its ghosts; all their gradients are counted."""

        def proposals(state: HMCState, first: Array) -> Propose:
            limit = jnp.where(state.iteration < self.grace, jnp.inf, self.energy_range)
            return self._proposals(density, tuning, first, limit)

        return retrying_kernel(
            self, density, tuning, lambda state: self._first(state.iteration, tuning), proposals
        )

    def _first(self, iteration: Array, tuning: Tuning) -> Array:
        factor = self.spread ** (2.0 * van_der_corput(iteration) - 1.0)
        return self.trajectory.steps(iteration, tuning.step_size, tuning.integration_time, factor)

    def _proposals(self, density: Density, tuning: Tuning, first: Array, limit: Array) -> Propose:
        def propose(stage: int, point: PhasePoint, wanted: Array) -> tuple[PhasePoint, Array]:
            steps = jnp.where(wanted, self.stage_steps(stage, first), 0)
            step_size = tuning.step_size / self.reduction**stage
            end, spent = bounded_trajectory(density, tuning.metric, point, step_size, steps, limit)
            return flip(end), spent

        return propose
