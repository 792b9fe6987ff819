"""The variables of a program in execution: scopes, reads and writes at any level.

A `Storage` is one variable. Reading it at a deeper level than its own gives a value without an axis of
rows for that level; writing takes one value per row to the elements the row selects. Accesses from
within loops that are executed at once are checked by `dependence`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .dependence import LoopLevel
from .errors import NotBatchable, UnsupportedStanError
from .indexing import (
    At,
    Entry,
    Many,
    Span,
    element_ids,
    flat_ids,
    forgiving,
    take,
    unassigned,
    write_elements,
)
from .numeric import is_concrete, namespace
from .rows import take_rows
from .values import (
    Level,
    Type,
    Value,
    at_level,
    branch_rows,
    depth_of,
    rows_within,
    with_rows,
)

MAX_PRIVATE = 30_000_000
"""Elements that the rows' own copies of one variable may have together."""


class Storage:
    """One variable: its type, its sizes, the level it is declared at, and its value so far."""

    def __init__(
        self, name: str, type: Type, shape: tuple[int, ...], level: Level | None, value: Value | None = None
    ) -> None:
        self.name = name
        self.type = type
        self.shape = shape
        self.level = level
        self.value = None if value is None else Value(value.type, value.data, value.level)
        """None before the first assignment; always computed, never a linear predictor to be."""
        self.written: np.ndarray | None = None
        """``bool[rows, *shape]`` for a row's own copy: the elements that the row has assigned."""
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


class Memory:
    """Names and their storage, as the statements being executed see them."""

    def __init__(self, variables: Mapping[str, Storage] | None = None) -> None:
        self.variables: dict[str, Storage] = dict(variables or {})

    # -- scopes -----------------------------------------------------------------------------------

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Names declared within are forgotten afterwards; what was assigned to others stays."""
        before = dict(self.variables)
        try:
            yield
        finally:
            self.variables = before

    @contextmanager
    def only(self, variables: Mapping[str, Storage]) -> Iterator[None]:
        """A function's own variables."""
        before, self.variables = self.variables, dict(variables)
        try:
            yield
        finally:
            self.variables = before

    @contextmanager
    def attempt(self, level: Level | None) -> Iterator[None]:
        """All is as before if the block raises `NotBatchable` or `UnsupportedStanError`."""
        names = dict(self.variables)
        loops = [outer for outer in _chain(level, None) if isinstance(outer, LoopLevel)]
        books = [loop.bookkeeping() for loop in loops]
        copies = [copy for loop in loops for copy in loop.private.values()]
        contents = [
            (storage, storage.value, None if storage.written is None else storage.written.copy())
            for storage in [*names.values(), *copies]
        ]
        try:
            yield
        except (NotBatchable, UnsupportedStanError):
            self.variables = names
            for storage, value, written in contents:
                storage.value, storage.written = value, written
            for loop, kept in zip(loops, books, strict=True):
                loop.restore(kept)
            raise

    def declare(
        self,
        name: str,
        type: Type,
        shape: tuple[int, ...],
        level: Level | None,
        value: Value | None = None,
    ) -> Storage:
        self.variables[name] = Storage(name, type, shape, level, value)
        return self.variables[name]

    def storage(self, name: str, level: Level | None) -> Storage:
        """The variable, or the copy of it that the rows of ``level`` have of their own."""
        try:
            storage = self.variables[name]
        except KeyError:
            raise UnsupportedStanError(f"the variable {name!r}, which is not known here,") from None
        return _own_copy(storage, level)

    # -- reading ----------------------------------------------------------------------------------

    def read(self, name: str, level: Level | None) -> Value:
        storage = self.storage(name, level)
        if is_checked(storage, level):
            self._note_read(storage, level, np.arange(storage.size)[None])
        return _seen_from(level, storage, storage.content())

    def read_elements(self, name: str, entries: Sequence[Entry], level: Level | None) -> Value:
        storage = self.storage(name, level)
        if level is not None and level.mask is not None:
            entries = forgiving(entries, storage.shape)
        if is_checked(storage, level):
            self._note_read(storage, level, flat_ids(element_ids(storage.shape, entries), level))
        return _seen_from(level, storage, take(storage.content(), entries))

    def _note_read(self, storage: Storage, level: Level | None, elements: Any) -> None:
        assert level is not None
        loops = _tracked(storage, level)
        if not loops and storage.written is None:
            return
        if not is_concrete(elements):
            raise NotBatchable(f"an index of {storage.name} depends on parameters")
        elements = np.broadcast_to(elements, (level.size, elements.shape[-1]))
        elements = _across_rows(storage, level, elements)
        if storage.written is not None and not storage.written.reshape(-1)[elements].all():
            raise NotBatchable(f"{storage.name} may be read before the iteration assigns it")
        if loops:
            rows = np.broadcast_to(rows_within(level, loops[0])[:, None], elements.shape)
            loops[0].accesses_of(storage).read(rows, elements, storage.name)

    # -- writing ----------------------------------------------------------------------------------

    def write(self, name: str, entries: Sequence[Entry], value: Value, level: Level | None) -> None:
        """``name[entries] = value``, for the rows of ``level``.

        Raises
        ------
        NotBatchable
            If the iterations cannot be executed at once.
        """
        storage = self.storage(name, level)
        value = promoted(value, storage.type)
        if level is not None and level.mask is not None:
            entries = forgiving(entries, storage.shape)
        if not entries and level is storage.level:
            if value.shape != storage.shape:
                raise UnsupportedStanError(f"assigning {_size(value.shape)} to {name}{_size(storage.shape)}")
            storage.value = Value(storage.type, value.data, value.level)
            if storage.written is not None:
                storage.written[:] = True
            return
        ids = element_ids(storage.shape, entries)
        if not ids.concrete:
            _write_at_traced(storage, entries, value, level)
            return
        if np.prod(value.shape) != np.prod(ids.shape):
            raise UnsupportedStanError(f"assigning {_size(value.shape)} to {_size(ids.shape)} of {name}")
        elements = flat_ids(ids, level)
        data = value.data[None] if level is None else with_rows(value, level)
        data = data.reshape(elements.shape)
        self._write_flat(self.variables[name], elements, data, level)

    def _write_flat(self, variable: Storage, elements: np.ndarray, data: Any, level: Level | None) -> None:
        """Row by row, ``data[row]`` goes to ``elements[row]`` of the variable."""
        storage = self._privatised(variable, elements, level)
        loops = _tracked(storage, level)
        across = _across_rows(storage, level, elements)
        if loops:
            rows = np.broadcast_to(rows_within(level, loops[0])[:, None], across.shape)  # pyright: ignore[reportArgumentType]
            loops[0].accesses_of(storage).write(rows, across, storage.name)
        flat, data = across.reshape(-1), data.reshape(-1)
        if level is not None and level.mask_depth > depth_of(storage.level):
            if loops or storage.written is not None:
                self._note_read(storage, level, elements)
            data = _merged(storage, flat, data, level)
        flat, data = _last_of_each(flat, data)
        total = storage.size * (1 if storage.level is None else storage.level.size)
        storage.hold_flat(write_elements(storage.flat(), flat, data, storage.type.kind, total))
        if storage.written is not None:
            storage.written.reshape(-1)[flat] = True

    def _privatised(self, variable: Storage, elements: np.ndarray, level: Level | None) -> Storage:
        """The variable, or a new copy per row of the outermost loop whose iterations share an element."""
        while True:
            storage = _own_copy(variable, level)
            for loop in reversed(_tracked(storage, level)):
                assert level is not None
                rows = np.broadcast_to(rows_within(level, loop)[:, None], elements.shape)
                across = _across_rows(storage, level, elements)
                last = np.full(storage.size * (1 if storage.level is None else storage.level.size), -1)
                last[across] = rows
                if (last[across] == rows).all():
                    continue
                if any(storage in inner.accesses for inner in _tracked(storage, level)):
                    raise NotBatchable(f"several iterations assign the same element of {storage.name}")
                if level.mask_depth > depth_of(loop):
                    raise NotBatchable(f"{storage.name} is assigned under a condition on parameters")
                if loop.size * storage.size > MAX_PRIVATE:
                    raise NotBatchable(f"a copy of {storage.name} per iteration is too large")
                copy = Storage(storage.name, storage.type, storage.shape, loop)
                copy.written = np.zeros((loop.size, *storage.shape), bool)
                loop.private[storage] = copy
                break
            else:
                return storage

    # -- accumulating -----------------------------------------------------------------------------

    def accumulates(self, name: str, level: Level | None) -> bool:
        """Whether adding to the variable at ``level`` sums over the iterations of the innermost loop."""
        loops = _loops(self.storage(name, level), level)
        return bool(loops) and name in loops[0].accumulated

    def add(self, name: str, entries: Sequence[Entry], value: Value, sign: int, level: Level) -> None:
        """``name[entries] += sign * value`` for all rows of ``level`` together.

        The rows of the loops that only add to the variable are summed; to what is around them it is one
        assignment.
        """
        storage = self.storage(name, level)
        loops = _loops(storage, level)
        others = [loop for loop in loops if name not in loop.accumulated]
        outer = others[0] if others else storage.level
        if any(name in loop.accumulated for loop in loops[len(loops) - len(others) :]):
            raise NotBatchable(f"{name} is added to in a loop around one that assigns it")
        ids = element_ids(storage.shape, entries)
        if not ids.concrete:
            raise NotBatchable(f"an index of {name} depends on parameters")
        elements = flat_ids(ids, level)
        data = with_rows(promoted(value, storage.type), level)
        data = data.reshape(level.size, int(np.prod(value.shape)))
        if data.shape != elements.shape:
            data = namespace(data).broadcast_to(data, elements.shape)
        if level.mask_depth > depth_of(outer):
            data = jnp.where(level.mask[:, None], data, 0)
        if others:
            self._add_at(name, elements, sign * data, level, others[0])
            return
        if storage.written is not None and not storage.written.all():
            raise NotBatchable(f"{name} may be read before the iteration assigns it")
        storage.content()
        storage.hold_flat(_added(storage.flat(), _across_rows(storage, level, elements), sign * data))

    def _add_at(self, name: str, elements: np.ndarray, data: Any, level: Level, outer: LoopLevel) -> None:
        """The sums over the rows of ``level`` within each row of ``outer``, added there."""
        rows, within = np.unique(rows_within(level, outer), return_inverse=True)
        first = elements[np.unique(within, return_index=True)[1]]
        if (elements != first[within]).any():
            raise NotBatchable(f"iterations add to different elements of {name}, which another loop assigns")
        count = elements.shape[1]
        places = within[:, None] * count + np.arange(count)
        zeros = np.zeros(len(rows) * count, data.dtype if is_concrete(data) else float)
        sums = _added(zeros, places, data).reshape(len(rows), count)
        at = outer if len(rows) == outer.size else branch_rows(outer, rows)
        storage = self.storage(name, at)
        self._note_read(storage, at, first)
        storage.content()
        flat = storage.flat()
        before = take_rows(flat, _across_rows(storage, at, first).reshape(-1)).reshape(first.shape)
        self._write_flat(self.variables[name], first, before + sums, at)

    # -- leaving a loop ---------------------------------------------------------------------------

    def close(self, loop: LoopLevel) -> None:
        """What outer loops must know, and the values that the last iterations leave behind."""
        for storage, accesses in loop.accesses.items():
            outer = _tracked(storage, loop.parent)
            if outer:
                rows = rows_within(loop, outer[0])
                outer[0].accesses_of(storage).absorb(accesses, rows, storage.name)
        for original, copy in list(loop.private.items()):
            if copy.value is not None:
                self._copy_out(original, copy, loop)

    def _copy_out(self, original: Storage, copy: Storage, loop: LoopLevel) -> None:
        assert copy.written is not None
        data = copy.flat()
        assert data is not None
        data = data.reshape(loop.size, copy.size)
        written = copy.written.reshape(loop.size, copy.size)
        parents = 1 if loop.parent is None else loop.parent.size
        last = np.full((parents, copy.size), -1)
        rows = np.where(written, np.arange(loop.size)[:, None], -1)
        np.maximum.at(last, loop.parent_row, rows)
        somewhere = np.flatnonzero((last >= 0).any(axis=0))
        parent_rows = np.flatnonzero((last >= 0).any(axis=1))
        if somewhere.size == 0:
            return
        chosen = last[np.ix_(parent_rows, somewhere)]
        if (chosen < 0).any():
            raise NotBatchable(f"iterations assign different elements of {original.name}")
        if (chosen == chosen[:, :1]).all():
            left = take_rows(data, chosen[:, 0])
            left = left if somewhere.size == copy.size else left[:, somewhere]
        else:
            left = data[chosen, somewhere[None]]
        elements = np.broadcast_to(somewhere, chosen.shape)
        level = loop.parent
        if level is not None and len(parent_rows) < level.size:
            level = branch_rows(level, parent_rows)
        self._write_flat(original, elements, left, level)


# -- helpers --------------------------------------------------------------------------------------


def _chain(level: Level | None, outer: Level | None) -> Iterator[Level]:
    """``level`` and its ancestors below ``outer``, innermost first."""
    while level is not outer:
        assert level is not None
        yield level
        level = level.parent


def _loops(storage: Storage, level: Level | None) -> list[LoopLevel]:
    return [inner for inner in _chain(level, storage.level) if isinstance(inner, LoopLevel)]


def _tracked(storage: Storage, level: Level | None) -> list[LoopLevel]:
    """The loops between the variable and ``level`` that assign it, innermost first."""
    return [
        loop
        for loop in _loops(storage, level)
        if storage.name in loop.assigned and loop.depth > storage.unchecked_depth
    ]


def is_checked(storage: Storage, level: Level | None) -> bool:
    """Whether an access from ``level`` is noted, or depends on what a row has assigned."""
    return bool(_tracked(storage, level)) or storage.written is not None


def _own_copy(storage: Storage, level: Level | None) -> Storage:
    """Follows the copies that loops between the storage and ``level`` have made, to the innermost."""
    while True:
        copies = [loop.private[storage] for loop in _loops(storage, level) if storage in loop.private]
        if not copies:
            return storage
        storage = copies[-1]


def _across_rows(storage: Storage, level: Level | None, elements: np.ndarray) -> np.ndarray:
    """Element numbers within one row as numbers within all rows of the storage."""
    if storage.level is None:
        return elements
    assert level is not None
    return rows_within(level, storage.level)[:, None] * storage.size + elements


def promoted(value: Value, to: Type) -> Value:
    """Ints become reals where the variable holds reals."""
    if to.kind != "int" and value.kind == "int":
        data = value.data
        data = np.asarray(data, float) if value.concrete else jnp.asarray(data, float)
        return Value(Type("real", value.arrays), data, value.level)
    return value


def _seen_from(level: Level | None, storage: Storage, value: Value) -> Value:
    """The value as the rows of a branch see it.

    A branch known at trace time computes on its own rows only. In one that depends on parameters all
    rows compute; the gradient through rows that do not take it is cut where they read, so that a NaN
    made from their values stays theirs.
    """
    if value.level is not None:
        for inner in _chain(level, value.level):
            if not inner.loop and inner.condition is None:
                value = Value(value.type, at_level(value, inner), inner)
                break
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


def _merged(storage: Storage, flat: np.ndarray, data: Any, level: Level) -> Any:
    """New data where the level's condition holds, the old elsewhere."""
    storage.content()
    old = storage.flat()
    assert old is not None
    mask = jnp.repeat(level.mask, flat.size // level.size)
    return jnp.where(mask, data, old[flat] if is_concrete(old) else take_rows(old, flat))


def _last_of_each(flat: np.ndarray, data: Any) -> tuple[np.ndarray, Any]:
    """Where one element is written several times, only the last counts."""
    if np.unique(flat).size == flat.size:
        return flat, data
    _, last = np.unique(flat[::-1], return_index=True)
    kept = np.sort(flat.size - 1 - last)
    return flat[kept], data[kept]


def _added(flat: Any, elements: np.ndarray, data: Any) -> Any:
    """``flat`` with ``data`` added at ``elements`` (both ``[rows, k]``; elements may repeat)."""
    if is_concrete(flat, data):
        out = np.array(flat, dtype=np.result_type(flat, data))
        np.add.at(out, elements, data)
        return out
    flat, data = jnp.asarray(flat), jnp.asarray(data)
    dtype = jnp.result_type(flat, data)
    flat = flat.astype(dtype)
    if (elements == elements[:1]).all():
        summed = data.sum(axis=0)
        if elements.shape[1] == flat.size and (elements[0] == np.arange(flat.size)).all():
            return flat + summed
        return flat.at[elements[0]].add(summed)
    rows, count = elements.shape
    each, left = divmod(rows, flat.size)
    if count == 1 and left == 0 and (elements[:, 0] == np.repeat(np.arange(flat.size), each)).all():
        return flat + data.reshape(flat.size, -1).sum(axis=1)
    numbers = elements.reshape(-1)
    ordered = bool((np.diff(numbers) >= 0).all())
    return flat + jax.ops.segment_sum(data.reshape(-1), numbers, flat.size, indices_are_sorted=ordered)


def _write_at_traced(storage: Storage, entries: Sequence[Entry], value: Value, level: Level | None) -> None:
    """Elements whose indices depend on parameters or on a scan's loop variable.

    Rows that write to one row of the storage write different elements: a scan's rehearsal has made sure.
    """
    if _tracked(storage, level):
        raise NotBatchable(f"an index of {storage.name} depends on parameters")
    several = level is not storage.level
    if several and storage.unchecked_depth < 0:
        raise UnsupportedStanError(
            f"assigning {storage.name} in a loop, at an index that depends on parameters"
        )
    by_row = several or any(not isinstance(e, Span) and e.index.level is not None for e in entries)
    if (by_row and not all(isinstance(e, At) for e in entries)) or (
        sum(isinstance(e, Many) for e in entries) > 1
    ):
        raise UnsupportedStanError(
            f"assigning several elements of {storage.name} at indices that depend on parameters"
        )
    where: list[Any] = []
    if storage.level is not None:
        assert level is not None
        where.append(rows_within(level, storage.level) if by_row else slice(None))
    for entry in entries:
        if isinstance(entry, Span):
            where.append(slice(entry.start, entry.stop))
        else:
            index = at_level(entry.index, level)
            where.append(jnp.broadcast_to(index, level.size) if by_row and level is not None else index)
    old = storage.content()
    data = old.data if storage.level is None else with_rows(old, storage.level)
    data = jnp.asarray(data, int if storage.type.kind == "int" else float)
    place = data.at[tuple(where)]
    new = jnp.asarray(value.data if level is None else with_rows(value, level), data.dtype)
    if level is not None and level.mask_depth > depth_of(storage.level):
        mask = level.mask.reshape((-1,) + (1,) * (new.ndim - 1))
        new = jnp.where(mask, new, place.get(mode="clip", wrap_negative_indices=False))
    updated = place.set(new, mode="drop", wrap_negative_indices=False)
    storage.value = Value(storage.type, updated, storage.level)


def _size(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]" if shape else " a scalar"
