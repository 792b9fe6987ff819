"""The Metropolis-adjusted Langevin algorithm.

    θ' = θ + h M⁻¹ ∇ log p(θ) + √(2h) ξ,   ξ ~ N(0, M⁻¹),   accepted by the rule of Metropolis and Hastings

Besag (1994); Roberts & Tweedie (1996, Bernoulli 2). One leapfrog step of size ε from a fresh momentum
proposes just that with h = ε²/2, and minus the change of energy is the logarithm of the Metropolis–Hastings
ratio (Neal 2011, §5.2): the kernel is HMC's. All rows in every gradient, and exact: what SGLD's bias is
measured against.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ..models.target import Density
from .adaptation import Tuning, WindowedAdaptation
from .base import Kernel
from .driver import run_kernel
from .hmc import HMC
from .integrators import TrajectoryLength
from .layouts import Execution

OPTIMAL_ACCEPTANCE = 0.574
"""In many dimensions (Roberts & Rosenthal 1998)."""


@dataclass(frozen=True)
class MALA:
    """Langevin steps with the gradient of all rows, and an acceptance test.

    Parameters
    ----------
    adaptation : how the step size ε and the metric are found. A step costs one gradient.
    execution : how the chains run together; see `layouts`.
    """

    adaptation: WindowedAdaptation = field(
        default_factory=lambda: WindowedAdaptation(num_warmup=2000, target_acceptance=OPTIMAL_ACCEPTANCE)
    )
    execution: Execution = "auto"

    trajectory: ClassVar[TrajectoryLength] = TrajectoryLength(
        num_integration_steps=1, jitter=0.0, max_num_integration_steps=1
    )
    equal_steps: ClassVar[bool] = True
    run = run_kernel

    def kernel(self, density: Density, tuning: Tuning) -> Kernel:
        """One proposal and one acceptance test a step; one gradient."""
        return HMC(trajectory=self.trajectory).kernel(density, tuning)
