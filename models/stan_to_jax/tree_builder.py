"""From the tree of the grammar's rules to the syntax tree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Never

from lark import Token, Tree, v_args
from lark.exceptions import VisitError
from lark.tree import Meta
from lark.visitors import Transformer_NonRecursive

from . import syntax
from .errors import UnsupportedStanError
from .syntax import Position

Statements = tuple[syntax.Statement, ...]
"""What a statement becomes: ``real a, b;`` is two, anything else one."""


def tree_builder(position: Callable[[int, int], Position]) -> Callable[[Tree[Token]], Any]:
    """From a rule's tree to what it means in the syntax tree.

    What is declared stands at its name, everything else where its first character is.

    Parameters
    ----------
    position : from a line and column of the text

    Raises
    ------
    UnsupportedStanError
        By the function returned: at what the syntax tree has no node for.
    """
    builder: Any = _TreeBuilder(position)

    def build(tree: Tree[Token]) -> Any:
        try:
            return builder.transform(tree)
        except VisitError as error:
            raise error.orig_exc from None

    return build


@v_args(meta=True)
class _TreeBuilder(Transformer_NonRecursive):
    """A method for each rule of the grammar: from its place and what its parts became to its nodes."""

    # Not recursive: a sum of a thousand terms is a tree of that depth.

    def __init__(self, position: Callable[[int, int], Position]) -> None:
        super().__init__()
        self._position = position

    def _at(self, place: Meta | Token) -> Position:
        line, column = place.line, place.column
        assert line is not None
        assert column is not None
        return self._position(line, column)

    def _unsupported(self, what: str, place: Meta | Token) -> Never:
        raise UnsupportedStanError(what, self._at(place))

    # -- functions

    def function(self, meta: Meta, parts: list[Any]) -> syntax.Function:
        returns, name, parameters, (block,) = parts
        return syntax.Function(str(name), returns, parameters, block, position=self._at(name))

    def forward_declaration(self, meta: Meta, parts: list[Any]) -> syntax.Function:
        returns, name, parameters = parts
        return syntax.Function(str(name), returns, parameters, None, position=self._at(name))

    def void(self, meta: Meta, parts: list[Any]) -> None:
        return None

    def parameters(self, meta: Meta, parts: list[Any]) -> tuple[syntax.Parameter, ...]:
        return tuple(parts)

    def parameter(self, meta: Meta, parts: list[Any]) -> syntax.Parameter:
        type_, name = parts
        return syntax.Parameter(type_, str(name), position=self._at(name))

    def data_parameter(self, meta: Meta, parts: list[Any]) -> syntax.Parameter:
        return replace(self.parameter(meta, parts), data_only=True)

    def unsized_type(self, meta: Meta, parts: list[Any]) -> syntax.UnsizedType:
        dims, base = parts
        return syntax.UnsizedType(base, dims or 0, position=self._at(meta))

    def commas(self, meta: Meta, parts: list[Any]) -> int:
        return 1 + len(parts)

    def unsized_base(self, meta: Meta, parts: list[Any]) -> str:
        return self._base(parts[0])

    def unsized_tuple(self, meta: Meta, parts: list[Any]) -> Never:
        self._unsupported("a tuple", meta)

    def _base(self, token: Token) -> str:
        if token.startswith("complex"):
            self._unsupported(f"the type {token}", token)
        return str(token)

    # -- declarations

    def declaration(self, meta: Meta, parts: list[Any]) -> Statements:
        type_, *names = parts
        return tuple(syntax.Declaration(type_, str(n), value, position=self._at(n)) for n, value in names)

    def declarator(self, meta: Meta, parts: list[Any]) -> list[Any]:
        return parts

    def variable_declaration(self, meta: Meta, parts: list[Any]) -> Statements:
        type_, *names = parts
        return tuple(syntax.Declaration(type_, str(n), position=self._at(n)) for n in names)

    def sized_type(self, meta: Meta, parts: list[Any]) -> syntax.SizedType:
        array, (base, constraints, dims) = parts
        return syntax.SizedType(base, array or (), dims, constraints or (), position=self._at(meta))

    def array(self, meta: Meta, parts: list[Any]) -> tuple[syntax.Expression, ...]:
        return tuple(parts)

    def scalar(self, meta: Meta, parts: list[Any]) -> tuple[Any, ...]:
        base, constraints = parts
        return self._base(base), constraints, ()

    def container(self, meta: Meta, parts: list[Any]) -> tuple[Any, ...]:
        base, constraints, dims = parts
        return self._base(base), constraints, dims

    def constrained_container(self, meta: Meta, parts: list[Any]) -> tuple[Any, ...]:
        base, dims = parts
        return str(base), (), dims

    def size(self, meta: Meta, parts: list[Any]) -> tuple[syntax.Expression, ...]:
        return tuple(parts)

    sizes = size

    def sized_tuple(self, meta: Meta, parts: list[Any]) -> Never:
        self._unsupported("a tuple", meta)

    def constraints(self, meta: Meta, parts: list[Any]) -> tuple[tuple[str, syntax.Expression], ...]:
        return tuple(parts)

    def bound(self, meta: Meta, parts: list[Any]) -> tuple[str, syntax.Expression]:
        name, value = parts
        return str(name), value

    # -- statements

    def block(self, meta: Meta, parts: list[Any]) -> Statements:
        statements = tuple(statement for part in parts for statement in part)
        return (syntax.Block(statements, position=self._at(meta)),)

    def profile(self, meta: Meta, parts: list[Any]) -> Statements:
        _label, block = parts
        return block

    def assignment(self, meta: Meta, parts: list[Any]) -> Statements:
        target, operator, value = parts
        indices: list[tuple[syntax.Single | syntax.Range, ...]] = []
        while isinstance(target, syntax.Index):
            indices.insert(0, target.indices)
            target = target.base
        assert isinstance(target, syntax.Variable)  # the grammar's lvalue
        at = self._at(meta)
        return (syntax.Assignment(target.name, tuple(indices), str(operator), value, position=at),)

    def tuple_assignment(self, meta: Meta, parts: list[Any]) -> Never:
        self._unsupported("a tuple", meta)

    def target_increment(self, meta: Meta, parts: list[Any]) -> Statements:
        return (syntax.TargetIncrement(parts[0], position=self._at(meta)),)

    def tilde(self, meta: Meta, parts: list[Any]) -> Statements:
        left, distribution, arguments, truncation = parts
        return (syntax.Tilde(left, str(distribution), arguments, truncation, position=self._at(meta)),)

    def truncation(self, meta: Meta, parts: list[Any]) -> tuple[Any, ...]:
        lower, upper = parts
        return lower, upper

    def if_else(self, meta: Meta, parts: list[Any]) -> Statements:
        condition, then, *rest = parts
        otherwise = _one(rest[0]) if rest and rest[0] else None
        return (syntax.If(condition, _one(then), otherwise, position=self._at(meta)),)

    def for_range(self, meta: Meta, parts: list[Any]) -> Statements:
        variable, lower, upper, body = parts
        return (syntax.For(str(variable), lower, upper, _one(body), position=self._at(meta)),)

    def for_each(self, meta: Meta, parts: list[Any]) -> Statements:
        variable, sequence, body = parts
        return (syntax.ForEach(str(variable), sequence, _one(body), position=self._at(meta)),)

    def while_loop(self, meta: Meta, parts: list[Any]) -> Statements:
        condition, body = parts
        return (syntax.While(condition, _one(body), position=self._at(meta)),)

    def break_loop(self, meta: Meta, parts: list[Any]) -> Statements:
        return (syntax.Break(position=self._at(meta)),)

    def continue_loop(self, meta: Meta, parts: list[Any]) -> Statements:
        return (syntax.Continue(position=self._at(meta)),)

    def return_value(self, meta: Meta, parts: list[Any]) -> Statements:
        return (syntax.Return(parts[0], position=self._at(meta)),)

    def call_statement(self, meta: Meta, parts: list[Any]) -> Statements:
        return (syntax.CallStatement(parts[0], position=self._at(meta)),)

    def reject(self, meta: Meta, parts: list[Any]) -> Statements:
        return (syntax.Reject(position=self._at(meta)),)

    def empty(self, meta: Meta, parts: list[Any]) -> Statements:
        return (syntax.Empty(position=self._at(meta)),)

    print_values = empty

    # -- expressions

    def binary(self, meta: Meta, parts: list[Any]) -> syntax.Binary:
        left, operator, right = parts
        return syntax.Binary(str(operator), left, right, position=self._at(meta))

    def unary(self, meta: Meta, parts: list[Any]) -> syntax.Unary:
        operator, operand = parts
        return syntax.Unary(str(operator), operand, position=self._at(meta))

    def transposition(self, meta: Meta, parts: list[Any]) -> syntax.Unary:
        operand, operator = parts
        return syntax.Unary(str(operator), operand, position=self._at(meta))

    def conditional(self, meta: Meta, parts: list[Any]) -> syntax.Conditional:
        condition, yes, no = parts
        return syntax.Conditional(condition, yes, no, position=self._at(meta))

    def variable(self, meta: Meta, parts: list[Any]) -> syntax.Variable:
        return syntax.Variable(str(parts[0]), position=self._at(meta))

    def integer(self, meta: Meta, parts: list[Any]) -> syntax.Number:
        return syntax.Number(int(parts[0]), position=self._at(meta))

    def real(self, meta: Meta, parts: list[Any]) -> syntax.Number:
        return syntax.Number(float(parts[0]), position=self._at(meta))

    def imaginary(self, meta: Meta, parts: list[Any]) -> Never:
        self._unsupported(f"the complex number {parts[0]}", meta)

    def target_value(self, meta: Meta, parts: list[Any]) -> syntax.TargetValue:
        return syntax.TargetValue(position=self._at(meta))

    def call(self, meta: Meta, parts: list[Any]) -> syntax.Call:
        name, arguments = parts
        return syntax.Call(str(name), arguments, position=self._at(meta))

    def conditional_call(self, meta: Meta, parts: list[Any]) -> syntax.Call:
        name, first, others = parts
        return syntax.Call(str(name), (first, *others), position=self._at(meta))

    def arguments(self, meta: Meta, parts: list[Any]) -> tuple[syntax.Expression, ...]:
        return tuple(parts)

    def array_literal(self, meta: Meta, parts: list[Any]) -> syntax.ArrayLiteral:
        return syntax.ArrayLiteral(tuple(parts), position=self._at(meta))

    def row_literal(self, meta: Meta, parts: list[Any]) -> syntax.RowLiteral:
        return syntax.RowLiteral(parts[0], position=self._at(meta))

    def tuple_literal(self, meta: Meta, parts: list[Any]) -> Never:
        self._unsupported("a tuple", meta)

    def projection(self, meta: Meta, parts: list[Any]) -> Never:
        self._unsupported("a tuple", meta)

    def index(self, meta: Meta, parts: list[Any]) -> syntax.Index:
        base, *indices = parts
        at = self._at(meta)
        return syntax.Index(base, tuple(i or _whole(at) for i in indices), position=at)

    def single(self, meta: Meta, parts: list[Any]) -> syntax.Single:
        return syntax.Single(parts[0], position=self._at(meta))

    def range(self, meta: Meta, parts: list[Any]) -> syntax.Range:
        lower, upper = parts
        return syntax.Range(lower, upper, position=self._at(meta))

    def all(self, meta: Meta, parts: list[Any]) -> None:
        return None  # nothing is written: it has no place of its own


def _whole(at: Position) -> syntax.Range:
    return syntax.Range(None, None, position=at)


def _one(statements: Statements) -> syntax.Statement:
    """The one statement of a branch or of a loop's body."""
    if len(statements) == 1:
        return statements[0]
    return syntax.Block(statements, position=statements[0].position)
