"""Options that several commands share, and what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

if TYPE_CHECKING:
    from ...posteriordb_adapter import PosteriorDatabase

Databases = Annotated[
    list[Path] | None,
    typer.Option(
        "--database",
        metavar="PATH",
        help="A database in posteriordb's layout; repeatable. Searched in the order given, before the"
        " layers of $POSTERIORDB_PATH and the built-in database: the first that has a file wins.",
        show_default=False,
    ),
]
BridgeStan = Annotated[
    str,
    typer.Option(
        "--bridgestan",
        metavar="auto|stanli|build|PATH",
        help="What evaluates Stan programs: stanli (no C++ toolchain), BridgeStan's own build, or the"
        " path of its sources or of a compiled model. auto: build if $BRIDGESTAN is set, else stanli.",
    ),
]
Backend = Annotated[
    Literal["auto", "bridgestan", "jax"],
    typer.Option(
        "--backend",
        metavar="auto|bridgestan|jax",
        help="What evaluates the densities: Stan itself, on the CPU, or the programs lowered to JAX, on JAX's"
        " default device. auto: bridgestan where that is a CPU, else jax.",
    ),
]
Precision = Annotated[
    Literal["float64", "float32"],
    typer.Option(
        "--precision",
        metavar="float64|float32",
        help="Of a lowered density's arithmetic; the sampler's own is float64.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="JSON on stdout and nothing else there.", show_default=False)
]


def examples(*lines: str) -> str:
    """The epilog of a command's help: its examples, one a line."""
    return "\n".join(["[bold]Examples[/bold]", *map(escape, lines)])


def layer_paths(databases: Sequence[Path] | None) -> tuple[str, ...]:
    """The layers above the built-in database: those given, then those of ``POSTERIORDB_PATH``."""
    from ...posteriordb_adapter.layers import paths_from_environment

    return (*map(str, databases or ()), *paths_from_environment())


def open_database(databases: Sequence[Path] | None) -> PosteriorDatabase:
    """The database that ``--database`` and ``POSTERIORDB_PATH`` make.

    Raises
    ------
    LayerNotFound
        If a path is not a directory.
    """
    from ...posteriordb_adapter import PosteriorDatabase

    return PosteriorDatabase(*layer_paths(databases))
