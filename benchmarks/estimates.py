"""Figures over replicates and their ratios, each with its interval."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A positive figure over replicates: its geometric mean with a Student-t interval on the logarithms.

    One replicate has no interval. When a replicate is 0 (a stuck chain has ESS 0) there is no logarithm:
    `kind` is then "arithmetic", `value` the arithmetic mean, and there is no interval.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    kind: str = "geometric"
    values: tuple[float, ...] = ()


def estimate(values: Iterable[float | None], confidence: float = CONFIDENCE) -> Estimate:
    """The geometric mean of replicates with its interval; undefined replicates (None) do not take part."""
    x = np.array([value for value in values if value is not None], dtype=float)
    if x.size == 0:
        return Estimate()
    replicates = tuple(x.tolist())
    if np.any(x <= 0):
        return Estimate(float(x.mean()), kind="arithmetic", values=replicates)
    logs = np.log(x)
    error = logs.std(ddof=1) / math.sqrt(x.size) if x.size > 1 else 0.0
    return _from_logs(float(logs.mean()), float(error), x.size - 1, confidence, replicates)


def ratio(numerator: Estimate, denominator: Estimate, confidence: float = CONFIDENCE) -> Estimate:
    """The ratio of two geometric means, with Welch's interval on the difference of mean logarithms.

    Unpaired: cells that share a seed share a number, not randomness (each sampler draws its own stream from
    it), so that pairing would remove no variance and cost half the degrees of freedom. Undefined where either
    side is undefined or has a replicate at 0; without interval where either side has a single replicate.
    """
    if any(side.value is None or side.kind != "geometric" for side in (numerator, denominator)):
        return Estimate()
    a, b = np.log(numerator.values), np.log(denominator.values)
    center = float(a.mean() - b.mean())
    if min(a.size, b.size) < 2:
        return _from_logs(center, 0.0, 0, confidence)
    parts = np.array([a.var(ddof=1) / a.size, b.var(ddof=1) / b.size])
    variance = float(parts.sum())
    freedom = variance**2 / float((parts**2 / [a.size - 1, b.size - 1]).sum()) if variance > 0 else 1.0
    return _from_logs(center, math.sqrt(variance), freedom, confidence)


def _from_logs(
    center: float, error: float, freedom: float, confidence: float, values: tuple[float, ...] = ()
) -> Estimate:
    if freedom <= 0:
        return Estimate(math.exp(center), values=values)
    middle = math.exp(center)
    with np.errstate(over="ignore"):
        reach = np.exp(float(stats.t.ppf(0.5 + confidence / 2, freedom)) * error)
        low, high = float(middle / reach), float(middle * reach)
    # Two seeds that disagree wildly reach beyond floating point; JSON has no infinity: None says "unbounded".
    return Estimate(middle, low, high if math.isfinite(high) else None, values=values)
