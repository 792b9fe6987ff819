"""Operators against Stan: value, gradient, type, and rows against a loop over them."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import from_stan
from essper.models.stan_to_jax.errors import UnsupportedStanError
from essper.models.stan_to_jax.functions import binary, unary
from essper.models.stan_to_jax.values import (
    INT,
    MATRIX,
    REAL,
    ROW_VECTOR,
    VECTOR,
    Level,
    Type,
    Value,
    integer,
    real,
)

DIM = 32


def values(x: Any) -> dict[str, Value]:
    """What the operands stand for, from flat parameters that are numpy's or jax.numpy's."""
    return {
        "a": Value(REAL, x[0]),
        "b": Value(REAL, x[1]),
        "v": Value(VECTOR, x[2:5]),
        "w": Value(VECTOR, x[5:8]),
        "r": Value(ROW_VECTOR, x[8:11]),
        "h": Value(ROW_VECTOR, x[11:14]),
        "m": Value(MATRIX, x[14:23].reshape(3, 3).T),
        "n": Value(MATRIX, x[23:32].reshape(3, 3).T),
        "A": Value(Type("real", 1), x[2:5]),
        "2": integer(2),
        "3": integer(3),
        "-7": integer(-7),
        "0.5": real(0.5),
        "1.5": real(1.5),
    }


PARAMETERS = """
  real a; real b; vector[3] v; vector[3] w; row_vector[3] r; row_vector[3] h; matrix[3, 3] m; matrix[3, 3] n;
"""
EXPRESSIONS = [
    *(
        f"{x} {o} {y}"
        for o in ("+", "-", "*", "/")
        for x, y in itertools.product(["a", "2", "0.5"], repeat=2)
    ),
    *(f"{x} {o} {y}" for o in ("+", "-", "*") for x in ("v", "r", "m") for y in ("a", "2")),
    *(f"{y} {o} {x}" for o in ("+", "-", "*") for x in ("v", "r", "m") for y in ("a", "2")),
    *(f"{x} {o} {y}" for o in ("+", "-", ".*", "./") for x, y in (("v", "w"), ("r", "h"), ("m", "n"))),
    *("v / a", "r / 2", "m / a", "v ./ 2", "2 ./ v", "a ./ m"),
    *("r * v", "v * r", "m * v", "r * m", "m * n", "r / m", "m / n", "m \\ v", "m \\ n"),
    *("-7 / 2", "-7 % 3", "-7 %/% 3", "2 / 3", "3 / 2", "-7 * 3", "-7 + 2"),
    *("3 ^ 2", "a ^ 2", "v ^ 2", "v .^ 3", "m ^ 2", "2 ^ v", "1.5 ^ a", "1.5 .^ r", "v .^ 2", "A ^ 2"),
    *(
        f"{x} {o} {y}"
        for o in ("==", "!=", "<", ">", "<=", ">=")
        for x, y in (("a", "b"), ("2", "2"), ("2", "a"))
    ),
    *("2 && 3", "2 || 3"),
    *("-a", "-2", "-v", "-r", "-m", "-A", "+a", "!2", "v'", "r'", "m'"),
]
POINTS = np.random.default_rng(2).normal(size=(3, DIM))


def parts(expression: str) -> tuple[str, list[str]]:
    """The operator and its operands."""
    if expression.endswith("'"):
        return "'", [expression[:-1]]
    pieces = expression.split(" ")
    if len(pieces) == 1:
        return expression[0], [expression[1:]]
    return pieces[1], [pieces[0], pieces[2]]


def apply(expression: str, environment: dict[str, Value]) -> Value:
    operator, operands = parts(expression)
    arguments = [environment[operand] for operand in operands]
    return unary(operator, *arguments) if len(arguments) == 1 else binary(operator, *arguments)


def score(result: Value) -> Any:
    """A weighted sum of the elements."""
    weights = np.cos(np.arange(1, 1 + int(np.prod(result.shape, dtype=int)))).reshape(result.shape)
    return (result.data * weights).sum()


def contribution(expression: str, result: Value, k: int) -> str:
    """A Stan statement that adds the score times uₖ to the target."""
    element = result.shape[result.arrays :]
    array = f"array[{result.shape[0]}] " if result.arrays else ""
    declared = f"{array}{result.kind}{list(element) if element else ''}"
    names = [f"i{n}" for n in range(len(result.shape))]
    loops = "".join(f"for ({i} in 1:{n}) " for i, n in zip(names, result.shape, strict=True))
    index = f"[{', '.join(names)}]" if names else ""
    return (
        f"{{ {declared} z = {expression}; int j = 0; "
        f"{loops}{{ j += 1; target += u[{k + 1}] * cos(j) * z{index}; }} }}"
    )


@pytest.mark.parametrize("expressions", [EXPRESSIONS[i : i + 35] for i in range(0, len(EXPRESSIONS), 35)])
def test_values_and_gradients_are_stans(expressions):
    concrete = [[apply(e, values(x)) for e in expressions] for x in POINTS]
    body = "\n".join(
        contribution(e, r, k) for k, (e, r) in enumerate(zip(expressions, concrete[0], strict=True))
    )
    model = from_stan(
        f"parameters {{ {PARAMETERS} vector[{len(expressions)}] u; }}\n"
        f"model {{ array[3] real A = to_array_1d(v);\n{body} }}",
        {},
    ).model

    def weighted(x, u):
        environment = values(jax.lax.optimization_barrier(x))
        found = jnp.stack([jnp.asarray(score(apply(e, environment)), float) for e in expressions])
        return found @ u, found

    evaluate = jax.jit(jax.value_and_grad(weighted, has_aux=True))
    for x, results in zip(POINTS, concrete, strict=True):
        assert all(result.concrete for result in results)
        for k, u in enumerate(np.eye(len(expressions))):
            expected, gradient = model.log_density_gradient(
                np.concatenate([x, u]), propto=True, jacobian=True
            )
            (found, _), found_gradient = evaluate(x, u)
            note = expressions[k]
            np.testing.assert_allclose(score(results[k]), expected, rtol=1e-10, atol=1e-10, err_msg=note)
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10, err_msg=note)
            scale = np.abs(gradient[:DIM]).max()
            np.testing.assert_allclose(
                found_gradient, gradient[:DIM], rtol=0, atol=1e-10 * (1 + scale), err_msg=note
            )


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("which", ["both", "left", "right"])
def test_rows_are_what_a_loop_gives(which, traced):
    level = Level(None, len(POINTS), np.zeros(len(POINTS), int))
    points = [values(x) for x in POINTS]
    expressions = [e for e in EXPRESSIONS if not traced or parts(e)[0] in ("*", "/", "\\", "'", "^")]
    compiled: dict[str, tuple[dict[str, Value], dict[str, Any]]] = {}
    expectations = {}
    for expression in expressions:
        _, operands = parts(expression)
        chosen = {"both": operands, "left": operands[:1], "right": operands[-1:]}[which]
        rows = {
            name: Value(value.type, np.stack([p[name].data for p in points]), level)
            if name in chosen
            else value
            for name, value in points[0].items()
        }
        expected = [
            apply(
                expression, {n: v if v.level is None else Value(v.type, v.data[i]) for n, v in rows.items()}
            )
            for i in range(level.size)
        ]
        stacked = expectations[expression] = np.stack([e.data for e in expected])
        if traced and any(name.isalpha() for name in chosen):
            compiled[expression] = rows, {name: rows[name].data for name in chosen if name.isalpha()}
        else:
            found = apply(expression, rows)
            assert found.type == expected[0].type
            assert found.level is level
            assert found.concrete
            np.testing.assert_allclose(found.data, stacked, rtol=1e-9, atol=1e-10, err_msg=expression)

    def evaluate(arrays):
        results = {}
        for expression, (rows, _) in compiled.items():
            given = jax.lax.optimization_barrier(arrays[expression])
            found = apply(
                expression, {n: Value(v.type, given.get(n, v.data), v.level) for n, v in rows.items()}
            )
            assert found.level is level
            results[expression] = found.data
        return results

    arrays = {expression: given for expression, (_, given) in compiled.items()}
    results = jax.jit(evaluate)(arrays) if traced else {}
    for expression, data in results.items():
        np.testing.assert_allclose(data, expectations[expression], rtol=1e-9, atol=1e-10, err_msg=expression)


def test_a_matrix_that_all_rows_share_is_one_matrix_product():
    level = Level(None, 7, np.zeros(7, int))
    x, y = np.ones((5, 3)), np.ones((7, 3))
    jaxpr = jax.make_jaxpr(lambda y: binary("*", Value(MATRIX, x), Value(VECTOR, y, level)).data)(y)
    assert str(jaxpr).count("dot_general") == 1
    assert binary("*", Value(MATRIX, x), Value(VECTOR, y, level)).data.shape == (7, 5)


@pytest.mark.parametrize("rows", [1, 0])
def test_systems_that_share_a_matrix_share_its_factorisation(rows):
    level = Level(None, 7, np.zeros(7, int))
    a = np.eye(3) + 0.1

    def solve(y):
        return binary("\\", Value(MATRIX, jnp.asarray(a)), Value(VECTOR, y, level if rows else None)).data

    y = np.random.default_rng(0).normal(size=(7, 3) if rows else 3)
    assert str(jax.make_jaxpr(solve)(y)).count(" lu[") + str(jax.make_jaxpr(solve)(y)).count("= lu ") == 1
    np.testing.assert_allclose(solve(y), np.linalg.solve(a, y.T).T, rtol=1e-12)


def test_ints_stay_ints():
    for operator in ("+", "-", "*", "/", "%", "%/%", "==", "<", "&&"):
        result = binary(operator, integer(7), integer(2))
        assert result.type == INT
        assert np.asarray(result.data).dtype == np.int64
    assert binary("^", integer(7), integer(2)).type == REAL
    assert binary("/", integer(7), real(2.0)).data == 3.5


def test_a_traced_int_is_divided_as_a_concrete_one():
    for operator in ("/", "%"):
        divide = jax.jit(lambda x, y, o=operator: binary(o, Value(INT, x), Value(INT, y)).data)
        for x, y in itertools.product((-7, -6, 0, 7), (-2, 2, 3)):
            found = divide(x, y)
            assert found == binary(operator, integer(x), integer(y)).data
            assert jnp.issubdtype(found.dtype, jnp.integer)


def test_nan_compares_as_in_c():
    nan = real(np.nan)
    assert binary("==", nan, nan).data == 0
    assert binary("!=", nan, nan).data == 1
    assert binary("<", nan, real(1.0)).data == 0


def test_what_is_infinite_is_no_warning(recwarn):
    assert binary("/", real(1.0), real(0.0)).data == np.inf
    assert np.isnan(binary("-", real(np.inf), real(np.inf)).data)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("operator", "left", "right", "message"),
    [
        ("+", Value(VECTOR, np.ones(3)), Value(VECTOR, np.ones(1)), r"sizes 3 and 1 do not match in '\+'"),
        ("+", Value(VECTOR, np.ones(3)), Value(ROW_VECTOR, np.ones(3)), r"'vector \+ row_vector'"),
        ("*", Value(VECTOR, np.ones(3)), Value(VECTOR, np.ones(3)), r"'vector \* vector'"),
        ("*", Value(MATRIX, np.ones((2, 3))), Value(VECTOR, np.ones(1)), "do not match"),
        ("/", integer(1), integer(0), "an int is divided by 0"),
        ("%", integer(1), integer(0), "an int is divided by 0"),
        ("%", real(1.0), integer(2), "'real % int'"),
        ("@", real(1.0), integer(2), "'real @ int'"),
    ],
)
def test_what_is_not_lowered_says_so(operator, left, right, message):
    with pytest.raises(UnsupportedStanError, match=message):
        binary(operator, left, right)


def test_an_array_cannot_be_transposed():
    with pytest.raises(UnsupportedStanError, match=r"the operator ''' on array\[\] real"):
        unary("'", Value(Type("real", 1), np.ones(2)))
