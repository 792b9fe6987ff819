"""Samplers at fixed settings on one target: runs, gates, the search for the best setting, fresh seeds.

The order is the point. Gates and candidates are fixed before anything runs; the search chooses among the
candidates that pass; what it has chosen is measured again with seeds it has not seen, since the best of
many noisy figures is too good (the winner's curse).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import numpy as np
from jax import Array

from ...models.target import Target
from ...samplers import (
    HMC,
    AbandoningDelayedRejectionHMC,
    DelayedRejectionGeneralizedHMC,
    DelayedRejectionHMC,
    TrajectoryLength,
)
from .ensemble import FixedSampler, Observe, Trace, bulk_ess, per_gradient, run_ensemble, stuck_chains
from .laboratory import Laboratory, Measurement, sampler_setting

FRESH = 1000
"""Seeds from here on are never searched with."""
LONGEST = 1 << 20
"""No cap on the number of steps: lengths are what the setting says."""

type Result = Mapping[str, Any]
"""``ess`` (per 1000 gradients, by function), ``means`` (by function), ``gradients``, ``draws``, ``stuck``."""


@dataclass(frozen=True)
class Candidate:
    """A sampler at a fixed setting; nothing is adapted."""

    label: str
    sampler: FixedSampler
    step_size: float
    thin: int = 1
    """One draw in so many is recorded, where draws are far cheaper than they are correlated."""


@dataclass(frozen=True)
class Arena:
    """A target, where chains start on it, and what is estimated there."""

    name: str
    """Part of a measurement's setting: other functions or starts need another name."""
    target: Target
    starts: Callable[[Array, int], Array]
    """``(key, chains) -> f[chain, dim]``"""
    observe: Observe
    efficiency: Callable[[np.ndarray], np.ndarray]
    """``f[chain, draw, statistic] -> f[chain, draw, function]``: whose ESS is taken"""
    efficiency_names: tuple[str, ...]
    means: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)
    """Functions of ``f[chain, draw, statistic]`` whose means the gates need"""
    inverse_mass_matrix: Any = None


def stationary_arena(name: str, target: Target, *, inverse_mass_matrix: Any = None) -> Arena:
    """A target from exact draws, judged by the least bulk ESS of its coordinates: efficiency alone."""
    exact = target.exact
    if exact is None:
        raise ValueError(f"{target.name} has no exact draws to start from")
    return Arena(
        name=f"{name} from exact draws",
        target=target,
        starts=exact,
        observe=_position,
        efficiency=lambda values: values,
        efficiency_names=target.param_names,
        inverse_mass_matrix=inverse_mass_matrix,
    )


def _position(x: Array) -> Array:
    return x


def contest_measurement(
    arena: Arena, candidate: Candidate, *, chains: int, gradients: int, seed: int
) -> Measurement:
    """One run of a candidate, reduced to a `Result`."""

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        starts_key, run_key = jax.random.split(key)
        trace = run_ensemble(
            candidate.sampler,
            arena.target,
            run_key,
            arena.starts(starts_key, chains),
            step_size=candidate.step_size,
            gradients=gradients,
            observe=arena.observe,
            inverse_mass_matrix=arena.inverse_mass_matrix,
            thin=candidate.thin,
            stop=stop,
        )
        return summarize(arena, trace)

    metric = arena.inverse_mass_matrix
    setting = {
        "inverse_mass_matrix": None if metric is None else np.asarray(metric).tolist(),
        "arena": arena.name,
        "target": arena.target.digest,
        "dim": arena.target.dim,
        "sampler": sampler_setting(candidate.sampler),
        "step_size": candidate.step_size,
        "thin": candidate.thin,
        "chains": chains,
        "gradients": gradients,
    }
    return Measurement(candidate.label, setting, seed, compute)


def summarize(arena: Arena, trace: Trace) -> dict[str, Any]:
    """The `Result` of a run; ESS and means are of the draws that are kept."""
    kept = trace.kept()
    ess = per_gradient(bulk_ess(arena.efficiency(kept.values)), kept)
    by_name = dict(zip(arena.efficiency_names, map(float, ess), strict=True))
    return {
        "ess": {**by_name, "min": min(by_name.values())},
        "means": {name: float(function(kept.values).mean()) for name, function in arena.means.items()},
        "gradients": float(trace.gradients[:, -1].mean()),
        "kept_gradients": float(kept.gradients[:, -1].mean()),
        "draws": int(kept.values.shape[1]),
        "chains": int(kept.values.shape[0]),
        "stuck": stuck_chains(kept.values),
    }


@dataclass(frozen=True)
class Gate:
    """Tolerances on means whose true values are known; fixed before the search.

    Absolute ones: against a standard error a stuck chain would look good, because it inflates it.
    """

    name: str
    tolerances: Mapping[str, tuple[float, float]]
    """By function: the exact value and how far from it the mean over all seeds may be."""

    def passes(self, results: Sequence[Result]) -> bool:
        """Of the runs of one candidate; one in which no chain could be estimated from does not pass."""
        return all(
            abs(pooled(results, name) - exact) <= tolerance
            for name, (exact, tolerance) in self.tolerances.items()
        )

    @property
    def text(self) -> str:
        parts = (f"|{name} − {exact:.4g}| ≤ {tol:g}" for name, (exact, tol) in self.tolerances.items())
        return f"gate {self.name}: {', '.join(parts)}"


def pooled(results: Sequence[Result], function: str) -> float:
    """The mean of a function over all draws of all runs."""
    return float(np.average([r["means"][function] for r in results], weights=[r["draws"] for r in results]))


def best(
    candidates: Sequence[Candidate],
    results: Mapping[str, Sequence[Result]],
    gate: Gate | None,
    statistic: str,
) -> Candidate | None:
    """The candidate of the largest mean ESS per gradient among those that pass; None where none does.

    Parameters
    ----------
    results : of the search, by the candidate's label
    """
    passing = [c for c in candidates if gate is None or gate.passes(results[c.label])]
    return max(passing, key=lambda c: np.mean(rates(results[c.label], statistic)), default=None)


def rates(results: Sequence[Result], statistic: str) -> list[float]:
    """ESS per 1000 gradients, one per seed."""
    return [float(r["ess"][statistic]) for r in results]


def run_candidates(
    laboratory: Laboratory,
    phase: str,
    arena: Arena,
    candidates: Sequence[Candidate],
    *,
    chains: int,
    gradients: int,
    seeds: Sequence[int],
) -> dict[str, list[Result]]:
    """The results of every candidate with every seed, by label."""
    wanted = [
        contest_measurement(arena, candidate, chains=chains, gradients=gradients, seed=seed)
        for candidate in candidates
        for seed in seeds
    ]
    found = iter(laboratory.measure(phase, wanted))
    return {candidate.label: [next(found) for _ in seeds] for candidate in candidates}


def hmc(step_size: float, steps: int) -> Candidate:
    """Plain HMC, lengths jittered by ±20 %."""
    return Candidate(f"HMC(ε={step_size:.4g}, N={steps})", HMC(trajectory=_length(steps)), step_size)


def drhmc(step_size: float, steps: int, *, length: str, stages: int = 3, reduction: float = 5.0) -> Candidate:
    """DR-HMC that retries with probability 1 − α, first lengths jittered by ±20 %."""
    sampler = DelayedRejectionHMC(
        stages=stages,
        reduction=reduction,
        length="time" if length == "time" else "steps",
        trajectory=_length(steps),
    )
    label = f"DR-HMC({length}, K={stages}, a={reduction:g}, ε={step_size:.4g}, N={steps})"
    return Candidate(label, sampler, step_size)


def drghmc(
    step_size: float, damping: float, *, stages: int = 3, reduction: float = 5.0, thin: int = 10
) -> Candidate:
    """DR-G-HMC of one leapfrog step a stage."""
    sampler = DelayedRejectionGeneralizedHMC(
        stages=stages,
        reduction=reduction,
        length="steps",
        damping=damping,
        transitions=1,
        trajectory=TrajectoryLength(num_integration_steps=1, jitter=0.0),
    )
    label = f"DR-G-HMC(K={stages}, a={reduction:g}, ε={step_size:.4g}, γ={damping:g})"
    return Candidate(label, sampler, step_size, thin)


def adrhmc(
    step_size: float,
    steps: int,
    *,
    spread: float,
    energy_range: float = 5.0,
    retry: Literal["always", "probabilistic"] = "probabilistic",
) -> Candidate:
    """Abandoning DR-HMC, K = 3, a = 5; N is the middle of its lengths."""
    trajectory = TrajectoryLength(num_integration_steps=steps, jitter=0.0, max_num_integration_steps=LONGEST)
    sampler = AbandoningDelayedRejectionHMC(
        retry=retry, energy_range=energy_range, grace=0, spread=spread, trajectory=trajectory
    )
    label = f"abandoning DR-HMC({retry}, Δ={energy_range:g}, ε={step_size:.4g}, N={steps}, s={spread:g})"
    return Candidate(label, sampler, step_size)


def _length(steps: int) -> TrajectoryLength:
    return TrajectoryLength(num_integration_steps=steps, jitter=0.2, max_num_integration_steps=LONGEST)
