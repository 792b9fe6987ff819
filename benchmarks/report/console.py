"""The comparison in a terminal."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..comparison import Comparison, comparison_to_dict
from .table import Column, Row, axis_notes, compact_columns, fit_notes, interval, table_rows

_STYLES = {
    "ok": "green",
    "unverified": "blue",
    "not converged": "yellow",
    "biased": "red",
    "failed": "magenta",
}
_SHORT = {
    "with_warmup": "ESS/1000 ∇\nwith warmup",
    "sampling": "ESS/1000 ∇\nsampling",
    "ratio": "ratio to\nbaseline",
    "divergences": "div.",
    "evaluation": "ESS/1000\nevaluations",
    "others": "other evaluations\nwarmup + sampling",
    "gradients": "gradients\nwarmup + sampling",
    "b2": "b² of x\nat the end",
    "w1": "largest W₁\n(noise)",
    "error_rank": "rank on\nerror",
}
_LEAVING = (
    *("gradients", "others", "divergences", "sampling", "rhat", "z"),
    *("rank", "ratio", "b2", "error_rank", "khat", "w1", "evaluation", "axis"),
)
"""Columns that are given up, in this order, where the terminal is too narrow."""
_GAP = 2


def console_table(comparison: Comparison, width: int = 160) -> Group:
    """A table per posterior, then the ratios over all posteriors and the notes, for `rich.print`.

    The columns of all tables stand below each other. Columns that do not fit into ``width`` are named
    below. Every text is a `Text`: names such as ``drhmc[stages=2]`` would otherwise be read as markup.
    """
    shown = comparison_to_dict(comparison)
    rows, compact = table_rows(shown), compact_columns(shown)
    widths = {
        column.key: max(
            *(len(line) for line in _title(column).split("\n")), *(len(column.cell(row)) for row in rows)
        )
        for column in compact
    }
    kept = [column.key for column in compact]
    for key in _LEAVING:
        if sum(widths[k] + _GAP for k in kept) - _GAP <= width:
            break
        if key in kept:
            kept.remove(key)
    columns = [column for column in compact if column.key in kept]

    parts: list[Table | Text] = []
    for posterior in shown["posteriors"]:
        table = Table(
            title=Text(posterior, style="bold"),
            title_justify="left",
            header_style="dim",
            box=None,
            pad_edge=False,
            padding=(0, _GAP, 0, 0),
        )
        for column in columns:
            justify = "left" if column.key in ("sampler", "status") else "right"
            table.add_column(
                Text(_title(column)), justify=justify, min_width=widths[column.key], no_wrap=True
            )
        mine = sorted((row for row in rows if row["posterior"] == posterior), key=_order)
        for row in mine:
            # Only the status is coloured by outcome; a figure that does not count is dimmed.
            styles = {"status": _STYLES[row["status"]]}
            dim = "" if row["status"] == "ok" or row["approximate"] else "dim"
            table.add_row(*(Text(column.cell(row), style=styles.get(column.key, dim)) for column in columns))
        parts += [
            table,
            *(Text(note, style="yellow") for note in (*axis_notes(mine), *fit_notes(mine))),
            Text(""),
        ]
    for overall in shown["overall"]:
        if overall["metric"] == shown["rank_metric"] and overall["posteriors"]:
            total = len(overall["posteriors"]) + len(overall["excluded"])
            parts.append(
                Text(
                    f"{overall['label']} / {shown['baseline']}: {interval(overall['estimate'])} "
                    f"over {len(overall['posteriors'])} of {total} posteriors where both are ok"
                )
            )
    parts.extend(Text(note, style="yellow") for note in shown["notes"])
    if left := [_title(c).replace("\n", " ") for c in compact if c.key not in kept]:
        parts.append(Text(f"Too narrow for: {', '.join(left)} (the report has them).", style="dim"))
    return Group(*parts)


def _order(row: Row) -> tuple[bool, int, bool, int]:
    """Best first: on efficiency, then on error."""
    rank, error_rank = row["rank"], row["error_rank"]
    return rank is None, rank or 0, error_rank is None, error_rank or 0


def _title(column: Column) -> str:
    return _SHORT.get(column.key, column.title)
