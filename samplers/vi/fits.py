"""Fits of a family to a target: a start, the grid of learning rates, and the best of it to the end."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax import Array

from ...models.target import Target
from ..base import Budget, Cost, Progress, add_cost, chain_keys
from ..mode_search import nowhere
from ..timing import Clock, Program, worker_threads
from .families import Family, Locals, Problem, Space
from .fitting import Lane, Programs, programs_for
from .settings import Fitting
from .start import Start, climbed_start, random_origin, tied

CALLS = 32
"""About as many calls does a fit consist of, so that it can report and be interrupted."""


class VariationalSampler(Protocol):
    """What is needed of a variational method: a frozen configuration."""

    @property
    def fitting(self) -> Fitting: ...
    @property
    def family(self) -> Family: ...
    def locals_of(self, target: Target) -> Locals | None:
        """What the family is told of local parameters; None where it needs nothing."""
        ...


class Fit(NamedTuple):
    """One fit: a distribution, and how it was found."""

    problem: Problem
    params: Any
    cost: Cost
    """Of the start, the whole grid, and the rest."""
    learning_rate: float
    """The best of the grid."""
    grid_elbo: np.ndarray
    """The mean ELBO of the last window of the screening, ``f[rate]``; −inf where there is none."""
    steps: np.ndarray
    """``i[rate]``; those of the best include the steps after the screening."""
    converged: bool
    """By the rule of `Fitting`."""
    failed: int
    """Gradients that could not be evaluated."""


def fit(
    sampler: VariationalSampler,
    key: Array,
    target: Target,
    budget: Budget,
    *,
    chains: int = 1,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> tuple[Fit, ...]:
    """Fits of a family, each from a start of its own.

    Parameters
    ----------
    budget : gradients per fit; one that converges leaves some of it

    Raises
    ------
    ValueError
        If no start is found, the budget leaves no fit, or the family needs a hierarchy that the target
        does not have.
    """
    if chains < 1:
        raise ValueError(f"chains={chains}: at least one chain is needed")
    fitting, report = sampler.fitting, progress or (lambda phase, gradients, draws: None)
    space = Space(target.dim, sampler.locals_of(target))
    programs, clock = programs_for(sampler.family, fitting), clock or Clock()
    rates = range(len(fitting.learning_rates))
    with ThreadPoolExecutor(min(chains, worker_threads())) as pool:
        keys = chain_keys(key, chains)
        starts = list(pool.map(lambda k: _start(fitting, target, space, k, budget, clock), keys))
        fits = [
            _Fit(
                programs=programs,
                clock=clock,
                problem=Problem(target.density, start.center, start.scale, space),
                key=own,
                start_cost=start.cost,
                fitting=fitting,
                steps=affordable(fitting, budget, int(start.cost.gradients), target.name),
            )
            for start, own in zip(starts, keys, strict=True)
        ]

        def advance(lanes: Sequence[int], screening: bool) -> None:
            limits = [f.steps.screened if screening else f.steps.total for f in fits]
            for call in range(1, CALLS + 1):
                stops = [-(-limit * call // CALLS) for limit in limits]
                if all(list(pool.map(_Fit.advance, fits, lanes, stops))):
                    break
                report("warmup", sum(int(f.cost.gradients) for f in fits), 0)

        for rate in rates:
            advance([rate] * chains, screening=True)
        grids = [np.array([float(f.lanes[rate].elbo) for rate in rates]) for f in fits]
        best = [int(np.argmax(np.where(np.isnan(grid), -np.inf, grid))) for grid in grids]
        advance(best, screening=False)
    return tuple(f.result(lane, grid) for f, lane, grid in zip(fits, best, grids, strict=True))


class Steps(NamedTuple):
    """What a fit's budget allows."""

    screened: int
    """Of every rate of the grid."""
    total: int
    """Of the best of them, those included."""


@dataclass
class _Fit:
    """One chain's lanes, a lane for every rate of the grid."""

    programs: Programs
    clock: Clock
    problem: Problem
    key: Array
    start_cost: Cost
    fitting: Fitting
    steps: Steps
    lanes: dict[int, Lane] = field(default_factory=dict)

    def advance(self, index: int, until: int) -> bool:
        """Take a lane to step number ``until``; True if it has come to its end before."""
        key = jax.random.fold_in(jax.random.fold_in(self.key, 1), index)
        if index not in self.lanes:
            self.lanes[index] = self.programs.begin(self.clock, self.problem, key)
        lane = self.lanes[index]
        if int(lane.step) < until:
            numbers = (
                np.float64(self.fitting.learning_rates[index]),
                np.int64(self.steps.total),
                np.int64(until),
            )
            lane = self.programs.advance(self.clock, self.problem, lane, key, *numbers)
            self.lanes[index] = lane
        return int(lane.step) < until

    @property
    def cost(self) -> Cost:
        steps = sum(int(lane.step) for lane in self.lanes.values())
        return add_cost(self.start_cost, Cost(gradients=steps * self.fitting.samples))

    def result(self, best: int, grid: np.ndarray) -> Fit:
        lanes = [self.lanes[index] for index in range(len(grid))]
        return Fit(
            problem=self.problem,
            params=lanes[best].params,
            cost=self.cost,
            learning_rate=self.fitting.learning_rates[best],
            grid_elbo=grid,
            steps=np.array([int(lane.step) for lane in lanes]),
            converged=float(lanes[best].halvings) >= self.fitting.halvings,
            failed=sum(int(lane.failed) for lane in lanes),
        )


def affordable(fitting: Fitting, budget: Budget, spent: int, name: str) -> Steps:
    """The steps that a budget allows after a start that has spent some of it.

    Raises
    ------
    ValueError
        If there is less than a window for every rate.
    """
    steps = (budget.gradients - spent) // fitting.samples
    others = len(fitting.learning_rates) - 1
    screened = int(fitting.screening * steps) // (others + 1) if others else steps
    if screened < fitting.window:
        raise ValueError(
            f"a budget of {budget.gradients} gradients leaves no window of {fitting.window} steps of"
            f" {fitting.samples} gradients for each of {others + 1} learning rates on {name}: the start spent"
            f" {spent}; give a larger budget, fewer samples or fewer learning_rates"
        )
    return Steps(screened, steps - others * screened)


def _start(fitting: Fitting, target: Target, space: Space, key: Array, budget: Budget, clock: Clock) -> Start:
    program = _starts(fitting.start, target.dim)
    start: Start = program(clock, target.density, jax.random.fold_in(key, 0), np.int64(budget.gradients))
    if not bool(start.found):
        raise ValueError(nowhere(target))
    counted = Cost(*(int(np.asarray(value)) for value in start.cost))
    return (start if space.locals is None else tied(start, space.locals))._replace(cost=counted)


@functools.lru_cache(maxsize=64)
def _starts(kind: str, dim: int) -> Program:
    find = climbed_start if kind == "climb" else random_origin
    return Program(lambda density, key, budget: find(density, key, dim, budget))
