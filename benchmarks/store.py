"""Results on disk: one folder a cell, written at once or not at all; nothing else is state."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CELLS = "cells"
RECORD = "record.json"
DRAWS = "draws.nc"


class StoreError(Exception):
    """A results directory does not hold what it should."""


def cell_folder(directory: Path, digest: str) -> Path:
    """Where the cell of that digest is or will be."""
    return directory / CELLS / digest


def has_cell(directory: Path, digest: str) -> bool:
    """Whether the cell ran to its end; one that failed did not, and is worth another try."""
    path = cell_folder(directory, digest) / RECORD
    return path.is_file() and _read(path)["status"] != "failed"


def write_cell(
    directory: Path, record: Mapping[str, Any], write_draws: Callable[[Path], None] | None = None
) -> None:
    """Put a cell's folder in place, complete, in one step.

    A process killed at any moment leaves the old folder, the new one, or none; never a part.

    Parameters
    ----------
    write_draws : writes ``draws.nc`` at the path that it is given; None where there are no draws
    """
    final = cell_folder(directory, record["digest"])
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}")
    temporary.mkdir(parents=True)
    try:
        if write_draws is not None:
            write_draws(temporary / DRAWS)
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
        (temporary / RECORD).write_text(text + "\n", encoding="utf-8")
        _sync(temporary)
        if final.exists():
            # A folder cannot replace one that is not empty: the failed attempt steps aside first.
            old = final.with_name(f".{final.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            os.replace(final, old)
            os.replace(temporary, final)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_records(directory: Path) -> list[dict[str, Any]]:
    """All records of a results directory, in the order of posterior, sampler and seed.

    Raises
    ------
    StoreError
        If the directory does not exist or holds no cell, or a record cannot be read.
    """
    if not directory.is_dir():
        raise StoreError(f"{directory} is no directory; give the --out of an 'essper compare'")
    paths = sorted((directory / CELLS).glob(f"[!.]*/{RECORD}"))
    if not paths:
        raise StoreError(f"{directory} holds no results; run 'essper compare --out {directory}' first")
    records = [_read(path) for path in paths]
    return sorted(records, key=lambda r: (r["posterior"], r["sampler"]["label"], r["budget"], r["seed"]))


def remove_leftovers(directory: Path) -> None:
    """Delete the unfinished folders of runs that were killed. No run may be under way there."""
    for path in (directory / CELLS).glob(".*"):
        shutil.rmtree(path, ignore_errors=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        missing = [
            k for k in ("status", "digest", "posterior", "sampler", "seed", "budget") if k not in record
        ]
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}); delete its folder to run the cell again"
        ) from error
    if missing:
        raise StoreError(f"{path} lacks {', '.join(missing)}; delete its folder to run the cell again")
    return record


def _sync(folder: Path) -> None:
    """Bring the folder's files to the disk before their new name says that they are complete."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
