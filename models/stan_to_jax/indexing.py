"""Reading and writing elements by Stan's indices.

Indices that are the same in all rows act on their own axis; those that differ between the rows become
one gather over all of their axes at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from .errors import StanIndexError, UnsupportedStanError
from .numeric import is_concrete, namespace
from .rows import take_rows
from .values import Kind, Level, Type, Value, at_level, deepest, rows_within


@dataclass(frozen=True)
class At:
    """One position, counted from 0: the dimension disappears."""

    index: Value


@dataclass(frozen=True)
class Many:
    """An array of positions, counted from 0: the dimension stays."""

    index: Value


@dataclass(frozen=True)
class Span:
    """Positions from ``start`` up to ``stop``, not included."""

    start: int
    stop: int


Entry = At | Many | Span
NOTHING = Span(0, 0)
"""An empty range, wherever it begins."""


def take(base: Value, entries: Sequence[Entry]) -> Value:
    """``base[entries]``; dimensions without an entry are taken whole.

    A traced index that is out of range gives NaN.

    Raises
    ------
    StanIndexError
        If an index known at trace time is out of range.
    """
    if base.predictor is not None and (found := _own_elements(base, entries)) is not None:
        return found
    entries = [*entries, *(Span(0, size) for size in base.shape[len(entries) :])]
    offset = 0 if base.level is None else 1
    data, kept, by_row = base.data, list(range(base.rank)), []
    for axis in reversed(range(base.rank)):
        entry = entries[axis]
        if isinstance(entry, Span):
            data = _span(data, offset + axis, entry)
        elif entry.index.level is not None:
            by_row.insert(0, (axis, entry))
        elif isinstance(entry, At):
            data = _at(data, offset + axis, entry.index.data)
            kept.remove(axis)
        else:
            data = _many(data, offset + axis, entry.index.data)
    type = _type_of(base.type, entries)
    if not by_row:
        return Value(type, data, base.level)
    return _take_by_row(Value(type, data, base.level), by_row, kept)


def _own_elements(base: Value, entries: Sequence[Entry]) -> Value | None:
    """The elements of a linear predictor where every row reads its own: still a predictor."""
    if base.level is not None or len(entries) != 1 or not isinstance(entries[0], At):
        return None
    index = entries[0].index
    if index.level is None or not index.concrete or not in_order(index.data[:, None], base.shape):
        return None
    return Value(Type("real"), base.predictor, index.level)


def in_order(elements: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether row i concerns element i alone (``elements: i[rows, k]``), and rows concern all elements."""
    return elements.shape == (*shape, 1) and bool((elements[:, 0] == np.arange(len(elements))).all())


def forgiving(entries: Sequence[Entry], shape: tuple[int, ...]) -> list[Entry]:
    """Entries that give NaN where a known index is out of range, as a traced one does.

    For branches that may not be taken: there Stan never sees the index.
    """
    return [
        type(entry)(Value(entry.index.type, jnp.asarray(entry.index.data), entry.index.level))
        if not isinstance(entry, Span) and entry.index.concrete and not _within(entry.index.data, size)
        else entry
        for entry, size in zip(entries, shape, strict=False)
    ]


def _within(index: Any, size: int) -> bool:
    return bool(np.all((np.asarray(index) >= 0) & (np.asarray(index) < size)))


def element_ids(shape: tuple[int, ...], entries: Sequence[Entry]) -> Value:
    """The flat (row-major) numbers of the elements that ``entries`` select in an array of ``shape``."""
    return take(Value(Type("int", len(shape)), _numbered(shape)), entries)


def write_elements(data: Any, ids: np.ndarray, values: Any, kind: Kind, size: int) -> Any:
    """A flat array with ``values`` at the positions ``ids``, which are concrete and differ.

    ``data`` is the flat array before, None if nothing was assigned yet: Stan's reals are then NaN.
    """
    if ids.size == size:
        if (ids == np.arange(size)).all():
            return values
        order = np.empty(size, int)
        order[ids] = np.arange(size)
        return take_rows(values, order)
    if data is None:
        data = unassigned(kind, (size,))
    if ids.size == 0:
        return data
    if is_concrete(data, values):
        data = np.array(data, dtype=np.result_type(data, values))
        data[ids] = values
        return data
    dtype = jnp.result_type(data, values) if kind == "int" else jnp.asarray(values, float).dtype
    data, values = jnp.asarray(data, dtype), jnp.asarray(values, dtype)
    steps = np.diff(ids)
    if (steps == 1).all():
        return lax.dynamic_update_slice(data, values, (int(ids[0]),))
    return data.at[ids].set(values, unique_indices=True, mode="promise_in_bounds")


def unassigned(kind: Kind, shape: tuple[int, ...]) -> np.ndarray:
    """What Stan holds in a variable before its first assignment: NaN, or the smallest int."""
    if kind == "int":
        return np.full(shape, np.iinfo(np.int32).min, np.int64)
    return np.full(shape, np.nan)


# -- one axis at a time ---------------------------------------------------------------------------


def _span(data: Any, axis: int, span: Span) -> Any:
    if span.start == 0 and span.stop == np.shape(data)[axis]:
        return data
    if not 0 <= span.start <= span.stop <= np.shape(data)[axis]:
        raise StanIndexError(f"the range {span.start + 1}:{span.stop} is outside of 1:{np.shape(data)[axis]}")
    if is_concrete(data):
        return data[(slice(None),) * axis + (slice(span.start, span.stop),)]
    return lax.slice_in_dim(data, span.start, span.stop, axis=axis)


def _at(data: Any, axis: int, index: Any) -> Any:
    if not is_concrete(index):
        return _gather(jnp.asarray(data), axis, index)
    _require_within(index, np.shape(data)[axis])
    if is_concrete(data):
        return data[(slice(None),) * axis + (int(index),)]
    return lax.index_in_dim(data, int(index), axis, keepdims=False)


def _many(data: Any, axis: int, indices: Any) -> Any:
    if not is_concrete(indices):
        return _gather(jnp.asarray(data), axis, indices)
    _require_within(indices, np.shape(data)[axis])
    if is_concrete(data):
        return np.take(data, indices, axis)
    if np.ndim(indices) != 1:
        raise UnsupportedStanError("an index that is an array of arrays")
    if axis == 0:
        return take_rows(data, indices)
    return jnp.moveaxis(take_rows(jnp.moveaxis(data, axis, 0), indices), 0, axis)


def _gather(data: Any, axis: int, indices: Any) -> Any:
    fill = np.nan if jnp.issubdtype(data.dtype, jnp.floating) else np.iinfo(np.int32).min
    where = data.at[(slice(None),) * axis + (indices,)]
    return where.get(mode="fill", fill_value=fill, wrap_negative_indices=False)


def _require_within(index: Any, size: int) -> None:
    if not _within(index, size):
        low = int(np.min(index))
        wrong = low if low < 0 else int(np.max(index))
        raise StanIndexError(f"the index {wrong + 1} is outside of 1:{size}")


# -- indices that differ between rows -------------------------------------------------------------


def _take_by_row(base: Value, by_row: list[tuple[int, At | Many]], kept: list[int]) -> Value:
    """``base.data`` has the axes ``kept``; those in ``by_row`` are indexed row by row."""
    level = deepest([base, *(entry.index for _, entry in by_row)])
    assert level is not None
    many = [axis for axis, entry in by_row if isinstance(entry, Many)]
    if len(many) > 1:
        raise UnsupportedStanError("two multiple indices that differ between iterations")
    offset = 0 if base.level is None else 1
    leading = list(range(offset)) + [offset + kept.index(axis) for axis, _ in by_row]
    data = base.data
    if leading != list(range(len(leading))):
        data = namespace(data).moveaxis(data, leading, range(len(leading)))
    sizes, rest = np.shape(data)[: len(leading)], np.shape(data)[len(leading) :]
    indices = [at_level(entry.index, level) for _, entry in by_row]
    if base.level is not None:
        indices.insert(0, rows_within(level, base.level))
    flat = _flat(indices, sizes, bool(many))
    data = data.reshape((int(np.prod(sizes)), *rest))
    if is_concrete(flat):
        taken = take_rows(data, flat.reshape(-1)).reshape(np.shape(flat) + rest)
    else:
        taken = _gather(jnp.asarray(data), 0, flat)
    if many:
        gone = {axis for axis, entry in by_row if isinstance(entry, At)}
        place = [axis for axis in kept if axis not in gone].index(many[0])
        if place:
            taken = namespace(taken).moveaxis(taken, 1, 1 + place)
    return Value(base.type, taken, level)


def _flat(indices: list[Any], sizes: tuple[int, ...], many: bool) -> Any:
    """Row-major positions in an array of ``sizes``, one per row (times one per multiple index)."""
    flat: Any = 0
    inside: Any = True
    for index, size in zip(indices, sizes, strict=True):
        if many and np.ndim(index) == 1:
            index = index.reshape(-1, 1)
        if is_concrete(index):
            _require_within(index, size)
        else:
            inside = inside & (index >= 0) & (index < size)
        flat = flat * size + index
    return flat if inside is True else jnp.where(inside, flat, int(np.prod(sizes)))


def _type_of(base: Type, entries: Sequence[Entry]) -> Type:
    single = [isinstance(entry, At) for entry in entries]
    arrays = sum(not one for one in single[: base.arrays])
    inner = single[base.arrays :]
    kind: Kind = base.kind
    if inner and all(inner):
        kind = "real"
    elif base.kind == "matrix" and any(inner):
        kind = "row_vector" if inner[0] else "vector"
    return Type(kind, arrays)


@lru_cache(maxsize=256)
def _numbered(shape: tuple[int, ...]) -> np.ndarray:
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    numbers.setflags(write=False)
    return numbers


def flat_ids(ids: Value, level: Level | None) -> Any:
    """The ids of `element_ids` as ``i[rows, k]``, with one row at the top."""
    rows = 1 if level is None else level.size
    data = ids.data if ids.level is None else at_level(ids, level)
    lead = 1 if ids.level is None else rows
    count = int(np.prod(ids.shape))
    return namespace(data).broadcast_to(data.reshape(lead, count), (rows, count))
