"""From a run to its record: everything that reports show, computed once, JSON-able."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import os
import platform
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..models import LoweredTarget, Target
from ..posteriordb_adapter import Posterior, ReferenceDraws, UnmappedReference, comparable
from ..posteriordb_adapter.identity import evaluate
from ..posteriordb_adapter.unconstrain import to_unconstrained
from ..samplers import Cost, Run
from . import distances, gates, metrics
from .cells import Cell

B2_THRESHOLD = 0.01
PACKAGES = (
    "essper", "jax", "jaxlib", "numpy", "scipy", "blackjax", "numpyro", "bridgestan", "stanli",
    "arviz-base", "arviz-stats",
)  # fmt: skip


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


def make_record(cell: Cell, run: Run, reference: Reference | None) -> dict[str, Any]:
    """The record of a run that ended; schema in docs/records.md."""
    started = time.perf_counter()
    constrained = run.constrained()
    if reference is not None:
        names, draws = reference.names, constrained[:, :, reference.columns]
    else:
        keep = metrics.varying(_with_other_points(run, constrained), run.target.param_names)
        names = [n for n, kept in zip(run.target.param_names, keep, strict=True) if kept]
        draws = constrained[:, :, keep]

    found = metrics.moments(draws)
    figures = metrics.efficiency(draws)
    z = metrics.z_scores(found, reference.moments) if reference else None
    against = gates.bias(z, names) if z is not None else None
    is_converged = gates.converged(figures.rhat, figures.ess_bulk, run.chains)
    record = cell.description() | {
        "status": gates.status(is_converged, against),
        "error": None,
        "layout": run.layout,
        "backend": run.target.backend,
        "lowering": _lowering(run.target),
        "dim": run.target.dim,
        "draws": draws.shape[1],
        "cost": _cost(run),
        "diagnostics": _diagnostics(run, names, figures, draws),
        "efficiency": _efficiency(run, figures, rated=not cell.spec.approximate),
        "bias": against and against._asdict() | {"passed": against.passed},
        "reference": reference
        and {
            "name": reference.name,
            "source": reference.source,
            "draws": reference.draws.shape[0] * reference.draws.shape[1],
            "digest": reference.digest,
            "compared": names,
            "not_compared": reference.missing,
        },
        **_errors(run, draws, reference),
        "distances": reference and _distances(run, draws, reference),
        "parameters": _parameters(names, found, figures, reference, z),
        "warnings": _warnings(run, draws),
        **surroundings(),
    }
    seconds = {"metrics": time.perf_counter() - started}
    record["timing"] = run.timing._asdict() | seconds
    return finite(record)


def _with_other_points(run: Run, constrained: np.ndarray) -> np.ndarray:
    """All draws and some points anywhere: a run whose chains never moved has no constants for that.

    ``f[point, parameter]``; points that Stan cannot constrain are left out.
    """
    anywhere = np.random.default_rng(0).uniform(-2, 2, (16, run.target.dim))
    others = run.target.constrain(anywhere)
    drawn = constrained.reshape(-1, constrained.shape[-1])
    return np.concatenate([drawn, others[np.isfinite(others).all(axis=1)]])


def failed_record(cell: Cell, kind: str, message: str, traceback: str = "") -> dict[str, Any]:
    """The record of a cell that did not end."""
    return cell.description() | {
        "status": "failed",
        "error": {"type": kind, "message": message, "traceback": traceback},
        **surroundings(),
    }


def finite(value: Any) -> Any:
    """The same with numpy turned into Python and every NaN or infinity into None, as JSON wants it."""
    match value:
        case dict():
            return {key: finite(item) for key, item in value.items()}
        case list() | tuple():
            return [finite(item) for item in value]
        case np.ndarray():
            return finite(value.tolist())
        case np.generic():
            return finite(value.item())
        case float() if not np.isfinite(value):
            return None
        case _:
            return value


def surroundings() -> dict[str, Any]:
    """Versions and machine, for every record."""
    return {
        "versions": {"python": platform.python_version()} | _versions(),
        "environment": {
            "platform": platform.platform(),
            "cpu": _cpu(),
            "cores": os.cpu_count(),
        },
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def _versions() -> dict[str, str]:
    def version(package: str) -> str:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

    return {package: version(package) for package in PACKAGES}


@functools.cache
def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _lowering(target: Target) -> dict[str, Any] | None:
    """How a lowered density is evaluated, and how far it is from Stan's; None for Stan's own."""
    if not isinstance(target, LoweredTarget):
        return None
    found = target.agreement
    return {
        "chunk": target.chunk,
        "compared": found and found.compared,
        "gradient_error": found and found.gradient_error,
        "value_error": found and found.value_error,
    }


def _cost(run: Run) -> dict[str, Any]:
    """Counts over all chains. ``gradients`` are equivalents: gradients of rows count for their share."""

    def totals(cost: Cost) -> dict[str, Any]:
        summed = Cost(*(int(np.sum(value)) for value in cost))
        return summed._asdict() | {"gradients": run.equivalents(summed)}

    return {
        "warmup": totals(run.warmup),
        "sampling": totals(run.sampling),
        "per_chain": {
            "warmup": run.equivalents(run.warmup),
            "sampling": run.equivalents(run.sampling),
        },
        "executed": run.executed and run.executed._asdict(),
    }


def _diagnostics(
    run: Run, names: list[str], figures: metrics.Efficiency, draws: np.ndarray
) -> dict[str, Any]:
    # A parameter whose R-hat cannot be computed is the worst of all.
    worst = int(np.argmax(np.where(np.isnan(figures.rhat), np.inf, figures.rhat)))
    least = int(np.argmin(figures.ess_bulk))
    return {
        "rhat_max": figures.rhat[worst],
        "rhat_worst": names[worst],
        "ess_bulk_min": figures.ess_bulk[least],
        "ess_bulk_worst": names[least],
        "divergences": int(np.sum(run.info.divergent)),
        "acceptance": float(np.mean(run.info.acceptance)),
        "step_size": np.atleast_1d(run.tuning["step_size"]),
        "integration_time": run.tuning.get("integration_time"),
        "stuck_chains": metrics.stuck_chains(draws),
    }


def _efficiency(run: Run, figures: metrics.Efficiency, *, rated: bool) -> dict[str, Any]:
    """Effective sample sizes, and where ``rated`` their number per unit of cost.

    Those of an approximate sampler are draws of another distribution: more of them are no better.
    """
    sampling = float(np.sum(run.equivalents(run.sampling)))
    total = sampling + float(np.sum(run.equivalents(run.warmup)))
    densities = 0.0 if sampling else float(np.sum(run.sampling.densities))

    def over(ess: np.ndarray) -> dict[str, float]:
        return {"min": float(ess.min()), "median": float(np.median(ess))}

    def per(ess: np.ndarray, cost: float) -> dict[str, float]:
        return over(ess / cost if cost and rated else np.full_like(ess, np.nan))

    return {
        "ess_bulk": over(figures.ess_bulk),
        "ess_tail": over(figures.ess_tail),
        "ess_mean": over(figures.ess_mean),
        "ess_square": over(figures.ess_square),
        "ess_bulk_per_gradient": per(figures.ess_bulk, sampling),
        "ess_bulk_per_gradient_with_warmup": per(figures.ess_bulk, total),
        "ess_square_per_gradient": per(figures.ess_square, sampling),
        "ess_tail_per_gradient": per(figures.ess_tail, sampling),
        "ess_bulk_per_second": per(figures.ess_bulk, run.timing.sampling),
        "ess_bulk_per_density": per(figures.ess_bulk, densities),
    }


def _errors(run: Run, draws: np.ndarray, reference: Reference | None) -> dict[str, Any]:
    if reference is None:
        return {"error_curve": None, "gradients_to_b2": None}
    curve = metrics.error_curve(
        draws, reference.draws, run.equivalents(run.warmup), run.equivalents(run.info.cost)
    )
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


def _parameters(
    names: list[str],
    found: metrics.Moments,
    figures: metrics.Efficiency,
    reference: Reference | None,
    z: np.ndarray | None,
) -> Mapping[str, Any]:
    empty = np.full(len(names), np.nan)
    truth = reference.moments.estimate if reference else [empty] * len(metrics.STATISTICS)
    rows = z if z is not None else [empty] * len(metrics.STATISTICS)
    return {
        "name": names,
        "mean": found.estimate[0],
        "sd": found.estimate[1],
        "mcse_mean": found.mcse[0],
        **figures._asdict(),
        "reference_mean": truth[0],
        "reference_sd": truth[1],
        **{f"z_{statistic}": row for statistic, row in zip(metrics.STATISTICS, rows, strict=True)},
    }


def _warnings(run: Run, draws: np.ndarray) -> list[str]:
    found = list(run.warnings)
    if divergences := int(np.sum(run.info.divergent)):
        share = divergences / np.size(run.info.divergent)
        found.append(f"{divergences} divergent transitions ({share:.2%} of the draws)")
    if stuck := metrics.stuck_chains(draws):
        found.append(f"{stuck} of {run.chains} chains never moved")
    if run.executed is not None and run.executed.failed:
        found.append(
            f"{run.executed.failed} of {run.executed.gradients} evaluations failed and were taken as "
            "density 0"
        )
    return found
