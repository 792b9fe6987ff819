"""Whether iterations executed at once do what they do in order: an exact check on known indices.

A batched loop executes each statement for all iterations before the next statement. That changes
nothing as long as, for every element of every variable,

- at most one iteration writes it,
- an iteration that reads it after it was written does not come before the one that wrote it, and
- an iteration that reads it before it is written does not come after the one that writes it.

Elements and rows are known numbers, so this is checked as the loop is executed, element by element.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .errors import NotBatchable
from .values import Level

if TYPE_CHECKING:
    from .storage import Storage

NONE = -1


class Accesses:
    """Which rows of one loop have read and written the elements of one variable."""

    def __init__(self, size: int) -> None:
        self.writer = np.full(size, NONE)
        self.first_reader = np.full(size, np.iinfo(np.int64).max)
        self.last_reader = np.full(size, NONE)

    def copy(self) -> Accesses:
        twin = Accesses(0)
        twin.writer = self.writer.copy()
        twin.first_reader = self.first_reader.copy()
        twin.last_reader = self.last_reader.copy()
        return twin

    def read(self, rows: np.ndarray, elements: np.ndarray, name: str) -> None:
        """Rows read elements (arrays of one shape)."""
        if (self.writer[elements] > rows).any():
            raise NotBatchable(f"{name} is read before a later iteration assigns it")
        np.minimum.at(self.first_reader, elements, rows)
        np.maximum.at(self.last_reader, elements, rows)

    def write(self, rows: np.ndarray, elements: np.ndarray, name: str) -> None:
        """Rows write elements (arrays of one shape)."""
        if (self.last_reader[elements] > rows).any():
            raise NotBatchable(f"an iteration reads what an earlier one assigns to {name}")
        writers = self.writer[elements]
        if ((writers != NONE) & (writers != rows)).any():
            raise NotBatchable(f"several iterations assign the same element of {name}")
        self.writer[elements] = rows

    def absorb(self, inner: Accesses, outer_row: np.ndarray, name: str) -> None:
        """What an inner loop did, each of its rows being within ``outer_row`` of this one.

        Its own rows do not conflict with each other; they are held against what came before.
        """
        read = np.flatnonzero(inner.last_reader != NONE)
        written = np.flatnonzero(inner.writer != NONE)
        first, last = outer_row[inner.first_reader[read]], outer_row[inner.last_reader[read]]
        rows = outer_row[inner.writer[written]]
        before = self.writer[read]
        if ((before != NONE) & (before > first)).any():
            raise NotBatchable(f"{name} is read before a later iteration assigns it")
        self.write(rows, written, name)
        self.first_reader[read] = np.minimum(self.first_reader[read], first)
        self.last_reader[read] = np.maximum(self.last_reader[read], last)


@dataclass(eq=False)
class LoopLevel(Level):
    """The iterations of a loop that is executed at once, and what they have accessed so far."""

    assigned: frozenset[str] = frozenset()
    """Names that the body assigns: accesses to others need no check."""
    accumulated: frozenset[str] = frozenset()
    """Names that the body only adds to."""
    accesses: dict[Storage, Accesses] = field(default_factory=dict)
    private: dict[Storage, Storage] = field(default_factory=dict)
    """A variable that every iteration assigns anew → the copy that has one value per row."""

    def accesses_of(self, storage: Storage) -> Accesses:
        if storage not in self.accesses:
            rows = 1 if storage.level is None else storage.level.size
            self.accesses[storage] = Accesses(storage.size * rows)
        return self.accesses[storage]

    def bookkeeping(self) -> tuple[Mapping[Storage, Accesses], Mapping[Storage, Storage]]:
        """A copy, for `restore`."""
        return {key: found.copy() for key, found in self.accesses.items()}, dict(self.private)

    def restore(self, kept: tuple[Mapping[Storage, Accesses], Mapping[Storage, Storage]]) -> None:
        self.accesses, self.private = dict(kept[0]), dict(kept[1])
