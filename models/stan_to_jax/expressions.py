"""Expressions: from the syntax tree to values, at any level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import densities, functions, ode
from .analysis import names_in
from .calls import call_function, find_function
from .errors import LoweringError, NotBatchable, Ragged, UnsupportedStanError
from .functions.operators import binary, unary
from .indexing import NOTHING, At, Entry, Many, Span, take
from .library import library
from .numeric import is_concrete, namespace
from .selection import merged_back, merged_rows, selected, truth_of
from .slices import as_index, padded_sum
from .static_types import is_int
from .syntax import (
    ArrayLiteral,
    Binary,
    Call,
    Conditional,
    Expression,
    Index,
    Number,
    Range,
    RowLiteral,
    Single,
    TargetValue,
    Unary,
    Variable,
)
from .updates import promoted
from .values import (
    INT,
    Level,
    Type,
    Value,
    aligned,
    branch_rows,
    branch_where,
    deepest,
    integer,
    real,
    uniform_int,
    with_rows,
)

if TYPE_CHECKING:
    from .interpreter import Interpreter


def evaluate(run: Interpreter, node: Expression, level: Level | None) -> Value:
    """The value of an expression for the rows of ``level``; what it costs a row is shared where it can be.

    Raises
    ------
    UnsupportedStanError
        With the position of the innermost construct that is not lowered.
    """
    try:
        return _evaluate(run, node, level)
    except LoweringError as error:
        raise error.at(node.position) from None


def _evaluate(run: Interpreter, node: Expression, level: Level | None) -> Value:
    match node:
        case Number(value):
            return integer(value) if isinstance(value, int) else real(value)
        case Variable(name):
            return run.memory.read(name, level)
        case Index():
            return _index(run, node, level)
        case Unary(operator, operand):
            return unary(operator, evaluate(run, operand, level))
        case Binary("&&" | "||"):
            return _logical(run, node, level)
        case Binary(operator, left, right):
            return binary(operator, evaluate(run, left, level), evaluate(run, right, level))
        case Conditional():
            return _conditional(run, node, level)
        case Call():
            return _call(run, node, level)
        case ArrayLiteral(elements):
            return _literal([evaluate(run, element, level) for element in elements], array=True)
        case RowLiteral(elements):
            return _literal([evaluate(run, element, level) for element in elements], array=False)
        case TargetValue():
            raise UnsupportedStanError("target() as a value")


# -- indices --------------------------------------------------------------------------------------


def _index(run: Interpreter, node: Index, level: Level | None) -> Value:
    groups: list[tuple[Single | Range, ...]] = []
    base: Expression = node
    while isinstance(base, Index):
        groups.insert(0, base.indices)
        base = base.base
    if isinstance(base, Variable):
        shape = run.memory.storage(base.name, level).shape
        first, rest = leading_entries(run, shape, groups, level)
        value = run.memory.read_elements(base.name, first, level)
    else:
        value, rest = evaluate(run, base, level), groups
    while rest:
        first, rest = leading_entries(run, value.shape, rest, level)
        value = take(value, first)
    return value


def leading_entries(
    run: Interpreter,
    shape: tuple[int, ...],
    groups: Sequence[tuple[Single | Range, ...]],
    level: Level | None,
) -> tuple[list[Entry], list[tuple[Single | Range, ...]]]:
    """Entries of the groups that act at once, and the groups left: ``x[1][2:3]`` is ``x[1, 2:3]``.

    A group after one that keeps a dimension (``x[2:3][1]``) indexes that one's result.
    """
    entries: list[Entry] = []
    left = list(groups)
    while left and all(isinstance(entry, At) for entry in entries):
        for item in left.pop(0):
            if len(entries) >= len(shape):
                raise UnsupportedStanError("more indices than dimensions", item.position)
            entries.append(_entry(run, item, shape[len(entries)], level))
    return entries, left


def _entry(run: Interpreter, item: Single | Range, size: int, level: Level | None) -> Entry:
    if isinstance(item, Single):
        index = evaluate(run, item.expression, level)
        from_zero = Value(index.type, index.data - 1, index.level)
        return Many(from_zero) if index.arrays else At(from_zero)
    if item.lower is None and item.upper is None:
        return Span(0, size)
    lower = integer(1) if item.lower is None else evaluate(run, item.lower, level)
    upper = integer(size) if item.upper is None else evaluate(run, item.upper, level)
    if lower.level is None and upper.level is None:
        start, stop = uniform_int(lower, "a range's lower end") - 1, uniform_int(upper, "a range's upper end")
        return Span(start, stop) if stop > start else NOTHING
    if not is_concrete(lower.data, upper.data):
        raise UnsupportedStanError("a range whose ends depend on parameters")
    rows, _, (low, high) = aligned([lower, upper])
    assert rows is not None
    low, high = np.broadcast_to(low, rows.size), np.broadcast_to(high, rows.size)
    sizes = np.maximum(high - low + 1, 0)
    if (low == low[0]).all() and (high == high[0]).all():
        return Span(int(low[0]) - 1, int(high[0])) if sizes[0] else NOTHING
    if (sizes != sizes[0]).any():
        raise Ragged(rows, sizes)
    return Many(Value(Type("int", 1), (low - 1)[:, None] + np.arange(sizes[0]), rows))


# -- choices --------------------------------------------------------------------------------------


def _logical(run: Interpreter, node: Binary, level: Level | None) -> Value:
    """``&&`` and ``||``: the right side is evaluated only in rows where the left side leaves it open."""
    left = evaluate(run, node.left, level)
    settled = 0 if node.operator == "&&" else 1
    if not left.concrete:
        open_rows = branch_where(level, (truth_of(left, level) != bool(settled)))
        right = merged_back(evaluate(run, node.right, open_rows), open_rows, level)
        return binary(node.operator, left, right)
    truth = np.asarray(left.data) != 0
    if left.level is None:
        if bool(truth) == bool(settled):
            return integer(settled)
        return binary(node.operator, left, evaluate(run, node.right, level))
    assert level is not None
    rows = np.flatnonzero(truth_of(left, level) != bool(settled))
    if rows.size == 0:
        return Value(INT, np.full(level.size, settled), level)
    if rows.size == level.size:
        return binary(node.operator, left, evaluate(run, node.right, level))
    inner = branch_rows(level, rows)
    right = binary("!=", evaluate(run, node.right, inner), integer(0))
    others = np.setdiff1d(np.arange(level.size), rows)
    return merged_rows(level, [(rows, inner, right), (others, branch_rows(level, others), integer(settled))])


def _conditional(run: Interpreter, node: Conditional, level: Level | None) -> Value:
    condition = evaluate(run, node.condition, level)
    if not condition.concrete:
        truth = truth_of(condition, level)
        yes_level, no_level = branch_where(level, truth), branch_where(level, ~truth)
        yes = merged_back(evaluate(run, node.yes, yes_level), yes_level, level)
        no = merged_back(evaluate(run, node.no, no_level), no_level, level)
        return selected(condition, yes, no)
    if condition.level is None:
        return _only_branch(run, node, bool(condition.data), level)
    assert level is not None
    truth = truth_of(condition, level)
    yes_rows, no_rows = np.flatnonzero(truth), np.flatnonzero(~truth)
    if yes_rows.size == 0 or no_rows.size == 0:
        return _only_branch(run, node, no_rows.size == 0, level)
    parts = []
    for rows, branch in ((yes_rows, node.yes), (no_rows, node.no)):
        inner = branch_rows(level, rows)
        parts.append((rows, inner, evaluate(run, branch, inner)))
    return merged_rows(level, parts)


def _only_branch(run: Interpreter, node: Conditional, condition: bool, level: Level | None) -> Value:
    """The branch that all rows take, as a real where the other one is."""
    taken, other = (node.yes, node.no) if condition else (node.no, node.yes)
    value = evaluate(run, taken, level)
    if value.kind == "int" and not is_int(run, other, level):
        return promoted(value, Type("real", value.arrays))
    return value


# -- calls and literals ---------------------------------------------------------------------------


def _call(run: Interpreter, node: Call, level: Level | None) -> Value:
    name = node.name
    if ode.known(name):
        return _solve_ode(run, node, level)
    if name in ("reduce_sum", "reduce_sum_static"):
        return _reduce_sum(run, node, level)
    if name not in run.functions:
        part = as_index(node)
        if part is not node:
            return evaluate(run, part, level)
        if name in _SHAPES and len(node.arguments) == 1 and isinstance(node.arguments[0], Variable):
            return _shape(run, name, node.arguments[0].name, level)
        padded = padded_sum(run, node, level)
        if padded is not None:
            return padded
    arguments = [argument_value(run, argument, level) for argument in node.arguments]
    found = find_function(run, name, arguments)
    if found is not None:
        result = call_function(run, found, name, arguments, level)
        if result is None:
            raise UnsupportedStanError(f"the value of the void function {name!r}")
        return result
    return builtin(run, name, arguments, level)


def argument_value(run: Interpreter, node: Expression, level: Level | None) -> Value:
    """The value of an argument, with what Stan takes it for: a parameter, if such a variable is in it."""
    value = evaluate(run, node, level)
    known = (run.memory.variables.get(name) for name in names_in(node))
    value.autodiff = value.kind != "int" and any(found is not None and found.autodiff for found in known)
    return value


_SHAPES = ("size", "rows", "cols", "num_elements", "dims")


def _shape(run: Interpreter, name: str, variable: str, level: Level | None) -> Value:
    """A variable's size, without reading the variable."""
    storage = run.memory.storage(variable, level)
    return functions.call(name, [Value(storage.type, np.broadcast_to(0, storage.shape))])


def builtin(run: Interpreter, name: str, arguments: Sequence[Value], level: Level | None) -> Value:
    """A function, density or distribution function of the Stan library."""
    if _is_density(name):
        found, drop = _density(run, name, arguments)
        return run.density_value(found, drop=drop, level=level)
    if functions.known(name):
        return library(functions.call, name, arguments)
    if densities.known(name):
        found = library(densities.evaluate_distribution_function, name, arguments)
        return run.density_value(found, drop=False, level=level)
    raise UnsupportedStanError(f"the function {name!r}")


def _is_density(name: str) -> bool:
    return name.endswith(("_lpdf", "_lpmf", "_lupdf", "_lupmf"))


def _density(run: Interpreter, name: str, arguments: Sequence[Value]) -> tuple[densities.Evaluation, bool]:
    """A density of the Stan library, and whether the terms that are constant are dropped."""
    stem, _, suffix = name.rpartition("_")
    drop = suffix.startswith("lu") and run.drops_constants
    if drop and run.scanning:
        raise NotBatchable(f"constants that {name} leaves out")
    return library(densities.evaluate, stem, arguments), drop


def increment_target(run: Interpreter, node: Expression, level: Level | None) -> None:
    """``target += node``; of a density each term for itself, so that what all rows share is one number."""
    if isinstance(node, Call) and _is_density(node.name):
        # Evaluated once: arguments may themselves add to the target, by functions that end in _lp.
        arguments = [argument_value(run, argument, level) for argument in node.arguments]
        if find_function(run, node.name, arguments) is None:
            found, drop = _density(run, node.name, arguments)
            run.add_density(found, drop=drop, level=level)
        else:
            run.add_target(run.call_own(node.name, node.name, arguments, level), level)
    else:
        run.add_target(evaluate(run, node, level), level)


def _solve_ode(run: Interpreter, node: Call, level: Level | None) -> Value:
    system, *others = node.arguments
    if not isinstance(system, Variable):
        raise UnsupportedStanError("a system of differential equations that is no function's name")
    arguments = [evaluate(run, argument, level) for argument in others]

    def right_hand_side(inner: Sequence[Value]) -> Value:
        found = find_function(run, system.name, inner)
        if found is None:
            raise UnsupportedStanError(f"the system {system.name!r} of differential equations")
        with run.apart():
            result = call_function(run, found, system.name, list(inner), None)
        assert result is not None
        return result

    if level is not None and any(argument.level is not None for argument in arguments):
        raise NotBatchable("a differential equation is solved in every iteration")
    return ode.integrate(node.name, right_hand_side, arguments)


def _reduce_sum(run: Interpreter, node: Call, level: Level | None) -> Value:
    """``reduce_sum(f, x, grainsize, …)`` is ``f(x, 1, size(x), …)``: one slice of everything."""
    partial, sliced, _, *others = node.arguments
    if not isinstance(partial, Variable):
        raise UnsupportedStanError("reduce_sum of what is no function's name")
    whole = evaluate(run, sliced, level)
    arguments = [whole, integer(1), integer(whole.shape[0])]
    arguments += [evaluate(run, argument, level) for argument in others]
    found = find_function(run, partial.name, arguments)
    if found is None:
        return builtin(run, partial.name, arguments, level)
    result = call_function(run, found, partial.name, arguments, level)
    assert result is not None
    return result


def _literal(elements: list[Value], array: bool) -> Value:
    """``{…}`` is an array; ``[…]`` a row vector of scalars or a matrix of row vectors."""
    if not elements:
        return Value(Type("real", 1) if array else Type("row_vector"), np.zeros(0))
    level = deepest(elements)
    data = [element.data if level is None else with_rows(element, level) for element in elements]
    stacked = namespace(*data).stack(data, axis=0 if level is None else 1)
    first = elements[0]
    kind = "real" if any(element.kind == "real" for element in elements) else first.kind
    if array:
        type = Type(kind, first.arrays + 1)
    else:
        type = Type("matrix" if first.kind == "row_vector" else "row_vector")
    if type.kind != "int" and first.kind == "int":
        stacked = namespace(stacked).asarray(stacked, float)
    return Value(type, stacked, level)
