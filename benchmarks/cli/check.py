"""check: whether data, program and draws belong together, and whether lowered densities are Stan's."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from . import checking, coverage
from .checking import Checked, check_posterior, require_posteriors
from .coverage import Covered, check_lowering, verdicts_of_programs
from .errors import FAILED, InputError
from .facts import layers_of
from .options import AsJson, Backend, BridgeStan, Databases, Precision, open_database
from .output import Column, facts_only, notice, print_json, print_table, stdout, track

if TYPE_CHECKING:
    from ...posteriordb_adapter import PosteriorDatabase

_STYLES = {
    checking.PASSED: "green",
    checking.FAILED: "bold red",
    checking.CANNOT_BUILD: "red",
    checking.NO_REFERENCE: "dim",
    coverage.MISMATCH: "bold red",
    coverage.BROKEN: "bold red",
    coverage.NOT_COMPARED: "red",
    coverage.UNSUPPORTED: "yellow",
}


def check(
    posteriors: Annotated[
        list[str] | None,
        typer.Argument(help="Names or aliases of posteriors.", metavar="POSTERIOR", show_default=False),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every posterior of the database.", show_default=False)
    ] = False,
    backend: Backend = "auto",
    precision: Precision = "float64",
    databases: Databases = None,
    bridgestan: BridgeStan = "auto",
    as_json: AsJson = False,
) -> None:
    """Check that data, program and reference draws belong together.

    Over draws u of the density p, the mean of ∂ log p is 0 and the mean of
    u ∂ log p is −1 in every unconstrained coordinate. Other data, another
    prior or draws of something else break this.

    A posterior without reference draws is built and does not fail.

    With the backend jax the programs are lowered to JAX, and value and
    gradient are compared with Stan's at 20 random points and 20 reference
    draws before the same identity is tested through the lowered density.

    Exit code 1 says that something did not pass. A program that is not
    lowered does not pass where its posterior was named; with --all it is
    listed, and the exit code says nothing about it.
    """
    if bool(posteriors) == everything:
        raise InputError("name posteriors or give --all, one of the two; 'essper list' has the names")
    from ...models import resolve_backend

    resolved = resolve_backend(backend, precision)
    database = open_database(databases)
    names = database.names() if everything else require_posteriors(database, posteriors or ())
    if resolved == "jax":
        bad = _check_lowering(database, names, everything, bridgestan, precision, as_json)
    else:
        bad = _check_identity(database, names, bridgestan, as_json)
    if bad:
        raise typer.Exit(FAILED)


# -- with Stan's own density ----------------------------------------------------------------------


def _check_identity(
    database: PosteriorDatabase, names: Sequence[str], bridgestan: str, as_json: bool
) -> bool:
    with facts_only():
        checked = [check_posterior(database, name, bridgestan) for name in track(names, "Checking")]
    bad = [it for it in checked if not it.good]
    if as_json:
        print_json({"layers": layers_of(database), "checks": checked, "passed": not bad})
    else:
        _print_checked(checked, bad)
    return bool(bad)


def _print_checked(checked: Sequence[Checked], bad: Sequence[Checked]) -> None:
    columns = (
        Column("Posterior"),
        Column("Dim", "right", dispensable=1),
        Column("Draws", "right", dispensable=3),
        Column("Comparisons", "right", dispensable=4),
        Column("Max |z|", "right"),
        Column("Allowed", "right", dispensable=2),
        Column("At", dispensable=5),
        Column("Verdict"),
    )
    print_table(columns, [_check_row(it) for it in checked])
    notice(_counts([it.verdict for it in checked]))
    _print_reasons(bad)


def _check_row(it: Checked) -> list[str | Text]:
    return [
        it.name,
        _shown(it.dim, "d"),
        _shown(it.draws, "d"),
        _shown(it.comparisons, "d"),
        _shown(it.max_abs_z, ".2f"),
        _shown(it.threshold, ".2f"),
        it.where or "",
        Text(it.verdict, style=_STYLES[it.verdict]),
    ]


# -- with the lowered density ---------------------------------------------------------------------


def _check_lowering(
    database: PosteriorDatabase,
    names: Sequence[str],
    everything: bool,
    bridgestan: str,
    precision: str,
    as_json: bool,
) -> bool:
    import jax

    covered = []
    with facts_only():
        for name in track(names, "Comparing"):
            covered.append(check_lowering(database, name, bridgestan, precision))
            jax.clear_caches()  # every program is another: kept, a hundred of them fill the memory
    survey = (coverage.PASSED, coverage.UNSUPPORTED) if everything else (coverage.PASSED,)
    bad = [it for it in covered if it.verdict not in survey]
    if as_json:
        print_json(
            {
                "layers": layers_of(database),
                "precision": precision,
                "checks": [_with_errors(it) for it in covered],
                "programs": verdicts_of_programs(covered),
                "passed": not bad,
            }
        )
    else:
        _print_covered(covered)
    return bool(bad)


def _with_errors(it: Covered) -> dict[str, Any]:
    """As JSON has it: the figures of the table besides what they are made of."""
    found = it.agreement
    return vars(it) | {
        "gradient_error": found and found.gradient_error,
        "value_error": found and found.value_error,
        "largest_rounding": found and found.largest_rounding,
    }


def _print_covered(covered: Sequence[Covered]) -> None:
    columns = (
        Column("Posterior"),
        Column("Dim", "right", dispensable=1),
        Column("Gradient", "right"),
        Column("Value", "right", dispensable=3),
        Column("Rounding", "right", dispensable=5),
        Column("Points", "right", dispensable=6),
        Column("Max |z|", "right", dispensable=4),
        Column("Loops", dispensable=2),
        Column("Set-up s", "right", dispensable=2),
        Column("Verdict"),
    )
    print_table(columns, [_covered_row(it) for it in covered])
    notice(f"Posteriors: {_counts([it.verdict for it in covered])}")
    notice(f"Programs: {_counts(list(verdicts_of_programs(covered).values()))}")
    if times := [it.set_up.total for it in covered if it.set_up]:
        notice(f"Set-up: median {statistics.median(times):.2f} s, largest {max(times):.2f} s")
    for it in covered:
        if excuse := _excuse(it):
            notice(f"{it.name}: {excuse}")
    _print_reasons([it for it in covered if it.reason])


def _excuse(it: Covered) -> str:
    """Why a density passes though its error is larger than usual; ``""`` where it is not."""
    from ...models.verification import TOLERANCE

    found = it.agreement
    if it.verdict != coverage.PASSED or found is None or it.tolerance is None:
        return ""
    error = max(found.gradient_error, found.value_error)
    if error <= TOLERANCE:
        return ""
    if it.tolerance > TOLERANCE:
        return (
            f"up to {it.tolerance:g} is allowed, not {TOLERANCE:g}: an ODE solver, or float32, is no closer"
        )
    return f"{error:.1e} is within Stan's own rounding there, up to {found.largest_rounding:.1e}"


def _covered_row(it: Covered) -> list[str | Text]:
    points = [agreement for agreement in (it.random, it.reference) if agreement]
    found = it.agreement
    return [
        it.name,
        _shown(it.dim, "d"),
        _shown(found and found.gradient_error, ".1e"),
        _shown(found and found.value_error, ".1e"),
        _shown(found and found.largest_rounding, ".1e"),
        "+".join(str(agreement.compared) for agreement in points),
        _shown(it.max_abs_z, ".2f"),
        it.loops or "",
        _shown(it.set_up and it.set_up.total, ".2f"),
        Text(it.verdict, style=_STYLES[it.verdict]),
    ]


# -- both -----------------------------------------------------------------------------------------


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _counts(verdicts: Sequence[str]) -> str:
    counts = Counter(verdicts)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in _STYLES if counts[verdict])


def _print_reasons(bad: Sequence[Checked] | Sequence[Covered]) -> None:
    for it in bad:
        text = f"{it.name}: {it.reason}" if it.name not in it.reason else it.reason
        stdout().print(Text(text), soft_wrap=True)
