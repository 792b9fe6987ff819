"""Statements, for all rows of a level at once.

A list of statements ends with an `Outcome` where it returns, breaks or continues; a condition that
differs between rows splits them, and a condition on parameters is followed both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import densities
from .analysis import accumulation, exits, leaves, size_of
from .constraints import Declared
from .errors import LoweringError, NotBatchable, UnsupportedStanError
from .functions.operators import binary
from .library import library
from .selection import merged_back, merged_rows, selected, truth_of
from .syntax import (
    Assignment,
    Block,
    Break,
    CallStatement,
    Continue,
    Declaration,
    Empty,
    Expression,
    For,
    ForEach,
    If,
    Reject,
    Return,
    SizedType,
    Statement,
    TargetIncrement,
    Tilde,
    While,
)
from .values import INT, Level, Value, at_level, branch_rows, branch_where, uniform_int

if TYPE_CHECKING:
    from .interpreter import Interpreter


@dataclass(frozen=True)
class Returned:
    """A function returned; the value is None for a void function."""

    value: Value | None


class Jump:
    """The iteration ended early."""


BREAK, CONTINUE = Jump(), Jump()
Outcome = Returned | Jump | None


def execute_all(run: Interpreter, statements: Sequence[Statement], level: Level | None) -> Outcome:
    """The statements in order, in the scope that the caller has opened."""
    for number, statement in enumerate(statements):
        rest = tuple(statements[number + 1 :])
        if isinstance(statement, If) and exits(statement):
            return _if(run, statement, level, rest)
        if isinstance(statement, Block) and exits(statement) and rest:
            with run.memory.scope():
                return execute_all(run, (*statement.statements, *rest), level)
        outcome = execute(run, statement, level)
        if outcome is not None:
            return outcome
    return None


def execute(run: Interpreter, statement: Statement, level: Level | None) -> Outcome:
    """One statement for the rows of ``level``.

    Raises
    ------
    UnsupportedStanError
        With the position of the innermost construct that is not lowered.
    NotBatchable
        If the iterations that the rows are cannot be executed at once.
    """
    try:
        return _execute(run, statement, level)
    except LoweringError as error:
        raise error.at(statement.position) from None


def _execute(run: Interpreter, statement: Statement, level: Level | None) -> Outcome:
    match statement:
        case Declaration():
            _declare(run, statement, level)
        case Assignment():
            _assign(run, statement, level)
        case TargetIncrement(value):
            run.increment_target(value, level)
        case Tilde():
            _tilde(run, statement, level)
        case Block(statements):
            with run.memory.scope():
                return execute_all(run, statements, level)
        case If():
            return _if(run, statement, level, ())
        case For() | ForEach():
            return run.loop(statement, level)
        case While():
            return _while(run, statement, level)
        case Return(value):
            return Returned(None if value is None else run.evaluate(value, level))
        case Break():
            return BREAK
        case Continue():
            return CONTINUE
        case CallStatement(call):
            run.call_statement(call, level)
        case Reject():
            run.require(Value(INT, np.int64(0)), level)
        case Empty():
            pass
    return None


# -- variables ------------------------------------------------------------------------------------


def declared(run: Interpreter, type: SizedType, level: Level | None, bounds: bool = False) -> Declared:
    """The declared type with its sizes, and with its bounds if they matter."""
    arrays = tuple(_size(run, size, level) for size in type.array)
    dims = tuple(_size(run, size, level) for size in type.dims)
    found = {name: run.evaluate(bound, level).data for name, bound in type.constraints} if bounds else {}
    return Declared(type.base, arrays, dims, found)


def _size(run: Interpreter, node: Expression, level: Level | None) -> int:
    size = uniform_int(run.evaluate(node, level), "a size")
    if size < 0:
        raise UnsupportedStanError(f"a size of {size}", node.position)
    return size


def _declare(run: Interpreter, statement: Declaration, level: Level | None) -> None:
    initial = None if statement.initial is None else run.evaluate(statement.initial, level)
    resolved = declared(run, statement.type, level)
    run.memory.declare(statement.name, resolved.type, resolved.shape, level)
    if initial is not None:
        run.memory.write(statement.name, [], initial, level)


def _assign(run: Interpreter, statement: Assignment, level: Level | None) -> None:
    name = statement.name
    shape = run.memory.storage(name, level).shape
    found = accumulation(statement)
    if found is not None and level is not None and run.memory.accumulates(name, level):
        entries, left = run.leading_entries(shape, found.indices, level)
        if not left:
            run.memory.add(name, entries, run.evaluate(found.value, level), found.sign, level)
            return
    entries, left = run.leading_entries(shape, statement.indices, level)
    if left:
        raise UnsupportedStanError(f"an assignment to a part of a part of {name!r}")
    value = run.evaluate(statement.value, level)
    if statement.operator != "=":
        before = run.memory.read_elements(name, entries, level)
        value = binary(statement.operator.removesuffix("="), before, value)
    run.memory.write(name, entries, value, level)


# -- the target -----------------------------------------------------------------------------------


def _tilde(run: Interpreter, statement: Tilde, level: Level | None) -> None:
    """``y ~ f(a)`` adds log f(y | a) without the terms that are constant, as Stan does."""
    name = statement.distribution
    arguments = [run.argument(node, level) for node in (statement.left, *statement.arguments)]
    for suffix in ("_lpdf", "_lpmf", "_log"):
        if name + suffix in run.functions:
            called = name + ("_lupmf" if suffix == "_lpmf" else "_lupdf")
            run.add_target(run.call_own(name + suffix, called, arguments, level), level)
            break
    else:
        found = library(densities.evaluate, name, arguments)
        run.add_density(found, drop=run.drops_constants, level=level)
    if statement.truncation is not None:
        _truncate(run, statement, arguments, level)


def _truncate(run: Interpreter, statement: Tilde, arguments: list[Value], level: Level | None) -> None:
    """``T[a, b]`` subtracts log P(a ≤ y ≤ b), and the density is 0 outside (for every element of y)."""
    assert statement.truncation is not None
    lower, upper = statement.truncation
    variate, *parameters = arguments
    if variate.rank:
        raise UnsupportedStanError("truncation of a distribution of several variates")
    name, discrete = statement.distribution, variate.kind == "int"

    def mass(function: str, bound: Value) -> Value:
        return run.builtin(f"{name}_{function}", [bound, *parameters], level)

    low = None if lower is None else run.evaluate(lower, level)
    high = None if upper is None else run.evaluate(upper, level)
    if low is not None:
        run.require(binary(">=", variate, low), level)
    if high is not None:
        run.require(binary("<=", variate, high), level)
    below = None if low is None else (binary("-", low, Value(INT, np.int64(1))) if discrete else low)
    if below is not None and high is not None:
        size = run.builtin("log_diff_exp", [mass("lcdf", high), mass("lcdf", below)], level)
    elif below is not None:
        size = mass("lccdf", below)
    elif high is not None:
        size = mass("lcdf", high)
    else:
        return
    run.add_target(size, level, factor=-1)


# -- branches -------------------------------------------------------------------------------------


def _if(run: Interpreter, node: If, level: Level | None, rest: tuple[Statement, ...]) -> Outcome:
    """The branch, followed by ``rest`` if the branch may leave the list that it stands in."""
    condition = run.evaluate(node.condition, level)
    yes = (node.then, *rest)
    no = rest if node.otherwise is None else (node.otherwise, *rest)
    twice = not (leaves(node.then) or leaves(node.otherwise))
    if rest and twice and (not condition.concrete or condition.level is not None):
        run.tick(node, sum(map(size_of, rest)))  # both branches may go on to execute it
    if not condition.concrete:
        return _if_on_parameters(run, condition, yes, no, level)
    if condition.level is None:
        return _branch(run, yes if condition.data else no, level)
    assert level is not None
    truth = np.broadcast_to(np.asarray(at_level(condition, level)) != 0, level.size)
    if truth.all() or not truth.any():
        return _branch(run, yes if truth.all() else no, level)
    parts = []
    for rows, statements in ((np.flatnonzero(truth), yes), (np.flatnonzero(~truth), no)):
        inner = branch_rows(level, rows)
        parts.append((rows, inner, _branch(run, statements, inner)))
    outcomes = [outcome for _, _, outcome in parts]
    if all(isinstance(outcome, Returned) for outcome in outcomes):
        values = [
            (rows, inner, outcome.value)
            for rows, inner, outcome in parts
            if isinstance(outcome, Returned) and outcome.value is not None
        ]
        return Returned(merged_rows(level, values) if values else None)
    return _same(outcomes, NotBatchable("iterations leave the loop, or the function, at different places"))


def _if_on_parameters(
    run: Interpreter,
    condition: Value,
    yes: tuple[Statement, ...],
    no: tuple[Statement, ...],
    level: Level | None,
) -> Outcome:
    truth = truth_of(condition, level)
    taken, other = branch_where(level, truth), branch_where(level, ~truth)
    outcomes = [_branch(run, yes, taken), _branch(run, no, other)]
    first, second = outcomes
    if isinstance(first, Returned) and isinstance(second, Returned):
        if first.value is None or second.value is None:
            return Returned(None)
        one = merged_back(first.value, taken, level)
        two = merged_back(second.value, other, level)
        return Returned(selected(condition, one, two))
    unsupported = UnsupportedStanError("leaving a loop under a condition that depends on parameters")
    return _same(outcomes, unsupported)


def _branch(run: Interpreter, statements: tuple[Statement, ...], level: Level | None) -> Outcome:
    with run.memory.scope():
        return execute_all(run, statements, level)


def _same(outcomes: Sequence[Outcome], otherwise: Exception) -> Outcome:
    """The outcome that all branches have; having executed the rest is as good as `CONTINUE`."""
    if all(outcome is None or outcome is CONTINUE for outcome in outcomes):
        return CONTINUE if CONTINUE in outcomes else None
    if all(outcome is BREAK for outcome in outcomes):
        return BREAK
    raise otherwise


def _while(run: Interpreter, node: While, level: Level | None) -> Outcome:
    """A loop whose condition is known at trace time, in each row for itself."""
    all_rows = level
    while True:
        condition = run.evaluate(node.condition, level)
        if not condition.concrete:
            raise UnsupportedStanError("a while loop under a condition that depends on parameters")
        if condition.level is None:
            if not condition.data:
                return None
        else:
            assert level is not None
            going = np.broadcast_to(np.asarray(at_level(condition, level)) != 0, level.size)
            if not going.any():
                return None
            if not going.all():
                level = branch_rows(level, np.flatnonzero(going))
                continue
        run.tick(node)
        with run.memory.scope():
            outcome = execute(run, node.body, level)
        if outcome is BREAK:
            return None
        if isinstance(outcome, Returned):
            if level is not all_rows:
                raise NotBatchable("iterations leave the function at different places")
            return outcome
