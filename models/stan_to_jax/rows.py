"""Taking rows of an array by indices known at trace time, as cheaply as their pattern allows.

A gather's gradient is a scatter, which is slow on a CPU: indices that make up a slice or a repetition
become one, so that their gradient is a padding or a sum.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from .numeric import is_concrete


def take_rows(data: Any, indices: Any) -> Any:
    """``data[indices]`` along the first axis; ``indices`` are in range, of any shape."""
    if not is_concrete(indices):
        return jnp.asarray(data)[indices]
    indices = np.asarray(indices)
    if is_concrete(data):
        return np.asarray(data)[indices]
    if indices.ndim != 1 or indices.size == 0:
        return _gather(data, indices)
    first, count = int(indices[0]), indices.size
    if count == 1:
        return data[first : first + 1]
    step = int(indices[1]) - first
    if step > 0 and (np.diff(indices) == step).all():
        if step == 1 and count == data.shape[0]:
            return data
        return lax.slice_in_dim(data, first, int(indices[-1]) + 1, step)
    repeated = _each_repeated(indices)
    if repeated > 1:
        taken = take_rows(data, indices[::repeated])
        spread = jnp.broadcast_to(taken[:, None], (taken.shape[0], repeated, *taken.shape[1:]))
        return spread.reshape(count, *taken.shape[1:])
    period = _period(indices)
    if period < count:
        taken = take_rows(data, indices[:period])
        tiled = jnp.broadcast_to(taken[None], (count // period, *taken.shape))
        return tiled.reshape(count, *taken.shape[1:])
    return _gather(data, indices)


def _gather(data: Any, indices: np.ndarray) -> Any:
    narrow = indices.astype(np.int32) if indices.size and data.shape[0] < 2**31 else indices
    return data.at[narrow].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _each_repeated(indices: np.ndarray) -> int:
    """The number of times that every index is repeated in place (``0 0 1 1`` → 2), else 1."""
    different = np.flatnonzero(indices != indices[0])
    count = int(different[0]) if different.size else indices.size
    if count > 1 and indices.size % count == 0:
        blocks = indices.reshape(-1, count)
        if (blocks == blocks[:, :1]).all():
            return count
    return 1


def _period(indices: np.ndarray) -> int:
    """The length of the pattern that the indices repeat as a whole (``0 1 0 1`` → 2), else their number."""
    again = np.flatnonzero(indices[1:] == indices[0])
    if again.size:
        period = int(again[0]) + 1
        if indices.size % period == 0:
            blocks = indices.reshape(-1, period)
            if (blocks == blocks[:1]).all():
                return period
    return indices.size
