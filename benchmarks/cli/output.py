"""What commands print: facts on stdout, as tables or JSON, and notices and progress on stderr."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 160
"""Columns where stdout is no terminal: rows are for grep, and names must not be cut."""
NOTICE_SECONDS = 5.0
"""Between lines of progress where stderr is no terminal."""
_GAP = 2


def stdout() -> Console:
    """A console for facts, made anew so that it follows redirections of ``sys.stdout``."""
    return _console(sys.stdout)


def stderr() -> Console:
    """A console for notices and progress."""
    return _console(sys.stderr)


def _console(file: Any) -> Console:
    # rich leaves bold and dim in where NO_COLOR is set; here it means no escape sequences at all.
    plain = bool(os.environ.get("NO_COLOR"))
    wide = not file.isatty() and "COLUMNS" not in os.environ
    return Console(
        file=file,
        color_system=None if plain else "auto",
        width=PIPED_WIDTH if wide else None,
        highlight=False,
        soft_wrap=False,
    )


def print_json(facts: Any) -> None:
    """Facts as JSON on stdout: dataclasses as objects, numbers that are not finite as null."""
    print(json.dumps(jsonable(facts), indent=2, allow_nan=False))


def jsonable(value: Any) -> Any:
    """Dataclasses, mappings, sequences, paths and numpy's numbers as what JSON has for them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(v) for key, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [jsonable(v) for v in value]
    if (tolist := getattr(value, "tolist", None)) is not None:  # numpy, without importing it
        return jsonable(tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


@contextlib.contextmanager
def facts_only() -> Iterator[None]:
    """Send to stderr what libraries print on stdout meanwhile: BridgeStan does when it is downloaded."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def notice(text: str) -> None:
    """One line on stderr that is no error."""
    stderr().print(Text(text, style="dim"), soft_wrap=True)


def track[Item](items: Sequence[Item], what: str, label: Callable[[Item], str] = str) -> Iterator[Item]:
    """Hand on items, with a bar on stderr, or now and then a line where stderr is no terminal.

    Parameters
    ----------
    what : is being done, in a few words
    label : what to show of the item at work
    """
    console = stderr()
    if not console.is_terminal:
        last = time.monotonic()
        for i, item in enumerate(items):
            if time.monotonic() - last > NOTICE_SECONDS:
                last = time.monotonic()
                notice(f"{what}: {i} of {len(items)} done, now {label(item)}")
            yield item
        return
    columns = (TextColumn(what), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    now = TextColumn("{task.fields[now]}", style="dim", markup=False)
    with Progress(*columns, now, console=console, transient=True) as progress:
        task = progress.add_task(what, total=len(items), now="")
        for item in items:
            progress.update(task, now=label(item))
            yield item
            progress.advance(task)


@dataclass(frozen=True)
class Column:
    """A column of a table that adapts to the terminal's width."""

    title: str
    justify: Literal["left", "right"] = "left"
    dispensable: int = 0
    """0 never leaves; of the others the largest leaves first where the terminal is narrow."""


def fitted_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], width: int
) -> tuple[Table, list[str]]:
    """A table of those columns that fit, and the titles of those that had to leave.

    The last column that stays is the only one whose cells may be broken into lines.
    """
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    widths = [
        max([cell_len(column.title), *(cell.cell_len for cell in line)])
        for column, line in zip(
            columns, zip(*cells, strict=True) if cells else [[]] * len(columns), strict=True
        )
    ]
    kept = list(range(len(columns)))
    while sum(widths[i] + _GAP for i in kept) - _GAP > width:
        leaving = max(kept, key=lambda i: columns[i].dispensable)
        if not columns[leaving].dispensable:
            break
        kept.remove(leaving)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for i in kept:
        table.add_column(
            Text(columns[i].title), justify=columns[i].justify, no_wrap=i != kept[-1], overflow="fold"
        )
    for row in cells:
        table.add_row(*(row[i] for i in kept))
    return table, [columns[i].title for i in range(len(columns)) if i not in kept]


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], indent: int = 0) -> None:
    """Print a `fitted_table` on stdout, and say on stderr what did not fit."""
    console = stdout()
    table, left_out = fitted_table(columns, rows, console.width - indent)
    console.print(Padding(table, (0, 0, 0, indent), expand=False))
    if left_out:
        notice(f"Too narrow for: {', '.join(left_out)} (a wider terminal or --json has it).")


def section(title: str) -> None:
    """A heading on stdout."""
    stdout().print(Text(f"\n{title}", style="bold"), soft_wrap=True)


def print_lines(lines: Mapping[str, str]) -> None:
    """Titles and texts side by side on stdout, empty texts left out.

    Long texts are broken at spaces and never inside a word: a path stays one piece.
    """
    console, title_width = stdout(), max(map(len, lines)) + _GAP
    for title, text in lines.items():
        heads = [title]
        for line in text.splitlines():
            for part in textwrap.wrap(
                line, max(console.width - title_width, 20), break_long_words=False, break_on_hyphens=False
            ):
                head = (heads.pop() if heads else "").ljust(title_width)
                console.print(Text.assemble((head, "dim"), part), soft_wrap=True)
