"""What the configurations of stochastic-gradient samplers have in common; they differ in their dynamics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from jax import Array

from ..base import Cost
from .engine import run_stochastic
from .estimators import Estimator, estimator_for
from .plans import Plan, constant_or_decaying
from .problem import Problem
from .settings import Gradients, Schedule


@dataclass(frozen=True)
class StochasticSettings:
    """Gradients, step sizes and temperature of a sampler; it adds ``dynamics``.

    Parameters
    ----------
    gradients : how gradients are estimated.
    schedule : the step size, the start, and which iterates are kept.
    temperature : T of the whole density; see also ``gradients.likelihood_temperature``.
    """

    gradients: Gradients = field(default_factory=Gradients)
    schedule: Schedule = field(default_factory=Schedule)
    temperature: float = 1.0

    approximate: ClassVar[bool] = True
    needs_rows: ClassVar[bool] = True
    run = run_stochastic

    @property
    def rows(self) -> str | None:
        return self.gradients.rows

    def estimator(self, problem: Problem, positions: Array) -> tuple[Estimator, Cost]:
        return estimator_for(self.gradients, problem.n), Cost()

    def plan(self, steps: int) -> Plan:
        return constant_or_decaying(self.schedule, steps)

    def first_step_size(self, size: Array) -> Array:
        return size
