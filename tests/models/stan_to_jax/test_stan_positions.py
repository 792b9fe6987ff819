"""Where every part of a program stands, in its own file or in an included one."""

import dataclasses
import re

import pytest
from essper.models import StanProgramError
from essper.models.stan_source import Program as Source
from essper.models.stan_source import read_program
from essper.models.stan_to_jax import syntax
from essper.models.stan_to_jax.parser import parse, parse_program
from essper.models.stan_to_jax.syntax import (
    ArrayLiteral,
    Assignment,
    Binary,
    Block,
    Break,
    Call,
    CallStatement,
    Conditional,
    Declaration,
    Empty,
    For,
    ForEach,
    Function,
    If,
    Index,
    Number,
    Parameter,
    Position,
    Range,
    Return,
    RowLiteral,
    Single,
    SizedType,
    TargetIncrement,
    TargetValue,
    Tilde,
    Unary,
    UnsizedType,
    Variable,
    While,
)

PLACED = """functions {
  array[] real f(vector v,
                 data real x) { return { x, v[1] }; }
}
data { int<lower=0> N; array[N] vector[3] y; }
parameters {
\treal mu, nu; simplex[3] s;
}
model {
  /* a comment
     of two lines */ for (n in 1:N) {
    y[n] ~ normal((mu + 1) * 2, nu) T[0, ]; // é
    if (!mu == 1) target += f(y[n, :2], mu)[1] + -nu ^ 2;
    else while (1) break;
  }
  for (q in {1.5, 2}) { real a = q ? [1, q]' : target(); a += 1; print(a); }
  { f(mu); return; }
}
"""


def nodes(part, parents=()):
    """All nodes of a tree, each with those it is part of, the outermost first."""
    if isinstance(part, syntax.Node):
        yield part, parents
        for field in dataclasses.fields(part):
            yield from nodes(getattr(part, field.name), (*parents, part))
    elif isinstance(part, tuple) and not isinstance(part, Position):
        for child in part:
            yield from nodes(child, parents)


def starts(node):
    """What the text must begin with where the node stands."""
    match node:
        case Variable() | Call() | Declaration() | Parameter() | Function() | Assignment():
            return re.escape(node.name)
        case Number():
            return re.escape(str(node.value))
        case SizedType() | UnsizedType():
            arrays = node.array if isinstance(node, SizedType) else node.array_dims
            return "array" if arrays else node.base
        case Unary() if node.operator != "'":
            return re.escape(node.operator)
        case For() | ForEach():
            return "for"
        case Block() | ArrayLiteral():
            return r"\{"
        case RowLiteral():
            return r"\["
        case TargetIncrement() | TargetValue():
            return "target"
        case If() | While() | Break() | Return():
            return type(node).__name__.lower()
        case CallStatement():
            return starts(node.call)
        case Empty():
            return "print|;"
        case Index():
            return rf"\(*{starts(node.base)}"
        case Unary():
            return rf"\(*{starts(node.operand)}"
        case Binary() | Tilde():
            return rf"\(*{starts(node.left)}"
        case Conditional():
            return rf"\(*{starts(node.condition)}"
        case Single():
            return starts(node.expression)
        case Range():
            return starts(node.lower) if node.lower is not None else ":"
    raise AssertionError(node)


def test_every_node_stands_where_its_text_begins():
    program = parse(PLACED, "placed.stan")
    lines = PLACED.split("\n")
    seen = set()
    for node, _ in nodes(program):
        if isinstance(node, syntax.Program):
            continue
        assert node.position.file == "placed.stan"
        there = lines[node.position.line - 1][node.position.column - 1 :]
        assert re.match(starts(node), there), (node, there)
        seen.add(type(node))
    assert len(seen) >= 26


def test_parts_stand_within_what_they_are_parts_of():
    program = parse(PLACED, "placed.stan")
    for node, parents in nodes(program):
        enclosing = [
            p for p in parents if not isinstance(p, syntax.Program | Function | Declaration | Parameter)
        ]
        for outer in enclosing:
            assert outer.position <= node.position


def test_positions_tell_equal_nodes_apart():
    first, second = parse("model { x = 1; x = 1; }", "m.stan").model
    assert first == second
    assert (first.position.column, second.position.column) == (9, 16)
    assert str(second.position) == "m.stan:1:16"


def test_an_index_that_is_not_written_stands_at_its_array():
    (assignment,) = parse("model { x = y[, 1]; }", "m.stan").model
    assert isinstance(assignment, Assignment)
    assert isinstance(assignment.value, Index)
    assert assignment.value.indices[0].position == assignment.value.position == Position("m.stan", 1, 13)


# -- included files -------------------------------------------------------------------------------


def test_positions_in_included_files(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "functions.stan").write_text("functions {\n  #include sub/body.stan\n}\n")
    (tmp_path / "sub" / "body.stan").write_text("real f(real x) {\n  return x;\n}")
    (tmp_path / "prior.stan").write_text("x ~ normal(0, 1);\n")
    (tmp_path / "model.stan").write_text(
        "#include functions.stan\nparameters { real x; }\nmodel {\n#include prior.stan\n"
        "  #include <prior.stan> // again\n  target += f(x);\n}\n"
    )
    program = parse_program(read_program(tmp_path / "model.stan", None))
    (function,) = program.functions
    assert function.position == Position("sub/body.stan", 1, 6)
    assert isinstance(function.body, Block)
    assert function.body.statements[0].position == Position("sub/body.stan", 2, 3)
    assert program.parameters[0].position == Position("model.stan", 2, 19)
    places = [(s.position.file, s.position.line) for s in program.model]
    assert places == [("prior.stan", 1), ("prior.stan", 1), ("model.stan", 6)]


def test_every_line_of_a_program_has_its_origin(tmp_path):
    (tmp_path / "part.stan").write_text("a\nb\n")
    (tmp_path / "model.stan").write_text("one\n#include part.stan\ntwo\n#include missing.stan\n\n")
    source = read_program(tmp_path / "model.stan", None)
    assert source.complete == "one\na\nb\n\ntwo\n#include missing.stan\n\n"
    assert [f"{o.file}:{o.line}" for o in source.origins] == [
        "model.stan:1", "part.stan:1", "part.stan:2", "part.stan:3",
        "model.stan:3", "model.stan:4", "model.stan:5", "model.stan:6",
    ]  # fmt: skip


def test_an_error_in_an_included_file_names_it(tmp_path):
    (tmp_path / "prior.stan").write_text("\n  x ~ normal(0, 1;\n")
    (tmp_path / "model.stan").write_text("parameters { real x; }\nmodel {\n#include prior.stan\n}\n")
    with pytest.raises(StanProgramError, match=r"^prior\.stan:2:18: ';' cannot stand here\n") as caught:
        parse_program(read_program(tmp_path / "model.stan", None))
    assert "\n      x ~ normal(0, 1;\n" in str(caught.value)


def test_a_program_given_as_text_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StanProgramError, match=r"^mine:2:1: 'foo' cannot stand here"):
        parse_program(read_program("model { }\nfoo", "mine"))
    with pytest.raises(
        StanProgramError, match=r"^mine:1:1: the file of '#include gone.stan' cannot be found"
    ):
        parse_program(read_program("#include gone.stan\nmodel { }", "mine"))


def test_a_compiled_library_has_no_source(tmp_path):
    library = Source("toy", None, None, tmp_path / "toy_model.so", tmp_path)
    with pytest.raises(StanProgramError, match=r"the source of the program 'toy' is needed"):
        parse_program(library)
