"""Constraints against Stan: values, log Jacobians, gradients and checks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import from_stan
from essper.models.stan_to_jax.constraints import Declared, constrain, free_size, satisfied
from essper.models.stan_to_jax.errors import UnsupportedStanError

INF = np.inf
Parameter = tuple[str, Declared]


def parameter(text: str, base: str, *dims: int, arrays: tuple[int, ...] = (), **bounds: object) -> Parameter:
    """A declaration without its name, and what it is lowered to."""
    arrays_of_bounds = {key: np.asarray(value, float) for key, value in bounds.items()}
    return text, Declared(base, arrays, dims, arrays_of_bounds)


EXACT_FAR_OUT = [
    parameter("real", "real"),
    parameter("vector[3]", "vector", 3),
    parameter("matrix[2, 3]", "matrix", 2, 3),
    parameter("array[2, 2] matrix[2, 3]", "matrix", 2, 3, arrays=(2, 2)),
    parameter("matrix[2, 0]", "matrix", 2, 0),
    parameter("array[0] real<lower=1>", "real", arrays=(0,), lower=1),
    parameter("real<lower=1.5>", "real", lower=1.5),
    parameter("array[3] real<upper=-2>", "real", arrays=(3,), upper=-2),
    parameter("array[2, 3] real<lower=-1, upper=4>", "real", arrays=(2, 3), lower=-1, upper=4),
    parameter("vector<lower=[1, 2]'>[2]", "vector", 2, lower=[1, 2]),
    parameter("array[2] real<lower={1.0, 2.0}>", "real", arrays=(2,), lower=[1, 2]),
    parameter("row_vector<upper=[1, 2]>[2]", "row_vector", 2, upper=[1, 2]),
    parameter(
        "matrix<lower=[[1, 2, 3], [3, 4, 5]], upper=[[1.5, 8, 9], [10, 11, 12]]>[2, 3]",
        *("matrix", 2, 3),
        lower=[[1, 2, 3], [3, 4, 5]],
        upper=[[1.5, 8, 9], [10, 11, 12]],
    ),
    parameter(
        "row_vector<lower=[negative_infinity(), 2, negative_infinity(), -1], "
        "upper=[0, positive_infinity(), positive_infinity(), 1]>[4]",
        *("row_vector", 4),
        lower=[-INF, 2, -INF, -1],
        upper=[0, INF, INF, 1],
    ),
    parameter("vector<lower=[negative_infinity(), 2]'>[2]", "vector", 2, lower=[-INF, 2]),
    parameter("vector<upper=[positive_infinity(), 2]'>[2]", "vector", 2, upper=[INF, 2]),
    parameter("real<lower=negative_infinity(), upper=3>", "real", lower=-INF, upper=3),
    parameter("array[3] real<offset=2, multiplier=3>", "real", arrays=(3,), offset=2, multiplier=3),
    parameter("vector<offset=1, multiplier=[0.5, 2]'>[2]", "vector", 2, offset=1, multiplier=[0.5, 2]),
    parameter(
        "array[2] vector<multiplier={[3, 2]', [1, 2]'}>[2]",
        *("vector", 2),
        arrays=(2,),
        multiplier=[[3, 2], [1, 2]],
    ),
    parameter("simplex[4]", "simplex", 4),
    parameter("simplex[1]", "simplex", 1),
    parameter("array[2, 3] simplex[3]", "simplex", 3, arrays=(2, 3)),
    parameter("array[0] simplex[3]", "simplex", 3, arrays=(0,)),
    parameter("ordered[4]", "ordered", 4),
    parameter("ordered[0]", "ordered", 0),
    parameter("array[2] ordered[1]", "ordered", 1, arrays=(2,)),
    parameter("positive_ordered[4]", "positive_ordered", 4),
    parameter("array[2, 2] positive_ordered[2]", "positive_ordered", 2, arrays=(2, 2)),
    parameter("unit_vector[3]", "unit_vector", 3),
    parameter("array[2] unit_vector[2]", "unit_vector", 2, arrays=(2,)),
    parameter("sum_to_zero_vector[4]", "sum_to_zero_vector", 4),
    parameter("array[2] sum_to_zero_vector[1]", "sum_to_zero_vector", 1, arrays=(2,)),
    parameter("array[3] sum_to_zero_vector[3]", "sum_to_zero_vector", 3, arrays=(3,)),
    parameter("sum_to_zero_matrix[3, 4]", "sum_to_zero_matrix", 3, 4),
    parameter("sum_to_zero_matrix[1, 4]", "sum_to_zero_matrix", 1, 4),
    parameter("array[2] sum_to_zero_matrix[2, 3]", "sum_to_zero_matrix", 2, 3, arrays=(2,)),
    parameter("cov_matrix[4]", "cov_matrix", 4),
    parameter("cov_matrix[1]", "cov_matrix", 1),
    parameter("array[3] cov_matrix[2]", "cov_matrix", 2, arrays=(3,)),
    parameter("cholesky_factor_cov[3]", "cholesky_factor_cov", 3),
    parameter("cholesky_factor_cov[5, 3]", "cholesky_factor_cov", 5, 3),
    parameter("cholesky_factor_cov[3, 0]", "cholesky_factor_cov", 3, 0),
    parameter("array[2] cholesky_factor_cov[3, 2]", "cholesky_factor_cov", 3, 2, arrays=(2,)),
]
CORRELATIONS = [
    parameter("cholesky_factor_corr[5]", "cholesky_factor_corr", 5),
    parameter("cholesky_factor_corr[0]", "cholesky_factor_corr", 0),
    parameter("array[2] cholesky_factor_corr[1]", "cholesky_factor_corr", 1, arrays=(2,)),
    parameter("array[2, 1] cholesky_factor_corr[3]", "cholesky_factor_corr", 3, arrays=(2, 1)),
    parameter("corr_matrix[5]", "corr_matrix", 5),
    parameter("corr_matrix[1]", "corr_matrix", 1),
    parameter("array[3] corr_matrix[2]", "corr_matrix", 2, arrays=(3,)),
]


def stan_model(parameters: list[Parameter]):
    """Stan's model of these parameters ``p0``, ``p1``, … under no density but the Jacobians."""
    declarations = " ".join(f"{text} p{i};" for i, (text, _) in enumerate(parameters))
    return from_stan(f"parameters {{ {declarations} }} model {{ }}").model


def lowered(parameters: list[Parameter]):
    """``f[n] -> (log Jacobian, (values in Stan's order of output, values, whether they satisfy))``"""

    def function(free):
        start, total, values, flat = 0, jnp.zeros(()), [], []
        for _, declared in parameters:
            size = free_size(declared)
            data, log_jacobian = constrain(declared, free[start : start + size])
            assert data.shape == declared.shape
            values.append(data)
            flat.append(data.T.reshape(-1))  # Stan writes all but the last index slowest first
            start, total = start + size, total + log_jacobian
        assert start == free.size
        checks = [satisfied(d, value) for (_, d), value in zip(parameters, values, strict=True)]
        return total, (jnp.concatenate(flat), values, checks)

    return jax.jit(jax.value_and_grad(function, has_aux=True))


@pytest.mark.parametrize(
    ("parameters", "scales"),
    [(EXACT_FAR_OUT, (1.0, 1.0, 1.0, 10.0, 40.0)), (CORRELATIONS, (1.0, 1.0, 1.0, 0.0))],
    ids=["others", "correlations"],
)
def test_transforms_are_stans(parameters: list[Parameter], scales: tuple[float, ...]) -> None:
    model, function = stan_model(parameters), lowered(parameters)
    size = model.param_unc_num()
    assert size == sum(free_size(declared) for _, declared in parameters)
    rng = np.random.default_rng(0)
    for scale in scales:
        # Far out, all coordinates are: ±scale.
        point = rng.normal(size=size) if scale == 1 else scale * rng.choice([-1.0, 1.0], size)
        (value, (constrained, values, checks)), gradient = function(point)
        expected, expected_gradient = model.log_density_gradient(point, propto=True, jacobian=True)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(constrained, model.param_constrain(point), rtol=1e-12, atol=1e-12)
        if scale == 1:
            for (text, declared), array, check in zip(parameters, values, checks, strict=True):
                assert check, text
                assert satisfied(declared, np.asarray(array)), text


def test_bounds_may_depend_on_parameters() -> None:
    program = """
    parameters { real a; real<lower=a> b; vector<lower=a, upper=b>[3] c; real<upper=a> d;
        vector<offset=a, multiplier=b - a>[2] e; }
    model { c ~ normal(1, 2); d ~ normal(0, 1); e ~ normal(0, 3); }
    """
    model = from_stan(program).model

    @jax.jit
    @jax.value_and_grad
    def log_density(free):
        a = free[0]
        b, jacobian_b = constrain(Declared("real", bounds={"lower": a}), free[1:2])
        c, jacobian_c = constrain(Declared("vector", (), (3,), {"lower": a, "upper": b}), free[2:5])
        d, jacobian_d = constrain(Declared("real", bounds={"upper": a}), free[5:6])
        e, jacobian_e = constrain(Declared("vector", (), (2,), {"offset": a, "multiplier": b - a}), free[6:])
        normal = -0.5 * (jnp.sum(((c - 1) / 2) ** 2) + d**2 + jnp.sum((e / 3) ** 2))
        return normal + jacobian_b + jacobian_c + jacobian_d + jacobian_e

    for point in np.random.default_rng(2).normal(size=(3, 8)):
        value, gradient = log_density(point)
        expected, expected_gradient = model.log_density_gradient(point, propto=True, jacobian=True)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    "bounds",
    [{"lower": 2.0, "upper": 1.0}, {"lower": 1.0, "upper": 1.0}, {"multiplier": -1.0}, {"multiplier": 0.0}],
)
@pytest.mark.parametrize("traced", [False, True])
def test_bounds_that_stan_rejects_have_no_density(bounds: dict[str, float], traced: bool) -> None:
    def log_jacobian(free, bounds):
        return constrain(Declared("vector", (), (2,), bounds), free)[1]

    free = jnp.asarray([0.3, -0.2])
    arrays = {key: np.float64(value) for key, value in bounds.items()}
    if traced:
        value, gradient = jax.jit(jax.value_and_grad(log_jacobian))(free, arrays)
    else:
        value, gradient = jax.jit(jax.value_and_grad(lambda free: log_jacobian(free, arrays)))(free)
    assert value == -INF
    assert jnp.isfinite(gradient).all()


def test_far_out_correlations_keep_their_digits() -> None:
    """log(1 − tanh²x) = −2 log cosh x, where Stan's own formula is −∞ beyond 19."""
    for base in ("cholesky_factor_corr", "corr_matrix"):
        declared = Declared(base, (), (2,))
        log_jacobian = jax.jit(jax.value_and_grad(lambda free, d=declared: constrain(d, free)[1]))
        for x in (-40.0, 40.0):
            value, gradient = log_jacobian(jnp.array([x]))
            np.testing.assert_allclose(value, np.log(4.0) - 80.0, rtol=1e-14)
            np.testing.assert_allclose(gradient, [-2 * np.sign(x)], rtol=1e-14)


def test_zero_has_no_direction() -> None:
    declared = Declared("unit_vector", (), (3,))
    value, gradient = jax.jit(jax.value_and_grad(lambda free: constrain(declared, free)[1]))(jnp.zeros(3))
    assert value == -INF
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize(("base", "axis"), [("column_stochastic_matrix", 0), ("row_stochastic_matrix", 1)])
def test_stochastic_matrices_are_simplexes(base: str, axis: int) -> None:
    """The free matrix has one row or column less; it is read column by column, whichever of them it is."""
    shape, arrays = (3, 4), (2,)
    declared = Declared(base, arrays, shape)
    rows, columns = (shape[0] - (axis == 0), shape[1] - (axis == 1))
    free = np.random.default_rng(3).normal(size=(*arrays, columns, rows))
    data, log_jacobian = jax.jit(lambda free: constrain(declared, free))(free.reshape(-1))
    simplex_of = jax.jit(lambda free: constrain(Declared("simplex", (), (shape[axis],)), free))
    assert free_size(declared) == free.size
    assert data.shape == (*arrays, *shape)
    assert satisfied(declared, np.asarray(data))
    expected = 0.0
    for a in range(arrays[0]):
        matrix = free[a].T
        for k in range(shape[1 - axis]):
            simplex, jacobian = simplex_of(np.take(matrix, k, 1 - axis))
            np.testing.assert_allclose(np.take(np.asarray(data)[a], k, 1 - axis), simplex, rtol=1e-14)
            expected += jacobian
    np.testing.assert_allclose(log_jacobian, expected, rtol=1e-13)
    assert not satisfied(declared, np.asarray(data) * (1 + 2e-8))


# A constraint and a value that depends on x, which is near 0: at some x it holds, at others it does not.
CHECKS = {
    "simplex[2]": ["[0.5 + x, 0.5]", "[1 - x, x]", "[1 + x, -x]"],
    "simplex[1]": ["[1 + x]"],
    "unit_vector[2]": ["[1 + x, 0]"],
    "ordered[2]": ["[0, x]", "[x * 0, 0]", "[0 / (x * 0), 0]"],
    "ordered[1]": ["[0 / (x * 0)]"],
    "positive_ordered[2]": ["[x, 10]", "[-x, 10]", "[0 * x, 10]"],
    "positive_ordered[1]": ["[0 / (x * 0)]"],
    "sum_to_zero_vector[2]": ["[1 + x, -1]"],
    "sum_to_zero_matrix[2, 2]": ["[[1 + x, -1], [-1, 1]]", "[[1 + x, -1 - x], [-1 - x, 1 + x]]"],
    "corr_matrix[2]": [
        "[[1, 0.5 + x], [0.5, 1]]",
        "[[1 + x, 0.5], [0.5, 1]]",
        "[[1, 1 + x], [1 + x, 1]]",
        "[[1, 0.9 - x], [0.9 - x, 1]]",
    ],
    "corr_matrix[1]": ["[[1 + x]]"],
    "cov_matrix[1]": ["[[x]]"],
    "cov_matrix[2]": ["[[1e6, 0.5 + x], [0.5, 1]]", "[[1, 0], [0, x]]", "[[1, 0], [0, -x]]"],
    "cholesky_factor_cov[2]": ["[[1, x], [0, 1]]", "[[1, 0], [0, x]]", "[[1, 0], [0, 0 * x]]"],
    "cholesky_factor_cov[3, 2]": ["[[1, 0], [0, 1], [x, x]]", "[[1, 0], [0, -x], [x, x]]"],
    "cholesky_factor_corr[2]": ["[[1, 0], [0, 1 + x]]", "[[1, 0], [0, -1 - x]]"],
    "real<lower=1>": ["1 - x", "1 + x", "1 - 0 * x", "0 / (0 * x)"],
    "real<upper=1>": ["1 + x", "1 - x"],
    "real<lower=0, upper=1>": ["1 + x", "1 - x", "-x"],
    "real<multiplier=-1>": ["x"],
}


@pytest.mark.parametrize("constraint", CHECKS, ids=str)
def test_checks_of_transformed_parameters_are_stans(constraint: str) -> None:
    base = constraint.split("[")[0].split("<")[0]
    dims = tuple(int(d) for d in constraint.split("[")[1].rstrip("]").split(",")) if "[" in constraint else ()
    inside = constraint.split("<")[1].split(">")[0] if "<" in constraint else ""
    bounds = {b.split("=")[0].strip(): np.float64(b.split("=")[1]) for b in inside.split(",") if b}
    declared = Declared(base, (), dims, bounds)
    for expression in CHECKS[constraint]:
        transposed = "'" if declared.type.kind == "vector" else ""
        derived = f"transformed parameters {{ {constraint} y = {expression}{transposed}; }}"
        model = from_stan(f"parameters {{ real x; }} {derived} model {{ }}").model
        for x in (1e-16, 0.9e-8, 1.1e-8, 1e-4):
            try:
                accepted = model.log_density(np.array([x])) == 0
            except RuntimeError:
                accepted = False
            with np.errstate(all="ignore"):
                data = np.asarray(eval(expression, {"x": np.float64(x)}), float)
            assert bool(satisfied(declared, data)) == accepted, (expression, x)
            assert bool(satisfied(declared, jnp.asarray(data))) == accepted, (expression, x)


def test_an_unknown_type_is_not_lowered() -> None:
    with pytest.raises(UnsupportedStanError, match="complex"):
        Declared("complex")
