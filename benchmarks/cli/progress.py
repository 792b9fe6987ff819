"""The progress of a comparison: cells done, evaluations per second, failures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .output import NOTICE_SECONDS, notice, stderr

if TYPE_CHECKING:
    from ..cells import Cell
    from ..execution import Listener
    from ..worker import Message


class Tally:
    """What has happened so far; told by the executor's messages."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.total = len(cells)
        self.done = 0
        self.failed = 0
        self._gradients: dict[str, int] = {}
        self._started = time.monotonic()

    def hear(self, message: Message) -> None:
        known = self._gradients.get(message.digest, 0)
        self._gradients[message.digest] = max(known, message.gradients)
        if message.kind == "done":
            self.done += 1
            self.failed += message.status == "failed"

    @property
    def rate(self) -> float:
        """Evaluations per second since the start, set-up of the cells included."""
        return sum(self._gradients.values()) / max(time.monotonic() - self._started, 1e-9)

    def line(self) -> str:
        failures = f", {self.failed} failed" if self.failed else ""
        return f"{self.rate:,.0f} evaluations/s{failures}"


@contextmanager
def cell_progress(cells: Sequence[Cell]) -> Iterator[Listener]:
    """A listener for `execution.run_cells` that shows a bar, or a line now and then where it is piped."""
    console, tally = stderr(), Tally(cells)
    if not console.is_terminal:
        last = time.monotonic()

        def write(cell: Cell, message: Message) -> None:
            nonlocal last
            tally.hear(message)
            if time.monotonic() - last > NOTICE_SECONDS:
                last = time.monotonic()
                notice(f"{tally.done} of {tally.total} cells, {tally.line()}")

        yield write
        return

    columns = (TextColumn("cells"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    fields = (TextColumn("{task.fields[line]}"), TextColumn("{task.fields[now]}", style="dim", markup=False))
    with Progress(*columns, *fields, console=console, transient=True) as bar:
        task = bar.add_task("cells", total=tally.total, line="", now="")

        def draw(cell: Cell, message: Message) -> None:
            tally.hear(message)
            now = f"{cell.posterior} {cell.spec.label}"
            bar.update(task, completed=tally.done, line=tally.line(), now=now)

        yield draw
