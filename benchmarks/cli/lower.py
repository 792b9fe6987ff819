"""lower: what becomes of a Stan program that is lowered to JAX, and whether it is still Stan's density."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from .errors import FAILED, InputError
from .lowering_facts import Loop, Parameter, SetUp, loop_modes, loops_of, lowered_in_time, parameters_of
from .options import AsJson, BridgeStan, Databases, Precision, open_database
from .output import Column, facts_only, notice, print_json, print_lines, print_table, section, stdout

if TYPE_CHECKING:
    from ...models.agreement import Agreement
    from ...models.stan_source import Program

FEW = 20
"""Parameters that are printed; --json has them all."""


@dataclass(frozen=True)
class LoweringFacts:
    """All that there is to say about one lowered program."""

    name: str
    dim: int
    precision: str
    parameters: tuple[Parameter, ...]
    loops: tuple[Loop, ...]
    equations: int
    """Of the log density's jaxpr, bodies of loops counted once; the gradient adds about as many."""
    chunk: int | None
    """Points that are evaluated together of a batch; None: all."""
    set_up: SetUp
    agreement: Agreement
    """With Stan's density."""
    tolerance: float
    agrees: bool
    warnings: tuple[str, ...]


def lower(
    program: Annotated[
        str,
        typer.Argument(metavar="PROGRAM", help="The path of a .stan file, or a posterior's name or alias."),
    ],
    data: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="The data of a .stan file, in Stan's JSON.", show_default=False),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="How each loop was compiled, and why.", show_default=False),
    ] = False,
    precision: Precision = "float64",
    databases: Databases = None,
    bridgestan: BridgeStan = "auto",
    as_json: AsJson = False,
) -> None:
    """Lower a Stan program to JAX, compare it with Stan's density, and say what came out.

    A loop is a batch (all iterations at once), a scan (one after the
    other, compiled once), or unrolled (one after the other, compiled
    as often).

    Exit code 1 says that the density is not Stan's, 2 that the program
    is not valid or has a construct that is not lowered.
    """
    from ...models import resolve_backend

    resolve_backend("jax", precision)
    source, values = _read(program, data, databases)
    with facts_only():
        facts = lowering_facts(source, values, bridgestan, precision)
    if as_json:
        print_json(facts)
    else:
        _print(facts, explain)
    if not facts.agrees:
        raise typer.Exit(FAILED)


def _read(
    program: str, data: Path | None, databases: Sequence[Path] | None
) -> tuple[Program, dict[str, Any]]:
    from ...models.stan_source import read_data, read_program

    if program.endswith(".stan") or Path(program).is_file():
        source = read_program(Path(program), None)
        return source, read_data(data, source.name)
    if data is not None:
        raise InputError(
            f"--data belongs to a .stan file, and {program!r} is none: a posterior has data of its own"
        )
    posterior = open_database(databases).posterior(program)
    source = read_program(posterior.program_path(), posterior.name)
    return source, read_data(posterior.data_text(), posterior.name)


def lowering_facts(program: Program, data: dict[str, Any], bridgestan: str, precision: str) -> LoweringFacts:
    """Lower a program, and compare it with Stan's at random points.

    Raises
    ------
    StanProgramError, StanDataError
        If Stan does not accept program or data, or a construct is not lowered.
    """
    from ...models.agreement import compare_densities
    from ...models.lowered import stan_side
    from ...models.verification import finite_points, tolerance_for
    from .coverage import POINTS, TRIES

    stan = stan_side(program, data, bridgestan)
    target, compiled, set_up = lowered_in_time(program, data, stan, precision)
    explained = target.lowered.explain()
    points = finite_points(target.model, POINTS, precision, tries=TRIES)
    agreement = compare_densities(compiled, target.model, points, precision=precision)
    tolerance = tolerance_for(program, precision)
    return LoweringFacts(
        name=target.name,
        dim=target.dim,
        precision=precision,
        parameters=parameters_of(target.lowered),
        loops=loops_of(explained.loops),
        equations=explained.equations,
        chunk=target.chunk,
        set_up=set_up,
        agreement=agreement,
        tolerance=tolerance,
        agrees=agreement.within(tolerance),
        warnings=explained.warnings,
    )


def _print(facts: LoweringFacts, explain: bool) -> None:
    times = facts.set_up
    stdout().print(Text(facts.name, style="bold"))
    print_lines(
        {
            "Dimension": f"{facts.dim} unconstrained",
            "Precision": facts.precision,
            "Stan": _agreement_line(facts),
            "Loops": f"{len(facts.loops)}: {loop_modes(facts.loops)}" if facts.loops else "none",
            "Jaxpr": f"{facts.equations} equations",
            "Batches": "whole" if facts.chunk is None else f"{facts.chunk} points at a time",
            "Set-up": f"{times.total:.2f} s: parse {times.parse:.2f}, trace {times.trace:.2f},"
            f" compile {times.compile:.2f}",
        }
    )
    section("Parameters")
    columns = (Column("Name"), Column("Type"), Column("Unconstrained", "right"))
    rows = [[it.name, it.type, str(it.unconstrained)] for it in facts.parameters[:FEW]]
    print_table(columns, rows, indent=2)
    if len(facts.parameters) > FEW:
        notice(f"{len(facts.parameters) - FEW} more parameters; --json has them all")
    if explain:
        _print_loops(facts.loops)
    for warning in facts.warnings:
        notice(f"warning: {warning}")


def _agreement_line(facts: LoweringFacts) -> str:
    from ...models.verification import difference

    found = facts.agreement
    if not facts.agrees:
        return f"NOT THE SAME DENSITY: {difference(found)}; {facts.tolerance:.0e} is allowed"
    if not found.compared:
        return "NOT COMPARED: no point was found at which Stan's density is finite"
    return (
        f"the same density at {found.compared} points: relative error {found.gradient_error:.1e} in the"
        f" gradient, {found.value_error:.1e} in the value"
    )


def _print_loops(loops: Sequence[Loop]) -> None:
    section("Loops, in the order of execution")
    if not loops:
        print_lines({"": "none: all is vectorized"})
        return
    files = len({loop.file for loop in loops}) > 1
    columns = (
        Column("Line", "right"),
        Column("Variable"),
        Column("Iterations", "right"),
        Column("Compiled as"),
        Column("Because"),
    )
    rows = [
        [
            f"{loop.file}:{loop.line}" if files else str(loop.line),
            loop.variable,
            str(loop.iterations),
            loop.mode,
            loop.reason,
        ]
        for loop in loops
    ]
    print_table(columns, rows, indent=2)
