"""A run's draws held against the reference draws: errors, distances, and what noise alone makes of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..models import Target
from ..posteriordb_adapter import Posterior, ReferenceDraws, UnmappedReference, comparable
from ..posteriordb_adapter.identity import evaluate
from ..posteriordb_adapter.unconstrain import to_unconstrained
from ..samplers import Run
from . import accuracy, distances, metrics

B2_THRESHOLD = 0.01


class Reference(NamedTuple):
    """What a run is held against, in the space that both have."""

    name: str
    source: str
    digest: str
    names: list[str]
    columns: np.ndarray
    """Of the target's constrained draws."""
    missing: list[str]
    draws: np.ndarray
    moments: metrics.Moments
    unconstrained: np.ndarray | None = None
    """``f[n, dim]``: some of the draws on the target's unconstrained scale, for a Stein discrepancy."""
    unmapped: str = "the reference draws were not brought to the unconstrained scale"
    """Why there are none of those."""


def reference_of(
    posterior: Posterior, param_names: tuple[str, ...], target: Target | None = None
) -> Reference | None:
    """The reference draws of a posterior, in the target's order; None where it has none.

    Quantities that are constant by definition are not compared. With ``target``, the target that the
    names are of, some of the draws are brought to its unconstrained scale.
    """
    if not posterior.has_reference:
        return None
    reference: ReferenceDraws = posterior.reference()
    common = comparable(param_names, reference)
    draws = reference.select(common.names).draws
    keep = metrics.varying(draws, common.names)
    names = [name for name, kept in zip(common.names, keep, strict=True) if kept]
    draws = draws[:, :, keep]
    unconstrained = {} if target is None else _unconstrained(target, reference)
    return Reference(
        name=str(posterior.reference_name),
        source=str(posterior.sources()["reference"]),
        digest=reference.digest,
        names=names,
        columns=np.asarray(common.columns)[keep],
        missing=[name for name in param_names if name not in names],
        draws=draws,
        moments=metrics.moments(draws),
        **unconstrained,
    )


def _unconstrained(target: Target, reference: ReferenceDraws) -> dict[str, Any]:
    some = ReferenceDraws(reference.name, reference.names, distances.thinned(reference.draws)[None])
    try:
        found = to_unconstrained(target, some)
    except UnmappedReference as error:
        return {"unmapped": str(error)}
    return {"unconstrained": found.draws[found.mapped]}


def held_against(run: Run, draws: np.ndarray, reference: Reference | None) -> dict[str, Any]:
    """The parts of a record that need a reference; None, all of them, where there is none.

    Parameters
    ----------
    draws : ``f[chain, draw, parameter]``, constrained, the parameters that the reference has
    """
    if reference is None:
        return dict.fromkeys(("error_curve", "gradients_to_b2", "accuracy", "distances"))
    return {
        **_errors(run, draws, reference),
        "accuracy": _accuracy(draws, reference),
        "distances": _distances(run, draws, reference),
    }


def _errors(run: Run, draws: np.ndarray, reference: Reference) -> dict[str, Any]:
    curve = metrics.error_curve(draws, reference.draws, run.spent(run.warmup), run.spent(run.info.cost))
    # What an exact sample of the reference's size would show, averaged over parameters.
    floor = np.mean((reference.moments.mcse[0] / reference.moments.estimate[1]) ** 2)
    return {
        "error_curve": {
            "gradients": curve.gradients,
            "b2_mean": {"average": curve.mean.mean(axis=1), "maximum": curve.mean.max(axis=1)},
            "b2_square": {"average": curve.square.mean(axis=1), "maximum": curve.square.max(axis=1)},
            "noise_floor": floor,
        },
        "gradients_to_b2": {
            "threshold": B2_THRESHOLD,
            "mean": metrics.cost_until(curve.gradients, curve.mean.max(axis=1), B2_THRESHOLD),
            "square": metrics.cost_until(curve.gradients, curve.square.max(axis=1), B2_THRESHOLD),
        },
    }


def _accuracy(draws: np.ndarray, reference: Reference) -> dict[str, Any]:
    """Errors of the estimates, each beside what two halves of the reference differ by."""
    found = accuracy.errors(draws, reference.draws, reference.draws)
    floor = accuracy.errors(*distances.halves(reference.draws), reference.draws)
    return accuracy.summary(found, reference.names, floor)


def _distances(run: Run, draws: np.ndarray, reference: Reference) -> dict[str, Any]:
    """How far the draws are from the reference's as distributions; nothing of it counts as cost."""
    found = distances.wasserstein_distances(draws, reference.draws, reference.draws)
    floor = distances.wasserstein_distances(*distances.halves(reference.draws), reference.draws)
    return {
        "w1": {
            "average": found.marginal.mean(),
            "maximum": found.marginal.max(),
            "worst": reference.names[int(np.argmax(found.marginal))],
            "floor": {"average": floor.marginal.mean(), "maximum": floor.marginal.max()},
        },
        "sliced_w1": {
            "value": found.sliced,
            "floor": floor.sliced,
            "projections": distances.PROJECTIONS,
        },
        "ksd": _stein(run, reference),
    }


def _stein(run: Run, reference: Reference) -> dict[str, Any]:
    """The kernel Stein discrepancy of some of the draws, or why there is none."""
    points, given = distances.thinned(run.draws), reference.unconstrained
    result = dict.fromkeys(("value", "floor", "squared", "squared_error"))
    result |= {"draws": len(points), "reason": None}
    if given is None or not len(given):
        return result | {"reason": reference.unmapped}
    if len(points) < 2 or not np.isfinite(points).all():
        return result | {"reason": "there are fewer than two draws, or some are not finite"}
    values, scores = evaluate(run.target.density, np.concatenate([points, given]))
    inside, usable = np.split(np.isfinite(values), [len(points)])
    if not inside.all():
        outside = int(np.sum(~inside))
        return result | {"reason": f"the density could not be evaluated at {outside} of the draws"}
    own, theirs = np.split(scores, [len(points)])
    try:
        found = distances.stein_discrepancy(points, own, given[usable], theirs[usable])
    except ValueError as error:
        return result | {"reason": str(error)}
    return result | {
        "value": found.value,
        "floor": found.floor,
        "squared": found.squared,
        "squared_error": found.error,
    }
