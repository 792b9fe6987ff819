"""What the parts of the federated reproduction share: its size, its samplers, and what a run has spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...samplers.base import Run
from ...samplers.federated import DistributedSGLD, FederatedSGLD

PAPER = "El Mekkaoui et al. 2021, abstract"
SAMPLERS: dict[str, type[FederatedSGLD]] = {"FSGLD": FederatedSGLD, "DSGLD": DistributedSGLD}
SHARDS = 10


@dataclass(frozen=True)
class FederatedPlan:
    """The size of the reproduction."""

    local_steps: tuple[int, ...] = (1, 10, 100)
    chains: int = 16
    gradients: int = 200
    """Per chain and run, on the toy: 100 steps each."""
    real_local_steps: tuple[int, ...] = (10, 100)
    real_chains: int = 8
    real_gradients: int = 2000
    seeds: int = 8


def spending(run: Run) -> dict[str, float]:
    """Of a chain: gradients of all rows, rounds, and steps that were not taken."""
    spent = run.equivalents(run.warmup) + run.equivalents(run.sampling)
    rounds = np.asarray(run.warmup.communications) + np.asarray(run.sampling.communications)
    stayed = np.sum(run.info.extra["steps_not_taken"])
    return {"gradients": float(spent.mean()), "rounds": float(rounds.mean()), "not_taken": float(stayed)}


def by_setting[S](
    settings: Sequence[S], results: Sequence[dict[str, Any]], seeds: int
) -> dict[S, Sequence[dict[str, Any]]]:
    return {setting: results[i * seeds : (i + 1) * seeds] for i, setting in enumerate(settings)}
