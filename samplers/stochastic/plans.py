"""Which steps a run takes, of which size, and which iterates it keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from .settings import Schedule


class Plan(NamedTuple):
    """The steps of a run."""

    steps: int
    """All of them."""
    burn_in: int
    """The first ones, whose iterates are thrown away."""
    kept: np.ndarray
    """``i[draw]``: steps taken when a draw is kept."""
    sizes: Callable[[Array, Array], tuple[Array, Array]]
    """``(number, first h) -> (h, noise)`` of a step; equal if it does the same."""


SETTLED = 0.1
"""Part of the steps after which a decaying step size has begun to decay."""


@dataclass(frozen=True)
class Decaying:
    """h (1 + t/τ)^(−decay), and noise in every step."""

    decay: float
    scale: int
    """τ, in steps"""

    def __call__(self, number: Array, first: Array) -> tuple[Array, Array]:
        size = first if self.decay == 0 else first * (1 + number / self.scale) ** -self.decay
        return size, jnp.ones(())


def constant_or_decaying(schedule: Schedule, steps: int) -> Plan:
    """Burn-in, then evenly spaced draws; the steps that do not make up another draw are not taken."""
    burn_in = int(schedule.burn_in * steps)
    every = max(1, (steps - burn_in) // schedule.draws)
    draws = min(schedule.draws, (steps - burn_in) // every)
    kept = burn_in + every * np.arange(1, draws + 1)
    scale = max(1, int(SETTLED * steps)) if schedule.decay else 1
    return Plan(int(kept[-1]) if draws else 0, burn_in, kept, Decaying(schedule.decay, scale))
