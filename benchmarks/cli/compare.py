"""compare and report: run the cells that are not there yet, and show what came out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ..defaults import DEFAULT_BUDGET, DEFAULT_CHAINS, DEFAULT_OUT, DEFAULT_POSTERIORS, DEFAULT_SAMPLERS
from .errors import FAILED, InputError
from .options import (
    AsJson,
    Backend,
    BridgeStan,
    Databases,
    Precision,
    examples,
    layer_paths,
    open_database,
)
from .output import notice, print_json, stdout
from .progress import cell_progress

if TYPE_CHECKING:
    from ..cells import Cell

COMPARE_EXAMPLES = examples(
    "essper compare",
    "essper compare eight_schools --sampler nuts --sampler 'drhmc[stages=2]' --seeds 4",
    "essper compare eight_schools --backend jax",
    "essper compare simulated_nes-nes --sampler nuts --sampler 'sgld[batch=64]'",
    "essper compare eight_schools --sampler nuts --sampler fvi --sampler fullrank-vi",
    "essper compare garch-garch11 --database my_posteriordb --budget 20000 --dry-run",
)
REPORT_EXAMPLES = examples(
    "essper report results/compare", "essper report results/compare --format html,tex --baseline hmc"
)
FEW_FAILURES = 12
"""Cells that did not pass of which the terminal says why."""
PASSING = ("ok", "unverified")
"""Statuses that are no failure; ``unverified`` has no reference to fail against."""

Baseline = Annotated[
    str | None,
    typer.Option(
        metavar="SAMPLER",
        help="Whom ratios are taken to, as labelled in the table; by default nuts.",
        show_default=False,
    ),
]


def compare(
    posteriors: Annotated[
        list[str] | None,
        typer.Argument(metavar="[POSTERIOR]...", help="Names or aliases; by default a built-in set."),
    ] = None,
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[k=v,…]",
            help=f"A sampler with its options; repeatable. By default {', '.join(DEFAULT_SAMPLERS)}.",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        int,
        typer.Option(
            min=1,
            help="Gradients per chain, warmup included; as many gradients of single rows as there are rows "
            "count as one. Densities and conditional draws of Gibbs samplers count as one each.",
        ),
    ] = DEFAULT_BUDGET,
    chains: Annotated[int, typer.Option(min=1, help="Chains per cell.")] = DEFAULT_CHAINS,
    seeds: Annotated[int, typer.Option(min=1, help="Replications; intervals need at least two.")] = 1,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results are kept, and found again.")] = Path(
        DEFAULT_OUT
    ),
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cells at a time; by default one per core, or one on an accelerator.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and run nothing.")] = False,
    baseline: Baseline = None,
    database: Databases = None,
    backend: Backend = "auto",
    precision: Precision = "float64",
    bridgestan: BridgeStan = "auto",
    as_json: AsJson = False,
) -> None:
    """Run samplers on posteriors and compare them at equal gradient budgets.

    Every combination of posterior, sampler and seed is a cell. Finished cells in DIR are not run
    again, so an interrupted comparison goes on where it stopped, and a larger one adds to a smaller
    one; cells that failed are tried again. The table and DIR/report.html show all cells in DIR.

    Exit code 1 says that a cell of this plan failed, did not converge, or is biased.
    """
    from ..cells import plan
    from ..execution import missing_cells, run_cells
    from ..specs import parse_spec
    from ..store import load_records

    specs = [parse_spec(text) for text in sampler or DEFAULT_SAMPLERS]
    layers = layer_paths(database)
    opened = open_database(database)
    chosen = [opened.posterior(name) for name in dict.fromkeys(posteriors or DEFAULT_POSTERIORS)]
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # for the processes that run the cells
    cells = plan(
        chosen,
        specs,
        seeds=seeds,
        budget=budget,
        chains=chains,
        bridgestan=bridgestan,
        backend=backend,
        precision=precision,
    )
    todo = missing_cells(cells, out)
    if dry_run:
        _show_plan(cells, todo, as_json)
        return
    notice(plan_line(cells, todo))
    if unverifiable := [p.name for p in chosen if not p.has_reference]:
        notice(f"Without reference draws, hence not ranked: {', '.join(unverifiable)}")

    if todo:
        jobs = jobs or (os.cpu_count() if {c.platform for c in cells} == {"cpu"} else 1) or 1
        with cell_progress(todo) as listener:
            try:
                run_cells(todo, out, layers, jobs=jobs, listener=listener)
            except KeyboardInterrupt:
                safe = len(cells) - len(missing_cells(cells, out))
                notice(f"{safe} of {len(cells)} cells are safe in {out}; the same command goes on from there")
                raise
    records = load_records(out)
    _show(records, out, baseline, ("html", "json", "csv", "md", "tex"), as_json)
    mine = {cell.digest for cell in cells}
    if any(r["status"] not in PASSING for r in records if r["digest"] in mine):
        raise typer.Exit(FAILED)


def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The --out of a comparison.")],
    formats: Annotated[
        str, typer.Option("--format", metavar="html,md,csv,json,tex", help="What to write, comma-separated.")
    ] = "html",
    baseline: Baseline = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of a results directory and print the comparison table."""
    from ..store import load_records

    wanted = tuple(part.strip() for part in formats.split(",") if part.strip())
    if not wanted:
        raise InputError("--format names no format; give some of html, md, csv, json, tex")
    _show(load_records(directory), directory, baseline, wanted, as_json)


def plan_line(cells: Sequence[Cell], todo: Sequence[Cell]) -> str:
    """What is about to happen, in one line."""
    gradients = sum(cell.gradients for cell in todo)
    posteriors, samplers, seeds = (
        len({key(cell) for cell in cells})
        for key in (lambda c: c.target_digest, lambda c: c.spec.label, lambda c: c.seed)
    )
    return (
        f"{len(cells)} cells: {posteriors} posteriors × {samplers} samplers × {seeds} seeds; "
        f"{len(todo)} to run, about {gradients:,} evaluations; {_how(cells)}"
    )


def _how(cells: Sequence[Cell]) -> str:
    """What evaluates the densities: samplers that take minibatches may have another backend than the rest."""
    backends, precisions, platforms = (
        " and ".join(dict.fromkeys(key(cell) for cell in cells))
        for key in (lambda c: c.backend, lambda c: c.precision, lambda c: c.platform)
    )
    return f"{backends}, {precisions}, on {platforms}"


def _show_plan(cells: Sequence[Cell], todo: Sequence[Cell], as_json: bool) -> None:
    waiting = {cell.digest for cell in todo}
    if as_json:
        print_json(
            {
                "cells": [c.description() | {"done": c.digest not in waiting} for c in cells],
                "to_run": len(todo),
                "gradients": sum(cell.gradients for cell in todo),
            }
        )
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("posterior", "sampler", "seed", "gradients", ""):
        table.add_column(title, justify="right" if title in ("seed", "gradients") else "left")
    for cell in cells:
        state = "to run" if cell.digest in waiting else "done"
        row = (cell.posterior, cell.spec.label, str(cell.seed), f"{cell.gradients:,}", state)
        table.add_row(*map(Text, row))
    stdout().print(table)
    stdout().print(plan_line(cells, todo))


def _show(
    records: list[dict[str, Any]],
    directory: Path,
    baseline: str | None,
    formats: Sequence[str],
    as_json: bool,
) -> None:
    """Print the table (or the JSON of the comparison) and write the report."""
    from ..comparison import compare as compare_records
    from ..comparison import comparison_to_dict
    from ..gates import reason
    from ..report import console_table, write_report

    comparison = compare_records(records, baseline)
    paths = write_report(records, directory, formats, baseline)
    if as_json:
        print_json({"comparison": comparison_to_dict(comparison), "report": paths})
        return
    console = stdout()
    console.print(console_table(comparison, console.width))
    failures = [r for r in records if r["status"] not in PASSING]
    for record in failures[:FEW_FAILURES]:
        where = f"{record['posterior']} with {record['sampler']['label']}, seed {record['seed']}"
        error = record["error"]
        why = f"{error['type']}: {error['message']}" if error else reason(record)
        notice(f"{record['status']}: {where}: {why}")
    if len(failures) > FEW_FAILURES:
        notice(f"{len(failures) - FEW_FAILURES} more; the report has them all")
    for path in paths.values():
        stdout().print(Text(f"report: {path}"), soft_wrap=True)
