"""Samplers held against each other: cells grouped over seeds, summarised, ranked and compared as ratios.

Pure functions on records (the dictionaries of ``record.json``). Correct before fast: a group of cells is
ranked only when every one of its cells passed the gates; everything else is shown, unranked, with the reason.
What comes out is one plain dictionary (`comparison_to_dict`) that every report format renders, so that the
numbers are the same everywhere.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from .curves import Curve, common_curve
from .estimates import CONFIDENCE, Estimate, estimate, ratio
from .grouping import SHARED_SETTINGS, Group, Record, group_cells
from .variational import summarise

RANK_METRIC = "ess_bulk_per_gradient_with_warmup.min"
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
RATIO_METRICS = tuple(f"{metric}.min" for metric in EFFICIENCY if "_per_" in metric)

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
APPROXIMATE = "approximate: ranked on error"
NO_RANK_METRIC = "no ESS per gradient: stands on ESS per {axis}"

# Ranks and ratios need these to agree.
EQUAL_TERMS = ("budget", "chains")


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


@dataclass(frozen=True)
class Ratio:
    """One sampler over the baseline on one posterior; `both_ok` says whether both sides are ok."""

    posterior: str
    label: str
    baseline: str
    metric: str
    estimate: Estimate
    both_ok: bool


@dataclass(frozen=True)
class OverallRatio:
    """The geometric mean of a sampler's ratios over the posteriors where both it and the baseline are ok."""

    label: str
    metric: str
    estimate: Estimate
    posteriors: tuple[str, ...]
    excluded: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Everything that a report shows, and nothing that it has to compute."""

    baseline: str
    rank_metric: str
    confidence: float
    posteriors: tuple[str, ...]
    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, tuple[Any, ...]]
    created: tuple[str, str] | None
    summaries: tuple[Summary, ...]
    ratios: tuple[Ratio, ...]
    overall: tuple[OverallRatio, ...]
    notes: tuple[str, ...]


def compare(
    records: Sequence[Record],
    baseline: str | None = None,
    *,
    rank_metric: str = RANK_METRIC,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Compare the samplers of a list of records.

    Parameters
    ----------
    records
        Cells' records, as `essper.benchmarks.store` loads them.
    baseline
        The label of the sampler that the others are divided by; by default "nuts", or the first label.
    rank_metric
        "METRIC.min" or "METRIC.median", METRIC being one of `EFFICIENCY`.

    Raises
    ------
    ValueError
        When there is nothing to compare, or when no record has the baseline.
    """
    if not records:
        raise ValueError(
            "No results to compare: the list of records is empty. Run some cells first "
            "(`essper compare --out RESULTS_DIR`), then point the report at that results directory."
        )
    groups, notes = group_cells(records)
    summaries = [_summarise(group, confidence) for group in groups]
    baseline = _baseline(summaries, baseline)
    summaries.sort(key=lambda s: (s.posterior, not _is_baseline(s, baseline), s.label))
    summaries = _ranked(summaries, rank_metric)
    ratios = _ratios(summaries, baseline, confidence)
    labels = {s.label: not _is_baseline(s, baseline) for s in summaries}
    created = sorted(record["created"] for record in records if record.get("created"))
    return Comparison(
        baseline=baseline,
        rank_metric=rank_metric,
        confidence=confidence,
        posteriors=tuple(sorted({s.posterior for s in summaries})),
        labels=tuple(sorted(labels, key=lambda label: (labels[label], label))),
        seeds=tuple(sorted({seed for s in summaries for seed in s.seeds})),
        settings={
            field: tuple(sorted({s.setting[field] for s in summaries}, key=str)) for field in SHARED_SETTINGS
        },
        created=(created[0], created[-1]) if created else None,
        summaries=tuple(summaries),
        ratios=tuple(ratios),
        overall=tuple(_overall(ratios, confidence)),
        notes=tuple(notes),
    )


def comparison_to_dict(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain JSON: dictionaries, lists, strings, finite numbers and None."""
    return {"schema": 1, **json.loads(json.dumps(asdict(comparison), allow_nan=False))}


# --- summaries ----------------------------------------------------------------------------------------------


def _summarise(group: Group, confidence: float) -> Summary:
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
        variational=summarise(
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


# --- ranks and ratios ---------------------------------------------------------------------------------------


def _ranked(summaries: Sequence[Summary], rank_metric: str) -> list[Summary]:
    """Ranks within each posterior at equal budget and chains; on efficiency, among groups that are ok.

    An approximate sampler has none on efficiency, whatever the gates found: its effective draws are of
    another distribution, and where they pass, the test was too weak to tell.
    """
    ranked = []
    for summary in summaries:
        rivals = [other for other in summaries if _same_terms(other, summary)]
        value = summary.metrics[rank_metric].value
        rank, reason = None, summary.reason
        error = _error(summary)
        if summary.approximate:
            reason = APPROXIMATE if error is not None and summary.status != "failed" else reason
        elif summary.status == "ok" and value is None:
            reason = NO_RANK_METRIC.format(axis=summary.axis)
        elif summary.status == "ok":
            scores = (other.metrics[rank_metric].value for other in rivals if _is_ranked(other))
            rank = 1 + sum(score > value for score in scores if score is not None and value is not None)
        errors = [other for rival in rivals if (other := _error(rival)) is not None]
        error_rank = None if error is None else 1 + sum(other < error for other in errors)
        ranked.append(replace(summary, rank=rank, reason=reason, error_rank=error_rank))
    return ranked


def _is_ranked(summary: Summary) -> bool:
    return summary.status == "ok" and not summary.approximate


def _same_terms(a: Summary, b: Summary) -> bool:
    return a.posterior == b.posterior and all(a.setting[field] == b.setting[field] for field in EQUAL_TERMS)


def _error(summary: Summary) -> float | None:
    """The largest W₁ of a marginal; below the reference's own noise there is nothing to tell apart: a tie."""
    value, floor = summary.metrics["w1.maximum"].value, summary.floors["w1.maximum"]
    return value if value is None or floor is None else max(value, floor)


def _baseline(summaries: Sequence[Summary], wanted: str | None) -> str:
    names = sorted({summary.sampler for summary in summaries})
    if wanted is None:
        rated = sorted({summary.sampler for summary in summaries if not summary.approximate})
        return "nuts" if "nuts" in names else (rated or names)[0]
    if wanted not in {summary.label for summary in summaries} | set(names):
        raise ValueError(f"No cell has the baseline sampler {wanted!r}. Choose one of: {', '.join(names)}.")
    return wanted


def _is_baseline(summary: Summary, baseline: str) -> bool:
    return baseline in (summary.label, summary.sampler)


def _ratios(summaries: Sequence[Summary], baseline: str, confidence: float) -> list[Ratio]:
    """Each sampler over the baseline that shares most of its setting, on equal terms of budget and chains.

    None with an approximate sampler on either side.
    """
    ratios, rated = [], [summary for summary in summaries if not summary.approximate]
    for summary in rated:
        candidates = [s for s in rated if _is_baseline(s, baseline) and _same_terms(s, summary)]
        if not candidates or _is_baseline(summary, baseline):
            continue
        base = max(candidates, key=lambda s: sum(s.setting[f] == summary.setting[f] for f in SHARED_SETTINGS))
        both_ok = summary.status == base.status == "ok"
        for metric in RATIO_METRICS:
            quotient = ratio(summary.metrics[metric], base.metrics[metric], confidence)
            ratios.append(Ratio(summary.posterior, summary.label, base.label, metric, quotient, both_ok))
    return ratios


def _overall(ratios: Sequence[Ratio], confidence: float) -> list[OverallRatio]:
    """Geometric means over posteriors, each one replicate: the interval is over posteriors, not seeds."""
    overall = []
    for label, metric in dict.fromkeys((one.label, one.metric) for one in ratios):
        every = [one for one in ratios if (one.label, one.metric) == (label, metric)]
        counted = [one for one in every if one.both_ok and one.estimate.value is not None]
        overall.append(
            OverallRatio(
                label=label,
                metric=metric,
                estimate=estimate([one.estimate.value for one in counted], confidence),
                posteriors=tuple(one.posterior for one in counted),
                excluded=tuple(one.posterior for one in every if one not in counted),
            )
        )
    return overall
