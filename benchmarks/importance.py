"""Importance weights of draws from an approximation, Pareto-smoothed, and what says whether they work.

Every chain of a variational run is a fit of its own, q_c, with log w = log p(x) − log q_c(x) at its draws, p
up to a constant. Its weights are smoothed and normalized by themselves. Where they can be trusted (k-hat),
weighted draws estimate expectations under p; the mean of log w is the ELBO.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from arviz_stats.base.array import array_stats

MAX_KHAT = 0.7
"""Above it the bias of estimates dominates at any number of draws (Vehtari et al. 2024, section 3.2.3)."""
MIN_DRAWS = 25
"""The tail that k-hat is estimated from is a fifth of so few draws, and has at least 5 (arviz-stats)."""


class Weights(NamedTuple):
    """Smoothed importance weights, chain by chain."""

    weight: np.ndarray
    """``f[chain, draw]``, adding up to 1 in each chain; NaN in a chain that has none."""
    khat: np.ndarray
    """``f[chain]``: the estimated shape of the generalized Pareto tail of the weights. −inf where the largest
    weights are all the same, NaN where it cannot be estimated."""
    ess: np.ndarray
    """``f[chain]``: 1 / Σ weight² (Kong 1992), in draws."""
    reason: str | None
    """What could not be computed and why, of the first such chain."""


def khat_threshold(draws: int) -> float:
    """The largest k-hat at which weights of as many draws are usable: min(1 − 1 / log₁₀ S, 0.7).

    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, JMLR 25(72), equation
    13 in section 3.2.4, capped: beyond the first number so many draws are too few, beyond the second any.
    """
    return min(1 - 1 / float(np.log10(draws)), MAX_KHAT) if draws > 1 else -np.inf


def elbo(log_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The evidence lower bound and its Monte Carlo standard error: ``f[chain, draw] -> f[chain], f[chain]``.

    The mean of log w over independent draws of q. −inf, with an error of NaN, where the density of the target
    is 0 at a draw; up to the constant of the target's log density.
    """
    draws = log_weight.shape[1]
    if draws < 2:
        return log_weight.mean(axis=1), np.full(len(log_weight), np.nan)
    with np.errstate(invalid="ignore"):
        return log_weight.mean(axis=1), log_weight.std(axis=1, ddof=1) / np.sqrt(draws)


def smoothed_weights(log_weight: np.ndarray) -> Weights:
    """Pareto-smoothed importance weights and k-hat (Vehtari et al. 2024), each chain by itself.

    Draws of q are independent: the relative efficiency is 1. −inf, a draw where the target's density is 0, is
    a weight of 0; a chain with nothing else, or with NaN or +inf, has no weights.

    Parameters
    ----------
    log_weight : ``f[chain, draw]``, each chain up to a constant of its own
    """
    weight, khat = np.full(log_weight.shape, np.nan), np.full(len(log_weight), np.nan)
    reasons = []
    for chain, logs in enumerate(log_weight):
        weight[chain], khat[chain], why = _smoothed(logs)
        if why:
            reasons.append(f"chain {chain + 1}: {why}")
    return Weights(weight, khat, 1 / np.sum(weight**2, axis=1), reasons[0] if reasons else None)


def _smoothed(logs: np.ndarray) -> tuple[np.ndarray, float, str]:
    """Weights, k-hat and what is wrong with them, of one chain's log weights ``f[draw]``."""
    none = np.full(logs.shape, np.nan)
    if strange := int(np.sum(np.isnan(logs) | (logs == np.inf))):
        return none, np.nan, f"{strange} of {len(logs)} log weights are NaN or +inf"
    if not np.isfinite(logs).any():
        return none, np.nan, "the density of the target is 0 at every draw"
    raw = np.exp(logs - logs.max())
    raw /= raw.sum()
    if len(logs) < MIN_DRAWS:
        return raw, np.nan, f"{len(logs)} draws are too few for k-hat, which needs {MIN_DRAWS}"
    # The tail that arviz-stats fits, of min(S / 5, 3 √S) draws; all the same, it is refused.
    tail = np.sort(logs)[-int(min(len(logs) / 5, 3 * np.sqrt(len(logs)))) :]
    if tail[0] == tail[-1]:
        return raw, -np.inf, ""
    smooth, khat = array_stats.psislw(-logs)  # takes log p(y | x) of cross-validation, whose weight is 1 / p
    if np.isnan(khat):  # a quarter of the tail or more underflows, or ties: its fit is refused
        return raw, np.nan, "k-hat cannot be estimated: a few draws have all of the weight"
    return np.exp(smooth), float(khat), ""


def pooled(weight: np.ndarray) -> np.ndarray:
    """Weights of all draws together, every chain counting the same: ``f[chain, draw] -> f[chain * draw]``."""
    return (weight / len(weight)).reshape(-1)
