"""What a stochastic-gradient run costs: known beforehand, but for the search of a mode."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ..base import Budget, Cost, Info
from .estimators import Estimator
from .plans import Plan
from .problem import Problem


def affordable(estimator: Estimator, problem: Problem, budget: Budget, spent: Cost) -> int:
    """The largest number of steps that every chain can pay."""
    left = budget.gradients - float(equivalents(spent, problem.n).max())
    left = int(left * problem.n) - estimator.start_cost(problem)
    low, high = 0, max(0, left) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if estimator.cost(problem, middle) <= left else (low, middle)
    return low


def equivalents(cost: Cost, n: int) -> np.ndarray:
    """In gradients."""
    return np.asarray(cost.gradients) + np.asarray(cost.datum_gradients) / n


def after(spent: Cost, estimator: Estimator, problem: Problem, steps: int) -> Cost:
    """What every chain has spent after the start and so many steps, leaves ``i[chain]``."""
    of_steps = estimator.start_cost(problem) + estimator.cost(problem, steps)
    return spent._replace(
        datum_gradients=spent.datum_gradients + of_steps,
        communications=spent.communications + estimator.communications(steps),
    )


def info_of(estimator: Estimator, problem: Problem, plan: Plan, divergent: np.ndarray) -> Info:
    """Leaves ``[chain, draw]``; a draw's cost is that of the steps since the draw before it."""
    ends = [plan.burn_in, *map(int, plan.kept)]
    datum = np.diff([estimator.cost(problem, end) for end in ends])
    rounds = np.diff([estimator.communications(end) for end in ends])
    zeros = np.zeros(divergent.shape, np.int64)
    cost = Cost(*(zeros for _ in Cost._fields))
    cost = cost._replace(datum_gradients=zeros + datum, communications=zeros + rounds)
    stayed = jnp.asarray(divergent)
    return Info(cost, jnp.full(divergent.shape, jnp.nan), stayed > 0, {"steps_not_taken": stayed})
