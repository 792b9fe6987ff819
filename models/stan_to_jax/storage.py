"""Variables in execution, and which of them an access from within loops concerns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from .dependence import LoopLevel
from .indexing import unassigned
from .values import Level, Type, Value, at_level, depth_of, rows_within, with_rows


class Storage:
    """One variable: its type, its sizes, the level it is declared at, and its value so far."""

    def __init__(
        self, name: str, type: Type, shape: tuple[int, ...], level: Level | None, value: Value | None = None
    ) -> None:
        self.name = name
        self.type = type
        self.shape = shape
        self.level = level
        self.value = None if value is None else value.retyped(value.type)
        """None before the first assignment."""
        self.written: np.ndarray | None = None
        """``bool[rows, *shape]`` for a row's own copy: the elements that the row has assigned."""
        self.autodiff = False
        """Whether Stan takes it for a parameter whatever it holds: then terms with it are no constants."""
        self.unchecked_depth = -1
        """Loops down to this depth do not check its accesses: it stands for a variable within a scan."""

    @property
    def size(self) -> int:
        """Elements, in one row."""
        return int(np.prod(self.shape))

    def content(self) -> Value:
        """The value, as Stan has it before an assignment if there was none."""
        if self.value is None:
            self.value = Value(self.type, unassigned(self.type.kind, self.shape))
        return self.value

    def flat(self) -> Any | None:
        """All elements of all rows in one axis, None before the first assignment."""
        if self.value is None:
            return None
        if self.level is None:
            return self.value.data.reshape(self.size)
        return with_rows(self.value, self.level).reshape(self.size * self.level.size)

    def hold_flat(self, flat: Any) -> None:
        rows = () if self.level is None else (self.level.size,)
        self.value = Value(self.type, flat.reshape(rows + self.shape), self.level)


def levels_between(level: Level | None, outer: Level | None) -> Iterator[Level]:
    """``level`` and its ancestors below ``outer``, innermost first."""
    while level is not outer:
        assert level is not None
        yield level
        level = level.parent


def loops_between(storage: Storage, level: Level | None) -> list[LoopLevel]:
    return [inner for inner in levels_between(level, storage.level) if isinstance(inner, LoopLevel)]


def tracked_loops(storage: Storage, level: Level | None) -> list[LoopLevel]:
    """The loops between the variable and ``level`` that assign it, innermost first."""
    return [
        loop
        for loop in loops_between(storage, level)
        if storage.name in loop.assigned and loop.depth > storage.unchecked_depth
    ]


def is_checked(storage: Storage, level: Level | None) -> bool:
    """Whether an access from ``level`` is noted, or depends on what a row has assigned."""
    return bool(tracked_loops(storage, level)) or storage.written is not None


def own_copy(storage: Storage, level: Level | None) -> Storage:
    """Follows the copies that loops between the storage and ``level`` have made, to the innermost."""
    while True:
        copies = [loop.private[storage] for loop in loops_between(storage, level) if storage in loop.private]
        if not copies:
            return storage
        storage = copies[-1]


def across_rows(storage: Storage, level: Level | None, elements: np.ndarray) -> np.ndarray:
    """Element numbers within one row as numbers within all rows of the storage."""
    if storage.level is None:
        return elements
    assert level is not None
    return rows_within(level, storage.level)[:, None] * storage.size + elements


def seen_from(level: Level | None, storage: Storage, value: Value) -> Value:
    """The value as the rows of a branch see it.

    A branch known at trace time computes on its own rows only. In one that depends on parameters all
    rows compute; the gradient through rows that do not take it is cut where they read, so that a NaN
    made from their values stays theirs.
    """
    if value.level is not None:
        for inner in levels_between(level, value.level):
            if not inner.loop and inner.condition is None:
                value = Value(value.type, at_level(value, inner), inner)
                break
    if value.concrete and storage.autodiff and level is not None and level.mask is not None:
        # What ~ drops in a branch must be what Stan drops there: elsewhere it is one constant for all.
        return Value(value.type, jnp.asarray(value.data, float), value.level)
    if level is None or value.concrete or level.mask_depth <= depth_of(storage.level):
        return value
    if not jnp.issubdtype(value.data.dtype, jnp.floating):
        return value
    masked = level
    while masked.depth > max(level.mask_depth, depth_of(value.level)):
        assert masked.parent is not None
        masked = masked.parent
    data = with_rows(value, masked)
    mask = masked.mask.reshape((-1,) + (1,) * value.rank)
    return Value(value.type, jnp.where(mask, data, lax.stop_gradient(data)), masked)
