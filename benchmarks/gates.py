"""Is it right? The gates that a cell must pass before its efficiency is ranked.

They were fixed before any run and are the same for every sampler.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.stats import norm

from .metrics import STATISTICS

type Status = Literal["ok", "not converged", "biased", "unverified", "failed"]

MAX_RHAT = 1.01
MIN_BULK_ESS_PER_CHAIN = 100
FAMILY_WISE_LEVEL = 0.001
"""Probability that a correct cell is called biased, over all of its comparisons together."""


class Bias(NamedTuple):
    """The comparison with the reference draws."""

    max_abs_z: float
    worst: str
    """Such as ``"sd of tau"``."""
    threshold: float
    comparisons: int

    @property
    def passed(self) -> bool:
        return self.max_abs_z < self.threshold


def bias(z: np.ndarray, names: list[str]) -> Bias:
    """The largest |z| against a two-sided threshold with Bonferroni's correction.

    Parameters
    ----------
    z : ``f[statistic, parameter]`` of `metrics.z_scores`; NaN entries are no comparison. An error
        that could not be estimated therefore never passes by itself: the convergence gate, which
        comes first, refuses such a parameter.
    """
    comparisons = int(np.isfinite(z).sum())
    if not comparisons:
        return Bias(float("inf"), "nothing comparable", 0.0, 0)
    threshold = float(norm.isf(FAMILY_WISE_LEVEL / (2 * comparisons)))
    size = np.where(np.isfinite(z), np.abs(z), -1.0)
    row, column = np.unravel_index(np.argmax(size), size.shape)
    return Bias(float(size[row, column]), f"{STATISTICS[row]} of {names[column]}", threshold, comparisons)


def converged(rhat: np.ndarray, ess_bulk: np.ndarray, chains: int) -> bool:
    """Rank R-hat below 1.01 and bulk ESS of at least 100 per chain, in every parameter.

    A NaN R-hat is not below anything. One chain alone has a split R-hat and may pass.
    """
    enough = ess_bulk >= MIN_BULK_ESS_PER_CHAIN * chains
    return bool(np.all(rhat < MAX_RHAT) and np.all(enough))


def reason(record: Mapping[str, Any]) -> str:
    """Which limit a record's run is beyond, and by how much; empty where it passed."""
    if record["status"] == "biased":
        found = record["bias"]
        return f"|z| {found['max_abs_z']:.2f} of the {found['worst']}, limit {found['threshold']:.2f}"
    if record["status"] != "not converged":
        return ""
    found, parts = record["diagnostics"], []
    if found["rhat_max"] is None:
        parts.append(f"R-hat of {found['rhat_worst']} is undefined")
    elif found["rhat_max"] >= MAX_RHAT:
        parts.append(f"R-hat {found['rhat_max']:.3f} of {found['rhat_worst']}, limit {MAX_RHAT}")
    needed = MIN_BULK_ESS_PER_CHAIN * record["chains"]
    if found["ess_bulk_min"] < needed:
        parts.append(
            f"bulk ESS {found['ess_bulk_min']:.0f} of {found['ess_bulk_worst']}, at least {needed} needed"
        )
    return "; ".join(parts)


def status(is_converged: bool, against: Bias | None) -> Status:
    """The verdict on a run that ended; ``unverified`` where there is no reference to hold it against."""
    if not is_converged:
        return "not converged"
    if against is None:
        return "unverified"
    return "ok" if against.passed else "biased"
