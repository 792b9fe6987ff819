"""The comparison as Markdown and as LaTeX."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .data import CSV_COLUMNS
from .definitions import definitions, metric_title
from .table import (
    COLUMNS,
    ERROR_COLUMNS,
    ESTIMATE_COLUMNS,
    FIT_COLUMNS,
    NONE,
    Column,
    Row,
    compact_columns,
    count,
    error_rows,
    estimate_rows,
    fit_rows,
    interval,
    table_rows,
)

_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # a cell that starts with a bracket would be the optional argument of the line before
    "]": "{]}",
    "–": "--",
    "²": r"\textsuperscript{2}",
    "₁": r"\textsubscript{1}",
    "∞": r"$\infty$",
    "“": "``",
    "”": "''",
    "≥": r"$\geq$",
    "−": r"$-$",
    "√": r"$\surd$",
    "→": r"$\to$",
    "\n": " ",
}


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, inside a table's cell too."""
    text = re.sub(r"\s+", " ", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|#~$!])", r"\\\1", text)


def escape_latex(text: str) -> str:
    """Text that LaTeX sets as it is; letters beyond Latin-1, which a plain document lacks, as code points."""
    return "".join(_TEX.get(c) or (c if ord(c) < 256 else f"U+{ord(c):04X}") for c in text)


def summary_line(comparison: Mapping[str, Any]) -> str:
    """What was compared, in one line."""
    settings = comparison["settings"]
    parts = [
        f"{_counted(comparison['labels'], 'sampler')} on {_counted(comparison['posteriors'], 'posterior')}",
        f"budget {_each(map(count, settings['budget']))} evaluations per chain",
        f"chains {_each(settings['chains'])}",
        f"seeds {_each(comparison['seeds'])}",
        f"{_each(settings['precision'])} on {_each(settings['platform'])}",
    ]
    if comparison["created"]:
        first, last = (moment[:10] for moment in comparison["created"])
        parts.append(first if first == last else f"{first} to {last}")
    return " · ".join(parts)


def ranking_line(comparison: Mapping[str, Any]) -> str:
    """How many groups count, in one sentence."""
    ranked = sum(summary["rank"] is not None for summary in comparison["summaries"])
    groups = _counted(comparison["summaries"], "group")
    return (
        f"Ranked: {ranked} of {groups}; the others are shown with the reason. "
        f"Ranks are on: {metric_title(comparison['rank_metric'])}."
    )


def overall_rows(comparison: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Per sampler: its ratio to the baseline over posteriors, over how many, and which did not count."""
    return [
        (
            overall["label"],
            interval(overall["estimate"]),
            f"{len(overall['posteriors'])} of {len(overall['posteriors']) + len(overall['excluded'])}",
            ", ".join(overall["excluded"]) or NONE,
        )
        for overall in comparison["overall"]
        if overall["metric"] == comparison["rank_metric"]
    ]


OVERALL_TITLES = ("Sampler", "Ratio over posteriors", "Counted on", "Not counted")


def render_markdown(comparison: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """The whole comparison as GitHub-flavoured Markdown."""
    rows = table_rows(comparison)
    parts = ["# Samplers compared", escape_markdown(summary_line(comparison)), ranking_line(comparison)]
    parts += [f"- {escape_markdown(note)}" for note in comparison["notes"]]
    for posterior in comparison["posteriors"]:
        mine = [row for row in rows if row["posterior"] == posterior]
        parts.append(f"## {escape_markdown(posterior)}")
        parts.append(_markdown_figures(COLUMNS, mine))
        reasons = [
            f"- {escape_markdown(row['label'])} is not ranked on efficiency: {row['reason']}"
            for row in mine
            if row["reason"]
        ]
        parts.append("\n".join(reasons))
        if compared := error_rows(mine):
            parts += ["### Error against the reference", _markdown_figures(ERROR_COLUMNS, compared)]
        if estimated := estimate_rows(mine):
            parts += ["### Estimates against the reference", _markdown_figures(ESTIMATE_COLUMNS, estimated)]
        if fits := fit_rows(mine):
            parts += ["### Variational fits", _markdown_figures(FIT_COLUMNS, fits)]
    if overall := overall_rows(comparison):
        parts.append(f"## Ratio to {escape_markdown(comparison['baseline'])} over posteriors")
        parts.append(_markdown_table(OVERALL_TITLES, overall))
    parts.append("## How each figure is defined")
    parts += [f"**{term}.** {escape_markdown(text)}" for term, text in definitions(comparison, records)]
    parts.append("## Columns of report.csv")
    parts.append("\n".join(f"- `{name}`: {escape_markdown(text)}" for name, text in CSV_COLUMNS))
    return "\n\n".join(part for part in parts if part) + "\n"


def render_latex(comparison: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    r"""One booktabs table per posterior and one over posteriors, to be ``\input`` into a document."""
    del records  # tables only
    rows, columns = table_rows(comparison), compact_columns(comparison)
    parts = [
        r"% Tables of an essper report. The preamble needs: \usepackage{booktabs,graphicx}",
    ]
    for index, posterior in enumerate(comparison["posteriors"], start=1):
        mine = [[c.cell(row) for c in columns] for row in rows if row["posterior"] == posterior]
        caption = f"{posterior}: {summary_line(comparison).split(' · ', 1)[1].replace(' · ', ', ')}."
        parts.append(_latex_table([c.title for c in columns], mine, caption, f"tab:essper-{index}"))
    if overall := overall_rows(comparison):
        caption = (
            f"Ratio to {comparison['baseline']} over posteriors. {metric_title(comparison['rank_metric'])}."
        )
        parts.append(_latex_table(OVERALL_TITLES, overall, caption, "tab:essper-overall"))
    return "\n\n".join(parts) + "\n"


def _counted(things: Sequence[Any], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _each(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values)


def _markdown_figures(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    cells = [[column.cell(row) for column in columns] for row in rows]
    return _markdown_table([column.title for column in columns], cells)


def _markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head, *body = ([escape_markdown(cell) for cell in line] for line in (titles, *rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(titles), *body))


def _latex_table(titles: Sequence[str], rows: Sequence[Sequence[str]], caption: str, label: str) -> str:
    body = "\n".join(" & ".join(map(escape_latex, row)) + r" \\" for row in rows)
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{escape_latex(caption)}}}",
            rf"\label{{{label}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{'l' * len(titles)}}}",
            r"\toprule",
            " & ".join(map(escape_latex, titles)) + r" \\",
            r"\midrule",
            body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    )
