"""Counters: ints that a loop carries from iteration to iteration, and that data alone decide.

    int pos = 1;
    for (g in 1:G) { segment(y, pos, n[g]) ~ normal(mu[g], sigma);  pos += n[g]; }

The iterations depend on each other by ``pos`` only. Executed ahead, on its own, it is known for every
iteration, and the loop can be executed at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .analysis import breaks, effects, names_in, statements_in
from .errors import NotBatchable
from .statements import execute
from .syntax import (
    Assignment,
    Block,
    Break,
    Continue,
    Declaration,
    Empty,
    For,
    ForEach,
    If,
    Statement,
    While,
)
from .values import at_level, integer

if TYPE_CHECKING:
    from .interpreter import Interpreter
    from .loops import Iterations

MAX_ITERATIONS = 20_000
"""Iterations that are executed ahead, one by one."""


def counters_of(run: Interpreter, iterations: Iterations) -> list[str]:
    """The loop's counters: concrete ints that it assigns, from ints and other data."""
    body = iterations.node.body
    assigned = effects(body).assigned & run.memory.variables.keys()
    if breaks(body) or not iterations.aligned or iterations.counts[0] > MAX_ITERATIONS:
        return []
    counters = []
    for name in sorted(assigned):
        storage = run.memory.storage(name, iterations.level)
        if storage.type.kind == "int" and not storage.shape and storage.content().concrete:
            counters.append(name)
    local = {node.name for node in statements_in(body) if isinstance(node, Declaration)}
    if not counters:
        return []
    needed = set(names_in(_only(body, counters))) - set(counters) - {iterations.node.variable}
    if needed & local or needed & (assigned - set(counters)):
        return []
    known = needed & run.memory.variables.keys()
    concrete = all(run.memory.storage(name, iterations.level).content().concrete for name in known)
    return counters if concrete else []


def run_ahead(run: Interpreter, iterations: Iterations, counters: Sequence[str]) -> dict[str, np.ndarray]:
    """The counters as every iteration begins, one per row of the loop; afterwards they hold their last."""
    level, count = iterations.level, int(iterations.counts[0])
    body = _only(iterations.node.body, counters)
    rows = 1 if level is None else level.size
    before = {name: np.empty((count, rows), np.int64) for name in counters}
    for number in range(count):
        for name in counters:
            value = run.memory.read(name, level)
            if not value.concrete:
                raise NotBatchable(f"{name} depends on parameters")
            before[name][number] = at_level(value, level)
        with run.memory.scope(), run.collecting():
            first = int(iterations.first[0]) + number
            iterations.bind(run, integer(first), level)
            execute(run, body, level)
    return {name: found.T.reshape(-1) for name, found in before.items()}


def _only(body: Statement, names: Sequence[str]) -> Statement:
    """The body with nothing in it but assignments to the names, and what decides whether they happen."""
    match body:
        case Block(statements):
            kept = (_only(statement, names) for statement in statements)
            return replace(body, statements=tuple(s for s in kept if not _is_empty(s)))
        case If(_, then, otherwise):
            then = _only(then, names)
            otherwise = None if otherwise is None else _only(otherwise, names)
            if _is_empty(then) and (otherwise is None or _is_empty(otherwise)):
                return Empty(position=body.position)
            return replace(body, then=then, otherwise=otherwise)
        case For() | ForEach() | While() if not effects(body).assigned.isdisjoint(names):
            return replace(body, body=_only(body.body, names))
        case Assignment(name) if name in names:
            return body
        case Continue() | Break():
            return body
    return Empty(position=body.position)


def _is_empty(statement: Statement) -> bool:
    return isinstance(statement, Empty) or (isinstance(statement, Block) and not statement.statements)
