"""Multivariate densities against Stan: values, gradients, dropped constants, vectorisation, rejections."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import from_stan
from essper.models.stan_to_jax.constraints import Declared, constrain, free_size
from essper.models.stan_to_jax.densities import evaluate
from essper.models.stan_to_jax.values import INT, MATRIX, REAL, VECTOR, Level, Type, Value, integer, real
from scipy.stats import multivariate_normal, norm

INTS = Type("int", 1)


@dataclass(frozen=True)
class Argument:
    """An argument of a density: an array of ints that are data, or of a type that parameters can have."""

    declared: Declared
    data: np.ndarray | None = None
    """Fixed data; None where it can be a parameter."""

    @property
    def stan(self) -> str:
        """Its declaration without the name."""
        d = self.declared
        bounds = ", ".join(f"{key}={value}" for key, value in d.bounds.items())
        dims = f"[{', '.join(map(str, d.dims))}]" if d.dims else ""
        arrays = f"array[{', '.join(map(str, d.arrays))}] " if d.arrays else ""
        return f"{arrays}{d.base}{f'<{bounds}>' if bounds else ''}{dims}"


@dataclass(frozen=True)
class Case:
    density: str
    arguments: tuple[Argument, ...]
    label: str = field(default="")

    def __str__(self) -> str:
        return f"{self.density}{self.label}"


def a(base: str, *dims: int, arrays: tuple[int, ...] = (), **bounds: float) -> Argument:
    return Argument(Declared(base, arrays, dims, bounds))


def ints(values: object) -> Argument:
    data = np.asarray(values, np.int64)
    return Argument(Declared("int", data.shape), data)


def vectors(n: int, size: int) -> Argument:
    return a("vector", size, arrays=(n,))


POSITIVE = a("real", lower=0)
CATEGORIES = ints([1, 4, 2, 3, 4])
COUNTS = ints([3, 0, 2, 1])
CASES = [
    Case("multi_normal", (a("vector", 3), a("vector", 3), a("cov_matrix", 3))),
    Case("multi_normal", (vectors(4, 3), a("vector", 3), a("cov_matrix", 3)), " array y"),
    Case("multi_normal", (a("vector", 2), a("row_vector", 2, arrays=(3,)), a("cov_matrix", 2)), " array mu"),
    Case("multi_normal", (vectors(3, 2), vectors(3, 2), a("cov_matrix", 2)), " arrays"),
    Case("multi_normal_cholesky", (a("vector", 3), a("vector", 3), a("cholesky_factor_cov", 3))),
    Case("multi_normal_cholesky", (vectors(4, 3), a("row_vector", 3), a("cholesky_factor_cov", 3)), " array"),
    Case("multi_normal_prec", (a("row_vector", 3), a("vector", 3), a("cov_matrix", 3))),
    Case("multi_normal_prec", (vectors(4, 3), a("vector", 3), a("cov_matrix", 3)), " array"),
    Case("multi_student_t", (a("vector", 3), POSITIVE, a("vector", 3), a("cov_matrix", 3))),
    Case("multi_student_t", (vectors(4, 3), POSITIVE, a("vector", 3), a("cov_matrix", 3)), " array"),
    Case("multi_student_t_cholesky", (a("vector", 3), POSITIVE, a("vector", 3), a("cholesky_factor_cov", 3))),
    Case("multi_gp", (a("matrix", 3, 3), a("cov_matrix", 3), a("vector", 3, lower=0))),
    Case("multi_gp_cholesky", (a("matrix", 3, 3), a("cholesky_factor_cov", 3), a("vector", 3, lower=0))),
    Case("dirichlet", (a("simplex", 4), a("vector", 4, lower=0))),
    Case("dirichlet", (a("simplex", 4, arrays=(3,)), a("vector", 4, lower=0)), " array"),
    Case("dirichlet_multinomial", (COUNTS, a("vector", 4, lower=0))),
    Case("multinomial", (COUNTS, a("simplex", 4))),
    Case("multinomial_logit", (COUNTS, a("vector", 4))),
    Case("categorical", (ints(2), a("simplex", 4))),
    Case("categorical", (CATEGORIES, a("simplex", 4)), " array"),
    Case("categorical", (ints([40, 7]), a("simplex", 40)), " many"),
    Case("categorical_logit", (ints(3), a("vector", 4))),
    Case("categorical_logit", (CATEGORIES, a("vector", 4)), " array"),
    Case("ordered_logistic", (ints(2), a("real"), a("ordered", 3))),
    Case("ordered_logistic", (CATEGORIES, a("vector", 5), a("ordered", 3)), " vectors"),
    Case("ordered_logistic", (CATEGORIES, a("vector", 5), a("ordered", 3, arrays=(5,))), " cut points"),
    Case("ordered_logistic", (ints([1, 2]), a("vector", 2), a("ordered", 1)), " two"),
    Case("ordered_probit", (ints(2), a("real"), a("ordered", 3))),
    Case("ordered_probit", (CATEGORIES, a("vector", 5), a("ordered", 3)), " vectors"),
    Case("ordered_probit", (CATEGORIES, a("vector", 5), a("ordered", 3, arrays=(5,))), " cut points"),
    Case("lkj_corr", (a("corr_matrix", 3), POSITIVE)),
    Case("lkj_corr_cholesky", (a("cholesky_factor_corr", 4), POSITIVE)),
    Case("wishart", (a("cov_matrix", 3), a("real", lower=2), a("cov_matrix", 3))),
    Case("inv_wishart", (a("cov_matrix", 3), a("real", lower=2), a("cov_matrix", 3))),
    Case("wishart_cholesky", (a("cholesky_factor_cov", 3), a("real", lower=2), a("cholesky_factor_cov", 3))),
    Case(
        "inv_wishart_cholesky", (a("cholesky_factor_cov", 3), a("real", lower=2), a("cholesky_factor_cov", 3))
    ),
]


def choices(case: Case) -> list[tuple[bool, ...]]:
    """Which arguments are parameters: each one alone, and all.

    Of a density's second case, which differs from its first by shapes: the first alone, and all.
    """
    free = tuple(argument.data is None for argument in case.arguments)
    alone = [tuple(i == j for j in range(len(free))) for i, can_be in enumerate(free) if can_be]
    return [*(alone[:1] if case.label else alone), free] if len(alone) > 1 else alone


@functools.cache
def transform(stan: str) -> tuple[Callable, Callable]:
    """``free -> (value, log Jacobian)`` of a declaration and its pullback, compiled once for all cases."""
    declared = next(arg.declared for case in CASES for arg in case.arguments if arg.stan == stan)

    def constrained(free):
        return constrain(declared, free)

    def pulled_back(free, cotangent):
        return jax.vjp(constrained, free)[1]((cotangent, jnp.ones(())))[0]

    return jax.jit(constrained), jax.jit(pulled_back)


def datum(argument: Argument, rng: np.random.Generator) -> np.ndarray:
    if argument.data is not None:
        return argument.data
    free = 0.5 * rng.normal(size=free_size(argument.declared))
    return np.asarray(transform(argument.stan)[0](free)[0])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_density_is_stans_with_and_without_constants(case: Case) -> None:
    """All choices of parameters among the arguments in one program, once by ``~`` and once in full."""
    rng = np.random.default_rng(1)
    data = [datum(argument, rng) for argument in case.arguments]
    suffix = "lpmf" if case.arguments[0].data is not None else "lpdf"
    declarations, statements = [], []
    for number, choice in enumerate(choices(case)):
        names = [f"p{number}_{i}" if free else f"d{i}" for i, free in enumerate(choice)]
        declarations += [
            f"{argument.stan} {name};"
            for argument, name, free in zip(case.arguments, names, choice, strict=True)
            if free
        ]
        first, others = names[0], ", ".join(names[1:])
        statements += [
            f"{first} ~ {case.density}({others});",
            f"target += 2 * {case.density}_{suffix}({first} | {others});",
        ]
    inputs = [f"{argument.stan} d{i};" for i, argument in enumerate(case.arguments)]
    program = (
        f"data {{ {' '.join(inputs)} }} parameters {{ {' '.join(declarations)} }} "
        f"model {{ {' '.join(statements)} }}"
    )
    model = from_stan(program, {f"d{i}": value.tolist() for i, value in enumerate(data)}).model

    parameters = [
        argument
        for choice in choices(case)
        for argument, is_free in zip(case.arguments, choice, strict=True)
        if is_free
    ]
    ends = np.cumsum([free_size(argument.declared) for argument in parameters])
    assert ends[-1] == model.param_unc_num()

    @jax.jit
    @jax.value_and_grad
    def log_density(arrays):
        total, given = jnp.zeros(()), iter(arrays)
        for choice in choices(case):
            values = [
                Value(argument.declared.type, next(given) if is_free else value)
                for argument, value, is_free in zip(case.arguments, data, choice, strict=True)
            ]
            evaluation = evaluate(case.density, values)
            total += evaluation.value(constants=False).data + 2 * evaluation.value(constants=True).data
        return total

    for point in rng.normal(size=(3, model.param_unc_num())):
        transforms = [transform(argument.stan) for argument in parameters]
        pieces = np.split(point, ends[:-1])
        constrained = [there(free) for (there, _), free in zip(transforms, pieces, strict=True)]
        density, slopes = log_density([array for array, _ in constrained])
        value = density + sum(jacobian for _, jacobian in constrained)
        gradient = np.concatenate(
            [back(free, slope) for (_, back), free, slope in zip(transforms, pieces, slopes, strict=True)]
        )
        expected, expected_gradient = model.log_density_gradient(point, propto=True, jacobian=True)
        np.testing.assert_allclose(value, expected, rtol=1e-11, atol=1e-11)
        # The derivative of Stan's log Φ is an approximation.
        error = 1e-3 if case.density == "ordered_probit" else 1e-11
        scale = np.abs(expected_gradient).max()
        np.testing.assert_allclose(gradient, expected_gradient, rtol=100 * error, atol=error * scale)


def test_derivative_of_ordered_probit() -> None:
    """Against the exact derivative, in the middle and in both tails."""
    cuts = np.array([-1.0, 0.5])

    @jax.jit
    @jax.jacrev
    def slopes(eta):
        terms = [
            evaluate("ordered_probit", [integer(y), Value(REAL, eta), Value(VECTOR, cuts)]) for y in (1, 2, 3)
        ]
        return jnp.stack([term.value().data for term in terms])

    for eta in (-12.0, -0.4, 0.3, 12.0):
        for y, slope in zip((1, 2, 3), slopes(eta), strict=True):
            ends = np.array([-np.inf, *cuts, np.inf])[[y - 1, y]] - eta
            if ends[0] > 0:
                probability = norm.sf(ends[0]) - norm.sf(ends[1])
            else:
                probability = norm.cdf(ends[1]) - norm.cdf(ends[0])
            exact = (norm.pdf(ends[0]) - norm.pdf(ends[1])) / probability
            np.testing.assert_allclose(slope, exact, rtol=1e-9)


REJECTIONS = {
    "multi_normal": [
        (VECTOR, [], VECTOR, [], MATRIX, np.zeros((0, 0))),
        (VECTOR, [0.1, 0.2], VECTOR, [0.0, 0.0], MATRIX, [[1.0, 2.0], [2.0, 1.0]]),
        (VECTOR, [0.1, 0.2], VECTOR, [0.0, 0.0], MATRIX, [[1.0, 0.5], [0.4, 1.0]]),
        (VECTOR, [0.1, 0.2], VECTOR, [0.0, np.inf], MATRIX, [[1.0, 0.5], [0.5, 1.0]]),
    ],
    "multi_normal_cholesky": [(VECTOR, [0.1, 0.2], VECTOR, [0.0, 0.0], MATRIX, [[1.0, 0.0], [2.0, -1.0]])],
    "multi_normal_prec": [(VECTOR, [0.1, 0.2], VECTOR, [0.0, 0.0], MATRIX, [[1.0, 2.0], [2.0, 1.0]])],
    "multi_student_t": [(VECTOR, [0.1], REAL, 0.0, VECTOR, [0.0], MATRIX, [[1.0]])],
    "dirichlet": [
        (VECTOR, [0.5, 0.4], VECTOR, [1.0, 2.0]),
        (VECTOR, [1.5, -0.5], VECTOR, [1.0, 2.0]),
        (VECTOR, [0.5, 0.5], VECTOR, [1.0, 0.0]),
        (VECTOR, [1.0, 0.0], VECTOR, [1.0, 2.0]),
    ],
    "dirichlet_multinomial": [(INTS, [1, -1], VECTOR, [1.0, 2.0]), (INTS, [1, 1], VECTOR, [1.0, 0.0])],
    "multinomial": [
        (INTS, [1, -1], VECTOR, [0.5, 0.5]),
        (INTS, [1, 1], VECTOR, [0.5, 0.6]),
        (INTS, [1, 1], VECTOR, [1.0, 0.0]),
    ],
    "categorical": [
        (INT, 0, VECTOR, [0.5, 0.5]),
        (INT, 3, VECTOR, [0.5, 0.5]),
        (INT, 1, VECTOR, [0.5, 0.6]),
        (INT, 2, VECTOR, [1.0, 0.0]),
    ],
    "categorical_logit": [(INT, 0, VECTOR, [0.5, 0.5]), (INT, 3, VECTOR, [0.5, 0.5])],
    "ordered_logistic": [
        (INT, 0, REAL, 0.3, VECTOR, [0.5, 1.0]),
        (INT, 4, REAL, 0.3, VECTOR, [0.5, 1.0]),
        (INT, 3, REAL, 0.3, VECTOR, [1.0, 0.5]),
        (INT, 2, REAL, 0.3, VECTOR, [0.5, 0.5]),
    ],
    "ordered_probit": [(INT, 4, REAL, 0.3, VECTOR, [0.5, 1.0]), (INT, 3, REAL, 0.3, VECTOR, [1.0, 0.5])],
    "lkj_corr": [
        (MATRIX, [[1.0, 0.5], [0.5, 1.0]], REAL, 0.0),
        (MATRIX, [[1.1, 0.5], [0.5, 1.0]], REAL, 2.0),
        (MATRIX, [[1.0, 1.5], [1.5, 1.0]], REAL, 2.0),
    ],
    "lkj_corr_cholesky": [
        (MATRIX, np.zeros((0, 0)), REAL, 2.0),
        (MATRIX, [[1.0, 0.0], [0.6, 0.8]], REAL, -1.0),
        (MATRIX, [[1.0, 0.1], [0.6, 0.8]], REAL, 2.0),
    ],
    "wishart": [
        (MATRIX, [[1.0, 0.5], [0.5, 1.0]], REAL, 1.0, MATRIX, [[1.0, 0.0], [0.0, 1.0]]),
        (MATRIX, [[1.0, 1.5], [1.5, 1.0]], REAL, 3.0, MATRIX, [[1.0, 0.0], [0.0, 1.0]]),
    ],
    "inv_wishart": [
        (MATRIX, [[1.0, 0.5], [0.5, 1.0]], REAL, 1.0, MATRIX, [[1.0, 0.0], [0.0, 1.0]]),
        (MATRIX, [[1.0, 0.5], [0.5, 1.0]], REAL, 3.0, MATRIX, [[1.0, 2.0], [2.0, 1.0]]),
    ],
}
ACCEPTED = {
    "multinomial": [(INTS, [2, 0], VECTOR, [1.0, 0.0]), (INTS, [0, 0], VECTOR, [0.5, 0.5])],
    "categorical": [(INT, 1, VECTOR, [1.0, 0.0])],
    "dirichlet": [(VECTOR, [0.3, 0.7], VECTOR, [1.0, 1.0])],
    "multi_normal_cholesky": [(VECTOR, [], VECTOR, [], MATRIX, np.zeros((0, 0)))],
    "multi_student_t": [(VECTOR, [], REAL, 3.0, VECTOR, [], MATRIX, np.zeros((0, 0)))],
    "lkj_corr": [(MATRIX, np.zeros((0, 0)), REAL, 2.0), (MATRIX, np.eye(1), REAL, 2.0)],
    "lkj_corr_cholesky": [(MATRIX, np.eye(1), REAL, 2.0)],
    "ordered_logistic": [(INT, 1, REAL, 0.5, VECTOR, [])],
}


def typed(flat: tuple) -> list[Value]:
    types, arrays = flat[::2], flat[1::2]
    return [
        Value(t, np.asarray(a, np.int64 if t.kind == "int" else np.float64))
        for t, a in zip(types, arrays, strict=True)
    ]


def stan_value(density: str, values: list[Value]) -> float:
    """Stan's log density at data, −∞ if it throws or is NaN."""
    declarations, data = "", {}
    for i, value in enumerate(values):
        sizes = f"[{', '.join(map(str, value.shape))}]" if value.shape else ""
        array = f"array{sizes} int" if value.type == INTS else f"{value.kind}{sizes}"
        declarations += f"{array} d{i}; "
        data[f"d{i}"] = value.data.tolist()
    suffix = "lpmf" if values[0].kind == "int" else "lpdf"
    others = ", ".join(f"d{i}" for i in range(1, len(values)))
    program = f"target += {density}_{suffix}(d0 | {others});"
    model = from_stan(f"data {{ {declarations} }} parameters {{ real x; }} model {{ {program} }}", data).model
    try:
        value = model.log_density(np.zeros(1))
    except RuntimeError:
        return -np.inf
    return -np.inf if np.isnan(value) else value  # both fail the evaluation


def lowered_value(density: str, values: list[Value]) -> float:
    evaluation = evaluate(density, values)
    valid = all(bool(np.all(condition.data)) for condition in evaluation.valid)
    return float(evaluation.value().data) if valid else -np.inf


@pytest.mark.parametrize("density", REJECTIONS, ids=str)
def test_what_stan_rejects_has_no_density(density: str) -> None:
    for flat in REJECTIONS[density]:
        values = typed(flat)
        assert stan_value(density, values) == -np.inf
        assert lowered_value(density, values) == -np.inf
        traced = [v if v.kind == "int" else Value(v.type, jnp.asarray(v.data)) for v in values]
        if all(np.all(np.isfinite(v.data)) for v in values):
            assert lowered_value(density, traced) == -np.inf


@pytest.mark.parametrize("density", ACCEPTED, ids=str)
def test_borders_that_stan_accepts(density: str) -> None:
    for flat in ACCEPTED[density]:
        values = typed(flat)
        expected = stan_value(density, values)
        assert np.isfinite(expected)
        np.testing.assert_allclose(lowered_value(density, values), expected, rtol=1e-13, atol=1e-13)


ROWS = Level(None, 3, np.zeros(3, np.int64))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_are_evaluated_one_by_one(case: Case) -> None:
    """Each argument with rows or without, against evaluating each row alone."""
    rng = np.random.default_rng(4)
    each = [[datum(argument, rng) for argument in case.arguments] for _ in range(ROWS.size)]
    types = [argument.declared.type for argument in case.arguments]
    stacked = [np.stack(arrays) for arrays in zip(*each, strict=True)]

    @jax.jit
    def together(traced):
        found = []
        for choice in choices(case):
            values = [
                Value(kind, rows, ROWS) if has_rows else Value(kind, fixed)
                for kind, rows, fixed, has_rows in zip(types, traced, each[0], choice, strict=True)
            ]
            evaluation = evaluate(case.density, values)
            valid = [jnp.all(condition.data) for condition in evaluation.valid]
            found.append((evaluation.value().data, valid))
        return found

    @jax.jit
    @jax.vmap
    def alone(*arrays):
        values = [Value(kind, array) for kind, array in zip(types, arrays, strict=True)]
        return evaluate(case.density, values).value().data

    for choice, (found, valid) in zip(choices(case), together(stacked), strict=True):
        repeated = [
            rows if has_rows else np.stack([fixed] * ROWS.size)
            for rows, fixed, has_rows in zip(stacked, each[0], choice, strict=True)
        ]
        np.testing.assert_allclose(found, alone(*repeated), rtol=1e-11)
        assert all(valid)


def test_processes_are_normal_row_by_row() -> None:
    """Stan's formula of ``multi_gp`` where there are more times than processes."""
    rng = np.random.default_rng(5)
    y, w = rng.normal(size=(2, 3)), np.array([0.5, 2.0])
    factor = np.linalg.cholesky(np.eye(3) + 0.5)
    sigma = factor @ factor.T
    expected = sum(multivariate_normal.logpdf(y[d], np.zeros(3), sigma / w[d]) for d in range(2))
    for name, matrix in (("multi_gp", sigma), ("multi_gp_cholesky", factor)):
        values = [Value(MATRIX, y), Value(MATRIX, matrix), Value(VECTOR, w)]
        np.testing.assert_allclose(lowered_value(name, values), expected, rtol=1e-13)


def test_infinite_degrees_of_freedom_are_normal() -> None:
    y, mu, sigma = Value(VECTOR, np.ones(2)), Value(VECTOR, np.zeros(2)), Value(MATRIX, np.eye(2) + 0.5)
    expected = lowered_value("multi_normal", [y, mu, sigma])
    nu = real(np.inf)
    assert lowered_value("multi_student_t", [y, nu, mu, sigma]) == expected
    factor = Value(MATRIX, np.linalg.cholesky(sigma.data))
    np.testing.assert_allclose(lowered_value("multi_student_t_cholesky", [y, nu, mu, factor]), expected)
