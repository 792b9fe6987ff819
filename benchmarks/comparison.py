"""Samplers held against each other: cells grouped over seeds, summarised, ranked and compared as ratios.

Pure functions on records (the dictionaries of ``record.json``). Correct before fast: a group of cells is
ranked only when every one of its cells passed the gates; everything else is shown, unranked, with the reason.
What comes out is one plain dictionary (`comparison_to_dict`) that every report format renders, so that the
numbers are the same everywhere.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from .estimates import CONFIDENCE, Estimate, estimate, ratio
from .grouping import SHARED_SETTINGS, Record, group_cells
from .summaries import EFFICIENCY, Summary, summarise

RANK_METRIC = "ess_bulk_per_gradient_with_warmup.min"
RATIO_METRICS = tuple(f"{metric}.min" for metric in EFFICIENCY if "_per_" in metric)

APPROXIMATE = "approximate: ranked on error"
NO_RANK_METRIC = "no ESS per gradient: stands on ESS per {axis}"

# Ranks and ratios need these to agree.
EQUAL_TERMS = ("budget", "chains")


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
    summaries = [summarise(group, confidence) for group in groups]
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
