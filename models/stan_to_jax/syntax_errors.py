"""What is wrong with a text that is no Stan program, in plain words."""

from __future__ import annotations

from collections.abc import Callable, Collection

from lark import Lark, Token, Tree, UnexpectedInput, UnexpectedToken
from lark.lexer import PatternStr

from ..stan_source import StanProgramError
from .syntax import Position

_TYPES = """
array tuple int real complex vector row_vector matrix complex_vector complex_row_vector complex_matrix
simplex unit_vector sum_to_zero_vector sum_to_zero_matrix ordered positive_ordered corr_matrix cov_matrix
cholesky_factor_corr cholesky_factor_cov row_stochastic_matrix column_stochastic_matrix
"""
_STATEMENTS = "for while if break continue return print reject fatal_error profile target jacobian"
_OTHERS = "functions data parameters model in else void lower upper offset multiplier"

RESERVED = frozenset(f"{_TYPES} {_STATEMENTS} {_OTHERS}".split())
"""The keywords that cannot be names: all but ``T``, which is one only where a truncation may stand."""

_EXPRESSION = "REAL_LITERAL IMAGINARY_LITERAL NAME TARGET LPAR LSQB LBRACE NOT PLUS MINUS"

# What is expected where a terminal is: its plain name, and the other terminals that it covers.
_GROUPS: dict[str, tuple[str, str]] = {
    "FOR": ("a statement", f"{_STATEMENTS} {_TYPES}".upper() + f" {_EXPRESSION} INTEGER_LITERAL SEMICOLON"),
    "VECTOR": ("a type", _TYPES.upper()),
    "INTEGER_LITERAL": ("an expression", _EXPRESSION),
    "MULTIPLICATIVE": (
        "an operator",
        "PLUS MINUS INTEGER_DIVISION LEFT_DIVISION POWER TRANSPOSE PROJECTION LSQB LPAR",
    ),
    "EQUALITY": ("an operator", "LESS GREATER RELATIONAL OR AND QMARK"),
    "ASSIGN": ("'='", "PLUS_ASSIGN OPERATOR_ASSIGN"),
    "NAME": ("a name", ""),
    "T": ("a truncation T[…]", ""),
    "STRING": ("a text in quotes", ""),
    "TRANSFORMED_DATA": ("'transformed data'", ""),
    "TRANSFORMED_PARAMETERS": ("'transformed parameters'", ""),
    "GENERATED_QUANTITIES": ("'generated quantities'", ""),
    "$END": ("the end of the program", ""),
}


def syntax_error(
    error: UnexpectedInput, grammar: Lark, text: str, position: Callable[[int, int], Position]
) -> StanProgramError:
    """The error to raise: where, what is wrong, that line with a caret, and what was expected there.

    Parameters
    ----------
    error : from ``grammar.parse(text)``
    position : from a line and column of the text
    """
    state = error.interactive_parser  # pyright: ignore[reportAttributeAccessIssue]
    expected = state.accepts()
    before = state.parser_state.value_stack[-1] if state.parser_state.value_stack else None
    line, column, end = error.line, error.column, _end_of(before)
    token = error.token if isinstance(error, UnexpectedToken) else None
    expectation = f"\nexpected {_or(_plain(expected, grammar))}"
    if token is None or text.startswith("/*", error.pos_in_stream or 0):
        found, expectation = _no_token(text[error.pos_in_stream or 0 :].split("\n")[0]), ""
    elif token.type == "$END":
        found, (line, column) = "the program ends too early", _end_of_text(text)
    elif "SEMICOLON" in expected and "FOR" not in expected and end and (end[0] < line or token == "}"):
        found, (line, column) = "a ';' is missing", end
    elif token == "[" and isinstance(before, Token) and before[0].isalpha():
        found = "no '[' can stand here; arrays are declared as array[N] real x, as arguments array[] real x"
    elif token == ";" and "TILDE" in expected and isinstance(before, Tree):
        found = "an expression alone is no statement"
        if before.data == "binary" and "<-" in text[before.meta.start_pos : before.meta.end_pos]:
            found += "; an assignment is written x = y, no longer x <- y"
    else:
        found = f"{'the keyword ' if token in RESERVED else ''}'{token}' cannot stand here"
    shown = text.split("\n")[line - 1].expandtabs(1).rstrip()
    caret = " " * (column - 1) + "^"
    return StanProgramError(f"{position(line, column)}: {found}\n    {shown}\n    {caret}{expectation}")


def _no_token(rest: str) -> str:
    if rest.startswith("#include"):
        return f"the file of {rest.strip()!r} cannot be found"
    if rest.startswith("#"):
        return "a comment begins with //, no longer with #"
    if rest.startswith("/*"):
        return "this comment does not end"
    if rest.startswith('"'):
        return "this text does not end on its line"
    return f"the character {rest[:1]!r} means nothing in Stan"


def _end_of_text(text: str) -> tuple[int, int]:
    lines = text.rstrip().split("\n")
    return len(lines), len(lines[-1]) + 1


def _end_of(part: Token | Tree[Token] | None) -> tuple[int, int] | None:
    place = part.meta if isinstance(part, Tree) else part
    line, column = getattr(place, "end_line", None), getattr(place, "end_column", None)
    return None if line is None or column is None else (line, column)


def _plain(terminals: Collection[str], grammar: Lark) -> list[str]:
    rest = set(terminals)
    words: list[str] = []
    for terminal, (word, covered) in _GROUPS.items():
        if terminal in rest:
            rest -= {terminal, *covered.split()}
            words.append(word)
    for terminal in sorted(rest):
        pattern = grammar.get_terminal(terminal).pattern
        words.append(f"'{pattern.value}'" if isinstance(pattern, PatternStr) else terminal.lower())
    return sorted(set(words), key=lambda word: (word[0] != "'", word))


def _or(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
