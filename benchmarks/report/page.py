"""The comparison as one HTML page that needs nothing but itself: no network, no other file."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from . import charts
from .definitions import definitions
from .plain import OVERALL_TITLES, overall_rows, ranking_line, summary_line
from .table import (
    COLUMNS,
    ERROR_COLUMNS,
    ESTIMATE_COLUMNS,
    FIT_COLUMNS,
    NONE,
    compact_columns,
    count,
    error_rows,
    estimate_rows,
    fit_rows,
    number,
    rhat,
    table_rows,
)

SYMBOLS = {"ok": "✓", "unverified": "?", "not converged": "~", "biased": "✗", "failed": "!"}
MEANINGS = {
    "ok": "converged, agrees with the reference: ranked",
    "unverified": "converged, but no reference draws",
    "not converged": "R-hat or ESS out of bounds",
    "biased": "disagrees with the reference",
    "failed": "the run raised an error",
}
_PARAMETER_FIELDS = (
    ("mean", number),
    ("sd", number),
    ("rhat", rhat),
    ("ess_bulk", count),
    ("ess_tail", count),
    ("ess_square", count),
    ("reference_mean", number),
    ("reference_sd", number),
    ("z_mean", number),
    ("z_sd", number),
    ("z_q05", number),
    ("z_q50", number),
    ("z_q95", number),
)
_WORST = 5


def render_html(comparison: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """The page: charts are drawn by a Vega bundle inside it, once for all of them."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__ or "", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "count": count, "rhat": rhat}
    rows = table_rows(comparison)
    drawn = {
        "efficiency": charts.efficiency_chart(comparison),
        "evaluation": charts.evaluation_chart(comparison),
        "error": charts.error_chart(comparison),
        "ratio": charts.ratio_chart(comparison),
    }
    return environment.get_template("report.html.jinja").render(
        comparison=comparison,
        summary_line=summary_line(comparison),
        ranking_line=ranking_line(comparison),
        matrix={(row["posterior"], row["label"]): row for row in rows},
        rows=rows,
        compact=compact_columns(comparison),
        errors=ERROR_COLUMNS,
        compared=error_rows(rows),
        estimates=ESTIMATE_COLUMNS,
        estimated=estimate_rows(rows),
        fits=FIT_COLUMNS,
        fitted=fit_rows(rows),
        more=[column for column in COLUMNS if column.key == "sampler" or not column.compact],
        overall_titles=OVERALL_TITLES,
        overall=overall_rows(comparison),
        charts=drawn,
        cells=[_cell(record) for record in _in_order(records)],
        definitions=definitions(comparison, records),
        environments=_environments(records),
        symbols=SYMBOLS,
        meanings=MEANINGS,
        none=NONE,
        vega=_vega() if any(chart and chart.spec for chart in drawn.values()) else "",
    )


@cache
def _vega() -> Markup:
    # Inside a script element only its own end tag is special.
    return Markup(
        vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
    )


def _in_order(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(records, key=lambda r: (r["posterior"], r["sampler"]["label"], r["budget"], r["seed"]))


def _cell(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the details of one cell show: empty parts for what a failed run does not have."""
    config = json.dumps(record["sampler"].get("config"), ensure_ascii=False)
    return {
        "record": record,
        "config": config,
        "facts": _facts(record),
        "cost": _cost(record),
        "timing": [(phase, number(seconds)) for phase, seconds in (record.get("timing") or {}).items()],
        "grid": _learning_rates(record.get("variational")),
        "note": (record.get("variational") or {}).get("note"),
        "parameters": _worst_parameters(record.get("parameters")),
    }


CELL_FACTS = ("budget", "chains", "draws", "dim", "layout", "backend", "precision", "platform", "digest")


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [(field, str(record[field])) for field in CELL_FACTS if record.get(field) is not None]
    if diagnostics := record.get("diagnostics"):
        facts += [
            ("R-hat", f"{rhat(diagnostics['rhat_max'])} ({diagnostics['rhat_worst']})"),
            ("bulk ESS", f"{count(diagnostics['ess_bulk_min'])} ({diagnostics['ess_bulk_worst']})"),
            ("divergences", count(diagnostics["divergences"])),
            ("acceptance", number(diagnostics["acceptance"])),
            ("step size", ", ".join(number(step) for step in diagnostics["step_size"] or []) or NONE),
            ("stuck chains", count(diagnostics["stuck_chains"])),
        ]
    if bias := record.get("bias"):
        limits = f"threshold {number(bias['threshold'])}, {bias['comparisons']} comparisons"
        facts.append(("max |z|", f"{number(bias['max_abs_z'])} ({bias['worst']}; {limits})"))
    if found := record.get("distances"):
        facts += _distances(found)
    if found := record.get("accuracy"):
        facts += _accuracy(found)
    if found := record.get("variational"):
        facts += _fits(found)
    if reference := record.get("reference"):
        facts.append(("reference", f"{count(reference['draws'])} draws, {reference['source']}"))
        if reference["not_compared"]:
            facts.append(("not compared", ", ".join(reference["not_compared"])))
    return facts


def _distances(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    w1, sliced, ksd = found["w1"], found["sliced_w1"], found["ksd"]
    largest = f"{number(w1['maximum'])} ({w1['worst']}; noise {number(w1['floor']['maximum'])})"
    noise = f"noise {number(ksd['floor'])}; {count(ksd['draws'])} draws"
    return [
        ("largest W₁", largest),
        ("sliced W₁", f"{number(sliced['value'])} (noise {number(sliced['floor'])})"),
        ("KSD", ksd["reason"] or f"{number(ksd['value'])} ({noise})"),
    ]


def _accuracy(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    mean, sd, coverage = found["mean"], found["sd"], found["coverage"]
    return [
        (
            "largest error of a mean",
            f"{number(mean['maximum'])} ({mean['worst']}; noise {number(mean['floor']['maximum'])})",
        ),
        (
            "largest |log sd ratio|",
            f"{number(sd['maximum'])} ({sd['worst']}; noise {number(sd['floor']['maximum'])})",
        ),
        *((f"coverage of {level} %", number(shares["average"])) for level, shares in coverage.items()),
    ]


def _fits(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    khat, limit = found["khat"], number(found["khat"]["threshold"])
    pairs = zip(found["elbo"], found["elbo_error"], strict=True)
    facts = [
        ("ELBO", ", ".join(f"{number(bound, 6)} ± {number(error, 2)}" for bound, error in pairs)),
        ("k-hat", f"{', '.join(map(number, khat['values']))} (limit {limit})"),
        ("ESS of the weights", ", ".join(map(count, found["weight_ess"]))),
    ]
    if found["converged"] is not None:
        facts.append(("fits converged", f"{sum(found['converged'])} of {len(found['converged'])}"))
    return facts


def _learning_rates(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The ELBO of every learning rate in every fit, the chosen one starred."""
    if not found or not found["grid_elbo"]:
        return None
    rows = []
    for i, rate in enumerate(found["learning_rates"]):
        chosen = [rate == one for one in found["learning_rate"]]
        cells = [
            number(fit[i], 6) + ("*" if mine else "")
            for fit, mine in zip(found["grid_elbo"], chosen, strict=True)
        ]
        rows.append((number(rate), cells))
    return {"titles": [f"fit {i + 1}" for i in range(len(found["grid_elbo"]))], "rows": rows}


def _cost(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Costs by phase, and whether what was executed is what the algorithm counted."""
    cost = record.get("cost")
    if not cost:
        return None
    executed, units = cost.get("executed"), list(cost["warmup"])
    counted = {unit: cost["warmup"][unit] + cost["sampling"][unit] for unit in units}
    return {
        "units": units,
        "phases": [("warmup", cost["warmup"]), ("sampling", cost["sampling"]), ("both", counted)],
        "executed": executed,
        "differs": executed is not None
        and any(executed[k] != counted[k] for k in ("gradients", "densities")),
    }


def _worst_parameters(parameters: Mapping[str, Sequence[Any]] | None) -> dict[str, Any] | None:
    """The parameters with the least bulk ESS, undefined ones first."""
    if not parameters or not parameters.get("name"):
        return None
    ess = parameters["ess_bulk"]
    order = sorted(range(len(ess)), key=lambda i: -1.0 if ess[i] is None else ess[i])[:_WORST]
    fields = [(field, write) for field, write in _PARAMETER_FIELDS if field in parameters]
    rows = [(parameters["name"][i], [write(parameters[field][i]) for field, write in fields]) for i in order]
    return {"fields": [field for field, _ in fields], "rows": rows, "total": len(ess)}


def _environments(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Every version and machine that took part; more than one value is worth seeing."""
    found: dict[str, set[str]] = {}
    for record in records:
        for source in ("versions", "environment"):
            for name, value in (record.get(source) or {}).items():
                found.setdefault(name, set()).add(str(value))
    return [(name, sorted(values)) for name, values in found.items()]
