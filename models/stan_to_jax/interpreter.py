"""A program in execution: its variables, the target so far, and how its loops were compiled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from . import calls, expressions, loops, statements
from .densities import Evaluation, Shared
from .errors import NotBatchable, UnsupportedStanError
from .functions.operators import binary
from .indexing import Entry
from .memory import Memory
from .numeric import namespace
from .selection import selected
from .syntax import Call, Expression, For, ForEach, Function, Node, Position, Range, Single, Statement
from .values import REAL, Level, Value, at_level, rows_within, with_rows

MAX_UNROLLED = 20_000
"""Simple statements that unrolled loops may come to: beyond, compilation would take minutes."""


@dataclass(frozen=True)
class LoopReport:
    """How one loop was compiled."""

    position: Position
    variable: str
    iterations: int
    """All of them, those of nested loops together."""
    mode: str
    """``"batch"``, ``"scan"`` or ``"unroll"``"""
    reason: str = ""
    """Why it is no batch (and no scan)."""


class Interpreter:
    """Executes statements and collects what they add to the target.

    One execution, one instance. ``traced`` says whether parameters are in play: transformed data are
    plain numpy, and their loops need no compiling.
    """

    def __init__(self, functions: Mapping[str, Sequence[Function]], memory: Memory, *, traced: bool) -> None:
        self.functions = functions
        self.memory = memory
        self.traced = traced
        self.target: list[Any] = []
        self.conditions: list[Any] = []
        """Truth values, all of which must hold where the density is not 0."""
        self.reports: list[LoopReport] = []
        self.drops_constants = True
        self.scanning = False
        """Within a scan's step, where data are traced and constants cannot be told from what is none."""
        self.call_depth = 0
        self.call_path: tuple[int, ...] = ()
        self.sequential: dict[tuple[Any, ...], str] = {}
        """Loops that are known not to be batchable, with the reason."""
        self.kept: list[Node] = []
        """Nodes made on the way: loops are known by their identity, which must not be given away again."""
        self._unrolled = 0

    def log_density(self) -> Any:
        """The sum of the target's increments, −inf where Stan rejects."""
        total: Any = 0.0
        for increment in self.target:
            total = total + increment
        if not self.conditions:
            return total
        return jnp.where(jnp.stack([jnp.asarray(c, bool) for c in self.conditions]).all(), total, -jnp.inf)

    # -- parts ------------------------------------------------------------------------------------

    def evaluate(self, node: Expression, level: Level | None) -> Value:
        return expressions.evaluate(self, node, level)

    def argument(self, node: Expression, level: Level | None) -> Value:
        return expressions.argument_value(self, node, level)

    def execute_all(self, nodes: Sequence[Statement], level: Level | None) -> statements.Outcome:
        return statements.execute_all(self, nodes, level)

    def loop(self, node: For | ForEach, level: Level | None) -> statements.Outcome:
        return loops.execute_loop(self, node, level)

    def builtin(self, name: str, arguments: Sequence[Value], level: Level | None) -> Value:
        return expressions.builtin(self, name, arguments, level)

    def leading_entries(
        self,
        shape: tuple[int, ...],
        groups: Sequence[tuple[Single | Range, ...]],
        level: Level | None,
    ) -> tuple[list[Entry], list[tuple[Single | Range, ...]]]:
        return expressions.leading_entries(self, shape, groups, level)

    def call_own(self, name: str, called: str, arguments: Sequence[Value], level: Level | None) -> Value:
        """One of the program's own functions that has a value; ``called`` says how it was spelled."""
        found = calls.find_function(self, name, arguments)
        if found is None:
            raise UnsupportedStanError(f"the function {name!r}")
        result = calls.call_function(self, found, called, arguments, level)
        if result is None:
            raise UnsupportedStanError(f"the value of the void function {name!r}")
        return result

    def call_statement(self, call: Call, level: Level | None) -> None:
        """A call for its effect: a void function of the program."""
        arguments = [self.argument(argument, level) for argument in call.arguments]
        found = calls.find_function(self, call.name, arguments)
        if found is None:
            raise UnsupportedStanError(f"the function {call.name!r} as a statement")
        calls.call_function(self, found, call.name, arguments, level)

    # -- the target -------------------------------------------------------------------------------

    def increment_target(self, node: Expression, level: Level | None) -> None:
        expressions.increment_target(self, node, level)

    def add_target(self, value: Value, level: Level | None, factor: Any = 1) -> None:
        """Adds ``factor`` times all elements, once for every row of ``level`` that its branch takes."""
        xp = namespace(value.data)
        axes = tuple(range(0 if value.level is None else 1, np.ndim(value.data)))
        data = xp.sum(value.data, axis=axes) if axes else value.data
        summed = Value(REAL, data, value.level)
        if level is None:
            increment = data
        elif level.mask is not None:
            increment = jnp.sum(jnp.where(level.mask, with_rows(summed, level), 0.0))
        elif value.level is None:
            increment = data * float(level.size)
        elif value.level is level:
            increment = xp.sum(data)
        else:
            times = np.bincount(rows_within(level, value.level), minlength=value.level.size)
            increment = xp.sum(data * times.astype(float))
        self.target.append(factor * increment)

    def add_density(self, found: Evaluation, *, drop: bool, level: Level | None) -> None:
        """Adds the terms of a density, the constant ones only if they are not to be dropped."""
        for term in found.terms:
            if drop and term.concrete:
                continue
            if not isinstance(term, Shared):
                self.add_target(term, level)
            elif level is not None and level.mask is not None:
                self.add_target(term.product(), level)  # the factor may be infinite where no row counts
            elif term.total is not None and term.rows.level is level:
                self.target.append(term.factor * term.total)
            else:
                self.add_target(term.rows, level, factor=term.factor)
        for condition in (*found.support, *found.valid):
            self.require(condition, level)

    def density_value(self, found: Evaluation, *, drop: bool, level: Level | None) -> Value:
        """A density as a value: −inf outside of its support; a parameter that is not valid rejects."""
        for condition in found.valid:
            self.require(condition, level)
        total = Value(REAL, np.float64(0.0))
        for term in found.values(constants=not drop):
            total = binary("+", total, term)
        for condition in found.support:
            total = selected(condition, total, Value(REAL, np.float64(-np.inf)))
        return total

    def require(self, condition: Value, level: Level | None) -> None:
        """Where a row that is taken does not meet the condition, the density is 0."""
        data = condition.data if level is None else at_level(condition, level)
        met = data != 0
        if condition.concrete and np.all(met):
            return
        xp = namespace(met)
        if condition.level is not None and condition.rank:
            met = met.reshape(met.shape[0], -1).all(axis=1)
        elif condition.rank:
            met = xp.all(met)
        if level is not None and level.mask is not None:
            met = met | ~level.mask
        self.conditions.append(namespace(met).all(met))

    # -- contexts ---------------------------------------------------------------------------------

    @contextmanager
    def attempt(self, level: Level | None) -> Iterator[None]:
        """All is as before if the block raises `NotBatchable` or `UnsupportedStanError`."""
        lengths = len(self.target), len(self.conditions), len(self.reports)
        state = self.drops_constants, self.call_depth, self.call_path, self._unrolled
        try:
            with self.memory.attempt(level):
                yield
        except (NotBatchable, UnsupportedStanError):
            for collected, length in zip((self.target, self.conditions, self.reports), lengths, strict=True):
                del collected[length:]
            self.drops_constants, self.call_depth, self.call_path, self._unrolled = state
            raise

    @contextmanager
    def calling(self, function: Function, drops_constants: bool) -> Iterator[None]:
        """Within a function of the program."""
        before = self.drops_constants, self.call_depth, self.call_path
        self.drops_constants = drops_constants
        self.call_depth += 1
        self.call_path = (*self.call_path, id(function))
        try:
            yield
        finally:
            self.drops_constants, self.call_depth, self.call_path = before

    @contextmanager
    def collecting(self) -> Iterator[tuple[list[Any], list[Any]]]:
        """The increments and conditions of the block go to two lists of their own."""
        before = self.target, self.conditions
        self.target, self.conditions = [], []
        try:
            yield self.target, self.conditions
        finally:
            self.target, self.conditions = before

    @contextmanager
    def apart(self) -> Iterator[None]:
        """A program within the program (a differential equation), which must not reject."""
        with self.collecting() as (target, conditions):
            yield
            if target or conditions:
                raise UnsupportedStanError("target += or a rejection within a differential equation")

    # -- bookkeeping ------------------------------------------------------------------------------

    def report(self, node: For | ForEach, iterations: int, mode: str, reason: str = "") -> None:
        """Notes how a loop was compiled; what is executed again and again is noted once."""
        for number, known in enumerate(self.reports):
            if known.position == node.position and known.mode == mode:
                self.reports[number] = replace(known, iterations=max(iterations, known.iterations))
                return
        self.reports.append(LoopReport(node.position, node.variable, iterations, mode, reason))

    def tick(self, node: Node, statements: int = 1) -> None:
        """Counts what is unrolled.

        Raises
        ------
        UnsupportedStanError
            If it has become too much.
        """
        if not self.traced:
            return
        self._unrolled += statements
        if self._unrolled > MAX_UNROLLED:
            raise UnsupportedStanError(
                f"loops and branches that come to more than {MAX_UNROLLED} statements in order,",
                node.position,
            )
