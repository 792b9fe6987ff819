"""The syntax tree of a Stan program, after the Stan reference manual.

Nodes are frozen and compare without their positions: two occurrences of ``x[t - 1]`` are equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple


class Position(NamedTuple):
    """Where a construct stands; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


NOWHERE = Position("", 0, 0)


@dataclass(frozen=True)
class Node:
    position: Position = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


# -- expressions ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number(Node):
    value: int | float


@dataclass(frozen=True)
class Variable(Node):
    name: str


@dataclass(frozen=True)
class Single(Node):
    """An index that is one expression: an int (drops the dimension) or an array of ints (keeps it)."""

    expression: Expression


@dataclass(frozen=True)
class Range(Node):
    """``lower:upper``, ``lower:``, ``:upper``, or ``:``."""

    lower: Expression | None
    upper: Expression | None


@dataclass(frozen=True)
class Index(Node):
    """``base[indices]``. ``x[1][2]`` is an Index whose base is an Index."""

    base: Expression
    indices: tuple[Single | Range, ...]


@dataclass(frozen=True)
class Unary(Node):
    operator: str
    """``+``, ``-``, ``!``, or ``'`` (transposition)."""
    operand: Expression


@dataclass(frozen=True)
class Binary(Node):
    operator: str
    """``+ - * / % %/% \\ .* ./ ^ .^ == != < > <= >= && ||``"""
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Conditional(Node):
    """``condition ? yes : no``"""

    condition: Expression
    yes: Expression
    no: Expression


@dataclass(frozen=True)
class Call(Node):
    """``name(arguments)`` or ``name(first | others)``."""

    name: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True)
class ArrayLiteral(Node):
    """``{a, b, …}``"""

    elements: tuple[Expression, ...]


@dataclass(frozen=True)
class RowLiteral(Node):
    """``[a, b, …]``: a row vector of scalars, or a matrix of row vectors."""

    elements: tuple[Expression, ...]


@dataclass(frozen=True)
class TargetValue(Node):
    """``target()``"""


Expression = (
    Number | Variable | Index | Unary | Binary | Conditional | Call | ArrayLiteral | RowLiteral | TargetValue
)

# -- types ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SizedType(Node):
    """The type of a declaration, ``array[array] base<constraints>[dims]``."""

    base: str
    """As written: ``int``, ``real``, ``vector``, ``row_vector``, ``matrix``, ``simplex``, …"""
    array: tuple[Expression, ...] = ()
    dims: tuple[Expression, ...] = ()
    constraints: tuple[tuple[str, Expression], ...] = ()
    """Some of ``lower``, ``upper``, ``offset``, ``multiplier``, with their expressions."""

    @property
    def sizes(self) -> tuple[Expression, ...]:
        """Those of its array dimensions, then those of its vectors or matrices."""
        return (*self.array, *self.dims)

    def constraint(self, name: str) -> Expression | None:
        return dict(self.constraints).get(name)


@dataclass(frozen=True)
class UnsizedType(Node):
    """The type of a function's argument or result."""

    base: str
    array_dims: int = 0


# -- statements -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Declaration(Node):
    """One variable; ``real a, b;`` gives two."""

    type: SizedType
    name: str
    initial: Expression | None = None


@dataclass(frozen=True)
class Assignment(Node):
    """``name[indices] operator value``; ``x[1][2] = …`` has two groups of indices."""

    name: str
    indices: tuple[tuple[Single | Range, ...], ...]
    operator: str
    """``=``, ``+=``, ``-=``, ``*=``, ``/=``, ``.*=``, ``./=``, ``^=``"""
    value: Expression


@dataclass(frozen=True)
class TargetIncrement(Node):
    """``target += value`` or ``jacobian += value``, also ``increment_log_prob(value)``."""

    value: Expression


@dataclass(frozen=True)
class Tilde(Node):
    """``left ~ distribution(arguments) T[lower, upper]``"""

    left: Expression
    distribution: str
    arguments: tuple[Expression, ...]
    truncation: tuple[Expression | None, Expression | None] | None = None


@dataclass(frozen=True)
class Block(Node):
    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class If(Node):
    condition: Expression
    then: Statement
    otherwise: Statement | None = None


@dataclass(frozen=True)
class For(Node):
    variable: str
    lower: Expression
    upper: Expression
    body: Statement


@dataclass(frozen=True)
class ForEach(Node):
    variable: str
    sequence: Expression
    body: Statement


@dataclass(frozen=True)
class While(Node):
    condition: Expression
    body: Statement


@dataclass(frozen=True)
class Break(Node):
    pass


@dataclass(frozen=True)
class Continue(Node):
    pass


@dataclass(frozen=True)
class Return(Node):
    value: Expression | None


@dataclass(frozen=True)
class CallStatement(Node):
    call: Call


@dataclass(frozen=True)
class Reject(Node):
    """``reject(…)`` or ``fatal_error(…)``."""


@dataclass(frozen=True)
class Empty(Node):
    """``;`` or ``print(…)``."""


Statement = (
    Declaration
    | Assignment
    | TargetIncrement
    | Tilde
    | Block
    | If
    | For
    | ForEach
    | While
    | Break
    | Continue
    | Return
    | CallStatement
    | Reject
    | Empty
)

# -- programs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parameter(Node):
    """An argument of a user's function."""

    type: UnsizedType
    name: str
    data_only: bool = False


@dataclass(frozen=True)
class Function(Node):
    """A user's function; ``body`` is None in a forward declaration."""

    name: str
    returns: UnsizedType | None
    parameters: tuple[Parameter, ...]
    body: Block | None


@dataclass(frozen=True)
class Program(Node):
    functions: tuple[Function, ...] = ()
    data: tuple[Statement, ...] = ()
    transformed_data: tuple[Statement, ...] = ()
    parameters: tuple[Statement, ...] = ()
    transformed_parameters: tuple[Statement, ...] = ()
    model: tuple[Statement, ...] = ()
    generated_quantities: tuple[Statement, ...] = ()
    """Parsed, never executed: they are no part of the density."""


# -- looking into programs ------------------------------------------------------------------------


def declarations(block: Sequence[Statement]) -> list[Declaration]:
    """What a block declares, variables of inner scopes left out."""
    return [statement for statement in block if isinstance(statement, Declaration)]


def nodes(node: Any) -> Iterator[Node]:
    """A node, or those of a tuple of them, and all nodes within."""
    parts: Any = ()
    if isinstance(node, tuple):
        parts = node
    elif isinstance(node, Node):
        yield node
        parts = [getattr(node, part.name) for part in fields(node)]
    for part in parts:
        yield from nodes(part)


def variables(node: Any) -> set[str]:
    """The names of the variables that occur in a node, or in a tuple of them."""
    return {found.name for found in nodes(node) if isinstance(found, Variable)}
