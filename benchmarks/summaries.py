"""The cells of one sampler on one posterior over seeds, summed up."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import variational
from .curves import Curve, common_curve
from .estimates import Estimate, estimate
from .grouping import Group, Record

EFFICIENCY = (
    "ess_bulk",
    "ess_tail",
    "ess_mean",
    "ess_square",
    "ess_bulk_per_gradient",
    "ess_bulk_per_gradient_with_warmup",
    "ess_square_per_gradient",
    "ess_tail_per_gradient",
    "ess_bulk_per_second",
    "ess_bulk_per_density",
    "ess_bulk_per_evaluation",
    "ess_bulk_per_evaluation_with_warmup",
)

# Metric → where its value and, where there is one, its noise floor lie in a record.
ERRORS = {
    "w1.average": ("distances.w1.average", "distances.w1.floor.average"),
    "w1.maximum": ("distances.w1.maximum", "distances.w1.floor.maximum"),
    "sliced_w1": ("distances.sliced_w1.value", "distances.sliced_w1.floor"),
    "ksd": ("distances.ksd.value", "distances.ksd.floor"),
    "mean_error.average": ("accuracy.mean.average", "accuracy.mean.floor.average"),
    "mean_error.maximum": ("accuracy.mean.maximum", "accuracy.mean.floor.maximum"),
    "sd_error.average": ("accuracy.sd.average", "accuracy.sd.floor.average"),
    "sd_error.maximum": ("accuracy.sd.maximum", "accuracy.sd.floor.maximum"),
    "sd_ratio": ("accuracy.sd.ratio", None),
    "quantile_error.average": ("accuracy.quantiles.average", "accuracy.quantiles.floor.average"),
    "quantile_error.maximum": ("accuracy.quantiles.maximum", "accuracy.quantiles.floor.maximum"),
    "w1_resampled.average": ("variational.resampled.w1.average", "distances.w1.floor.average"),
    "w1_resampled.maximum": ("variational.resampled.w1.maximum", "distances.w1.floor.maximum"),
}
# Shares, which have no geometric mean and no interval on logarithms: metric → where it lies in a record.
SHARES = {
    "coverage_50": "accuracy.coverage.50.average",
    "coverage_50.minimum": "accuracy.coverage.50.minimum",
    "coverage_90": "accuracy.coverage.90.average",
    "coverage_90.minimum": "accuracy.coverage.90.minimum",
}

# From best to worst: a group is as good as its worst cell.
STATUSES = ("ok", "unverified", "not converged", "biased", "failed")
REASONS = {
    "unverified": "no reference draws to hold it against",
    "not converged": "the chains have not converged",
    "biased": "disagrees with the reference draws",
    "failed": "a run failed",
}


@dataclass(frozen=True)
class Summary:
    """The cells of one sampler on one posterior under one setting, over seeds.

    `label` is the sampler's label, plus whatever setting varies in the comparison; `sampler` is the label
    alone. `axis` is what sampling costs: ``"gradient"``, ``"density"``, ``"conditional draw"`` or, of several
    kinds, ``"evaluation"``. `gradients` and `others` (densities, conditional draws) are totals over chains,
    averaged over cells. `rank` (efficiency) is None unless every cell is ok, and where the sampler is
    approximate; `error_rank` orders all groups that have a reference, by the largest W₁ of a marginal, down
    to the reference's own noise. `floors` are what the errors among `metrics` come to for draws of the
    reference's own distribution. `variational` is what its fits have to say (`variational.summarise`); None
    of other samplers.
    """

    posterior: str
    label: str
    sampler: str
    setting: Mapping[str, Any]
    approximate: bool
    seeds: tuple[int, ...]
    digests: tuple[str, ...]
    statuses: Mapping[str, int]
    status: str
    status_text: str
    reason: str | None
    rank: int | None
    error_rank: int | None
    metrics: Mapping[str, Estimate]
    floors: Mapping[str, float | None]
    gradients_to_b2: Mapping[str, Any]
    axis: str | None
    gradients: Mapping[str, float | None]
    others: Mapping[str, float | None]
    divergences: int | None
    rhat_max: float | None
    acceptance: float | None
    max_abs_z: float | None
    curve: Curve | None
    variational: Mapping[str, Any] | None


def summarise(group: Group, confidence: float) -> Summary:
    """Without ranks, which need the others."""
    cells = group.cells
    statuses = Counter(cell["status"] for cell in cells)
    ordered = {status: statuses[status] for status in STATUSES if statuses[status]}
    worst = list(ordered)[-1]
    counts = (f"{status} {count}/{len(cells)}" for status, count in ordered.items())

    def over(summarise: Callable[[list[Any]], Any], *path: str) -> Any:
        found = [value for cell in cells if (value := _at(cell, *path)) is not None]
        return summarise(found) if found else None

    metrics = {
        f"{metric}.{stat}": estimate([_at(cell, "efficiency", metric, stat) for cell in cells], confidence)
        for metric in EFFICIENCY
        for stat in ("min", "median")
    }
    for moment in ("mean", "square"):
        last = [_last(_at(cell, "error_curve", f"b2_{moment}", "average")) for cell in cells]
        metrics[f"b2_final.{moment}"] = estimate(last, confidence)
    for metric, (value, _) in ERRORS.items():
        metrics[metric] = estimate([_at(cell, *value.split(".")) for cell in cells], confidence)
    for metric, path in SHARES.items():
        metrics[metric] = Estimate(over(_mean, *path.split(".")), kind="arithmetic")
    floors = {metric: over(max, *floor.split(".")) for metric, (_, floor) in ERRORS.items() if floor}
    return Summary(
        posterior=group.posterior,
        label=group.label,
        sampler=group.sampler,
        setting=group.setting,
        approximate=any(cell.get("approximate") for cell in cells),
        seeds=tuple(cell["seed"] for cell in cells),
        digests=tuple(cell["digest"] for cell in cells),
        statuses=ordered,
        status=worst,
        status_text=worst if len(ordered) == 1 else ", ".join(counts),
        reason=REASONS.get(worst),
        rank=None,
        error_rank=None,
        metrics=metrics,
        floors=floors,
        gradients_to_b2=_gradients_to_b2(cells, confidence),
        axis=next((axis for cell in cells if (axis := _at(cell, "efficiency", "axis"))), None),
        gradients=_by_phase(cells, "gradients"),
        others=_by_phase(cells, "densities", "conditional_draws"),
        divergences=over(sum, "diagnostics", "divergences"),
        rhat_max=over(max, "diagnostics", "rhat_max"),
        acceptance=over(_mean, "diagnostics", "acceptance"),
        max_abs_z=over(max, "bias", "max_abs_z"),
        curve=common_curve([cell["error_curve"] for cell in cells if cell.get("error_curve")]),
        variational=variational.summarise(
            cells, metrics["w1.maximum"].value, metrics["w1_resampled.maximum"].value, floors["w1.maximum"]
        ),
    )


def _at(cell: Record, *path: str) -> Any:
    """What lies at a path of a record, None where any part of the path is missing."""
    value: Any = cell
    for part in path:
        value = value.get(part) if value is not None else None
    return value


def _by_phase(cells: Sequence[Record], *kinds: str) -> Mapping[str, float | None]:
    """A cost over all chains, averaged over the cells that ended."""
    costs = [cell["cost"] for cell in cells if cell.get("cost")]
    if not costs:
        return dict.fromkeys(("warmup", "sampling", "total"))
    found = {
        phase: _mean([sum(cost[phase][kind] for kind in kinds) for cost in costs])
        for phase in ("warmup", "sampling")
    }
    return found | {"total": found["warmup"] + found["sampling"]}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _last(values: Sequence[float | None] | None) -> float | None:
    return values[-1] if values else None


def _gradients_to_b2(cells: Sequence[Record], confidence: float) -> dict[str, Any]:
    """Gradients to the threshold; a mean over seeds only where all got there: the rest is censored."""
    tried = [cell["gradients_to_b2"] for cell in cells if cell.get("gradients_to_b2")]
    result: dict[str, Any] = {"threshold": tried[0]["threshold"] if tried else None, "tried": len(tried)}
    for moment in ("mean", "square"):
        reached = [one[moment] for one in tried if one[moment] is not None]
        complete = estimate(reached, confidence) if len(reached) == len(tried) else Estimate()
        result[moment] = {"reached": len(reached), "estimate": complete}
    return result
