"""The generic driver: runs any kernel on any target within a budget.

Chains run in *groups* that share a tuning: vmapped groups of many chains, or one group a chain, each a
program of its own, called from Python threads (`layouts`). Kernels know nothing of this.

Draws do not depend on how the work was cut into chunks, on the number of threads or on progress
reports: every step's key is derived from the chain's key and the step's number.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..models.target import Density, Target
from .adaptation import Tuning, WindowedAdaptation, finish_adaptation, settle, shared_tuning
from .base import Budget, Cost, Info, Progress, Run, Timing, chain_keys
from .layouts import choose_layout, density_for, group_sizes, idle_lanes
from .mode_search import nowhere
from .programs import (
    BUFFER,
    Chunk,
    Group,
    KernelSampler,
    Programs,
    programs_for,
    trajectory_of,
    warms_itself,
    work,
)
from .timing import Clock, worker_threads
from .trajectory_time import PILOT_PERCENTILE

CHUNKS = 32
"""About as many calls does a run consist of, so that it can report and be interrupted."""
CAUTION = 0.9
"""Part of the remaining budget that the next draws may be expected to cost."""
PILOT = 16
"""Draws after which the cost of a draw is first estimated."""


def run_kernel(
    sampler: KernelSampler,
    key: Array,
    target: Target,
    budget: Budget,
    *,
    chains: int = 4,
    progress: Progress | None = None,
) -> Run:
    """Run a kernel sampler: initialize, adapt, then draw until the budget is spent.

    Chains that adapted on their own sample with one tuning (`adaptation.shared_tuning`), so that
    their draws cost about the same. Every chain yields the same number of draws; the costliest chain
    decides how many, and the others may leave a part of their budget unspent. What each chain really
    spent is in the result.

    Parameters
    ----------
    budget : evaluations per chain, initialization and warmup included: gradients; of samplers that take
        densities or conditional draws, these count as one each
    progress : called from this thread after every chunk

    Raises
    ------
    ValueError
        If no initial position of finite density is found, the budget leaves no draw, or the chains
        cannot run as the configuration's ``execution`` asks.
    """
    if chains < 1:
        raise ValueError(f"chains={chains}: at least one chain is needed")
    layout, adaptation = choose_layout(sampler, target), sampler.adaptation
    density = density_for(layout, target.density)
    keys = jnp.split(chain_keys(key, chains), np.cumsum(group_sizes(layout, chains))[:-1])
    programs = programs_for(sampler, target.dim)
    report = progress or (lambda phase, gradients, draws: None)
    before = target.counter.read() if target.counter else None
    clock = Clock()

    pool = ThreadPoolExecutor(min(len(keys), worker_threads()))
    try:
        groups = list(pool.map(lambda k: programs.start(clock, density, k), keys))
        _check_started(groups, target)

        warmup_budget = int(adaptation.budget_fraction * budget.gradients)
        stop = max(int(g.spent.max()) for g in groups)
        adapts = adaptation.adapts or warms_itself(sampler)
        for until in _phases(sampler, adaptation):
            while adapts and any(g.adaptation.step < until and g.spent.max() < warmup_budget for g in groups):
                stop = min(warmup_budget, stop + max(1, budget.gradients // CHUNKS))
                warm = (np.int64(until), np.int64(stop), np.int64(warmup_budget))
                groups = list(pool.map(lambda g, w=warm: programs.warm(clock, density, g, *w), groups))
                report("warmup", _total(groups), 0)
            if until < adaptation.num_warmup:
                settled = settle(adaptation, [g.adaptation for g in groups])
                groups = [g._replace(adaptation=a) for g, a in zip(groups, settled, strict=True)]
                trajectory = trajectory_of(sampler)
                if trajectory is not None and trajectory.finds == "nuts":
                    groups = _piloted(programs, clock, density, groups, warmup_budget, pool)
        warmup, warmup_seconds = _cost(groups), clock.lap()
        tuning = shared_tuning([finish_adaptation(adaptation, g.adaptation) for g in groups])

        chunks: list[list[Chunk]] = [[] for _ in groups]
        while (wanted := _wanted(groups, warmup, budget.gradients)) > 0:
            limits = (np.int64(wanted), np.int64(budget.gradients))
            results = list(
                pool.map(
                    lambda group, n=limits: programs.sample(clock, density, group, tuning, *n),
                    groups,
                )
            )
            groups = [group for group, _ in results]
            for mine, (_, chunk) in zip(chunks, results, strict=True):
                mine.append(_filled(chunk))
            report("sampling", _total(groups), int(groups[0].drawn))
    finally:
        pool.shutdown(cancel_futures=True)

    sampling_seconds = clock.lap()
    if not chunks[0]:
        raise ValueError(
            f"a budget of {budget.gradients} gradients leaves no draw on {target.name}: initialization "
            f"and warmup spent {int(work(warmup).max())}; give a larger budget"
        )
    draws, info = _assemble(chunks)
    return Run(
        target=target,
        sampler=sampler,
        draws=draws,
        info=info,
        warmup=warmup,
        sampling=Cost(*(a - b for a, b in zip(_cost(groups), warmup, strict=True))),
        executed=target.counter.read().since(before) if before and target.counter else None,
        timing=Timing(clock.compile_seconds, warmup_seconds, sampling_seconds),
        layout=layout,
        warnings=idle_lanes(layout, np.asarray(info.cost.gradients + info.cost.densities)),
        tuning=_found(tuning),
    )


class TargetSampler(Protocol):
    """A sampler whose kernel is another one for every target."""

    def bound(self, target: Target) -> KernelSampler: ...


def run_bound(
    sampler: TargetSampler,
    key: Array,
    target: Target,
    budget: Budget,
    *,
    chains: int = 4,
    progress: Progress | None = None,
) -> Run:
    """`run_kernel` of ``sampler.bound(target)``.

    Raises
    ------
    ValueError
        As ``bound`` and `run_kernel` do.
    """
    bound = sampler.bound(target)
    run = run_kernel(bound, key, target, budget, chains=chains, progress=progress)
    return replace(run, sampler=sampler, tuning={} if warms_itself(bound) else run.tuning)


def _found(tuning: Tuning) -> dict[str, np.ndarray]:
    found = {
        "step_size": np.asarray(tuning.step_size),
        "inverse_mass_matrix": np.asarray(tuning.metric.inverse_mass_matrix),
    }
    if tuning.integration_time is not None:
        found["integration_time"] = np.asarray(tuning.integration_time)
    return found


def _piloted(
    programs: Programs,
    clock: Clock,
    density: Density,
    groups: list[Group],
    warmup_budget: int,
    pool: ThreadPoolExecutor,
) -> list[Group]:
    """The groups with the integration time that a pilot of NUTS finds, the same for all.

    Where the warmup's budget is spent before, there is no pilot, and the time stays what the
    configuration says.
    """
    tuning = shared_tuning([g.adaptation.tuning for g in groups])
    results = list(
        pool.map(lambda g: programs.pilot(clock, density, g, tuning, np.int64(warmup_budget)), groups)
    )
    times = np.concatenate([np.asarray(times).ravel() for _, times in results])
    times = times[np.isfinite(times)]
    if not times.size:
        return [group for group, _ in results]
    time = np.percentile(times, PILOT_PERCENTILE)
    return [
        g._replace(
            adaptation=g.adaptation._replace(
                tuning=g.adaptation.tuning._replace(integration_time=jnp.asarray(time))
            )
        )
        for g, _ in results
    ]


def _phases(sampler: KernelSampler, adaptation: WindowedAdaptation) -> tuple[int, ...]:
    """The steps at which phases of warmup end, unless the budget of warmup is spent before."""
    if warms_itself(sampler):
        return (np.iinfo(np.int32).max,)
    return adaptation.windows.final_start, adaptation.num_warmup


class _Spent(NamedTuple):
    spent: int
    per_draw: float


def _wanted(groups: list[Group], warmup: Cost, budget: int) -> int:
    """How many draws to ask of every chain next; 0 when the budget of one is spent."""
    costs = [
        _Spent(int(group.spent.max()), (int(group.spent.max()) - start) / max(int(group.drawn), 1))
        for group, start in zip(groups, _by_group(work(warmup), groups), strict=True)
    ]
    if max(cost.spent for cost in costs) >= budget:
        return 0
    if not groups[0].drawn:
        return PILOT
    if not any(cost.per_draw for cost in costs):
        raise ValueError("a step of this kernel costs no evaluation: a budget would never end")
    affordable = min(
        min(CAUTION * (budget - cost.spent), budget / CHUNKS) / max(cost.per_draw, 1e-9) for cost in costs
    )
    return int(np.clip(affordable, 1, BUFFER))


def _by_group(values: np.ndarray, groups: list[Group]) -> list[int]:
    """The largest value in each group, of one value a chain."""
    ends = np.cumsum([len(group.spent) for group in groups])[:-1]
    return [int(part.max()) for part in np.split(values, ends)]


def _total(groups: list[Group]) -> int:
    return int(sum(group.spent.sum() for group in groups))


def _cost(groups: list[Group]) -> Cost:
    """What every chain has spent so far, leaves ``i[chain]``."""
    fields = zip(*(group.cost for group in groups), strict=True)
    return Cost(*(np.concatenate([np.asarray(x) for x in field]) for field in fields))


def _filled(chunk: Chunk) -> Chunk:
    """A copy on the host of the rows that were filled; the buffer is far larger."""
    n = int(chunk.filled)
    draws, info = jax.tree.map(lambda x: np.asarray(x)[:n].copy(), (chunk.draws, chunk.info))
    return Chunk(draws, info, chunk.filled)


def _assemble(chunks: list[list[Chunk]]) -> tuple[np.ndarray, Info]:
    """All draws and infos as ``[chain, draw, …]``, as many of each chain as the shortest has."""

    def join(*parts: np.ndarray) -> np.ndarray:
        return np.swapaxes(np.concatenate(parts), 0, 1)

    joined = [jax.tree.map(join, *((chunk.draws, chunk.info) for chunk in of_group)) for of_group in chunks]
    shortest = min(draws.shape[1] for draws, _ in joined)
    return jax.tree.map(lambda *parts: np.concatenate([p[:, :shortest] for p in parts]), *joined)


def _check_started(groups: list[Group], target: Target) -> None:
    if all(bool(np.all(group.finite)) for group in groups):
        return
    raise ValueError(nowhere(target))
