"""doctor: whether essper works on this machine, and what to do where it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import typer
from rich.text import Text

from .diagnosis import Diagnosis, Problem, Source, diagnose
from .errors import FAILED
from .options import AsJson, BridgeStan, Databases, open_database
from .output import Column, facts_only, print_json, print_lines, print_table, section, stdout

_UNITS = ("B", "kB", "MB", "GB")


def doctor(
    databases: Databases = None,
    bridgestan: BridgeStan = "auto",
    as_json: AsJson = False,
) -> None:
    """Find out whether essper works here: Python, JAX, BridgeStan, databases, caches.

    Evaluates one density and its gradient. The exit code is 1 if that does not work.
    """
    with facts_only():
        if databases:
            open_database(databases)  # a wrong --database is a mistake; a wrong POSTERIORDB_PATH a finding
        found = diagnose(databases or (), bridgestan)
    if as_json:
        print_json({"works": found.works, "diagnosis": found})
    else:
        _print(found)
    if not found.works:
        raise typer.Exit(FAILED)


def _print(found: Diagnosis) -> None:
    print_lines(
        {
            "essper": found.essper,
            "Python": found.python,
            "Platform": found.platform,
            "JAX": _jax_line(found.jax),
            "Precision": "?" if "x64" not in found.jax else "float64" if found.jax["x64"] else "float32",
            "Calls": _ffi_line(found.ffi),
            "Gradient": _gradient_line(found.gradient),
            "Lowering": _lowering_line(found.lowering),
        }
    )
    section("BridgeStan")
    print_table((Column("Source"), Column(""), Column("Details")), [_source_row(s) for s in found.sources], 2)
    section("Databases, the first over the others")
    columns = (
        Column("Layer"),
        Column("Posteriors", "right"),
        Column("Programs", "right"),
        Column("References", "right"),
        Column("Path"),
    )
    rows = [
        [it.label, str(it.posteriors), str(it.programs), str(it.references), str(it.path)]
        for it in found.layers
    ]
    print_table(columns, rows, 2)
    section(f"Caches in {found.cache.get('path', '?')}")
    folders = [[it.name, str(it.files), _size(it.bytes)] for it in found.cache.get("folders", ())]
    print_table((Column("Folder"), Column("Files", "right"), Column("Size", "right")), folders, 2)
    section("Packages")
    packages = ", ".join(f"{name} {number or 'MISSING'}" for name, number in found.packages.items())
    print_lines({"": packages})
    _print_problems(found.problems)


def _jax_line(jax: Mapping) -> str:
    return jax.get("error") or f"{jax['version']} on {', '.join(jax['devices'])}"


def _ffi_line(ffi: Mapping) -> str:
    if ffi.get("available"):
        return f"XLA FFI, {ffi['library']}\ncompiled by {ffi['compiler']}"
    return f"through Python: {ffi.get('reason') or ffi.get('error')}"


def _gradient_line(gradient: Mapping) -> str:
    if gradient["works"]:
        return f"works: {gradient['posterior']}, {gradient['backend']}"
    return f"DOES NOT WORK: {gradient.get('error')}"


def _lowering_line(lowering: Mapping) -> str:
    if not lowering["works"]:
        return f"DOES NOT WORK: {lowering.get('error') or 'its density is not the same as by Stan'}"
    return (
        f"works: {lowering['backend']}, within {lowering['gradient_error']:.0e} of Stan's gradient\n"
        f"{lowering['functions']} functions, {lowering['densities']} densities of the Stan language"
    )


def _source_row(source: Source) -> list[str | Text]:
    found = Text("found", style="green") if source.available else Text("–", style="dim")
    return [source.name, found, source.detail]


def _size(count: float) -> str:
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def _print_problems(problems: Sequence[Problem]) -> None:
    if not problems:
        section("No problems")
        return
    section("Problems")
    for problem in problems:
        style = "bold red" if problem.fatal else "yellow"
        stdout().print(Text.assemble(("• ", style), problem.what, "\n  ", (f"→ {problem.remedy}", "dim")))
