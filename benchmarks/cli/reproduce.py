"""reproduce: measure a published claim again, and say of every row whether it holds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from .errors import InputError
from .options import AsJson, examples
from .output import NOTICE_SECONDS, Column, facts_only, notice, print_json, print_table, stderr, stdout

if TYPE_CHECKING:
    from ..reproductions.framework import Outcome, Reproduction
    from ..reproductions.laboratory import Listener

EXAMPLES = examples(
    "essper reproduce",
    "essper reproduce drhmc-funnel",
    "essper reproduce step-misspecification --seeds 16 --full",
)
RESULTS = Path("results/reproductions")
_STYLES = {"reproduced": "green", "not reproduced": "red"}


def reproduce(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Which; without it, what there is.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="The long version: more settings, chains and gradients.")
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(min=2, help="Replicates that intervals are made from.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help=f"Where results go; by default {RESULTS}/NAME, or NAME-full.",
            show_default=False,
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what is kept in DIR already.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Measurements at a time; by default one per core.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a published claim again and say of each of its rows whether it holds.

    Writes the table (Markdown and JSON, with every seed and raw value) and a figure into DIR. Finished
    measurements are kept there, so that an interrupted command goes on where it stopped.

    The exit code is 0 whatever the verdicts are: they are results.
    """
    from ..reproductions.registry import REPRODUCTIONS

    if name is None:
        _list(REPRODUCTIONS, as_json)
        return
    if name not in REPRODUCTIONS:
        raise InputError(f"there is no reproduction {name!r}; give one of {', '.join(REPRODUCTIONS)}")
    _reproduce(
        REPRODUCTIONS[name],
        full,
        seeds,
        output or RESULTS / (f"{name}-full" if full else name),
        fresh,
        jobs,
        as_json,
    )


def _list(reproductions: dict[str, Reproduction], as_json: bool) -> None:
    if as_json:
        print_json([{"name": r.name, "title": r.title, "sources": r.sources} for r in reproductions.values()])
        return
    print_table([Column("name"), Column("claim")], [[r.name, r.title] for r in reproductions.values()])


def _reproduce(
    reproduction: Reproduction,
    full: bool,
    seeds: int | None,
    directory: Path,
    fresh: bool,
    jobs: int | None,
    as_json: bool,
) -> None:
    from ..reproductions.framework import count_verdicts, row_to_dict
    from ..reproductions.laboratory import Laboratory
    from ..reproductions.publication import publish

    plan = reproduction.plan(full, seeds)
    with facts_only(), measurement_progress() as listener:
        laboratory = Laboratory(directory, jobs or os.cpu_count() or 1, fresh, listener)
        try:
            outcome = reproduction.run(plan, laboratory)
        except KeyboardInterrupt:
            safe = f"{laboratory.kept()} measurements are safe in {directory}"
            notice(f"{safe}; the same command{' without --fresh' if fresh else ''} goes on from there")
            raise
    paths = publish(reproduction, plan, outcome, laboratory)
    if as_json:
        rows = [row_to_dict(row) for row in outcome.rows]
        print_json({"rows": rows, "verdicts": count_verdicts(outcome.rows), "files": paths})
        return
    _print(reproduction, outcome)
    for path in paths.values():
        stdout().print(Text(str(path)), soft_wrap=True)


def _print(reproduction: Reproduction, outcome: Outcome) -> None:
    from ..reproductions.publication import HEADINGS, cells, verdict_line

    console = stdout()
    console.print(Text(reproduction.title, style="bold"))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", show_lines=False)
    for heading in HEADINGS:
        table.add_column(Text(heading), overflow="fold", min_width=8)
    for row in outcome.rows:
        *others, verdict = map(Text, cells(row))
        verdict.stylize(_STYLES.get(row.verdict, "yellow"))
        table.add_row(*others, verdict)
    console.print(table)
    for note in outcome.notes:
        console.print(Text(note, style="dim"))
    console.print(Text(verdict_line(outcome), style="bold"))


@contextmanager
def measurement_progress() -> Iterator[Listener]:
    """A listener for `Laboratory` that shows a bar, or a line now and then where it is piped."""
    console = stderr()
    if not console.is_terminal:
        last = time.monotonic()

        def write(phase: str, done: int, total: int, label: str) -> None:
            nonlocal last
            if time.monotonic() - last > NOTICE_SECONDS:
                last = time.monotonic()
                notice(f"{phase}: {done} of {total} measurements, {label}")

        yield write
        return

    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    now = TextColumn("{task.fields[now]}", style="dim", markup=False)
    with Progress(*columns, now, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None, now="")

        def draw(phase: str, done: int, total: int, label: str) -> None:
            bar.update(task, description=phase, completed=done, total=total, now=label)

        yield draw
