"""From the text of a Stan program to its syntax tree.

The grammar in ``grammar.lark`` accepts a little more than Stan does: scopes, types and where a
statement may stand are not its business. Stan itself stays the judge of what is a valid program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources
from typing import Any, Literal

from lark import Lark, Token, Tree, UnexpectedInput

from .. import stan_source
from ..cache import cache_dir
from . import syntax
from .errors import UnsupportedStanError
from .syntax_errors import RESERVED, syntax_error
from .tree_builder import tree_builder

_Build = Callable[[Tree[Token]], Any]

_SUFFIXES = ("_lpdf", "_lpmf", "_lupdf", "_lupmf")


def parse(text: str, name: str) -> syntax.Program:
    """The syntax tree of a program given as text.

    Parameters
    ----------
    text : the program, without ``#include``
    name : the file that positions name

    Raises
    ------
    StanProgramError
        A syntax error, with its file, line and column.
    UnsupportedStanError
        Tuples or complex numbers where the density may need them. Generated quantities, and functions
        that only they call, are left out where they have some.
    """
    lines = range(1, text.count("\n") + 2)
    return _parse(text, [stan_source.Origin(name, line) for line in lines])


def parse_program(program: stan_source.Program) -> syntax.Program:
    """As `parse`; positions name the file, included or not, that a construct stands in."""
    if program.complete is None:
        raise stan_source.StanProgramError(
            f"the source of the program {program.name!r} is needed, and only its compiled library "
            f"{program.library} was given: give the path of the .stan file"
        )
    return _parse(program.complete, program.origins)


def _parse(text: str, origins: Sequence[stan_source.Origin]) -> syntax.Program:
    def position(line: int, column: int) -> syntax.Position:
        return syntax.Position(*origins[line - 1], column)

    grammar = _grammar()
    try:
        tree = grammar.parse(text)
    except UnexpectedInput as error:
        raise syntax_error(error, grammar, text, position) from None
    return _program(tree, tree_builder(position))


class _Reserved:
    """Keeps a keyword a keyword where the grammar expects none: ``real for;`` declares nothing."""

    always_accept = ("NAME", *(word.upper() for word in RESERVED))

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        return stream


@functools.cache
def _grammar() -> Lark:
    # The tables take ten times as long to compute as to read.
    text = resources.files(__package__).joinpath("grammar.lark").read_text(encoding="utf-8")
    reserved: Any = _Reserved()
    return Lark(
        text,
        parser="lalr",
        lexer="contextual",
        postlex=reserved,
        propagate_positions=True,
        cache=_cache_file(),
    )


def _cache_file() -> str | Literal[False]:
    try:
        return str(cache_dir() / "stan_grammar.pickle")  # lark checks that it is of this grammar
    except OSError:
        return False


def _program(tree: Tree[Token], build: _Build) -> syntax.Program:
    blocks = {str(block.data).removesuffix("_block"): block for block in _trees(tree)}
    functions = blocks.pop("functions", None)
    generated = blocks.pop("generated_quantities", None)
    executed: dict[str, Any] = {name: _statements(block, build) for name, block in blocks.items()}
    try:
        quantities = _statements(generated, build)
    except UnsupportedStanError:  # they are never executed
        quantities = ()
    return syntax.Program(
        _functions(functions, list(blocks.values()), build),
        **executed,
        generated_quantities=quantities,
    )


def _statements(block: Tree[Token] | None, build: _Build) -> tuple[syntax.Statement, ...]:
    built: Iterable[tuple[syntax.Statement, ...]] = (build(tree) for tree in _trees(block))
    return tuple(statement for statements in built for statement in statements)


# -- functions ------------------------------------------------------------------------------------


def _functions(
    block: Tree[Token] | None, executed: Sequence[Tree[Token]], build: _Build
) -> tuple[syntax.Function, ...]:
    """The functions that can be built. Raises where what is executed may call one that cannot."""
    built: list[syntax.Function] = []
    failed: list[tuple[str, UnsupportedStanError]] = []
    for tree in _trees(block):
        try:
            built.append(build(tree))
        except UnsupportedStanError as error:
            failed.append((_function_name(tree), error))
    if failed:
        needed = _needed(_trees(block), executed)
        for name, error in failed:
            if name in needed:
                raise error
    return tuple(built)


def _needed(functions: Sequence[Tree[Token]], executed: Sequence[Tree[Token]]) -> set[str]:
    """The functions that ``executed`` names, those that these name, and so on."""
    needed: set[str] = set()
    trees = list(executed)
    while trees:
        named = {_stem(token) for tree in trees for token in tree.scan_values(_is_name)}
        trees = [
            f for f in functions if _stem(_function_name(f)) in named and _function_name(f) not in needed
        ]
        needed |= {_function_name(f) for f in trees}
    return needed


def _stem(name: str) -> str:
    """``foo`` of ``foo_lpdf``, since ``y ~ foo(…)`` calls it."""
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)


def _function_name(function: Tree[Token]) -> str:
    return next(str(child) for child in function.children if _is_name(child))


def _is_name(child: Any) -> bool:
    return isinstance(child, Token) and child.type == "NAME"


def _trees(tree: Tree[Token] | None) -> list[Tree[Token]]:
    return [child for child in tree.children if isinstance(child, Tree)] if tree else []
