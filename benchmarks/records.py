"""From a run to its record: everything that reports show, computed once, JSON-able."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import os
import platform
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..models import LoweredTarget, Target
from ..samplers import Cost, Run
from . import gates, metrics
from .against_reference import Reference as Reference
from .against_reference import held_against
from .against_reference import reference_of as reference_of
from .cells import Cell
from .variational import fitted

PACKAGES = (
    "essper", "jax", "jaxlib", "numpy", "scipy", "blackjax", "numpyro", "bridgestan", "stanli",
    "arviz-base", "arviz-stats", "optax", "equinox", "flowjax",
)  # fmt: skip


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
    held = held_against(run, draws, reference)
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
        **held,
        "variational": fitted(run, names, draws, reference, held["distances"]),
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
    """Counts over all chains. ``gradients`` are equivalents: gradients of rows count for their share;
    ``spent`` is what the budget counted."""

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
        "spent": {"warmup": np.sum(run.spent(run.warmup)), "sampling": np.sum(run.spent(run.sampling))},
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
        "step_size": np.atleast_1d(run.tuning["step_size"]) if "step_size" in run.tuning else None,
        "integration_time": run.tuning.get("integration_time"),
        "stuck_chains": metrics.stuck_chains(draws),
    }


def _efficiency(run: Run, figures: metrics.Efficiency, *, rated: bool) -> dict[str, Any]:
    """Effective sample sizes, and where ``rated`` their number per unit of cost.

    Those of an approximate sampler are draws of another distribution: more of them are no better.
    """
    axis = axis_of(run)
    sampling = float(np.sum(run.equivalents(run.sampling))) if axis == "gradient" else 0.0
    total = sampling and sampling + float(np.sum(run.equivalents(run.warmup)))
    densities = float(np.sum(run.sampling.densities)) if axis == "density" else 0.0
    evaluations = float(np.sum(run.evaluations(run.sampling)))
    all_evaluations = evaluations + float(np.sum(run.evaluations(run.warmup)))

    def over(ess: np.ndarray) -> dict[str, float]:
        return {"min": float(ess.min()), "median": float(np.median(ess))}

    def per(ess: np.ndarray, cost: float) -> dict[str, float]:
        return over(ess / cost if cost and rated else np.full_like(ess, np.nan))

    return {
        "axis": axis,
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
        "ess_bulk_per_evaluation": per(figures.ess_bulk, evaluations),
        "ess_bulk_per_evaluation_with_warmup": per(figures.ess_bulk, all_evaluations),
    }


def axis_of(run: Run) -> str:
    """What sampling costs: the one kind of evaluation that it takes, ``"evaluation"`` where it takes several.

    ESS per gradient would be infinite without gradients, and flattering where others are taken besides.
    """
    cost = run.sampling
    taken = {
        "gradient": np.any(run.equivalents(cost)),
        "density": np.any(cost.densities),
        "conditional draw": np.any(cost.conditional_draws),
    }
    kinds = [kind for kind, some in taken.items() if some]
    return kinds[0] if len(kinds) == 1 else "evaluation"


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
        evaluations = run.executed.gradients + run.executed.densities
        found.append(f"{run.executed.failed} of {evaluations} evaluations failed and were taken as density 0")
    return found
