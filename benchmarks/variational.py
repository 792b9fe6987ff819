"""What records and comparisons say of variational fits: bounds, importance weights, and what those repair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import accuracy, distances, importance
from .metrics import QUANTILES, STATISTICS

if TYPE_CHECKING:  # reports need neither samplers nor models
    from ..samplers import Run
    from .against_reference import Reference

REPAIR = 0.5
"""Of the largest W₁, at most so much is left where importance weights are said to repair a fit."""


def fitted(
    run: Run, names: Sequence[str], draws: np.ndarray, reference: Reference | None, held: Any
) -> dict[str, Any] | None:
    """The part of a record that is about variational fits, one a chain; None of a run of another kind.

    Parameters
    ----------
    names, draws : of the compared parameters, ``f[chain, draw, parameter]``
    held : the record's ``distances``, of the draws as they are; None without reference
    """
    if "log_weight" not in run.info.extra:
        return None
    log_weight = np.asarray(run.info.extra["log_weight"], dtype=float)
    weights = importance.smoothed_weights(log_weight)
    threshold = importance.khat_threshold(log_weight.shape[1])
    bound, error = importance.elbo(log_weight)
    largest = float(weights.khat.max())  # NaN where one is: it is the worst of all
    resampled = _resampled(weights, names, draws, reference)
    known = {} if held is None else {"w1": held["w1"]["maximum"], "floor": held["w1"]["floor"]["maximum"]}
    tuning = ("converged", "learning_rate", "learning_rates", "grid_elbo", "steps")
    return {
        "elbo": bound,
        "elbo_error": error,
        "khat": {
            "values": weights.khat,
            "maximum": largest,
            "threshold": threshold,
            "usable": bool(np.all(weights.khat <= threshold)),
            "reason": weights.reason,
        },
        "weight_ess": weights.ess,
        **{name: run.tuning.get(name) for name in tuning},
        "resampled": resampled,
        "note": note(
            largest,
            threshold,
            reason=weights.reason,
            weighted=resampled["w1"]["maximum"] if resampled and resampled["w1"] else None,
            **known,
        ),
    }


def _resampled(
    weights: importance.Weights, names: Sequence[str], draws: np.ndarray, reference: Reference | None
) -> dict[str, Any] | None:
    """Estimates from the weighted draws, all chains counting the same; None where a chain has no weights."""
    if not np.isfinite(weights.weight).all():
        return None
    weight = importance.pooled(weights.weight)
    found = accuracy.estimates(draws, weight)
    result: dict[str, Any] = {
        "mean": found.mean,
        "sd": found.sd,
        **dict(zip(STATISTICS[-len(QUANTILES) :], found.quantile, strict=True)),
    }
    if reference is None:
        return result | {"accuracy": None, "w1": None}
    errors = accuracy.errors(draws, reference.draws, reference.draws, weight)
    apart = distances.weighted_marginals(draws, weight, reference.draws)
    return result | {
        "accuracy": accuracy.summary(errors, names),
        "w1": {
            "average": apart.mean(),
            "maximum": apart.max(),
            "worst": names[int(np.argmax(apart))],
        },
    }


def note(
    khat: float,
    threshold: float,
    *,
    reason: str | None = None,
    w1: float | None = None,
    floor: float | None = None,
    weighted: float | None = None,
) -> str | None:
    """What the diagnostics of a fit advise; None where nothing is to be said.

    Importance weights repair a fit where k-hat is usable in every chain and the largest W₁ of a parameter,
    above the reference's noise floor as it is, falls to half or to the floor when draws are weighted.

    Parameters
    ----------
    khat, threshold : the largest over chains, and up to where it is usable
    reason : why there is none
    w1, weighted : the largest W₁ of the draws as they are, and of the weighted ones
    floor : of both
    """
    if reason is not None:
        return f"no importance weights to trust: {reason}"
    if not khat <= threshold:
        what = f"k-hat {khat:.2f} is above {threshold:.2f}: "
        if w1 is not None and floor is not None and w1 <= floor:
            return (
                what + "importance weights cannot be trusted, though the marginals agree with the reference"
            )
        return what + "neither the draws nor importance weights can be trusted"
    if w1 is None or floor is None or weighted is None:
        return None
    if not w1 > floor or not weighted <= max(REPAIR * w1, floor):
        return None
    effect = "repair the marginals" if weighted <= floor else "reduce the error"
    return (
        f"importance resampling would {effect}: largest W₁ {w1:.2g} → {weighted:.2g} (noise {floor:.2g}), "
        f"k-hat {khat:.2f}"
    )


# --- over the seeds of a group ------------------------------------------------------------------------------


def summarise(
    cells: Sequence[Mapping[str, Any]], w1: float | None, weighted: float | None, floor: float | None
) -> dict[str, Any] | None:
    """The fits of all seeds together; None where there are none.

    Parameters
    ----------
    cells : records
    w1, weighted, floor : the group's largest W₁, that of the weighted draws, and the noise of both
    """
    parts = [cell["variational"] for cell in cells if cell.get("variational")]
    if not parts:
        return None
    khats = [part["khat"] for part in parts]
    usable = all(khat["usable"] for khat in khats)
    reason = next((khat["reason"] for khat in khats if khat["reason"]), None)
    known = [khat["maximum"] for khat in khats if khat["maximum"] is not None]
    threshold = min(khat["threshold"] for khat in khats)
    bounds = [bound for part in parts for bound in part["elbo"]]
    errors = [error for part in parts for error in part["elbo_error"]]
    finite = None not in bounds
    converged = [one for part in parts for one in part["converged"] or []]
    # Where all weights of a fit are the same, its k-hat is −inf, which JSON has not.
    largest = max(known, default=-np.inf)
    return {
        "khat": largest if known and reason is None else None,
        "khat_threshold": threshold,
        "usable": usable,
        "elbo": float(np.mean(bounds)) if finite else None,
        "elbo_error": float(np.sqrt(np.mean(np.square(errors)) / len(errors)))
        if None not in errors
        else None,
        "elbo_range": [min(bounds), max(bounds)] if finite else None,
        "fits": len(bounds),
        "converged": sum(map(bool, converged)) if converged else None,
        "note": note(largest, threshold, reason=reason, w1=w1, floor=floor, weighted=weighted),
    }
