"""The comparison in a terminal."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..comparison import Comparison, comparison_to_dict
from .table import COMPACT, interval, table_rows

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
    "gradients": "gradients\nwarmup + sampling",
}


def console_table(comparison: Comparison) -> Group:
    """A table per posterior, then the ratios over all posteriors and the notes, for `rich.print`.

    Every text is a `Text`: names such as ``drhmc[stages=2]`` would otherwise be read as markup.
    """
    shown = comparison_to_dict(comparison)
    rows = table_rows(shown)
    parts: list[Table | Text] = []
    for posterior in shown["posteriors"]:
        table = Table(title=Text(posterior, style="bold"), title_justify="left", header_style="dim")
        for column in COMPACT:
            left = column.key in ("sampler", "status")
            title = Text(_SHORT.get(column.key, column.title))
            table.add_column(title, justify="left" if left else "right", no_wrap=column.key == "sampler")
        for row in (row for row in rows if row["posterior"] == posterior):
            # Only the status is coloured by outcome; a figure that does not count is dimmed.
            styles = {"status": _STYLES[row["status"]]}
            dim = "" if row["status"] == "ok" else "dim"
            table.add_row(*(Text(column.cell(row), style=styles.get(column.key, dim)) for column in COMPACT))
        parts.append(table)
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
    return Group(*parts)
