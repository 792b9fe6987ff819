"""reference build: draws that others can be held against."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import FAILED
from .options import AsJson, BridgeStan, Databases, examples, open_database
from .output import notice, print_json, stdout

if TYPE_CHECKING:
    from ..reference import Attempt

app = typer.Typer(help="Build reference draws.", no_args_is_help=True)


@app.callback()
def reference() -> None:
    """Build reference draws."""


@app.command(
    epilog=examples("essper reference build my_data-my_model --database mine --into mine/posterior_database")
)
def build(
    posteriors: Annotated[list[str], typer.Argument(metavar="POSTERIOR...", help="Names or aliases.")],
    into: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="The posterior_database folder of the layer to write into; made if missing."
        ),
    ] = Path("posterior_database"),
    seed: Annotated[int, typer.Option(help="Of the first run.")] = 0,
    max_budget: Annotated[
        int, typer.Option(min=1000, help="Gradients per chain that one run may cost at the most.")
    ] = 20_000_000,
    database: Databases = None,
    bridgestan: BridgeStan = "auto",
    as_json: AsJson = False,
) -> None:
    """Draw references by long NUTS runs and keep those that pass posteriordb's acceptance rules.

    10 chains of 1000 thinned draws; R-hat < 1.01, bulk and tail ESS within 10 000 ± 1058, mean lag-1
    autocorrelation below 0.05, no divergent transition. Runs are made longer, and their target
    acceptance higher, until they pass. Exit code 1 says that some posterior's did not.
    """
    from ..reference import NotAccepted, build_reference

    opened = open_database(database)
    chosen = [opened.posterior(name) for name in posteriors]
    results: list[dict[str, str | None]] = []
    for posterior in chosen:

        def tell(attempt: Attempt, name: str = posterior.name) -> None:
            broken = [rule for rule, passed in attempt.checks.items() if not passed]
            verdict = f"did not pass {', '.join(broken)}" if broken else "accepted"
            notice(
                f"{name}: {attempt.budget:,} gradients per chain, target acceptance"
                f" {attempt.target_acceptance}, one draw in {attempt.thin}: {verdict}"
            )

        notice(f"{posterior.name}: drawing")
        try:
            path = build_reference(
                posterior, into, seed=seed, max_budget=max_budget, bridgestan=bridgestan, report=tell
            )
            results.append({"posterior": posterior.name, "file": str(path), "error": None})
        except NotAccepted as error:
            results.append({"posterior": posterior.name, "file": None, "error": str(error)})
    if as_json:
        print_json(results)
    else:
        for result in results:
            stdout().print(result["file"] or result["error"], soft_wrap=True, markup=False)
    if any(result["error"] for result in results):
        raise typer.Exit(FAILED)
