"""What a spawned process does: run one cell after the other and write each where it belongs."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from .cells import Cell

PROGRESS_SECONDS = 0.2


@dataclass(frozen=True)
class Task:
    """A cell and where to find and put things."""

    cell: Cell
    layers: tuple[str, ...]
    """Of the database, the built-in one left out."""
    directory: Path


@dataclass(frozen=True)
class Message:
    """From a worker: ``"progress"`` (evaluations so far, all chains), ``"done"`` (status)."""

    kind: str
    digest: str
    gradients: int = 0
    status: str = ""


def main(connection: Connection, threads: int) -> None:
    """Serve tasks until the other end closes. Runs in a spawned process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    os.environ["ESSPER_THREADS"] = str(threads)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send(run_task(task, connection))


def run_task(task: Task, connection: Connection | None = None) -> Message:
    """Run a cell and write its record; an error becomes a failed record."""
    from ..posteriordb_adapter import PosteriorDatabase
    from .records import failed_record, make_record, reference_of
    from .store import write_cell

    cell, last = task.cell, 0.0

    def progress(phase: str, gradients: int, draws: int) -> None:
        nonlocal last
        if connection is not None and time.monotonic() - last > PROGRESS_SECONDS:
            last = time.monotonic()
            connection.send(Message("progress", cell.digest, gradients))

    try:
        import jax

        if cell.backend == "bridgestan":
            jax.config.update("jax_platforms", cell.platform)  # Stan's code runs on no accelerator
        _share_compilations()
        posterior = PosteriorDatabase(*task.layers).posterior(cell.posterior)
        target = posterior.target(
            cell.backend,
            cell.bridgestan,
            cell.precision,
            rows=cell.spec.rows,
            hierarchy=cell.spec.hierarchy,
            blocks=cell.spec.uses_blocks,
        )
        reference = reference_of(posterior, target.param_names, target)
        run = cell.spec.sampler.run(
            jax.random.key(cell.seed), target, _budget(cell), chains=cell.chains, progress=progress
        )
        record = make_record(cell, run, reference)
        write_cell(task.directory, record, lambda path: _write_draws(run, path))
    except Exception as error:
        record = failed_record(cell, type(error).__name__, str(error), traceback.format_exc())
        write_cell(task.directory, record)
        return Message("done", cell.digest, 0, "failed")
    spent = sum(record["cost"]["spent"].values())
    return Message("done", cell.digest, round(spent), record["status"])


def _budget(cell: Cell) -> Any:
    from ..samplers import Budget

    return Budget(cell.budget)


def _write_draws(run: Any, path: Path) -> None:
    """``draws.nc``: posterior, sample statistics and unconstrained draws, the same bytes every time."""
    import xarray

    tree = run.to_datatree()
    unconstrained = xarray.DataArray(run.draws, dims=("chain", "draw", "coordinate"))
    tree["unconstrained"] = xarray.DataTree(xarray.Dataset({"x": unconstrained}))
    for node in tree.subtree:
        node.attrs.clear()  # arviz writes the time of creation
    tree.to_netcdf(path, engine="h5netcdf")


def _share_compilations() -> None:
    """Compiled programs outlive the process: the next run of the same shapes starts at once."""
    import jax

    from ..models.cache import cache_dir

    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _die_with_parent() -> None:
    """End this process with its parent, however that ended, so that nobody works for no one."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
