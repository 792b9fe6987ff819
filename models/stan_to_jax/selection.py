"""Putting values of branches together: by rows where data decide, by ``where`` where parameters do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import NotBatchable, UnsupportedStanError
from .numeric import namespace
from .rows import take_rows
from .values import Level, Type, Value, aligned, with_rows


def truth_of(condition: Value, level: Level | None) -> Any:
    """A condition as truth values of the rows of ``level`` (a scalar at the top)."""
    return (condition.data if level is None else with_rows(condition, level)) != 0


def selected(condition: Value, yes: Value, no: Value) -> Value:
    """``yes`` where the condition, concrete or traced, holds, else ``no``."""
    if yes.shape != no.shape:
        raise UnsupportedStanError("a choice between values of different sizes that depends on parameters")
    level, _, (truth, first, second) = aligned([condition, yes, no])
    xp = namespace(truth, first, second)
    return Value(_common_type(yes.type, no.type), xp.where(truth != 0, first, second), level)


def merged_back(value: Value, inner: Level, level: Level | None) -> Value:
    """A value of `branch_where`'s level as one of the level that it branched from: the rows are the same."""
    if value.level is not inner:
        return value
    return Value(value.type, value.data[0] if level is None else value.data, level)


def merged_rows(level: Level, parts: Sequence[tuple[np.ndarray, Level, Value]]) -> Value:
    """One value for all rows of ``level`` from parts that have its rows between them."""
    if len({value.shape for _, _, value in parts}) > 1:
        raise NotBatchable("results of different sizes in different iterations")
    data = [with_rows(value, inner) for _, inner, value in parts]
    order = np.empty(level.size, int)
    order[np.concatenate([rows for rows, _, _ in parts])] = np.arange(level.size)
    joined = take_rows(namespace(*data).concatenate(data), order)
    type = parts[0][2].type
    for _, _, value in parts[1:]:
        type = _common_type(type, value.type)
    return Value(type, joined, level)


def _common_type(first: Type, second: Type) -> Type:
    return second if first.kind == "int" else first
