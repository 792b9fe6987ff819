"""What each construct of the language becomes in the syntax tree."""

import logging
from importlib import resources
from typing import Any

import pytest
from essper.models import StanProgramError, from_stan
from essper.models.stan_to_jax import parser, syntax
from essper.models.stan_to_jax.parser import parse
from essper.models.stan_to_jax.syntax import (
    ArrayLiteral,
    Assignment,
    Binary,
    Block,
    Break,
    Call,
    CallStatement,
    Conditional,
    Continue,
    Declaration,
    Empty,
    For,
    ForEach,
    Function,
    If,
    Index,
    Number,
    Parameter,
    Range,
    Reject,
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
from lark import Lark

a, b, c, d, f, i, n, v, x, y, z = map(Variable, "abcdfinvxyz")
one, two, three = Number(1), Number(2), Number(3)
ALL = Range(None, None)


def at(*indices):
    return tuple(k if isinstance(k, Range) else Single(k) for k in indices)


def statements(text) -> tuple[Any, ...]:
    return parse(f"model {{ {text} }}", "m.stan").model


def expression(text):
    (assignment,) = statements(f"x = {text};")
    return assignment.value


EXPRESSIONS = {
    # numbers
    "1": one,
    "1_000": Number(1000),
    "1.": Number(1.0),
    ".5": Number(0.5),
    "1e3": Number(1000.0),
    "1_0.2_5E-1_0": Number(10.25e-10),
    "1.e2": Number(100.0),
    "1.*x": Binary("*", one, x),
    "1 .*x": Binary(".*", one, x),
    # binding, tightest first
    "a[1]'": Unary("'", Index(a, at(one))),
    "a''": Unary("'", Unary("'", a)),
    "a'^2": Binary("^", Unary("'", a), two),
    "a^b'": Binary("^", a, Unary("'", b)),
    "-2^2": Unary("-", Binary("^", two, two)),
    "2^-2^2": Binary("^", two, Unary("-", Binary("^", two, two))),
    "2^3^2": Binary("^", two, Binary("^", three, two)),
    "a .^ b ^ c": Binary(".^", a, Binary("^", b, c)),
    "-a'": Unary("-", Unary("'", a)),
    "!-+a": Unary("!", Unary("-", Unary("+", a))),
    "-a \\ b": Binary("\\", Unary("-", a), b),
    "a * b \\ c \\ d": Binary("*", a, Binary("\\", Binary("\\", b, c), d)),
    "a * b %/% c": Binary("*", a, Binary("%/%", b, c)),
    "a %/% b * c": Binary("*", Binary("%/%", a, b), c),
    "a / b * c": Binary("*", Binary("/", a, b), c),
    "a .* b ./ c % d": Binary("%", Binary("./", Binary(".*", a, b), c), d),
    "a - b - c": Binary("-", Binary("-", a, b), c),
    "a + b * c": Binary("+", a, Binary("*", b, c)),
    "(a + b) * c": Binary("*", Binary("+", a, b), c),
    "a < b + c": Binary("<", a, Binary("+", b, c)),
    "a < b == c >= d": Binary("==", Binary("<", a, b), Binary(">=", c, d)),
    "a > b <= c": Binary("<=", Binary(">", a, b), c),
    "!x == y": Binary("==", Unary("!", x), y),
    "a || b && c != d": Binary("||", a, Binary("&&", b, Binary("!=", c, d))),
    "a ? b : c ? d : x": Conditional(a, b, Conditional(c, d, x)),
    "a ? b ? c : d : x": Conditional(a, Conditional(b, c, d), x),
    "a || b ? c : d": Conditional(Binary("||", a, b), c, d),
    # indices
    "x[]": Index(x, (ALL,)),
    "x[:]": Index(x, (ALL,)),
    "x[,]": Index(x, (ALL, ALL)),
    "x[1, , 2:]": Index(x, at(one, ALL, Range(two, None))),
    "x[:2, 1:n]": Index(x, (Range(None, two), Range(one, n))),
    "x[1][2]": Index(Index(x, at(one)), at(two)),
    "x[a ? b : c]": Index(x, at(Conditional(a, b, c))),
    "x[a ? b : c : d]": Index(x, (Range(Conditional(a, b, c), d),)),
    "x[{1, 2}]": Index(x, at(ArrayLiteral((one, two)))),
    "f(x)[1]": Index(Call("f", (x,)), at(one)),
    "(x')[1]": Index(Unary("'", x), at(one)),
    "{1, 2}[1]": Index(ArrayLiteral((one, two)), at(one)),
    "[1, 2][1]": Index(RowLiteral((one, two)), at(one)),
    # calls and literals
    "f()": Call("f", ()),
    "f(x, 1)": Call("f", (x, one)),
    "normal_lpdf(y | 1, 2)": Call("normal_lpdf", (y, one, two)),
    "foo_lpmf(y |)": Call("foo_lpmf", (y,)),
    "f(a || b | c)": Call("f", (Binary("||", a, b), c)),
    "target()": TargetValue(),
    "[]": RowLiteral(()),
    "[[1, 2], [3, 1]]": RowLiteral((RowLiteral((one, two)), RowLiteral((three, one)))),
    "{{1}}": ArrayLiteral((ArrayLiteral((one,)),)),
}


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_expression(text):
    found = expression(text)
    assert found == EXPRESSIONS[text]
    if isinstance(found, Number):
        assert type(found.value) is type(EXPRESSIONS[text].value)


REAL = SizedType("real")
STATEMENTS = {
    ";": (Empty(),),
    'print("a", x, 1 + 2);': (Empty(),),
    'reject("a; }", x);': (Reject(),),
    "fatal_error(x);": (Reject(),),
    "real x;": (Declaration(REAL, "x"),),
    "real x = 1, y, z = 2;": (
        Declaration(REAL, "x", one),
        Declaration(REAL, "y"),
        Declaration(REAL, "z", two),
    ),
    "array[2, n] matrix[1, 2] x;": (Declaration(SizedType("matrix", (two, n), (one, two)), "x"),),
    "vector[n + 1] x = y;": (Declaration(SizedType("vector", (), (Binary("+", n, one),)), "x", y),),
    "x = 1;": (Assignment("x", (), "=", one),),
    "x[1, :][2] = y;": (Assignment("x", (at(one, ALL), at(two)), "=", y),),
    "x += 1; x -= 1; x *= 1; x /= 1; x .*= 1; x ./= 1;": tuple(
        Assignment("x", (), operator, one) for operator in ("+=", "-=", "*=", "/=", ".*=", "./=")
    ),
    "target += x;": (TargetIncrement(x),),
    "jacobian += x;": (TargetIncrement(x),),
    "y ~ normal(1, 2);": (Tilde(y, "normal", (one, two)),),
    "y ~ std_normal();": (Tilde(y, "std_normal", ()),),
    "a + b ~ f(x) T[1, 2];": (Tilde(Binary("+", a, b), "f", (x,), (one, two)),),
    "y ~ f(x)T[,2]; y ~ f(x) T[ 1 , ]; y ~ f(x) T[,];": (
        Tilde(y, "f", (x,), (None, two)),
        Tilde(y, "f", (x,), (one, None)),
        Tilde(y, "f", (x,), (None, None)),
    ),
    "{a, b} ~ f(x);": (Tilde(ArrayLiteral((a, b)), "f", (x,)),),
    "f(x);": (CallStatement(Call("f", (x,))),),
    "f(x) ~ f(x);": (Tilde(Call("f", (x,)), "f", (x,)),),
    "{ real x; { } }": (Block((Declaration(REAL, "x"), Block(()))),),
    'profile("a b") { x = 1; }': (Block((Assignment("x", (), "=", one),)),),
    "if (a) if (b) ; else { }": (If(a, If(b, Empty(), Block(()))),),
    "if (a) ; else if (b) ; else { }": (If(a, Empty(), If(b, Empty(), Block(()))),),
    "if (a) real x, y;": (If(a, Block((Declaration(REAL, "x"), Declaration(REAL, "y")))),),
    "if (a) for (i in 1:2) if (b) ; else ;": (If(a, For("i", one, two, If(b, Empty(), Empty()))),),
    "for (i in 1:n + 1) x = 1;": (For("i", one, Binary("+", n, one), Assignment("x", (), "=", one)),),
    "for (i in a ? b : c : d) ;": (For("i", Conditional(a, b, c), d, Empty()),),
    "for (i in {1, 2}) ;": (ForEach("i", ArrayLiteral((one, two)), Empty()),),
    "while (x < 1) { break; continue; }": (While(Binary("<", x, one), Block((Break(), Continue()))),),
    "return; return x;": (Return(None), Return(x)),
}


@pytest.mark.parametrize("text", STATEMENTS)
def test_statement(text):
    assert statements(text) == STATEMENTS[text]


VECTORS = """
vector row_vector simplex unit_vector sum_to_zero_vector ordered positive_ordered
corr_matrix cov_matrix cholesky_factor_corr cholesky_factor_cov
"""
RECTANGLES = "matrix cholesky_factor_cov sum_to_zero_matrix row_stochastic_matrix column_stochastic_matrix"
CONSTRAINED = {
    "int<lower=0> x;": SizedType("int", constraints=(("lower", Number(0)),)),
    "real<lower=-1, upper=1 + n> x;": SizedType(
        "real", constraints=(("lower", Unary("-", one)), ("upper", Binary("+", one, n)))
    ),
    "real<upper=(a < b)> x;": SizedType("real", constraints=(("upper", Binary("<", a, b)),)),
    "array[2] vector<offset=a, multiplier=b>[3] x;": SizedType(
        "vector", (two,), (three,), (("offset", a), ("multiplier", b))
    ),
    "matrix<lower=0>[1, 2] x;": SizedType("matrix", (), (one, two), (("lower", Number(0)),)),
    **{f"{base}[n] x;": SizedType(base, (), (n,)) for base in VECTORS.split()},
    **{f"{base}[n, 2] x;": SizedType(base, (), (n, two)) for base in RECTANGLES.split()},
}


@pytest.mark.parametrize("text", CONSTRAINED)
@pytest.mark.parametrize("block", ["data", "transformed data", "parameters", "transformed parameters"])
def test_declaration_of_a_block(text, block):
    program = parse(f"{block} {{ {text} }}", "m.stan")
    assert getattr(program, block.replace(" ", "_")) == (Declaration(CONSTRAINED[text], "x"),)


def test_all_blocks():
    program = parse(
        """
functions { void f() { } }
data { int a, b; ; }
transformed \t data { int c = 1; }
parameters { real x; }
transformed parameters{real y = x;}
model { x ~ f(1); }
generated quantities { real z = f(1); }
""",
        "m.stan",
    )
    integer = SizedType("int")
    assert program == syntax.Program(
        functions=(Function("f", None, (), Block(())),),
        data=(Declaration(integer, "a"), Declaration(integer, "b"), Empty()),
        transformed_data=(Declaration(integer, "c", one),),
        parameters=(Declaration(REAL, "x"),),
        transformed_parameters=(Declaration(REAL, "y", x),),
        model=(Tilde(x, "f", (one,)),),
        generated_quantities=(Declaration(REAL, "z", Call("f", (one,))),),
    )
    assert parse("", "m.stan") == parse("// nothing\n/* at * all */", "m.stan") == syntax.Program()


def test_functions():
    program = parse(
        """functions {
  real f(real x);
  real f(data real x, data array[] int n) { return x; }
  array[,] vector g_lp(array[,,] matrix a, row_vector b) { target += 1; return a; }
}""",
        "m.stan",
    )
    real, row = UnsizedType("real"), UnsizedType("row_vector")
    assert program.functions == (
        Function("f", real, (Parameter(real, "x"),), None),
        Function(
            "f",
            real,
            (Parameter(real, "x", data_only=True), Parameter(UnsizedType("int", 1), "n", data_only=True)),
            Block((Return(x),)),
        ),
        Function(
            "g_lp",
            UnsizedType("vector", 2),
            (Parameter(UnsizedType("matrix", 3), "a"), Parameter(row, "b")),
            Block((TargetIncrement(one), Return(a))),
        ),
    )


# -- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", sorted(parser.RESERVED))
def test_keywords_are_no_names_and_swallow_no_names(word):
    for name in (f"{word}_x", f"{word}1", f"x_{word}", f"{word}er", word.capitalize()):
        assert statements(f"vector[{name}] {name}; {name}[1] = {name};") == (
            Declaration(SizedType("vector", (), (Variable(name),)), name),
            Assignment(name, (at(one),), "=", Variable(name)),
        )
        assert statements(f"for ({name} in {name}:{name}) {name} ~ {name}({name});")
        assert statements(f"if ({name}) {name} = {name}; else {name}({name});")
    with pytest.raises(StanProgramError, match=f"the keyword '{word}' cannot stand here"):
        statements(f"real {word};")
    with pytest.raises(StanProgramError, match=r"m\.stan:1:"):
        statements(f"x = {word} + 1;")


@pytest.mark.parametrize(
    "name", ["inf", "e3", "T", "transformed", "generated", "quantities", "interval", "ifelse"]
)
def test_words_that_are_names(name):
    expected = (Declaration(REAL, name, one), Tilde(Variable(name), "f", (Variable(name),)))
    assert statements(f"real {name} = 1; {name} ~ f({name});") == expected
    assert statements(f"{name}[1] += {name};") == (Assignment(name, (at(one),), "+=", Variable(name)),)


def test_truncation_by_a_variable_called_T():
    T = Variable("T")
    assert statements("T ~ normal(T, 1) T[T, T[1]];") == (
        Tilde(T, "normal", (T, one), (T, Index(T, at(one)))),
    )


def test_the_same_words_are_reserved_in_stan():
    for word in sorted(parser.RESERVED):
        with pytest.raises(StanProgramError, match="Expected a new identifier but found reserved keyword"):
            from_stan(f"parameters {{ real p; }} model {{ real {word}; }}")
    assert from_stan("parameters { real T; } model { T ~ normal(0, 1); }").dim == 1


def test_comments_and_blanks():
    assert statements("/* x = 2; // */ x /**/ = // a */ ;\r\n\t1 // é\n;") == (Assignment("x", (), "=", one),)
    assert statements("x = a /* / * \n */ / b;") == (Assignment("x", (), "=", Binary("/", a, b)),)


# -- the grammar ----------------------------------------------------------------------------------


def test_the_only_conflict_is_the_dangling_else(caplog):
    text = resources.files(parser.__package__).joinpath("grammar.lark").read_text(encoding="utf-8")
    with caplog.at_level(logging.DEBUG, "lark"):
        Lark(text, parser="lalr", lexer="contextual", debug=True)
    conflicts = [r.getMessage() for r in caplog.records if "onflict" in r.getMessage()]
    assert conflicts == ["Shift/Reduce conflict for terminal ELSE: (resolving as shift)"]


def test_the_grammar_is_kept_between_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("ESSPER_CACHE", str(tmp_path))
    grammars = []
    for _ in range(2):  # computed, read
        parser._grammar.cache_clear()
        assert statements("int int_x = 1;") == (Declaration(SizedType("int"), "int_x", one),)
        with pytest.raises(StanProgramError, match="the keyword 'for' cannot stand here"):
            statements("real for;")
        grammars.append(parser._grammar())
    assert grammars[0] is not grammars[1]
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(b"rubbish")
    parser._grammar.cache_clear()
    assert statements("x = 1;") == (Assignment("x", (), "=", one),)
    parser._grammar.cache_clear()


def test_long_sums_and_deep_nesting():
    total = expression(" + ".join(["a"] * 3000))
    for _ in range(2999):
        assert isinstance(total, Binary)
        total = total.left
    assert total == a
    assert expression("(" * 500 + "a" + ")" * 500) == a
