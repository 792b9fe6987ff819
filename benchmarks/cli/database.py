"""list and show: what a database holds."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from .facts import Layer, Listed, Parameter, ParameterSummary, Shown, Variable, dimension_or_reason, layers_of
from .facts import listed as list_one
from .facts import shown as facts_of
from .filters import Condition, parse_condition, select
from .options import AsJson, BridgeStan, Databases, open_database
from .output import (
    Column,
    facts_only,
    notice,
    print_json,
    print_lines,
    print_table,
    section,
    stdout,
    track,
)

if TYPE_CHECKING:
    from ...posteriordb_adapter import PosteriorDatabase

SHOWN_PARAMETERS = 20
"""Rows of a reference's summary; --json has them all."""
UNKNOWN = "?"

# -- list -----------------------------------------------------------------------------------------


FEW = 5
"""Posteriors of unknown dimension of which the reason is printed."""


def list_posteriors(
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Only posteriors for which this holds; repeatable, and then all must hold. A word or"
            " keyword=WORD (in name, keywords or the model's title), dim<20, dim>=5, dim=10,"
            " has-reference, no-reference.",
            show_default=False,
        ),
    ] = None,
    databases: Databases = None,
    bridgestan: BridgeStan = "auto",
    as_json: AsJson = False,
) -> None:
    """List the posteriors, their dimensions and where they come from.

    The dimension is that of the unconstrained space, from the model itself:
    the first listing builds every model, and the numbers are kept.
    """
    conditions = [parse_condition(text) for text in where or ()]
    database = open_database(databases)
    layers = layers_of(database)
    with facts_only():
        measured = _measured(database, layers, conditions, bridgestan)
    kept = select(measured, conditions)
    if as_json:
        print_json({"layers": layers, "posteriors": kept})
        return
    columns = (
        Column("Posterior"),
        Column("Dim", "right"),
        Column("Ref"),
        Column("Model", dispensable=2),
        Column("Data", dispensable=3),
        Column("From", dispensable=1),
    )
    print_table(columns, [_list_row(row) for row in kept])
    notice(_list_summary(measured, kept))
    unknown = [row for row in kept if row.reason]
    for row in unknown[:FEW]:
        notice(f"{UNKNOWN} {row.name}: {row.reason}")
    if len(unknown) > FEW:
        notice(f"{UNKNOWN} {len(unknown) - FEW} more; 'essper show NAME' or --json says why")


def _measured(
    database: PosteriorDatabase, layers: Sequence[Layer], conditions: Sequence[Condition], bridgestan: str
) -> list[Listed]:
    """Posteriors with their dimensions; models are built only for what other conditions leave."""
    rows = [list_one(database, name, layers) for name in database.names()]
    rows = select(rows, [condition for condition in conditions if not condition.of_dimension])
    measured = []
    for row in track(rows, "Building models", lambda row: row.name):
        if row.reason:  # not even its description can be read
            measured.append(row)
            continue
        dim, reason = dimension_or_reason(database.posterior(row.name), bridgestan)
        measured.append(replace(row, dim=dim, reason=reason))
    return measured


def _list_row(row: Listed) -> list[str | Text]:
    return [
        row.name,
        UNKNOWN if row.dim is None else str(row.dim),
        Text("yes", style="green") if row.reference else Text("–", style="dim"),
        row.model,
        row.data,
        _origin(row.sources),
    ]


def _list_summary(all_rows: Sequence[Listed], kept: Sequence[Listed]) -> str:
    unknown = sum(row.dim is None for row in all_rows if row not in kept)
    parts = [
        f"{len(kept)} posterior{'' if len(kept) == 1 else 's'},"
        f" {sum(row.reference for row in kept)} with reference draws"
    ]
    if unknown:
        parts.append(f"{unknown} left out because their dimension is not known")
    return "; ".join(parts)


def _origin(sources: Mapping[str, str | None]) -> str:
    """The layer of the description, and the parts that come from another or from none."""
    home = sources["posterior"]
    others: dict[str, list[str]] = {}
    for part, layer in sources.items():
        # No reference is usual, and a model needs no description; both are no news here.
        if layer != home and not (layer is None and part in ("posterior", "model", "reference")):
            others.setdefault(layer or "no layer", []).append(part)
    return "; ".join([home or UNKNOWN, *(f"{', '.join(parts)}: {layer}" for layer, parts in others.items())])


# -- show -----------------------------------------------------------------------------------------


def show(
    posterior: Annotated[str, typer.Argument(help="Name or alias of a posterior.", metavar="POSTERIOR")],
    program: Annotated[
        bool, typer.Option("--program", help="Only the Stan program, as it is.", show_default=False)
    ] = False,
    databases: Databases = None,
    bridgestan: BridgeStan = "auto",
    as_json: AsJson = False,
) -> None:
    """Show one posterior: program, data, parameters and reference draws."""
    database = open_database(databases)
    chosen = database.posterior(posterior)
    if program:
        if as_json:
            print_json({"name": chosen.name, "program": chosen.program_path(), "code": chosen.program()})
        else:
            sys.stdout.write(chosen.program())
        return
    with facts_only():
        facts = facts_of(database, chosen, bridgestan)
    if as_json:
        print_json(facts)
    else:
        _print_shown(facts)


def _print_shown(facts: Shown) -> None:
    console = stdout()
    console.print(Text(facts.name, style="bold"))
    for key in ("title", "description"):
        if text := " ".join(facts.model[key].split()):
            console.print(Text(text, style="" if key == "title" else "dim"), width=min(console.width, 100))
    console.print()
    dim = f"{UNKNOWN} (the model cannot be built: {facts.reason})" if facts.dim is None else str(facts.dim)
    lines = {
        "Dimension": f"{dim}{'' if facts.dim is None else ' unconstrained'}",
        "Exact blocks": ", ".join(facts.conditionals),
        "Program": str(facts.program or "in no layer"),
        "Layers": _origin(facts.sources),
        "Keywords": ", ".join(facts.keywords),
        "Aliases": ", ".join(facts.aliases),
        "Bibliography": ", ".join(facts.references),
        "URLs": "\n".join(facts.urls),
    }
    print_lines(lines)
    section(f"Data: {facts.data['title'] or facts.data['name']}")
    print_table(
        (Column("Variable"), Column("Type"), Column("Shape"), Column("Value", "right")),
        [_variable_row(variable) for variable in facts.variables],
        indent=2,
    )
    if facts.parameters:
        section("Parameters")
        columns = (
            Column("Variable"),
            Column("Shape"),
            Column("Unconstrained", "right"),
            Column("In reference", dispensable=1),
            Column("Kind", dispensable=2),
        )
        print_table(columns, [_parameter_row(parameter) for parameter in facts.parameters], indent=2)
    _print_reference(facts)


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]" if shape else ""


def _variable_row(variable: Variable) -> list[str | Text]:
    value = "" if variable.value is None else f"{variable.value:g}"
    return [variable.name, variable.type, _shape(variable.shape), value]


def _parameter_row(parameter: Parameter) -> list[str | Text]:
    held = parameter.in_reference
    if held is None:
        text = Text("no reference", style="dim")
    elif held == parameter.elements:
        text = Text("yes", style="green")
    else:
        text = Text(f"{held} of {parameter.elements}" if held else "no", style="yellow")
    return [
        parameter.name,
        _shape(parameter.shape),
        str(parameter.unconstrained or "–"),
        text,
        parameter.kind,
    ]


def _print_reference(facts: Shown) -> None:
    reference = facts.reference
    if reference is None:
        section("Reference draws")
        print_lines({"": facts.no_reference})
        return
    of_other = "" if reference.name == facts.name else f" (of {reference.name})"
    section(f"Reference draws: {reference.chains} chains of {reference.draws}{of_other}")
    columns = (
        Column("Parameter"),
        Column("Mean", "right"),
        Column("SD", "right"),
        Column("5%", "right"),
        Column("50%", "right"),
        Column("95%", "right"),
        Column("Bulk ESS", "right", dispensable=1),
        Column("Compared", dispensable=2),
    )
    rows = [_summary_row(parameter) for parameter in reference.parameters[:SHOWN_PARAMETERS]]
    print_table(columns, rows, indent=2)
    left = len(reference.parameters) - len(rows)
    if left > 0:
        stdout().print(Text(f"  and {left} more (--json has all)", style="dim"))


def _summary_row(it: ParameterSummary) -> list[str | Text]:
    compared = {True: Text("yes", style="green"), False: Text("not in model", style="yellow"), None: UNKNOWN}
    figures = (it.mean, it.sd, it.q05, it.q50, it.q95)
    return [it.name, *(f"{value:.4g}" for value in figures), f"{it.ess_bulk:.0f}", compared[it.in_model]]
