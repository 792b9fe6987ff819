"""Errors of estimates against reference draws: means, standard deviations, quantiles and intervals.

In units that do not depend on the parameter's. They are computed for every sampler, for its draws as they are
or as weighted, each with what the same figure comes to between two halves of the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .metrics import QUANTILES, STATISTICS

LEVELS = (0.5, 0.9)
"""Of the central intervals whose coverage is looked at."""


class Estimates(NamedTuple):
    """Moments and quantiles of a sample, which may be weighted."""

    mean: np.ndarray
    """``f[parameter]``"""
    sd: np.ndarray
    """``f[parameter]``"""
    quantile: np.ndarray
    """``f[quantile, parameter]``, at `metrics.QUANTILES`."""
    interval: np.ndarray
    """``f[level, end, parameter]``: the ends of the central intervals of `LEVELS`."""


class Errors(NamedTuple):
    """Estimates of one sample against another's, with signs."""

    mean: np.ndarray
    """``f[parameter]``, in standard deviations of the reference."""
    log_sd_ratio: np.ndarray
    """``f[parameter]``: log(sd / reference sd)."""
    quantile: np.ndarray
    """``f[quantile, parameter]``, in standard deviations of the reference."""
    coverage: np.ndarray
    """``f[level, parameter]``: the share of the other sample's draws inside the central interval."""


def estimates(draws: np.ndarray, weight: np.ndarray | None = None) -> Estimates:
    """Moments and quantiles of all chains' draws together.

    Quantiles are those of the (weighted) empirical distribution function, which both kinds of sample have.

    Parameters
    ----------
    draws : ``f[chain, draw, parameter]``
    weight : ``f[chain * draw]``, adding up to 1; None where all draws count the same
    """
    flat = draws.reshape(-1, draws.shape[-1])
    with np.errstate(invalid="ignore"):  # draws that are not finite
        mean = np.average(flat, axis=0, weights=weight)
        sd = np.sqrt(np.average((flat - mean) ** 2, axis=0, weights=weight))
    ends = [((1 - level) / 2, (1 + level) / 2) for level in LEVELS]
    wanted = [*QUANTILES, *np.ravel(ends)]
    found = np.quantile(flat, wanted, axis=0, method="inverted_cdf", weights=weight)
    interval = found[len(QUANTILES) :].reshape(len(LEVELS), 2, -1)
    return Estimates(mean, sd, found[: len(QUANTILES)], interval)


def errors(
    draws: np.ndarray, to: np.ndarray, reference: np.ndarray, weight: np.ndarray | None = None
) -> Errors:
    """Errors of one sample's estimates against another sample; of a reference's two halves, a noise floor.

    Parameters
    ----------
    draws, to, reference : ``f[chain, draw, parameter]``; the reference has the standard deviations that are
        the unit, and no parameter of it is constant
    weight : of ``draws``, as in `estimates`
    """
    scale = reference.std((0, 1))
    found, truth = estimates(draws, weight), estimates(to)
    given = to.reshape(-1, to.shape[-1])
    low, high = found.interval[:, 0], found.interval[:, 1]
    inside = [np.mean((given >= a) & (given <= b), axis=0) for a, b in zip(low, high, strict=True)]
    with np.errstate(divide="ignore", invalid="ignore"):  # of a chain that never moved the sd is 0
        return Errors(
            mean=(found.mean - truth.mean) / scale,
            log_sd_ratio=np.log(found.sd / truth.sd),
            quantile=(found.quantile - truth.quantile) / scale,
            coverage=np.where(np.isfinite(low + high), np.stack(inside), np.nan),
        )


def summary(found: Errors, names: Sequence[str], floor: Errors | None = None) -> dict[str, Any]:
    """Averages and maxima over parameters, for a record; layout in docs/records.md.

    Parameters
    ----------
    names : of the parameters
    floor : the errors of noise alone, where they are to stand beside
    """

    def sizes(part: np.ndarray) -> dict[str, float]:
        return {"average": float(np.abs(part).mean()), "maximum": float(np.abs(part).max())}

    def shares(part: np.ndarray) -> dict[str, float]:
        return {
            "average": float(part.mean()),
            "minimum": float(part.min()),
            "maximum": float(part.max()),
        }

    def beside(given: dict[str, float] | None) -> dict[str, Any]:
        return {} if given is None else {"floor": given}

    row, column = np.unravel_index(np.argmax(np.abs(found.quantile)), found.quantile.shape)
    return {
        "mean": sizes(found.mean)
        | {"worst": names[int(np.argmax(np.abs(found.mean)))]}
        | beside(floor and sizes(floor.mean)),
        "sd": sizes(found.log_sd_ratio)
        | {
            "ratio": float(np.exp(found.log_sd_ratio.mean())),
            "worst": names[int(np.argmax(np.abs(found.log_sd_ratio)))],
        }
        | beside(floor and sizes(floor.log_sd_ratio)),
        "quantiles": sizes(found.quantile)
        | {"worst": f"{STATISTICS[2 + int(row)]} of {names[int(column)]}"}
        | beside(floor and sizes(floor.quantile)),
        "coverage": {
            f"{round(100 * level)}": shares(part) | beside(floor and shares(floor.coverage[i]))
            for i, (level, part) in enumerate(zip(LEVELS, found.coverage, strict=True))
        },
    }
