"""posteriordb's rules for accepting draws as reference draws, and their published form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

N_DRAWS = 10_000
MIN_CHAINS = 4
MAX_RHAT = 1.01
ESS_BOUNDS = (N_DRAWS - 4 * np.sqrt(7 * N_DRAWS), N_DRAWS + 4 * np.sqrt(7 * N_DRAWS))
"""Independent draws have a bulk ESS of about the number of draws, give or take its own noise."""
MAX_LAG1_AUTOCORRELATION = 0.05


def acceptance_checks(
    draws: np.ndarray, names: Sequence[str], divergences: np.ndarray | Sequence[int]
) -> dict[str, dict[str, Any]]:
    """posteriordb's acceptance rules applied to draws.

    10 000 draws from at least 4 chains; R-hat below 1.01; bulk and tail ESS within
    10 000 ± 4 √(7 · 10 000); mean lag-1 autocorrelation over the chains below 0.05 in size; no
    divergent transition. A statistic that is undefined (of a constant) fails its rule.

    Parameters
    ----------
    draws : ``f[chain, draw, parameter]``
    names : one per parameter
    divergences : ``i[chain]`` counts, or ``bool[chain, draw]``

    Returns
    -------
    ``{"diagnostics": {...}, "checks_made": {rule: bool}}`` as in posteriordb's files
    ``draws/info/NAME.info.json``; accepted where ``all(checks_made.values())``.
    """
    from arviz_stats.base.array import array_stats  # slow to import: not at start-up

    chains, n, _ = draws.shape
    bulk: Any = array_stats.ess(draws, chain_axis=0, draw_axis=1, method="bulk")
    tail: Any = array_stats.ess(draws, chain_axis=0, draw_axis=1, method="tail", prob=(0.05, 0.95))
    rhat: Any = array_stats.rhat(draws, chain_axis=0, draw_axis=1)
    lag1 = _lag1_autocorrelation(draws).mean(0)
    divergent = np.asarray(divergences)
    divergent = divergent.sum(1) if divergent.ndim == 2 else divergent
    low, high = ESS_BOUNDS
    within = all(np.all((ess >= low) & (ess <= high)) for ess in (bulk, tail))
    return {
        "diagnostics": {
            "diagnostic_information": {"names": list(names)},
            "ndraws": chains * n,
            "nchains": chains,
            "effective_sample_size_bulk": _numbers(bulk),
            "effective_sample_size_tail": _numbers(tail),
            "r_hat": _numbers(rhat),
            "divergent_transitions": [int(count) for count in divergent],
            "mean_lag1_ac": _numbers(lag1),
        },
        "checks_made": {
            "ndraws_is_10k": chains * n == N_DRAWS,
            "nchains_is_gte_4": chains >= MIN_CHAINS,
            "ess_within_bounds": within,
            "r_hat_below_1_01": bool(np.all(rhat < MAX_RHAT)),
            "abs_mean_lag1_ac_below_0_05": bool(np.all(np.abs(lag1) < MAX_LAG1_AUTOCORRELATION)),
            "no_divergent_transitions": bool(np.all(divergent == 0)),
        },
    }


def _lag1_autocorrelation(draws: np.ndarray) -> np.ndarray:
    """``f[chain, draw, parameter] -> f[chain, parameter]``; NaN for constants."""
    centered = draws - draws.mean(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return (centered[:, 1:] * centered[:, :-1]).sum(1) / (centered**2).sum(1)


def _numbers(values: np.ndarray) -> list[float | None]:
    return [round(float(value), 6) if np.isfinite(value) else None for value in values]
