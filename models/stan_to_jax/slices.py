"""Parts of arrays: `head`, `sub_col`, … as indices, and sums over parts whose length differs.

A part taken by index reads its own elements only, which matters where a loop's dependences are checked.
A part whose length differs between iterations has no array of its own, but its sum does: the part is
padded with zeros to the longest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .functions.operators import binary
from .indexing import At, Entry, Many, Span
from .numeric import is_concrete, namespace, where
from .syntax import Binary, Call, Expression, Index, Number, Range, Single, Variable
from .values import INT, REAL, Level, Type, Value, aligned, integer

if TYPE_CHECKING:
    from .interpreter import Interpreter

MAX_PADDING = 4
"""Padding a ragged batch may make it this many times as large; else it falls into groups of equal sizes."""


def as_index(node: Expression) -> Expression:
    """``sub_col(x, i, j, n)`` as ``x[i:i + n - 1, j]``, and the like; other expressions as they are."""
    if not isinstance(node, Call) or not node.arguments:
        return node
    base, *others = node.arguments
    if not isinstance(base, Variable | Index):
        return node
    match node.name, others:
        case "head", [count]:
            indices = (Range(None, count),)
        case "tail", [count]:
            size = Call("size", (base,), position=node.position)
            indices = (Range(_plus(_minus(size, count), Number(1)), None),)
        case "segment", [start, count]:
            indices = (_range(start, count),)
        case "col", [column]:
            indices = (Range(None, None), Single(column))
        case "row", [row]:
            indices = (Single(row),)
        case "sub_col", [row, column, count]:
            indices = (_range(row, count), Single(column))
        case "sub_row", [row, column, count]:
            indices = (Single(row), _range(column, count))
        case "block", [row, column, rows, columns]:
            indices = (_range(row, rows), _range(column, columns))
        case _:
            return node
    return Index(base, indices, position=node.position)


def _range(start: Expression, count: Expression) -> Range:
    return Range(start, _minus(_plus(start, count), Number(1)))


def _plus(left: Expression, right: Expression) -> Expression:
    return Binary("+", left, right, position=left.position)


def _minus(left: Expression, right: Expression) -> Expression:
    return Binary("-", left, right, position=left.position)


# -- sums over parts of differing length ----------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """A vector or array of one dimension by its indices, one of which is a range."""

    name: str
    before: list[Entry]
    start: Value
    """Of the range, counted from 0."""
    length: Value
    after: list[Entry]
    size: int
    """Of the dimension that the range is in."""


def padded_sum(run: Interpreter, node: Call, level: Level | None) -> Value | None:
    """``sum(x[a:b])``, ``dot_product(x[a:b], y[c:d])`` or ``dot_self(x[a:b])`` where lengths differ.

    None if it is nothing of the kind, or if padding would waste too much.
    """
    if node.name not in ("sum", "dot_product", "dot_self"):
        return None
    parts = [_part(run, as_index(argument), level) for argument in node.arguments]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts) or not any(_differs(part) for part in found):
        return None
    longest = min(_longest(part) for part in found)
    if any(_waste(part, longest) > MAX_PADDING for part in found):
        return None
    first = found[0]
    for other in found[1:]:
        run.require(binary("==", first.length, other.length), level)
    values = [_padded(run, part, longest, level) for part in found]
    if node.name == "dot_self":
        values *= 2
    rows, _, arrays = aligned(values)
    product = arrays[0] if len(arrays) == 1 else arrays[0] * arrays[1]
    type = INT if all(value.kind == "int" for value in values) else REAL
    return Value(type, namespace(product).sum(product, axis=-1), rows)


def _part(run: Interpreter, node: Expression, level: Level | None) -> _Part | None:
    indices: tuple[Single | Range, ...] = ()
    while isinstance(node, Index):
        if any(isinstance(item, Range) for item in node.indices) and isinstance(node.base, Index) and indices:
            return None
        indices, node = (*node.indices, *indices), node.base
    if not isinstance(node, Variable):
        return None
    ranges = [place for place, item in enumerate(indices) if isinstance(item, Range)]
    storage = run.memory.storage(node.name, level)
    if len(ranges) != 1 or len(indices) != len(storage.shape):
        return None
    (place,) = ranges
    entries = [
        run.leading_entries(storage.shape, [(item,)], level)[0][0] if isinstance(item, Single) else None
        for item in indices
    ]
    singles = [entry for entry in entries if entry is not None]
    if not all(isinstance(entry, At) for entry in singles):
        return None
    bounds = indices[place]
    assert isinstance(bounds, Range)
    size = storage.shape[place]
    lower = integer(1) if bounds.lower is None else run.evaluate(bounds.lower, level)
    upper = integer(size) if bounds.upper is None else run.evaluate(bounds.upper, level)
    start = binary("-", lower, integer(1))
    length = binary("-", upper, start)
    length = Value(length.type, namespace(length.data).maximum(length.data, 0), length.level)
    return _Part(node.name, singles[:place], start, length, singles[place:], size)


def _differs(part: _Part) -> bool:
    lengths = part.length.data
    return not is_concrete(lengths) or bool(np.ptp(lengths))


def _longest(part: _Part) -> int:
    return int(np.max(part.length.data)) if part.length.concrete else part.size


def _waste(part: _Part, longest: int) -> float:
    if not part.length.concrete:
        return 1.0
    return longest / max(float(np.mean(part.length.data)), 1e-9)


def _padded(run: Interpreter, part: _Part, longest: int, level: Level | None) -> Value:
    """The part's elements, and zeros up to the longest length."""
    steps = np.arange(longest)
    length, start = part.length.data, part.start.data
    inside = _column(length) > steps
    if part.start.concrete and part.start.level is None and int(start) + longest <= part.size:
        entry: Entry = Span(int(start), int(start) + longest)
    else:
        rows, _, (first, within) = aligned([part.start, Value(Type("int"), length, part.length.level)])
        positions = _column(first) + where(_column(within) > steps, steps, 0)
        if is_concrete(positions):
            positions = np.clip(positions, 0, part.size - 1)
        entry = Many(Value(Type("int", 1), positions, rows))
    value = run.memory.read_elements(part.name, [*part.before, entry, *part.after], level)
    mask = Value(Type("int", 1), inside, part.length.level)
    rows, _, (truth, data) = aligned([mask, value])
    return Value(value.type, where(truth, data, 0), rows)


def _column(data: Any) -> Any:
    return data if np.ndim(data) == 0 else data[:, None]
