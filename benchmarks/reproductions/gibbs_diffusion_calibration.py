"""Simulation-based calibration: ranks of the truth, a test of their uniformity, the band of their ECDF.

Talts, Betancourt, Simpson, Vehtari & Gelman, "Validating Bayesian inference algorithms with simulation-based
calibration", 2018. With the truth from the prior and data from the truth, its rank among n independent draws
of the posterior is uniform on 0, …, n. The band is the one of Säilynoja, Bürkner & Vehtari, "Graphical test
for discrete uniformity and its applications in goodness-of-fit evaluation and multiple sample comparison",
Statistics and Computing 32, 2022: pointwise binomial intervals, as wide as makes them hold all at once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from arviz_stats.base.array import array_stats
from numpy.typing import ArrayLike
from scipy import stats

BINS = 16
"""Of the χ² test: n + 1 ranks have to be a multiple of it."""
SIMULATIONS = 2000
"""Of uniform ranks, for the band's width."""
BAND = 0.95

_ess: Callable[..., Any] = array_stats.ess


def ranks_of(truth: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """How many of ``draws f[..., draw]`` are below ``truth f[...]``: ``i[...]`` from 0 to their number."""
    return np.sum(draws < np.asarray(truth)[..., None], axis=-1)


def counts_of(ranks: ArrayLike, draws: int, bins: int = BINS) -> np.ndarray:
    """Ranks in bins of equal width.

    Raises
    ------
    ValueError
        If the ``draws + 1`` ranks there are cannot be shared out evenly.
    """
    if (draws + 1) % bins:
        raise ValueError(f"{draws + 1} ranks do not fall into {bins} equal bins: give draws ≡ −1 mod {bins}")
    return np.bincount(np.asarray(ranks, int) * bins // (draws + 1), minlength=bins)


def log10_p(ranks: ArrayLike, draws: int, bins: int = BINS) -> float:
    """log₁₀ of the χ² test's p-value for uniform ranks; finite where the p-value itself would be 0."""
    counts = counts_of(ranks, draws, bins)
    statistic = float(np.sum((counts - counts.mean()) ** 2) / counts.mean())
    log = float(stats.chi2.logsf(statistic, bins - 1))
    if math.isfinite(log):
        return log / math.log(10)
    # sf ~ (x/2)^(k/2 − 1) e^(−x/2)/Γ(k/2) for large x
    half, k = statistic / 2, bins - 1
    return ((k / 2 - 1) * math.log(half) - half - math.lgamma(k / 2)) / math.log(10)


def all_log10_p(ranks: Mapping[str, ArrayLike], draws: int) -> float:
    """log₁₀ of the smallest p-value over several quantities, times their number (Bonferroni); at most 0."""
    smallest = min(log10_p(values, draws) for values in ranks.values())
    return min(0.0, smallest + math.log10(len(ranks)))


def ecdf_difference(ranks: ArrayLike, draws: int) -> np.ndarray:
    """ECDF of ranks minus that of the uniform distribution, at every rank: ``f[draws + 1]``."""
    counts = np.bincount(np.asarray(ranks, int), minlength=draws + 1)
    return np.cumsum(counts) / counts.sum() - _levels(draws)


@functools.lru_cache(maxsize=16)
def ecdf_band(truths: int, draws: int, coverage: float = BAND) -> tuple[np.ndarray, np.ndarray]:
    """Where the ECDF difference of uniform ranks lies everywhere at once, with the given probability.

    Parameters
    ----------
    truths : how many ranks the ECDF is made of

    Returns
    -------
    Lower and upper ends, ``f[draws + 1]`` each.
    """
    from arviz_stats.ecdf_utils import get_pointwise_confidence_band, simulate_confidence_bands

    levels = _levels(draws)[:-1]  # at the last every ECDF is 1
    generator = np.random.default_rng(0)
    pointwise = simulate_confidence_bands(truths, 1, levels, coverage, SIMULATIONS, generator)
    low, high = (
        np.append(end - levels, 0.0) for end in get_pointwise_confidence_band(pointwise, truths, levels)
    )
    return low, high


def autocorrelation_time(chain: np.ndarray) -> float:
    """Integrated autocorrelation time of ``f[draw]`` or ``f[chain, draw]``: draws over the mean's ESS.

    Infinite where nothing moves.
    """
    chains = np.atleast_2d(chain)
    with np.errstate(all="ignore"):  # a constant divides 0 by 0
        ess = float(_ess(chains, chain_axis=0, draw_axis=1, method="mean"))
    return chains.size / ess if math.isfinite(ess) and ess > 0 and np.ptp(chains) > 0 else math.inf


def _levels(draws: int) -> np.ndarray:
    return np.arange(1, draws + 2) / (draws + 1)
