"""The typer application: which commands there are, and what holds for all of them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from . import check, compare, database, doctor, lower, reference, reproduce
from .errors import user_errors
from .options import examples


class Commands(TyperGroup):
    """A group of commands whose users' errors are one line (`errors.user_errors`), in this one place."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with user_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with user_errors():
            return super().invoke(ctx)


app = typer.Typer(
    name="essper",
    cls=Commands,
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"essper {version('essper')}")
        raise typer.Exit


@app.callback(
    epilog=examples("essper doctor", "essper list", "essper show eight_schools", "essper check --all")
    + "\n\n[bold]Exit codes[/bold]\n0 all well, 1 something failed its gate or check, 2 wrong usage or"
    " input, 130 Ctrl-C. ESSPER_TRACEBACK=1 shows where an error comes from."
)
def essper(
    ctx: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """ESS per gradient: an honest comparison of samplers on Stan posteriors."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


app.command(name="compare", epilog=compare.COMPARE_EXAMPLES)(compare.compare)
app.command(name="report", epilog=compare.REPORT_EXAMPLES)(compare.report)
app.add_typer(reference.app, name="reference")
app.command(name="reproduce", epilog=reproduce.EXAMPLES)(reproduce.reproduce)
app.command(
    name="list",
    epilog=examples(
        "essper list",
        "essper list --where has-reference --where 'dim<20'",
        "essper list --database ~/posteriordb --where hierarchical --json",
    ),
)(database.list_posteriors)
app.command(
    name="show",
    epilog=examples(
        "essper show eight_schools",
        "essper show eight_schools --program > eight_schools.stan",
        "essper show eight_schools --json",
    ),
)(database.show)
app.command(
    name="check",
    epilog=examples(
        "essper check eight_schools",
        "essper check --all --database ~/posteriordb",
        "essper check --all --backend jax --json > coverage.json",
    ),
)(check.check)
app.command(
    name="lower",
    epilog=examples(
        "essper lower eight_schools --explain",
        "essper lower my_model.stan --data my_data.json",
        "essper lower my_model.stan --data my_data.json --precision float32 --json",
    ),
)(lower.lower)
app.command(
    name="doctor",
    epilog=examples("essper doctor", "essper doctor --bridgestan build", "essper doctor --json"),
)(doctor.doctor)


def main() -> None:
    """The console script ``essper``."""
    app(prog_name="essper")
