"""The table of a comparison: its columns, and how a number is written, once for every format."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

NONE = "–"
PER_1000 = 1000.0

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One column: `cell` writes what it shows of a row; `compact` ones are shown where room is short."""

    key: str
    title: str
    cell: Callable[[Row], str]
    compact: bool = False


def table_rows(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The groups of a comparison's dictionary, each with its ratios to the baseline by metric."""
    ratios: dict[tuple[str, str], dict[str, Any]] = {}
    for ratio in comparison["ratios"]:
        ratios.setdefault((ratio["posterior"], ratio["label"]), {})[ratio["metric"]] = ratio
    return [
        {
            **summary,
            "ratios": ratios.get((summary["posterior"], summary["label"]), {}),
            "rank_metric": comparison["rank_metric"],
            "is_baseline": comparison["baseline"] in (summary["label"], summary["sampler"]),
        }
        for summary in comparison["summaries"]
    ]


def number(value: float | None, digits: int = 3) -> str:
    """A number to `digits` significant digits (integer digits are never dropped), "–" where undefined."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def count(value: float | None) -> str:
    """A whole number with thousands separated."""
    return NONE if value is None else f"{value:,.0f}"


def interval(estimate: Mapping[str, Any] | None, scale: float = 1.0) -> str:
    """``value [low, high]``; a single replicate has no interval, and an arithmetic mean is starred."""
    if estimate is None or estimate["value"] is None:
        return NONE
    text = number(estimate["value"] * scale)
    if estimate["kind"] == "arithmetic" and estimate["value"] > 0:
        text += "*"
    if estimate["low"] is not None:
        high = "∞" if estimate["high"] is None else number(estimate["high"] * scale)
        text += f" [{number(estimate['low'] * scale)}, {high}]"
    return text


def ratio_text(row: Row) -> str:
    """The ratio to the baseline on the metric that ranks; in parentheses where one of the two is not ok."""
    if row["is_baseline"]:
        return "baseline"
    ratio = row["ratios"].get(row["rank_metric"])
    if ratio is None or ratio["estimate"]["value"] is None:
        return NONE
    text = interval(ratio["estimate"])
    return text if ratio["both_ok"] else f"({text})"


def rank_text(rank: int | None) -> str:
    return NONE if rank is None else str(rank)


def to_b2_text(row: Row) -> str:
    """Gradients to b² of the mean below the threshold, or how many seeds got there where not all did."""
    tried, outcome = row["gradients_to_b2"]["tried"], row["gradients_to_b2"]["mean"]
    if not tried:
        return NONE
    if outcome["reached"] < tried:
        return "not reached" if outcome["reached"] == 0 else f"reached by {outcome['reached']}/{tried}"
    return count(outcome["estimate"]["value"])


def gradients_text(row: Row) -> str:
    gradients = row["gradients"]
    if gradients["total"] is None:
        return NONE
    return f"{count(gradients['warmup'])} + {count(gradients['sampling'])}"


def _metric(key: str, scale: float = 1.0) -> Callable[[Row], str]:
    return lambda row: interval(row["metrics"][key], scale)


COLUMNS = (
    Column("rank", "Rank", lambda row: rank_text(row["rank"]), compact=True),
    Column("sampler", "Sampler", lambda row: row["label"], compact=True),
    Column("status", "Status", lambda row: row["status_text"], compact=True),
    Column(
        "with_warmup",
        "ESS/1000 gradients, with warmup",
        _metric("ess_bulk_per_gradient_with_warmup.min", PER_1000),
        compact=True,
    ),
    Column(
        "sampling",
        "ESS/1000 gradients, sampling",
        _metric("ess_bulk_per_gradient.min", PER_1000),
        compact=True,
    ),
    Column("ratio", "Ratio to baseline", ratio_text, compact=True),
    Column("rhat", "R-hat", lambda row: rhat(row["rhat_max"]), compact=True),
    Column("z", "max |z|", lambda row: number(row["max_abs_z"]), compact=True),
    Column("divergences", "Divergences", lambda row: count(row["divergences"]), compact=True),
    Column("gradients", "Gradients, warmup + sampling", gradients_text, compact=True),
    Column("tail", "Tail ESS/1000 gradients", _metric("ess_tail_per_gradient.min", PER_1000)),
    Column("square", "ESS of x²/1000 gradients", _metric("ess_square_per_gradient.min", PER_1000)),
    Column("density", "ESS/1000 densities", _metric("ess_bulk_per_density.min", PER_1000)),
    Column("second", "ESS/s", _metric("ess_bulk_per_second.min")),
    Column("to_b2", "Gradients to b² < threshold", to_b2_text),
    Column("b2", "b² at the end", _metric("b2_final.mean")),
    Column("error_rank", "Rank on error", lambda row: rank_text(row["error_rank"])),
    Column("acceptance", "Acceptance", lambda row: number(row["acceptance"])),
    Column("seeds", "Seeds", lambda row: str(len(row["seeds"]))),
)
COMPACT = tuple(column for column in COLUMNS if column.compact)


def rhat(value: float | None) -> str:
    """R-hat to three decimals: what matters is its distance from 1."""
    return NONE if value is None else f"{value:.3f}"
