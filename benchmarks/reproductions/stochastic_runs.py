"""What reproductions of stochastic-gradient methods share: runs that can be stopped, means over chains."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
from jax import Array
from scipy import stats

from ...models.target import Target
from ...samplers.base import Budget, Run
from ..estimates import CONFIDENCE, Estimate
from .ensemble import Stopped


def stoppable_run(
    sampler: Any, key: Array, target: Target, gradients: int, chains: int, stop: threading.Event
) -> Run:
    """A run of the sampler that is given up when ``stop`` is set.

    Raises
    ------
    Stopped
        When ``stop`` is set.
    """

    def check(phase: str, spent: int, draws: int) -> None:
        if stop.is_set():
            raise Stopped

    return sampler.run(key, target, Budget(gradients), chains=chains, progress=check)


def mean_estimate(values: Iterable[float], confidence: float = CONFIDENCE) -> Estimate:
    """The arithmetic mean of independent values, one a chain or a seed, with its Student-t interval.

    What is averaged within a chain may be autocorrelated: only the spread between chains is used.
    """
    x = np.asarray(list(values), float)
    middle = float(x.mean())
    if len(x) < 2:
        return Estimate(middle, kind="arithmetic", values=tuple(x.tolist()))
    reach = float(stats.t.ppf(0.5 + confidence / 2, len(x) - 1)) * standard_error(x)
    return Estimate(middle, middle - reach, middle + reach, "arithmetic", tuple(x.tolist()))


def standard_error(values: Iterable[float]) -> float:
    """Of the mean of independent values."""
    x = np.asarray(list(values), float)
    return float(x.std(ddof=1) / math.sqrt(len(x)))


def langevin_inflation(h_lambda: float, noise: float) -> float:
    """(2 + hV)/(2 − hλ): the variance of SGLD's draws over the Gaussian's own, 1/λ.

    From the stationary variance of θ ← θ − hλθ + hV^½ζ + √(2h) ξ.

    Parameters
    ----------
    h_lambda : hλ, the step size times the curvature
    noise : V/λ, the variance of the gradient's noise over the curvature
    """
    return (2 + h_lambda * noise) / (2 - h_lambda)
