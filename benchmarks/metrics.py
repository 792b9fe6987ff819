"""Figures of merit of draws: effective sample sizes, R-hat, errors against a reference.

ESS, R-hat and MCSE are arviz-stats' (Vehtari et al. 2021); what is added here is what a benchmark
must decide besides: a chain that does not move has an effective sample size of 0, and what cannot
be computed is NaN rather than a flattering number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from arviz_stats.base.array import array_stats

AXES = {"chain_axis": 0, "draw_axis": 1}
QUANTILES = (0.05, 0.5, 0.95)
TAILS = (0.05, 0.95)
"""Quantiles of the tail ESS: Stan's and posteriordb's."""
STATISTICS = ("mean", "sd", *(f"q{round(100 * q):02d}" for q in QUANTILES))


class Moments(NamedTuple):
    """Estimates of the compared statistics with their Monte Carlo standard errors."""

    estimate: np.ndarray
    """``f[statistic, parameter]``, rows as in `STATISTICS`."""
    mcse: np.ndarray


class Efficiency(NamedTuple):
    """Per parameter, ``f[parameter]``."""

    rhat: np.ndarray
    """Rank-normalized split R-hat."""
    ess_bulk: np.ndarray
    ess_tail: np.ndarray
    ess_mean: np.ndarray
    ess_square: np.ndarray
    """Of the mean of x²."""


def moments(draws: np.ndarray) -> Moments:
    """Mean, sd and quantiles of ``f[chain, draw, parameter]``."""
    estimates = [
        draws.mean(axis=(0, 1)),
        draws.std(axis=(0, 1), ddof=1),
        *np.quantile(draws, QUANTILES, axis=(0, 1)),
    ]
    errors = [
        _per_parameter(array_stats.mcse, draws, method="mean"),
        _per_parameter(array_stats.mcse, draws, method="sd"),
        *(_per_parameter(array_stats.mcse, draws, method="quantile", prob=q) for q in QUANTILES),
    ]
    return Moments(np.stack(estimates), np.stack(errors))


def efficiency(draws: np.ndarray) -> Efficiency:
    """R-hat and effective sample sizes over all chains of ``f[chain, draw, parameter]``.

    Where any chain is constant every effective sample size is 0 and R-hat is NaN.
    """
    stuck = np.any(np.ptp(draws, axis=1) == 0, axis=0) if draws.shape[1] else np.ones(draws.shape[2], bool)

    def ess(values: np.ndarray, method: str, **options) -> np.ndarray:
        found = _per_parameter(array_stats.ess, values, method=method, **options)
        return np.where(stuck | ~np.isfinite(found), 0.0, found)

    rhat = _per_parameter(array_stats.rhat, _at_least_two(draws), method="rank")
    return Efficiency(
        rhat=np.where(stuck, np.nan, rhat),
        ess_bulk=ess(draws, "bulk"),
        ess_tail=ess(draws, "tail", prob=TAILS),
        ess_mean=ess(draws, "mean"),
        ess_square=ess(draws**2, "mean"),
    )


def _at_least_two(draws: np.ndarray) -> np.ndarray:
    """One chain alone as its two halves: arviz-stats has no R-hat of a single chain."""
    half = draws.shape[1] // 2
    return draws if len(draws) > 1 else np.concatenate([draws[:, :half], draws[:, -half:]])


def stuck_chains(draws: np.ndarray) -> int:
    """How many chains never moved, of ``f[chain, draw, parameter]``."""
    return int(np.sum(np.all(np.ptp(draws, axis=1) == 0, axis=1)))


def _per_parameter(statistic, draws: np.ndarray, **options) -> np.ndarray:
    """arviz-stats' function over the last axis; NaN where there are too few draws for it."""
    if draws.shape[1] < 4:
        return np.full(draws.shape[2], np.nan)
    with np.errstate(all="ignore"):  # constant chains divide 0 by 0; the callers look for them
        return np.asarray(statistic(draws, **AXES, **options), dtype=float)


def z_scores(sample: Moments, reference: Moments) -> np.ndarray:
    """``f[statistic, parameter]``: differences over the errors of both; NaN where both are exact."""
    error = np.hypot(sample.mcse, reference.mcse)
    with np.errstate(all="ignore"):
        return np.where(error > 0, (sample.estimate - reference.estimate) / error, np.nan)


class ErrorCurve(NamedTuple):
    """b² against cost (Hoffman & Sountsov 2022): squared bias over the reference's variance."""

    gradients: np.ndarray
    """Mean over chains, warmup included, ``f[checkpoint]``."""
    mean: np.ndarray
    """``f[checkpoint, parameter]``, of the estimate of E[x]."""
    square: np.ndarray
    """The same of E[x²]."""


def error_curve(
    draws: np.ndarray,
    reference: np.ndarray,
    warmup: np.ndarray,
    sampling: np.ndarray,
    checkpoints: int = 24,
) -> ErrorCurve:
    """How the error of the estimate from all chains' draws so far falls with what was spent.

    Of checkpoints at the same cost the last one stays: a sampler that has paid for all of its draws before
    the first one (a variational fit) has a curve of one point.

    Parameters
    ----------
    draws, reference : ``f[chain, draw, parameter]``, the same parameters
    warmup : gradients, or evaluations of any kind, of every chain, ``i[chain]``
    sampling : of every draw, ``i[chain, draw]``
    """
    n = draws.shape[1]
    ends = np.unique(np.geomspace(1, n, checkpoints).round().astype(int))
    cost = warmup.mean() + np.cumsum(sampling.mean(axis=0))[ends - 1]
    dearer = np.append(np.diff(cost) > 0, True)
    ends, cost = ends[dearer], cost[dearer]

    def b_squared(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
        running = np.cumsum(values.mean(axis=0), axis=0)[ends - 1] / ends[:, None]
        return (running - truth.mean(axis=(0, 1))) ** 2 / truth.var(axis=(0, 1))

    return ErrorCurve(cost, b_squared(draws, reference), b_squared(draws**2, reference**2))


def cost_until(gradients: np.ndarray, errors: np.ndarray, threshold: float) -> float | None:
    """The first cost from which the error stays below ``threshold``; None if it never does.

    Parameters
    ----------
    gradients, errors : ``f[checkpoint]``
    """
    above = np.flatnonzero(~(errors < threshold))
    first = 0 if not len(above) else above[-1] + 1
    return float(gradients[first]) if first < len(gradients) else None


def varying(draws: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """``bool[parameter]``: False for quantities that are constant by definition.

    Such a one (the diagonal of a correlation matrix) has the same single value in every chain; a
    chain that is stuck has not, since chains start apart.
    """
    flat = draws.reshape(-1, len(names))
    return np.ptp(flat, axis=0) > 0
