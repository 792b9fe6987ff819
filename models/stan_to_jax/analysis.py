"""Facts about statements that need no execution: what a loop's body assigns, accumulates, exits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from .syntax import (
    Assignment,
    Binary,
    Block,
    Break,
    Call,
    CallStatement,
    Continue,
    Declaration,
    Expression,
    For,
    ForEach,
    If,
    Index,
    Node,
    Range,
    Reject,
    Return,
    Single,
    Statement,
    TargetIncrement,
    Tilde,
    Unary,
    Variable,
    While,
)


@dataclass(frozen=True)
class Accumulation:
    """A statement that adds to a variable without reading it otherwise: ``x[i] += e``, ``x = x - e``."""

    name: str
    indices: tuple[tuple[Single | Range, ...], ...]
    sign: int
    value: Expression


def names_in(node: Any) -> Iterator[str]:
    """The names of all variables that occur in a node (or a tuple of nodes), repeated as they are."""
    if isinstance(node, tuple):
        for item in node:
            yield from names_in(item)
    elif isinstance(node, Node):
        if isinstance(node, Variable | Assignment):
            yield node.name
        for item in fields(node):
            if item.name != "position":
                yield from names_in(getattr(node, item.name))


def accumulation(statement: Assignment) -> Accumulation | None:
    """What the statement accumulates, or None if it is no accumulation."""
    if statement.operator in ("+=", "-="):
        sign, value = (1 if statement.operator == "+=" else -1), statement.value
    elif statement.operator == "=":
        sign, value = 1, _added_to_itself(statement)
        if value is None:
            return None
    else:
        return None
    if statement.name in names_in(value) or statement.name in names_in(statement.indices):
        return None
    return Accumulation(statement.name, statement.indices, sign, value)


def _added_to_itself(statement: Assignment) -> Expression | None:
    """e of ``x = x + e``, where x may stand anywhere in a sum."""
    itself: Expression = Variable(statement.name)
    for group in statement.indices:
        itself = Index(itself, group)
    terms = list(_summands(statement.value, 1))
    if terms.count((1, itself)) != 1 or len(terms) < 2:
        return None
    terms.remove((1, itself))
    (sign, total), *others = terms
    if sign < 0:
        total = Unary("-", total, position=total.position)
    for sign, term in others:
        total = Binary("+" if sign > 0 else "-", total, term, position=term.position)
    return total


def _summands(node: Expression, sign: int) -> Iterator[tuple[int, Expression]]:
    if isinstance(node, Binary) and node.operator in ("+", "-"):
        yield from _summands(node.left, sign)
        yield from _summands(node.right, sign if node.operator == "+" else -sign)
    else:
        yield sign, node


@dataclass(frozen=True)
class Effects:
    """What a loop's body does to variables."""

    assigned: frozenset[str]
    accumulated: frozenset[str]
    """Those that are accumulated and neither read nor assigned in any other way."""
    read: frozenset[str]
    changes_target: bool


class _ById:
    """A node as a cache's key by identity: trees are large, and equal ones may stand in different scopes."""

    def __init__(self, node: Statement) -> None:
        self.node = node

    def __hash__(self) -> int:
        return id(self.node)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.node is self.node


@lru_cache(maxsize=4096)
def _effects(holder: _ById) -> Effects:
    assigned: set[str] = set()
    sums: set[str] = set()
    others: set[str] = set()
    target = False
    for statement in statements_in(holder.node):
        if isinstance(statement, Assignment):
            found = accumulation(statement)
            assigned.add(statement.name)
            if found is None:
                others.add(statement.name)
                others.update(names_in(statement.value), names_in(statement.indices))
            else:
                sums.add(statement.name)
                others.update(names_in(found.value), names_in(found.indices))
        elif isinstance(statement, For):
            others.update(names_in(statement.lower), names_in(statement.upper))
        elif isinstance(statement, ForEach):
            others.update(names_in(statement.sequence))
        elif isinstance(statement, If | While):
            others.update(names_in(statement.condition))
        elif not isinstance(statement, Block):
            target |= isinstance(statement, TargetIncrement | Tilde | Reject | CallStatement)
            others.update(names_in(statement))
    return Effects(frozenset(assigned), frozenset(sums - others), frozenset(others), target)


def effects(body: Statement) -> Effects:
    """The effects of a statement, computed once per node."""
    return _effects(_ById(body))


def statements_in(statement: Statement | None) -> Iterator[Statement]:
    """The statement and all within it, outermost first."""
    if statement is None:
        return
    yield statement
    if isinstance(statement, Block):
        for inner in statement.statements:
            yield from statements_in(inner)
    elif isinstance(statement, For | ForEach | While):
        yield from statements_in(statement.body)
    elif isinstance(statement, If):
        yield from statements_in(statement.then)
        yield from statements_in(statement.otherwise)


def returns(statement: Statement) -> bool:
    """Whether a ``return`` stands anywhere within."""
    return any(isinstance(inner, Return) for inner in statements_in(statement))


def exits(statement: Statement) -> bool:
    """Whether it may leave the statements it stands among: by ``return``, or the loop's own jumps."""
    if isinstance(statement, Return | Break | Continue):
        return True
    if isinstance(statement, Block):
        return any(map(exits, statement.statements))
    if isinstance(statement, If):
        return exits(statement.then) or (statement.otherwise is not None and exits(statement.otherwise))
    if isinstance(statement, For | ForEach | While):
        return returns(statement)
    return False


def leaves(statement: Statement | None) -> bool:
    """Whether what follows it in its list is never reached."""
    if isinstance(statement, Block):
        return any(map(leaves, statement.statements))
    if isinstance(statement, If):
        return leaves(statement.then) and leaves(statement.otherwise)
    return isinstance(statement, Return | Break | Continue)


def breaks(body: Statement) -> bool:
    """Whether a loop with this body may end early: its own ``break``, or a ``return``."""
    if isinstance(body, Break | Return):
        return True
    if isinstance(body, Block):
        return any(map(breaks, body.statements))
    if isinstance(body, If):
        return breaks(body.then) or (body.otherwise is not None and breaks(body.otherwise))
    if isinstance(body, For | ForEach | While):
        return returns(body)
    return False


def size_of(statement: Statement) -> int:
    """The number of simple statements within: what an unrolled iteration costs at least."""
    return sum(not isinstance(inner, Block | Declaration) for inner in statements_in(statement))


def drops_constants(node: Any) -> bool:
    """Whether ``~`` stands anywhere within, or a call that may leave out constants as it does."""
    if isinstance(node, tuple):
        return any(map(drops_constants, node))
    if not isinstance(node, Node):
        return False
    if isinstance(node, Tilde | CallStatement):
        return True
    if isinstance(node, Call) and node.name.endswith(("_lupdf", "_lupmf", "_lp")):
        return True
    return any(drops_constants(getattr(node, item.name)) for item in fields(node) if item.name != "position")
