"""blackjax's NUTS under essper's interface: the baseline.

Hoffman & Gelman (2014) with multinomial sampling (Betancourt 2017) in the iterative form of
Phan et al. (2019), as implemented by blackjax. Warmup is essper's own, so that the baseline and the
samplers that it is compared with are tuned alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import blackjax
import jax
from blackjax.mcmc import integrators
from blackjax.mcmc.hmc import HMCState
from jax import Array

from ...models.target import Density
from ..adaptation import Tuning, WindowedAdaptation
from ..base import Cost, Info, Kernel
from ..driver import run_kernel
from ..layouts import Execution

GRADIENTS_PER_STEP = {"velocity_verlet": 1, "mclachlan": 2, "yoshida": 3}
"""Gradients that one integration step costs; blackjax counts steps, not gradients."""


@dataclass(frozen=True)
class NUTS:
    """The no-U-turn sampler.

    Parameters
    ----------
    max_num_doublings : a trajectory has at most 2^this − 1 integration steps.
    integrator : ``"velocity_verlet"`` (leapfrog), ``"mclachlan"`` or ``"yoshida"``.
    adaptation : how the step size and the metric are found.
    execution : how the chains run together; see `layouts`.
    """

    max_num_doublings: int = 10
    integrator: str = "velocity_verlet"
    adaptation: WindowedAdaptation = field(default_factory=WindowedAdaptation)
    execution: Execution = "auto"

    equal_steps: ClassVar[bool] = False
    run = run_kernel

    def __post_init__(self) -> None:
        if self.max_num_doublings < 1:
            raise ValueError(f"max_num_doublings={self.max_num_doublings}: give at least 1")
        if self.integrator not in GRADIENTS_PER_STEP:
            raise ValueError(f"integrator={self.integrator!r}: give one of {list(GRADIENTS_PER_STEP)}")

    def kernel(self, density: Density, tuning: Tuning) -> Kernel:
        """One trajectory a step; each of its integration steps costs what the integrator costs."""
        log_density = differentiable(density)
        transition = blackjax.nuts.build_kernel(getattr(integrators, self.integrator))

        def init(key: Array, position: Array) -> tuple[HMCState, Cost]:
            return blackjax.nuts.init(position, log_density), Cost(gradients=1)

        def step(key: Array, state: HMCState) -> tuple[HMCState, Info]:
            state, info = transition(
                key,
                state,
                log_density,
                tuning.step_size,
                tuning.metric.inverse_mass_matrix,
                self.max_num_doublings,
            )
            gradients = info.num_integration_steps * GRADIENTS_PER_STEP[self.integrator]
            return state, Info(
                cost=Cost(gradients=gradients),
                acceptance=info.acceptance_rate,
                divergent=info.is_divergent,
                extra={
                    "energy": info.energy,
                    "num_integration_steps": info.num_integration_steps,
                    "tree_depth": info.num_trajectory_expansions,
                },
            )

        return Kernel(
            init,
            step,
            position=lambda state: state.position,
            gradient=lambda state: state.logdensity_grad,
        )


def differentiable(density: Density):
    """A log density whose value and gradient under ``jax.value_and_grad`` are one evaluation.

    Failed evaluations keep their contract (−inf, gradient 0) also in libraries that differentiate.
    """

    @jax.custom_vjp
    def log_density(x: Array) -> Array:
        return density.value_and_grad(x)[0]

    log_density.defvjp(density.value_and_grad, lambda gradient, cotangent: (cotangent * gradient,))
    return log_density
