"""New contents of a variable: elements replaced, merged under a condition, added to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .errors import NotBatchable, UnsupportedStanError
from .indexing import At, Entry, Many, Span
from .numeric import is_concrete
from .rows import take_rows
from .storage import Storage, tracked_loops
from .values import Level, Type, Value, at_level, depth_of, rows_within, with_rows


def promoted(value: Value, to: Type) -> Value:
    """Ints become reals where the variable holds reals."""
    if to.kind != "int" and value.kind == "int":
        data = value.data
        data = np.asarray(data, float) if value.concrete else jnp.asarray(data, float)
        return Value(Type("real", value.arrays), data, value.level)
    return value


def merged(storage: Storage, flat: np.ndarray, data: Any, level: Level) -> Any:
    """New data where the level's condition holds, the old elsewhere."""
    storage.content()
    old = storage.flat()
    assert old is not None
    mask = jnp.repeat(level.mask, flat.size // level.size)
    return jnp.where(mask, data, old[flat] if is_concrete(old) else take_rows(old, flat))


def last_of_each(flat: np.ndarray, data: Any) -> tuple[np.ndarray, Any]:
    """Where one element is written several times, only the last counts."""
    if np.unique(flat).size == flat.size:
        return flat, data
    _, last = np.unique(flat[::-1], return_index=True)
    kept = np.sort(flat.size - 1 - last)
    return flat[kept], data[kept]


def added(flat: Any, elements: np.ndarray, data: Any) -> Any:
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


def write_at_traced(storage: Storage, entries: Sequence[Entry], value: Value, level: Level | None) -> None:
    """Elements whose indices depend on parameters or on a scan's loop variable.

    Rows that write to one row of the storage write different elements: a scan's rehearsal has made sure.
    """
    if tracked_loops(storage, level):
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


def size_text(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]" if shape else " a scalar"
