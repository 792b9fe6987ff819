"""The comparison as data: CSV for tables, JSON for everything."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .definitions import ERRORS, METRICS
from .table import table_rows

_PLAIN = (
    ("posterior", "name of the posterior"),
    ("label", "the sampler's label, with the settings that vary in this comparison"),
    ("sampler", "the sampler's label alone"),
    ("budget", "gradients (or evaluations, by axis) per chain, warmup and sampling together"),
    ("chains", "number of chains"),
    ("backend", "what evaluated the density: bridgestan or jax"),
    ("precision", "of the density's arithmetic"),
    ("platform", "where it ran"),
    ("bridgestan", "where the Stan model came from"),
    ("approximate", "whether the sampler's draws are of another distribution by construction"),
    ("seeds", "seeds of the cells, separated by spaces"),
    ("status", "of the worst cell"),
    ("status_text", "the count of each status where cells differ"),
    ("reason", "why the group is not ranked"),
    ("rank", "on efficiency, within the posterior at equal budget and chains"),
    ("error_rank", "on the largest W₁, within the same"),
    ("gradients_warmup", "gradients of all chains, mean over cells"),
    ("gradients_sampling", "gradients of all chains, mean over cells"),
    ("axis", "what sampling costs: gradient, density, conditional draw, or evaluation (several of them)"),
    ("others_warmup", "densities and conditional draws of all chains, mean over cells"),
    ("others_sampling", "densities and conditional draws of all chains, mean over cells"),
    ("rhat_max", "largest over parameters and cells"),
    ("max_abs_z", "largest over comparisons and cells"),
    ("divergences", "sum over cells"),
    ("acceptance", "mean over cells"),
    ("khat", "of variational fits: the largest over fits and cells"),
    ("khat_threshold", "up to which their importance weights are usable"),
    ("elbo", "mean over fits and cells"),
    ("elbo_error", "Monte Carlo standard error of that mean"),
    ("elbo_low", "smallest over fits and cells"),
    ("elbo_high", "largest over fits and cells"),
    ("note", "what the diagnostics of the fits advise"),
    ("baseline", "what the ratios are to"),
)
_BOUNDS = (("value", ""), ("low", "_low"), ("high", "_high"))

CSV_COLUMNS = (
    *_PLAIN,
    *((metric, f"{text}; with .min and .median over parameters") for metric, text in METRICS.items()),
    *ERRORS.items(),
    ("floor.METRIC", "of an error: what draws of the reference's own distribution show"),
    ("METRIC_low, METRIC_high", "the interval of METRIC over seeds, empty with one seed"),
    ("ratio.METRIC", "ratio to the baseline, with _low and _high"),
)


def render_csv(comparison: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """One row per group at full precision, undefined figures left empty."""
    del records  # groups only
    rows = [_flat(row) for row in table_rows(comparison)]
    header = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_harmless(row.get(name)) for name in header] for row in rows)
    return buffer.getvalue()


def render_json(comparison: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """The comparison's dictionary and the records that it was made of."""
    content = {"comparison": comparison, "records": list(records)}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    values = {**row, **row["setting"]}
    values["seeds"] = " ".join(map(str, row["seeds"]))
    for kind in ("gradients", "others"):
        values |= {f"{kind}_{phase}": row[kind][phase] for phase in ("warmup", "sampling")}
    fits = row["variational"] or {}
    low, high = fits.get("elbo_range") or (None, None)
    values |= {f: fits.get(f) for f in ("khat", "khat_threshold", "elbo", "elbo_error", "note")}
    values |= {"elbo_low": low, "elbo_high": high}
    values["baseline"] = next((ratio["baseline"] for ratio in row["ratios"].values()), None)
    flat = {name: values[name] for name, _ in _PLAIN}
    for name, estimate in row["metrics"].items():
        flat |= {f"{name}{suffix}": estimate[bound] for bound, suffix in _BOUNDS}
    flat |= {f"floor.{name}": value for name, value in row["floors"].items()}
    for name, ratio in row["ratios"].items():
        flat |= {f"ratio.{name}{suffix}": ratio["estimate"][bound] for bound, suffix in _BOUNDS}
    return flat


def _harmless(value: Any) -> Any:
    """Spreadsheets run a text that begins like a formula; an apostrophe in front makes it text."""
    return (
        f"'{value}"
        if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        else value
    )
