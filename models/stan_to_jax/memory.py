"""The variables of a program in execution: scopes, reads and writes at any level.

A `Storage` is one variable. Reading it at a deeper level than its own gives a value without an axis of
rows for that level; writing takes one value per row to the elements the row selects. Accesses from
within loops that are executed at once are checked by `dependence`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax.numpy as jnp
import numpy as np

from .dependence import LoopLevel
from .errors import NotBatchable, UnsupportedStanError
from .indexing import (
    Entry,
    element_ids,
    flat_ids,
    forgiving,
    in_order,
    take,
    write_elements,
)
from .numeric import is_concrete, namespace
from .rows import take_rows
from .storage import (
    Storage,
    across_rows,
    is_checked,
    levels_between,
    loops_between,
    own_copy,
    seen_from,
    tracked_loops,
)
from .updates import added, last_of_each, merged, promoted, size_text, write_at_traced
from .values import (
    Level,
    Type,
    Value,
    branch_rows,
    depth_of,
    rows_within,
    with_rows,
)

MAX_PRIVATE = 30_000_000
"""Elements that the rows' own copies of one variable may have together."""


class Memory:
    """Names and their storage, as the statements being executed see them."""

    def __init__(self, variables: Mapping[str, Storage] | None = None) -> None:
        self.variables: dict[str, Storage] = dict(variables or {})
        self.autodiff = False
        """Whether what is declared now depends on parameters to Stan, whatever its value is."""

    def compute(self) -> None:
        """Computes linear predictors: within a scan they would be computed for one step alone."""
        for storage in self.variables.values():
            if storage.value is not None:
                _ = storage.value.data

    # -- scopes -----------------------------------------------------------------------------------

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Names declared within are forgotten afterwards; what was assigned to others stays."""
        before, self.variables = self.variables, dict(self.variables)
        try:
            yield
        finally:
            self.variables = before

    @contextmanager
    def only(self, variables: Mapping[str, Storage]) -> Iterator[None]:
        """A function's own variables: parameters to Stan if some argument is."""
        before = self.variables, self.autodiff
        self.variables = dict(variables)
        self.autodiff = any(v.autodiff or not v.content().concrete for v in variables.values())
        try:
            yield
        finally:
            self.variables, self.autodiff = before

    @contextmanager
    def attempt(self, level: Level | None) -> Iterator[None]:
        """All is as before if the block raises `NotBatchable` or `UnsupportedStanError`."""
        names = dict(self.variables)
        loops = [outer for outer in levels_between(level, None) if isinstance(outer, LoopLevel)]
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
        storage = Storage(name, type, shape, level, value)
        storage.autodiff = self.autodiff and type.kind != "int"
        self.variables[name] = storage
        return storage

    def storage(self, name: str, level: Level | None) -> Storage:
        """The variable, or the copy of it that the rows of ``level`` have of their own."""
        try:
            storage = self.variables[name]
        except KeyError:
            raise UnsupportedStanError(f"the variable {name!r}, which is not known here,") from None
        return own_copy(storage, level)

    # -- reading ----------------------------------------------------------------------------------

    def read(self, name: str, level: Level | None) -> Value:
        storage = self.storage(name, level)
        if is_checked(storage, level):
            self._note_read(storage, level, np.arange(storage.size)[None])
        return seen_from(level, storage, storage.content())

    def read_elements(self, name: str, entries: Sequence[Entry], level: Level | None) -> Value:
        storage = self.storage(name, level)
        if level is not None and level.mask is not None:
            entries = forgiving(entries, storage.shape)
        if is_checked(storage, level):
            self._note_read(storage, level, flat_ids(element_ids(storage.shape, entries), level))
        return seen_from(level, storage, take(storage.content(), entries))

    def _note_read(self, storage: Storage, level: Level | None, elements: Any) -> None:
        assert level is not None
        loops = tracked_loops(storage, level)
        if not loops and storage.written is None:
            return
        if not is_concrete(elements):
            raise NotBatchable(f"an index of {storage.name} depends on parameters")
        elements = np.broadcast_to(elements, (level.size, elements.shape[-1]))
        elements = across_rows(storage, level, elements)
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
                raise UnsupportedStanError(
                    f"assigning {size_text(value.shape)} to {name}{size_text(storage.shape)}"
                )
            storage.value = value.retyped(storage.type)
            if storage.written is not None:
                storage.written[:] = True
            return
        ids = element_ids(storage.shape, entries)
        if not ids.concrete:
            write_at_traced(storage, entries, value, level)
            return
        if np.prod(value.shape) != np.prod(ids.shape):
            raise UnsupportedStanError(
                f"assigning {size_text(value.shape)} to {size_text(ids.shape)} of {name}"
            )
        elements, predictor = flat_ids(ids, level), value.predictor
        data = value.data[None] if level is None else with_rows(value, level)
        data = data.reshape(elements.shape)
        self._write_flat(self.variables[name], elements, data, level)
        written = self.storage(name, level)
        if predictor is not None and written.level is None and in_order(elements, written.shape):
            assert level is not None
            if level.mask is None:
                written.value = Value(storage.type, predictor)

    def _write_flat(self, variable: Storage, elements: np.ndarray, data: Any, level: Level | None) -> None:
        """Row by row, ``data[row]`` goes to ``elements[row]`` of the variable."""
        storage = self._privatised(variable, elements, level)
        loops = tracked_loops(storage, level)
        across = across_rows(storage, level, elements)
        if loops:
            rows = np.broadcast_to(rows_within(level, loops[0])[:, None], across.shape)  # pyright: ignore[reportArgumentType]
            loops[0].accesses_of(storage).write(rows, across, storage.name)
        flat, data = across.reshape(-1), data.reshape(-1)
        if level is not None and level.mask_depth > depth_of(storage.level):
            if loops or storage.written is not None:
                self._note_read(storage, level, elements)
            data = merged(storage, flat, data, level)
        flat, data = last_of_each(flat, data)
        total = storage.size * (1 if storage.level is None else storage.level.size)
        storage.hold_flat(write_elements(storage.flat(), flat, data, storage.type.kind, total))
        if storage.written is not None:
            storage.written.reshape(-1)[flat] = True

    def _privatised(self, variable: Storage, elements: np.ndarray, level: Level | None) -> Storage:
        """The variable, or a new copy per row of the outermost loop whose iterations share an element."""
        while True:
            storage = own_copy(variable, level)
            for loop in reversed(tracked_loops(storage, level)):
                assert level is not None
                rows = np.broadcast_to(rows_within(level, loop)[:, None], elements.shape)
                across = across_rows(storage, level, elements)
                last = np.full(storage.size * (1 if storage.level is None else storage.level.size), -1)
                last[across] = rows
                if (last[across] == rows).all():
                    continue
                if any(storage in inner.accesses for inner in tracked_loops(storage, level)):
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
        loops = loops_between(self.storage(name, level), level)
        return bool(loops) and name in loops[0].accumulated

    def add(self, name: str, entries: Sequence[Entry], value: Value, sign: int, level: Level) -> None:
        """``name[entries] += sign * value`` for all rows of ``level`` together.

        The rows of the loops that only add to the variable are summed; to what is around them it is one
        assignment.
        """
        storage = self.storage(name, level)
        loops = loops_between(storage, level)
        others = [loop for loop in loops if name not in loop.accumulated]
        outer = others[0] if others else storage.level
        if any(name in loop.accumulated for loop in loops[len(loops) - len(others) :]):
            raise NotBatchable(f"{name} is added to in a loop around one that assigns it")
        ids = element_ids(storage.shape, entries)
        if not ids.concrete:
            raise NotBatchable(f"an index of {name} depends on parameters")
        elements = flat_ids(ids, level)
        if elements.shape[1] > 1 and (np.diff(np.sort(elements, axis=1), axis=1) == 0).any():
            raise NotBatchable(f"an iteration names an element of {name} twice, and assigns the last")
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
        storage.hold_flat(added(storage.flat(), across_rows(storage, level, elements), sign * data))

    def _add_at(self, name: str, elements: np.ndarray, data: Any, level: Level, outer: LoopLevel) -> None:
        """The sums over the rows of ``level`` within each row of ``outer``, added there."""
        rows, within = np.unique(rows_within(level, outer), return_inverse=True)
        first = elements[np.unique(within, return_index=True)[1]]
        if (elements != first[within]).any():
            raise NotBatchable(f"iterations add to different elements of {name}, which another loop assigns")
        count = elements.shape[1]
        places = within[:, None] * count + np.arange(count)
        zeros = np.zeros(len(rows) * count, data.dtype if is_concrete(data) else float)
        sums = added(zeros, places, data).reshape(len(rows), count)
        at = outer if len(rows) == outer.size else branch_rows(outer, rows)
        storage = self.storage(name, at)
        self._note_read(storage, at, first)
        storage.content()
        flat = storage.flat()
        before = take_rows(flat, across_rows(storage, at, first).reshape(-1)).reshape(first.shape)
        self._write_flat(self.variables[name], first, before + sums, at)

    # -- leaving a loop ---------------------------------------------------------------------------

    def close(self, loop: LoopLevel) -> None:
        """What outer loops must know, and the values that the last iterations leave behind."""
        for storage, accesses in loop.accesses.items():
            outer = tracked_loops(storage, loop.parent)
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
