"""Running the cells of a plan in spawned processes.

A process that crashes or is killed costs its cell, which becomes a ``failed`` record, and nothing
else. Everything finished is on disk: interrupting loses only the cells under way, and a second run
takes up the rest.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from .cells import Cell
from .records import failed_record
from .store import has_cell, remove_leftovers, write_cell
from .worker import Message, Task, main

type Listener = Callable[[Cell, Message], None]
"""Told of every message about a cell, in the calling thread."""


def missing_cells(cells: Sequence[Cell], directory: Path) -> list[Cell]:
    """Those that have not run to their end yet; one that failed is tried again."""
    return [cell for cell in cells if not has_cell(directory, cell.digest)]


def run_cells(
    cells: Sequence[Cell],
    directory: Path,
    layers: Sequence[str],
    *,
    jobs: int,
    listener: Listener = lambda cell, message: None,
) -> None:
    """Run cells, ``jobs`` at a time, and write every one's folder into ``directory``.

    Raises
    ------
    KeyboardInterrupt
        As it came; the processes have been ended and finished cells are safe.
    """
    directory.mkdir(parents=True, exist_ok=True)
    remove_leftovers(directory)
    waiting = deque(Task(cell, tuple(layers), directory) for cell in cells)
    jobs = max(1, min(jobs, len(cells)))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with _workers(jobs, threads) as workers:
        while waiting or any(worker.task for worker in workers):
            for worker in workers:
                if worker.task is None and waiting:
                    worker.give(waiting.popleft())
            busy = [worker for worker in workers if worker.task]
            ready = wait([worker.connection for worker in busy])
            for worker in (worker for worker in busy if worker.connection in ready):
                assert worker.task is not None
                cell = worker.task.cell
                message = worker.receive()
                if message is None:
                    message = _record_death(worker, directory)
                    worker.replace()
                elif message.kind == "done":
                    worker.task = None
                listener(cell, message)


@dataclass
class _Worker:
    """A spawned process and the cell that it is busy with."""

    threads: int
    process: Any = field(init=False)
    connection: Connection = field(init=False)
    task: Task | None = None

    def __post_init__(self) -> None:
        self._spawn()

    def _spawn(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=main, args=(theirs, self.threads), daemon=True)
        self.process.start()
        theirs.close()  # so that its death closes the pipe

    def give(self, task: Task) -> None:
        self.task = task
        with suppress(OSError):  # it died idle; the closed pipe is noticed at the next wait
            self.connection.send(task)

    def receive(self) -> Message | None:
        """The next message; None if the process is dead."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return None

    def replace(self) -> None:
        self.end()
        self.task = None
        self._spawn()

    def end(self) -> None:
        self.connection.close()
        if self.process.is_alive():
            self.process.terminate()
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@contextmanager
def _workers(jobs: int, threads: int) -> Iterator[list[_Worker]]:
    workers: list[_Worker] = []
    try:
        for _ in range(jobs):
            workers.append(_Worker(threads))
        yield workers
    finally:
        for worker in workers:
            worker.end()


def _record_death(worker: _Worker, directory: Path) -> Message:
    """Write down that a process died under its cell."""
    assert worker.task is not None
    worker.process.join(timeout=5)
    code = worker.process.exitcode
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
    message = f"the process that ran this cell {how}; out of memory is a common reason"
    cell = worker.task.cell
    write_cell(directory, failed_record(cell, "ProcessDied", message))
    return Message("done", cell.digest, 0, "failed")
