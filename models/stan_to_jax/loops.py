"""Loops: all iterations at once if that is right, else a compiled scan, else one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .analysis import breaks, effects, names_in, size_of
from .counters import counters_of, run_ahead
from .dependence import LoopLevel
from .errors import NotBatchable, Ragged, UnsupportedStanError
from .indexing import At, take
from .statements import BREAK, Outcome, Returned, execute
from .syntax import For, ForEach, Statement
from .values import INT, Level, Type, Value, at_level, branch_rows, integer, rows_within

if TYPE_CHECKING:
    from .interpreter import Interpreter

MAX_UNROLL = 12
"""Loops of no more iterations are unrolled rather than scanned: XLA then sees them whole."""
MAX_GROUPS = 64
"""Groups of iterations with the same sizes that a batch may fall into."""


@dataclass(frozen=True, eq=False)
class Iterations:
    """What a loop runs over: per row of the level around it, from ``first`` to ``last``."""

    node: For | ForEach
    level: Level | None
    first: np.ndarray
    """``i[rows]``, with one row at the top."""
    last: np.ndarray
    sequence: Value | None
    """What a foreach loop takes its elements from."""

    @property
    def changing(self) -> bool:
        """The body assigns what a foreach loop takes its elements from: each iteration takes them anew."""
        if not isinstance(self.node, ForEach):
            return False
        return not effects(self.node.body).assigned.isdisjoint(names_in(self.node.sequence))

    @property
    def counts(self) -> np.ndarray:
        return np.maximum(self.last - self.first + 1, 0)

    @property
    def aligned(self) -> bool:
        """All rows run over the same numbers."""
        return bool((self.first == self.first[0]).all() and (self.last == self.last[0]).all())

    def numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows of all iterations, in order: ``(row of the level around, loop variable)``."""
        counts = self.counts
        rows = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return rows, self.first[rows] + within

    def bind(self, run: Interpreter, number: Value, level: Level | None) -> None:
        """Declares the loop's variable."""
        value = number
        if self.sequence is not None:
            value = take(self.sequence, [At(Value(INT, number.data - 1, number.level))])
        run.memory.declare(self.node.variable, value.type, value.shape, level, value)


def execute_loop(run: Interpreter, node: For | ForEach, level: Level | None) -> Outcome:
    """The loop for all rows of ``level``."""
    iterations = _iterations(run, node, level)
    if not iterations.counts.any():
        return None
    key = (id(node), 0 if level is None else level.depth, run.call_path)
    reason = run.sequential.get(key)
    if reason is None:
        try:
            with run.attempt(level):
                _batch(run, iterations, {})
            return None
        except (NotBatchable, UnsupportedStanError) as error:
            reason = _reason(error)
        counters = counters_of(run, iterations)
        if counters:
            try:
                with run.attempt(level):
                    _batch(run, iterations, run_ahead(run, iterations, counters))
                return None
            except (NotBatchable, UnsupportedStanError) as error:
                reason = f"{reason}; with {', '.join(counters)} computed beforehand: {_reason(error)}"
        run.sequential[key] = reason
    if not run.traced or _is_concrete(run, node, level):
        return _in_order(run, iterations, reason, counted=False)
    if iterations.counts.max() > MAX_UNROLL and not breaks(node.body) and not iterations.changing:
        from .scan import scan

        try:
            with run.attempt(level):
                scan(run, iterations)
                run.report(node, int(iterations.counts.max()), "scan", reason)
            return None
        except (NotBatchable, UnsupportedStanError) as error:
            reason = f"{reason}; no scan: {_reason(error)}"
    return _in_order(run, iterations, reason, counted=True)


def _reason(error: NotBatchable | UnsupportedStanError) -> str:
    return error.reason if isinstance(error, UnsupportedStanError) else str(error)


def _iterations(run: Interpreter, node: For | ForEach, level: Level | None) -> Iterations:
    if isinstance(node, ForEach):
        sequence = run.evaluate(node.sequence, level)
        if sequence.arrays == 0 and sequence.rank:
            sequence = _elements(sequence)
        lower, upper = integer(1), integer(sequence.shape[0])
    else:
        sequence = None
        lower, upper = run.evaluate(node.lower, level), run.evaluate(node.upper, level)
    if not (lower.concrete and upper.concrete):
        raise UnsupportedStanError("a loop whose bounds depend on parameters or on a scan's variable")
    rows = 1 if level is None else level.size
    first, last = (np.broadcast_to(at_level(bound, level), rows) for bound in (lower, upper))
    return Iterations(node, level, first, last, sequence)


def _elements(sequence: Value) -> Value:
    """A vector, row vector or matrix as an array of reals.

    A matrix goes row by row, as the compiler has it; the reference manual says column by column.
    """
    data = sequence.data
    if sequence.kind == "matrix":
        data = data.reshape((*data.shape[: data.ndim - 2], -1))
    return Value(Type("real", 1), data, sequence.level)


# -- at once --------------------------------------------------------------------------------------


def _batch(run: Interpreter, iterations: Iterations, counters: Mapping[str, np.ndarray]) -> None:
    """``counters`` are the ints, by row, that variables of that name hold as an iteration begins."""
    node = iterations.node
    if breaks(node.body):
        raise NotBatchable("iterations may end the loop")
    if iterations.changing:
        raise NotBatchable("iterations assign what the loop runs over")
    rows, numbers = iterations.numbers()
    found = effects(node.body)
    loop = LoopLevel(
        iterations.level,
        len(rows),
        rows,
        loop=True,
        assigned=found.assigned,
        accumulated=found.accumulated,
    )
    with run.memory.scope():
        iterations.bind(run, Value(INT, numbers, loop), loop)
        for name, values in counters.items():
            run.memory.declare(name, INT, (), loop, Value(INT, values, loop))
        _execute_rows(run, node.body, loop)
    run.memory.close(loop)
    run.report(node, len(rows), "batch")


def _execute_rows(run: Interpreter, body: Statement, rows: Level) -> None:
    """The body for all rows at once; where sizes differ between them, group by group of equal sizes."""
    try:
        with run.attempt(rows), run.memory.scope():
            execute(run, body, rows)
        return
    except Ragged as error:
        sizes = _sizes_here(error, rows)
        groups = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
        if not 2 <= len(groups) <= MAX_GROUPS:
            raise NotBatchable(f"sizes differ in {len(groups)} ways between iterations") from None
    for group in groups:
        _execute_rows(run, body, branch_rows(rows, group))


def _sizes_here(error: Ragged, rows: Level) -> np.ndarray:
    """The error's sizes as one number per row of ``rows``, which must be the loop that they differ in."""
    inner = error.level
    assert isinstance(inner, Level)
    outer: Level | None = inner
    while outer is not rows:
        if outer is None or outer.loop:
            raise error
        outer = outer.parent
    sizes = np.full(rows.size, -1)
    sizes[rows_within(inner, rows)] = error.sizes
    return sizes


# -- in order -------------------------------------------------------------------------------------


def _in_order(run: Interpreter, iterations: Iterations, reason: str, *, counted: bool) -> Outcome:
    node, level = iterations.node, iterations.level
    counts = iterations.counts
    run.report(node, int(counts.max()), "unroll", reason)
    for number in range(int(counts.max())):
        if counted:
            run.tick(node, size_of(node.body))
        inner = level
        values = iterations.first + number
        if (counts <= number).any():
            assert level is not None
            rows = np.flatnonzero(counts > number)
            inner, values = branch_rows(level, rows), values[rows]
        same = bool((values == values[0]).all())
        value = integer(int(values[0])) if same else Value(INT, values, inner)
        if iterations.changing:
            iterations = _iterations(run, node, level)
        with run.memory.scope():
            iterations.bind(run, value, inner)
            outcome = execute(run, node.body, inner)
        if outcome is BREAK:
            if inner is not level:
                raise NotBatchable("iterations end the loop at different places")
            return None
        if isinstance(outcome, Returned):
            if inner is not level:
                raise NotBatchable("iterations leave the function at different places")
            return outcome
    return None


def _is_concrete(run: Interpreter, node: For | ForEach, level: Level | None) -> bool:
    """Whether the loop deals with data only: then it is executed here and now, not compiled."""
    found = effects(node.body)
    if found.changes_target:
        return False
    names = (found.read | found.assigned) & run.memory.variables.keys()
    return all(run.memory.storage(name, level).content().concrete for name in names)
