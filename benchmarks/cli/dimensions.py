"""Unconstrained dimensions of posteriors: from the model, which is built at most once for it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...posteriordb_adapter import Posterior

FOLDER = "dimensions"
"""In the cache: one file a program with data, named by their digest, holding the number."""


def stan_model(posterior: Posterior, bridgestan: str = "auto") -> Any:
    """The ``bridgestan.StanModel`` of a posterior, without a density around it.

    Raises
    ------
    DatabaseError
        If a part is missing or cannot be read.
    StanProgramError, StanDataError
        If Stan does not accept program or data.
    """
    from ...models.stan_source import load_model, read_data, read_program

    program = read_program(posterior.program_path(), posterior.name)
    data = read_data(posterior.data_text(), posterior.name)
    return load_model(program, data, bridgestan).model


def dimension(posterior: Posterior, bridgestan: str = "auto") -> int:
    """The model's number of unconstrained parameters; from the cache where it is known.

    Raises
    ------
    DatabaseError, StanProgramError, StanDataError
        As `stan_model`.
    """
    file = _cache_file(posterior)
    known = _read(file)
    if known is not None:
        return known
    found = int(stan_model(posterior, bridgestan).param_unc_num())
    if file is not None:
        from ...posteriordb_adapter.files import write_atomically

        with suppress(OSError):
            write_atomically(file, f"{found}\n".encode())
    return found


def _cache_file(posterior: Posterior) -> Path | None:
    """Where the dimension is kept; None where nothing can be kept."""
    from ...models.cache import cache_dir
    from ...models.stan_source import read_program
    from ...models.target import digest_of

    # Of the data's bytes: reading numbers only to spell them again takes longer than all else here.
    program = read_program(posterior.program_path(), posterior.name)
    digest = digest_of(program.identity, posterior.data_text())
    try:
        return cache_dir() / FOLDER / digest
    except OSError:
        return None


def _read(file: Path | None) -> int | None:
    if file is None:
        return None
    with suppress(OSError, ValueError):
        return int(file.read_text(encoding="ascii"))
    return None
