"""The relaxation time of random-scan Gibbs sampling on Gaussians: measured, exact, and bounded."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...models.gaussian import correlated_gaussian, ill_conditioned_gaussian
from ...models.target import Target
from ...samplers.gibbs import Gibbs
from ..estimates import Estimate, estimate
from .framework import AtLeast, Between, Claim, Row
from .gibbs_mixing_runs import Observe, Result, by_seed, jump_correlation, summary, trace, z_score
from .gibbs_mixing_theory import Relaxation, conductance_bound, entropy_bound, precision_of, relaxation
from .laboratory import Laboratory, Measurement, sampler_setting

RANDOM = Gibbs(scan="random")
DIMENSIONS = (5, 10, 40)
FAMILIES: Mapping[str, Callable[[int], Target]] = {
    "AR(1), ρ = 0.7": lambda n: correlated_gaussian(n, 0.7),
    "equicorrelated, ρ = 0.5": lambda n: correlated_gaussian(n, 0.5, structure="equicorrelated"),
    "rotated at random, κ = 100": lambda n: ill_conditioned_gaussian(n, 100.0, rotation_seed=0),
}
"""Covariances; the last one has variances log-spaced along uniformly drawn orthogonal directions."""
TOLERANCE = 0.05
EXACT = "n/λ_min(D^−½ Q D^−½): Amit (1991), Roberts & Sahu (1997)"
BOUNDS: Mapping[str, tuple[str, Callable[[Relaxation], float]]] = {
    "bound by entropy contraction": ("Ascolani, Lavenant & Zanella (2024), linearized", entropy_bound),
    "κ² n^7.5, order of a bound": ("Wadia (2024), its constant and logarithms taken as 1", conductance_bound),
}


@dataclass(frozen=True)
class RelaxationPlan:
    """The size of these measurements."""

    seeds: int = 8
    relaxation_chains: int = 256
    spans: int = 40
    """Length of a chain, in lags of about half a relaxation time."""


@dataclass(frozen=True)
class Case:
    """One Gaussian."""

    family: str
    n: int
    target: Target
    known: Relaxation
    observe: Observe
    """The slowest eigenfunction."""

    @property
    def lag(self) -> int:
        """Sweeps in about half a relaxation time, where 1 − r is known best in relative terms."""
        return max(1, round(self.known.updates / (2 * self.n)))


@functools.cache
def case_of(family: str, n: int) -> Case:
    """The same object for all seeds: programs are compiled for it."""
    target = FAMILIES[family](n)
    known = relaxation(precision_of(target))
    slowest = jnp.asarray(known.slowest)
    return Case(family, n, target, known, lambda x: (slowest @ x)[None])


def cases() -> tuple[Case, ...]:
    return tuple(case_of(family, n) for family in FAMILIES for n in DIMENSIONS)


def relaxation_measurement(case: Case, plan: RelaxationPlan, seed: int) -> Measurement:
    """The autocorrelation of the slowest eigenfunction at one lag, from stationary chains."""

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        first, then = jax.random.split(key)
        starts = exact_starts(case.target, first, plan.relaxation_chains)
        sweeps = (plan.spans + 1) * case.lag
        values = trace(RANDOM, case.target, then, starts, case.observe, sweeps, stop)
        return summary(jump_correlation(values[..., 0], case.lag)[:, None])

    setting = {
        "target": case.target.digest,
        "sampler": sampler_setting(RANDOM),
        "figure": "correlation of the slowest eigenfunction",
        "lag": case.lag,
        "size": [plan.relaxation_chains, plan.spans],
    }
    return Measurement(f"{case.family}, n = {case.n}", setting, seed, compute)


def exact_starts(target: Target, key: Array, chains: int) -> Array:
    """Independent draws of the target: stationary from the first sweep on."""
    assert target.exact is not None
    return target.exact(key, chains)


def measure_relaxation(
    plan: RelaxationPlan, laboratory: Laboratory, seeds: range
) -> list[tuple[Case, Sequence[Result]]]:
    """Results of every case. Seeds come last, so that threads do not compile one program at a time."""
    every = cases()
    wanted = [relaxation_measurement(case, plan, seed) for seed in seeds for case in every]
    found = laboratory.measure("relaxation", wanted)
    return [(case, found[i :: len(every)]) for i, case in enumerate(every)]


def relaxation_time(case: Case, results: Sequence[Result]) -> Estimate:
    """In single updates: r over m of them is the m-th power of the eigenvalue 1 − 1/τ."""
    updates = case.n * case.lag
    return estimate(1 / (1 - r ** (1 / updates)) for r in by_seed(results, 0))


def relaxation_scores(found: Sequence[tuple[Case, Sequence[Result]]]) -> list[float]:
    """z of every autocorrelation."""
    return [z_score(results, 0, case.known.correlation(case.lag)) for case, results in found]


def relaxation_rows(found: Sequence[tuple[Case, Sequence[Result]]]) -> list[Row]:
    """Measured against exact relaxation times, then against both bounds."""
    return [*(_exact_row(case, results) for case, results in found), *_bound_rows(found)]


def _exact_row(case: Case, results: Sequence[Result]) -> Row:
    exact = case.known.updates
    claim = Claim(
        "random scan: relaxation time",
        EXACT,
        f"{case.family}, n = {case.n}",
        f"{exact:.4g}",
        Between(round(exact * (1 - TOLERANCE), 3), round(exact * (1 + TOLERANCE), 3)),
        "updates",
    )
    note = (
        f"κ = {case.known.condition:.4g}, κ* = {1 / case.known.smallest:.4g};"
        f" bounds: {entropy_bound(case.known):.4g} from the entropy's contraction,"
        f" {conductance_bound(case.known):.2g} is κ² n^7.5"
    )
    return Row(claim, relaxation_time(case, results), note)


def _bound_rows(found: Sequence[tuple[Case, Sequence[Result]]]) -> Iterator[Row]:
    for name, (source, bound) in BOUNDS.items():
        for family in FAMILIES:
            of_family = [(case, results) for case, results in found if case.family == family]
            loose = [
                estimate(bound(case.known) / tau for tau in relaxation_time(case, results).values)
                for case, results in of_family
            ]
            tightest = min(loose, key=lambda one: one.value or np.inf)
            claim = Claim(
                f"random scan: {name}, over measured relaxation time, the smallest over n",
                source,
                f"{family}, n = {', '.join(str(case.n) for case, _ in of_family)}",
                "at least 1",
                AtLeast(1.0),
            )
            by_dimension = (
                f"{e.value:.3g} at n = {case.n}" for e, (case, _) in zip(loose, of_family, strict=True)
            )
            yield Row(claim, tightest, f"factors: {', '.join(by_dimension)}")
