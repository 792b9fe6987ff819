"""The table of a comparison: its columns, and how a number is written, once for every format."""

import math
from collections.abc import Callable, Mapping, Sequence
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
    """The groups of a comparison's dictionary, each with its ratios to the baseline by metric.

    Where several groups of a posterior have an error, ``best`` names those that are the smallest of theirs
    at equal budget and chains.
    """
    ratios: dict[tuple[str, str], dict[str, Any]] = {}
    for ratio in comparison["ratios"]:
        ratios.setdefault((ratio["posterior"], ratio["label"]), {})[ratio["metric"]] = ratio
    return [
        {
            **summary,
            "best": _best(summary, comparison["summaries"]),
            "ratios": ratios.get((summary["posterior"], summary["label"]), {}),
            "rank_metric": comparison["rank_metric"],
            "is_baseline": comparison["baseline"] in (summary["label"], summary["sampler"]),
        }
        for summary in comparison["summaries"]
    ]


ERRORS = (
    "b2_final.mean",
    "b2_final.square",
    "w1.maximum",
    "sliced_w1",
    "ksd",
    "mean_error.maximum",
    "sd_error.maximum",
    "quantile_error.maximum",
)


def _best(summary: Row, summaries: Sequence[Row]) -> list[str]:
    """The errors in which no other group is better; below the floor of an error all are equal."""

    def error(row: Row, key: str) -> float | None:
        value, curve = row["metrics"][key]["value"], row["curve"]
        floor = curve and curve["noise_floor"] if key == "b2_final.mean" else row["floors"].get(key)
        return None if value is None else max(value, floor or 0.0)

    def terms(row: Row) -> tuple[Any, ...]:
        return row["posterior"], row["setting"]["budget"], row["setting"]["chains"]

    best = []
    for key in ERRORS:
        rivals = [error(row, key) for row in summaries if terms(row) == terms(summary)]
        known = [value for value in rivals if value is not None]
        if len(known) > 1 and error(summary, key) == min(known):
            best.append(key)
    return best


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


def others_text(row: Row) -> str:
    """Densities and conditional draws."""
    others = row["others"]
    return NONE if not others["total"] else f"{count(others['warmup'])} + {count(others['sampling'])}"


def _metric(key: str, scale: float = 1.0) -> Callable[[Row], str]:
    return lambda row: interval(row["metrics"][key], scale)


def _share(key: str) -> Callable[[Row], str]:
    return lambda row: number(row["metrics"][key]["value"])


def _error(key: str) -> Callable[[Row], str]:
    """An error; of a distance with what noise alone makes, in parentheses; the best are marked."""

    def text(row: Row) -> str:
        value = interval(row["metrics"][key])
        if value == NONE:
            return value
        floor = row["floors"].get(key)
        noise = "" if floor is None else f" ({number(floor)})"
        return value + noise + (" best" if key in row["best"] else "")

    return text


def khat_text(row: Row) -> str:
    """The largest k-hat over fits and seeds; with the limit where it is above."""
    found = row["variational"]
    if found is None or found["khat"] is None:
        return NONE
    return f"{found['khat']:.2f}" + ("" if found["usable"] else f" > {found['khat_threshold']:.2f}")


def bound_text(found: Mapping[str, Any] | None) -> str:
    """The mean ELBO of the fits, to the first digit of its Monte Carlo error, and the range over fits."""
    if found is None or found["elbo"] is None:
        return NONE
    error = found["elbo_error"] or 0.0
    decimals = max(0, -math.floor(math.log10(error))) if error > 0 else 2
    value, low, high = (f"{bound:.{decimals}f}" for bound in (found["elbo"], *found["elbo_range"]))
    return value if found["fits"] == 1 else f"{value} [{low}, {high}]"


def _converged_text(row: Row) -> str:
    found = row["variational"]
    if found is None or found["converged"] is None:
        return NONE
    return f"{found['converged']} of {found['fits']}"


def _note_text(row: Row) -> str:
    return (row["variational"] and row["variational"]["note"]) or ""


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
    Column("axis", "Axis", lambda row: row["axis"] or NONE),
    Column(
        "evaluation",
        "ESS/1000 evaluations, with warmup",
        _metric("ess_bulk_per_evaluation_with_warmup.min", PER_1000),
    ),
    Column("others", "Densities and conditional draws, warmup + sampling", others_text),
    Column("density", "ESS/1000 densities", _metric("ess_bulk_per_density.min", PER_1000)),
    Column("second", "ESS/s", _metric("ess_bulk_per_second.min")),
    Column("acceptance", "Acceptance", lambda row: number(row["acceptance"])),
    Column("seeds", "Seeds", lambda row: str(len(row["seeds"]))),
)
_AXES = tuple(column for column in COLUMNS if column.key in ("axis", "evaluation", "others"))
COMPACT = tuple(column for column in COLUMNS if column.compact)
_NAMES = tuple(column for column in COLUMNS if column.key in ("sampler", "status"))
_SAMPLER = _NAMES[:1]
_RANK = Column("error_rank", "Rank on error", lambda row: rank_text(row["error_rank"]))
_B2 = Column("b2", "b² of x at the end", _error("b2_final.mean"))
_W1 = Column("w1", "largest W₁ (noise)", _error("w1.maximum"))
_KHAT = Column("khat", "k-hat", khat_text)
ERROR_COLUMNS = (
    _RANK,
    *_NAMES,
    _B2,
    Column("b2_square", "b² of x² at the end", _error("b2_final.square")),
    Column("to_b2", "Gradients (or evaluations, by axis) to b² < threshold", to_b2_text),
    _W1,
    Column("sliced_w1", "sliced W₁ (noise)", _error("sliced_w1")),
    Column("ksd", "KSD (noise)", _error("ksd")),
)
"""Errors against the reference: a table of its own."""
ESTIMATE_COLUMNS = (
    *_SAMPLER,
    Column("mean_error", "largest error of a mean (noise)", _error("mean_error.maximum")),
    Column("sd_error", "largest |log sd ratio| (noise)", _error("sd_error.maximum")),
    Column("sd_ratio", "sd ratio, mean", _metric("sd_ratio")),
    Column("quantile_error", "largest error of a quantile (noise)", _error("quantile_error.maximum")),
    Column("coverage_50", "coverage of 50 %", _share("coverage_50")),
    Column("coverage_90", "coverage of 90 %", _share("coverage_90")),
    Column("coverage_90_least", "of 90 %, least", _share("coverage_90.minimum")),
)
"""Estimates against the reference's: another table."""
FIT_COLUMNS = (
    *_SAMPLER,
    Column("elbo", "ELBO [range over fits]", lambda row: bound_text(row["variational"])),
    Column("converged", "Fits converged, by their own rule", _converged_text),
    _KHAT,
    _W1,
    Column("w1_resampled", "largest W₁, draws weighted (noise)", _error("w1_resampled.maximum")),
    Column("note", "Note", _note_text),
)
"""Of variational fits: a table of its own."""


def compact_columns(comparison: Mapping[str, Any]) -> tuple[Column, ...]:
    """Where room is short: with the errors, if some sampler is ranked on nothing else, and with the axes, if
    some sampler takes other evaluations than gradients."""
    summaries = comparison["summaries"]
    approximate = any(summary["approximate"] for summary in summaries)
    fitted = any(summary["variational"] for summary in summaries)
    other = any(
        summary["axis"] not in (None, "gradient") for summary in summaries if not summary["approximate"]
    )
    errors = (_B2, _W1, *((_KHAT,) if fitted else ()), _RANK) if approximate else ()
    return (*COMPACT, *(_AXES if other else ()), *errors)


def estimate_rows(rows: Sequence[Row]) -> list[Row]:
    """The groups whose estimates have been held against a reference's."""
    return [row for row in rows if row["metrics"]["mean_error.maximum"]["value"] is not None]


def fit_rows(rows: Sequence[Row]) -> list[Row]:
    """The groups of variational fits."""
    return [row for row in rows if row["variational"]]


def axis_notes(rows: Sequence[Row]) -> list[str]:
    """Why groups that are ok have no rank on efficiency, a line a group."""
    return [
        f"{row['label']}: {row['reason']}"
        for row in rows
        if row["status"] == "ok" and not row["approximate"] and row["reason"]
    ]


def fit_notes(rows: Sequence[Row]) -> list[str]:
    """What there is to say of variational fits where a table has no room, a line a group."""
    return [
        f"{row['label']}: ELBO {bound_text(row['variational'])}, {_converged_text(row)} fits converged; "
        + (_note_text(row) or f"k-hat {khat_text(row)}")
        for row in fit_rows(rows)
    ]


def error_rows(rows: Sequence[Row]) -> list[Row]:
    """The groups that have been held against a reference, the best of a posterior first."""
    compared = [row for row in rows if any(row["metrics"][key]["value"] is not None for key in ERRORS)]
    return sorted(compared, key=lambda row: (row["posterior"], row["error_rank"] or len(rows)))


def rhat(value: float | None) -> str:
    """R-hat to three decimals: what matters is its distance from 1."""
    return NONE if value is None else f"{value:.3f}"
