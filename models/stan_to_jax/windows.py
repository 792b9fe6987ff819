"""What a loop's body needs of its arrays at one iteration: streams and lagged elements.

Inside of a compiled scan the loop variable is traced, and indexing a whole array with it is slow: the
gradient of such a read is as large as the array, at every step, in every chain. Where positions are
known for all iterations beforehand, an iteration is handed its elements instead:

- ``y[t]`` of an array that the loop does not assign becomes an input of the step, and
- ``x[t - c]`` of an array that the loop fills at ``x[t]`` becomes one of the last elements that were
  filled, which are carried from step to step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from .syntax import Assignment, Expression, Index, Node, Single, Statement, Variable

Positions = Callable[[Expression], np.ndarray | None]
"""The 0-based positions that an index expression takes in the loop's iterations, if they are known."""


@dataclass(frozen=True)
class Stream:
    """Elements of an array that the loop reads only: position by position."""

    array: str
    positions: np.ndarray = field(compare=False)


@dataclass(frozen=True)
class Lagged:
    """An array that is filled element by element, and read at most ``lags`` elements back."""

    array: str
    positions: np.ndarray = field(compare=False)
    """Where iteration by iteration is written: consecutive, upwards or downwards."""
    lags: int


@dataclass(frozen=True)
class Rewritten:
    """A body that reads its elements by name: `lagged_name` and the keys of ``streams``."""

    body: Statement
    streams: Mapping[str, Stream]
    lagged: Mapping[str, Lagged]


def lagged_name(array: str, lag: int) -> str:
    """The variable that stands for the element filled ``lag`` iterations before; no Stan name has an @."""
    return f"{array}@{lag}"


class _NotLagged(Exception):
    def __init__(self, array: str) -> None:
        super().__init__(array)
        self.array = array


def rewrite(
    body: Statement, readable: frozenset[str], filled: frozenset[str], positions: Positions
) -> Rewritten:
    """The body with every array access it can do without replaced.

    Parameters
    ----------
    readable : arrays that the loop does not assign
    filled : arrays that it assigns; those with an access that does not fit are left as they are
    """
    while True:
        rewriter = _Rewriter(readable, filled, positions)
        try:
            rewriter.find_written(body)
            rewritten = rewriter.visit(body)
        except _NotLagged as found:
            filled = filled - {found.array}
            continue
        lagged = {
            name: Lagged(name, where, rewriter.lags.get(name, 0)) for name, where in rewriter.written.items()
        }
        return Rewritten(rewritten, rewriter.streams, lagged)


class _Rewriter:
    def __init__(self, readable: frozenset[str], filled: frozenset[str], positions: Positions) -> None:
        self.readable, self.filled, self.positions = readable, filled, positions
        self.written: dict[str, np.ndarray] = {}
        self.lags: dict[str, int] = {}
        self.streams: dict[str, Stream] = {}

    def find_written(self, node: Any) -> None:
        """Where the arrays are filled: at one and the same index everywhere, which moves by one."""
        if isinstance(node, tuple):
            for item in node:
                self.find_written(item)
        elif isinstance(node, Node):
            if isinstance(node, Assignment) and node.name in self.filled:
                self._note_written(node)
            for item in fields(node):
                if item.name != "position":
                    self.find_written(getattr(node, item.name))

    def _note_written(self, node: Assignment) -> None:
        where = self._first_position(node.indices)
        if where is None or len(where) < 2:
            raise _NotLagged(node.name)
        steps = np.diff(where)
        known = self.written.setdefault(node.name, where)
        if abs(steps[0]) != 1 or (steps != steps[0]).any() or (known != where).any():
            raise _NotLagged(node.name)

    def _first_position(self, groups: tuple[tuple[Any, ...], ...]) -> np.ndarray | None:
        if not groups or not groups[0] or not isinstance(groups[0][0], Single):
            return None
        return self.positions(groups[0][0].expression)

    def visit(self, node: Any) -> Any:
        if isinstance(node, tuple):
            return tuple(self.visit(item) for item in node)
        if not isinstance(node, Node):
            return node
        if isinstance(node, Variable) and node.name in self.filled:
            raise _NotLagged(node.name)
        if isinstance(node, Index) and isinstance(node.base, Variable):
            return self._visit_index(node, node.base.name)
        changed = {
            item.name: self.visit(getattr(node, item.name))
            for item in fields(node)
            if item.name != "position"
        }
        if isinstance(node, Assignment) and node.name in self.filled:
            first, *others = changed["indices"]
            groups = (tuple(first[1:]), *others)
            changed["indices"] = tuple(group for group in groups if group)
            changed["name"] = lagged_name(node.name, 0)
        return replace(node, **changed)

    def _visit_index(self, node: Index, name: str) -> Expression:
        first, *rest = node.indices
        indices = tuple(self.visit(item) for item in rest)
        where = self.positions(first.expression) if isinstance(first, Single) else None
        if name in self.filled:
            if where is None or name not in self.written:
                raise _NotLagged(name)
            standing: Expression = Variable(self._lag(name, where), position=node.position)
        elif name in self.readable and where is not None:
            standing = Variable(self._stream(name, where), position=node.position)
        else:
            return Index(
                Variable(name, position=node.base.position),
                (self.visit(first), *indices),
                position=node.position,
            )
        return Index(standing, indices, position=node.position) if indices else standing

    def _stream(self, name: str, where: np.ndarray) -> str:
        for key, known in self.streams.items():
            if known.array == name and np.array_equal(known.positions, where):
                return key
        key = f"{name}@in{len(self.streams)}"
        self.streams[key] = Stream(name, where)
        return key

    def _lag(self, name: str, where: np.ndarray) -> str:
        written = self.written[name]
        lags = (written - where) * (written[1] - written[0])
        lag = int(lags[0])
        if lag < 0 or (lags != lag).any():
            raise _NotLagged(name)
        self.lags[name] = max(lag, self.lags.get(name, 0))
        return lagged_name(name, lag)
