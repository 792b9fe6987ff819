"""What is said about texts that are no Stan programs, and about programs that are not lowered."""

import pytest
from essper.models import StanProgramError, from_stan
from essper.models.stan_to_jax.errors import UnsupportedStanError
from essper.models.stan_to_jax.parser import parse
from essper.models.stan_to_jax.syntax import Call, TargetIncrement, Variable

WRONG = {
    "model {\n  x = 1 + ;\n}": ("2:11: ';' cannot stand here", "  x = 1 + ;", "an expression"),
    "model {\n\treal x 3;\n}": ("2:9: '3' cannot stand here", " real x 3;", "',', ';' or '='"),
    "model {\n  x = 1\n  y = 2;\n}": ("2:8: a ';' is missing", "  x = 1", "';' or an operator"),
    "model { y ~ normal(0, 1) }": (
        "1:25: a ';' is missing",
        "model { y ~ normal(0, 1) }",
        "a truncation T[…]",
    ),
    "data { int N }": ("1:13: a ';' is missing", "data { int N }", "',' or ';'"),
    "model { y ~ normal(0 1); }": ("1:22: '1' cannot stand here", "model { y", "')', ',' or an operator"),
    "model {\n  x = 1;\n\n": ("2:9: the program ends too early", "  x = 1;", "'}' or a statement"),
    "data { real<lower=0,> x; }": (
        "1:21: '>' cannot",
        "data {",
        "'lower', 'multiplier', 'offset' or 'upper'",
    ),
    "data { vector x; }": ("1:15: 'x' cannot stand here", "data {", "'<' or '['"),
    "data { matrix[2] x; }": ("1:16: ']' cannot stand here", "data {", "','"),
    "data { int N = 3; }": ("1:14: '=' cannot stand here", "data {", "',' or ';'"),
    "data { int N; N = 3; }": ("1:15: 'N' cannot stand here", "data {", "';', '}' or a type"),
    "parameters { } data { }": (
        "1:16: the keyword 'data' cannot",
        "parameters",
        "'transformed parameters' or",
    ),
    "model { } model { }": ("1:11: the keyword 'model'", "model", "'generated quantities' or the end of"),
    "model { real x[3]; }": ("1:15: no '[' can stand here; arrays are declared as array[N]", "model", "';'"),
    "functions { real f(real[] x); }": ("1:24: no '[' can stand here; arrays", "functions", "a name"),
    "functions { real f(simplex x); }": ("1:20: the keyword 'simplex'", "functions", "a type"),
    "functions { real f() return 1; }": ("1:22: the keyword 'return'", "functions", "';' or '{'"),
    "model { x <- 1; }": (
        "1:15: an expression alone is no statement; an assignment is written",
        "model",
        "'~'",
    ),
    "model { x < -1; }": ("1:15: an expression alone is no statement\n", "model", "'~'"),
    "model { (x) = 3; }": ("1:13: '=' cannot stand here", "model", "'~'"),
    "model { x' = 3; }": ("1:12: '=' cannot stand here", "model", "'~'"),
    "model { x = v'[1]; }": ("1:15: '[' cannot stand here", "model", "';'"),
    "model { else ; }": ("1:9: the keyword 'else' cannot stand here", "model", "a statement"),
    "model { target -= 1; }": ("1:16: '-=' cannot stand here", "model", "'(' or '+='"),
    "model { x ^= 2; }": ("1:12: '=' cannot stand here", "model", "an expression"),
    "model { x = {}; }": ("1:14: '}' cannot stand here", "model", "an expression"),
    "model { print(); }": ("1:15: ')' cannot stand here", "model", "a text in quotes or an expression"),
    "model { # note\n}": ("1:9: a comment begins with //, no longer with #", "model { # note", None),
    "model { /* a\n}": ("1:9: this comment does not end", "model { /* a", None),
    'model { print("a\n"); }': ("1:15: this text does not end on its line", 'model { print("a', None),
    "model { é = 1; }": ("1:9: the character 'é' means nothing in Stan", "model { é = 1; }", None),
    "model { real _x; }": ("1:14: the character '_' means nothing in Stan", "model", None),
    "transformed\ndata { }": ("1:1: 'transformed' cannot stand here", "transformed", "'transformed data'"),
}


@pytest.mark.parametrize("text", WRONG)
def test_syntax_error(text):
    where, shown, expected = WRONG[text]
    with pytest.raises(StanProgramError) as caught:
        parse(text, "m.stan")
    assert not isinstance(caught.value, UnsupportedStanError)
    message = str(caught.value)
    assert message.startswith(f"m.stan:{where}")
    _, line, caret, *rest = message.split("\n")
    assert line.startswith(f"    {shown}")
    assert caret == "    " + " " * (int(message.split(":")[2]) - 1) + "^"
    if expected is None:
        assert not rest
    else:
        assert rest[0].startswith("expected ")
        assert expected in rest[0]


@pytest.mark.parametrize("text", WRONG)
def test_stan_rejects_them_too(text):
    with pytest.raises(StanProgramError, match="Stan rejects the program"):
        from_stan(text + "\n")


UNSUPPORTED = {
    "model { complex c; }": ("1:9", "the type complex"),
    "model { array[2] complex_matrix[2, 2] c; }": ("1:18", "the type complex_matrix"),
    "model { x = 3i; }": ("1:13", "the complex number 3i"),
    "model { x = 2.5e1i + 1; }": ("1:13", "the complex number 2.5e1i"),
    "parameters { tuple(real<lower=0>, vector[2]) t; }": ("1:14", "a tuple"),
    "model {\n  x = t.1; }": ("2:7", "a tuple"),
    "model { t.2[1] = 3; }": ("1:9", "a tuple"),
    "model { x = (1, 2); }": ("1:13", "a tuple"),
    "model { (a, b[1]) = f(x); }": ("1:9", "a tuple"),
    "functions { real f(complex_vector z) { return 1; } } model { x = f(y); }": (
        "1:20",
        "the type complex_vector",
    ),
    "functions { tuple(real, real) f(real z) { return (z, z); } } model { x = f(y); }": ("1:13", "a tuple"),
    # by way of another function, and of a distribution
    "functions { real f(complex z) { return 1; } real g() { return f(1); } } model { x = g(); }": (
        "1:20",
        "complex",
    ),
    "functions { real f_lpdf(real y, complex z) { return 1; } } model { y ~ f(z); }": (
        "1:33",
        "the type complex",
    ),
}


@pytest.mark.parametrize("text", UNSUPPORTED)
def test_unsupported_construct(text):
    where, what = UNSUPPORTED[text]
    with pytest.raises(UnsupportedStanError, match="backend='bridgestan'") as caught:
        parse(text, "m.stan")
    assert str(caught.value.position) == f"m.stan:{where}"
    assert what in caught.value.reason


def test_what_only_generated_quantities_use_is_no_obstacle():
    program = parse(
        """functions {
  tuple(real, real) both(real x) { return (x, x); }
  real f(real x) { return x; }
}
parameters { real x; }
model { target += f(x); }
generated quantities { real y = both(x).1; }""",
        "m.stan",
    )
    assert [function.name for function in program.functions] == ["f"]
    assert program.generated_quantities == ()
    assert program.model == (TargetIncrement(Call("f", (Variable("x"),))),)
