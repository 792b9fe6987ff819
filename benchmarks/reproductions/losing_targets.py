"""Targets of one scale or of little trouble, where delayed rejection has nothing to gain on tuned HMC.

Shown beside the funnel, because a gain on one target says nothing about others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...models import ill_conditioned_gaussian, rosenbrock
from ..estimates import estimate, ratio
from .contest import (
    FRESH,
    Arena,
    Candidate,
    adrhmc,
    best,
    drghmc,
    drhmc,
    hmc,
    rates,
    run_candidates,
    stationary_arena,
)
from .framework import PREDICTED, Below, Claim, Row
from .laboratory import Laboratory

CONDITION_NUMBER = 1000.0
DIM = 50
TUNED_STEP, INTEGRATION_TIME = 0.0403, 0.85
"""For HMC on the Gaussian, where the largest standard deviation is 1; the smallest is 0.0316, so that the
step is 0.64 of the largest stable one."""


def gaussian_arena(dim: int = DIM) -> Arena:
    """N(0, diag(σ²)), σ log-spaced; the metric makes the largest σ the unit of length.

    `ill_conditioned_gaussian` has σ from κ^−¼ to κ^¼. With inverse mass matrix κ^½ I leapfrog does there
    what it does, with the identity, on σ from κ^−½ to 1: positions scaled by κ^¼, the same step size and
    lengths.
    """
    target = ill_conditioned_gaussian(dim, CONDITION_NUMBER)
    metric = np.full(dim, CONDITION_NUMBER**0.5)
    return stationary_arena("Gaussian in units of its largest sd", target, inverse_mass_matrix=metric)


def gaussian_steps(step_size: float) -> int:
    """Steps of the first trajectory, which integrates for `INTEGRATION_TIME`."""
    return max(1, round(INTEGRATION_TIME / step_size))


@dataclass(frozen=True)
class LosingTarget:
    """A target with the candidates of HMC and of its contenders."""

    name: str
    arena: Arena
    hmc: tuple[Candidate, ...]
    contenders: dict[str, tuple[Candidate, ...]]


def losing_targets() -> tuple[LosingTarget, ...]:
    """The Gaussian about its known tuning, and the curved one with a grid of its own."""
    gaussian = [
        (step, round(time / step))
        for step in (TUNED_STEP, 1.4 * TUNED_STEP)
        for time in (INTEGRATION_TIME, 2 * INTEGRATION_TIME)
    ]
    curved = [(step, n) for step in (0.025, 0.05, 0.1, 0.15) for n in (20, 40, 80, 160)]
    coarse = [(step, n) for step in (0.2, 0.4, 0.8) for n in (5, 10, 20)]
    return (
        LosingTarget(
            f"Gaussian, κ = {CONDITION_NUMBER:g}, d = {DIM}",
            gaussian_arena(),
            tuple(hmc(step, n) for step, n in gaussian),
            {
                **{
                    f"DR-HMC, constant {length}": tuple(drhmc(step, n, length=length) for step, n in gaussian)
                    for length in ("time", "steps")
                },
                "DR-G-HMC": tuple(
                    drghmc(TUNED_STEP * factor, damping) for factor in (1.0, 1.4) for damping in (0.03, 0.08)
                ),
                "abandoning DR-HMC": tuple(
                    adrhmc(step, n, spread=spread) for step, n in gaussian for spread in (1.5, 4)
                ),
            },
        ),
        LosingTarget(
            "Rosenbrock, d = 2",
            stationary_arena("Rosenbrock", rosenbrock()),
            tuple(hmc(step, n) for step, n in curved),
            {
                **{
                    f"DR-HMC, constant {length}": tuple(drhmc(step, n, length=length) for step, n in coarse)
                    for length in ("time", "steps")
                },
                "DR-G-HMC": tuple(
                    drghmc(step, damping) for step in (0.2, 0.4, 0.8) for damping in (0.03, 0.08)
                ),
                "abandoning DR-HMC": tuple(adrhmc(step, n, spread=2) for step, n in coarse),
            },
        ),
    )


def losing_rows(
    laboratory: Laboratory,
    *,
    chains: int,
    gradients: int,
    seeds: int,
    targets: Sequence[LosingTarget] | None = None,
) -> list[Row]:
    """Each contender's best over HMC's best, on fresh seeds."""
    rows = []
    for target in losing_targets() if targets is None else targets:
        fields = {"HMC": target.hmc, **target.contenders}
        size = {"chains": chains, "gradients": gradients}
        everyone = [candidate for candidates in fields.values() for candidate in candidates]
        searched = run_candidates(
            laboratory, f"search, {target.name}", target.arena, everyone, seeds=range(1), **size
        )
        winners = {name: best(candidates, searched, None, "min") for name, candidates in fields.items()}
        chosen = {name: winner for name, winner in winners.items() if winner is not None}
        fresh = run_candidates(
            laboratory,
            f"fresh seeds, {target.name}",
            target.arena,
            list(chosen.values()),
            seeds=range(FRESH, FRESH + seeds),
            **size,
        )
        figures = {name: estimate(rates(fresh[winner.label], "min")) for name, winner in chosen.items()}
        for name in target.contenders:
            claim = Claim(
                f"{name} over tuned HMC: least bulk ESS of a coordinate",
                PREDICTED,
                f"{target.name}, {chains} chains × {gradients:,} gradients from exact draws",
                "loses",
                Below(1.0),
            )
            note = ", ".join(f"{chosen[n].label} {figures[n].value:.3g}" for n in (name, "HMC"))
            rows.append(Row(claim, ratio(figures[name], figures["HMC"]), note))
    return rows
