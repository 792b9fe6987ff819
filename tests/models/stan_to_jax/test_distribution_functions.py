"""Distribution functions against Stan, and against differences where Stan's derivatives are rough."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
import stanli
from essper.models.stan_to_jax.densities import evaluate_distribution_function, known
from essper.models.stan_to_jax.densities.base import DISTRIBUTION_FUNCTIONS
from essper.models.stan_to_jax.densities.incomplete import log_beta_tails, log_gamma_tail
from essper.models.stan_to_jax.errors import UnsupportedStanError
from essper.models.stan_to_jax.values import INT, REAL, VECTOR, Level, Type, Value

INTS = Type("int", 1)
REALS = [-1.7, 0.3, 2.2]
LOCATIONS = [0.4, -1.0, 2.0]
POSITIVE = [0.4, 0.9, 3.1]
SCALES = [0.6, 2.5, 1.1]
SHAPES = [0.7, 3.0, 1.4]
UNIT = [0.13, 0.4, 0.71]

POINTS: dict[str, tuple[list, ...]] = {
    "normal": (REALS, LOCATIONS, SCALES),
    "std_normal": (REALS,),
    "cauchy": (REALS, LOCATIONS, SCALES),
    "logistic": (REALS, LOCATIONS, SCALES),
    "double_exponential": (REALS, LOCATIONS, SCALES),
    "skew_double_exponential": (REALS, LOCATIONS, SCALES, UNIT),
    "gumbel": (REALS, LOCATIONS, SCALES),
    "student_t": (REALS, [0.8, 3.0, 41.0], LOCATIONS, SCALES),
    "uniform": ([0.3, 0.3, 0.3], [-1.0, 0.0, 0.2], [0.4, 1.0, 2.0]),
    "beta": (UNIT, SHAPES, SCALES),
    "beta_proportion": (UNIT, [0.3, 0.6, 0.4], SHAPES),
    "lognormal": (POSITIVE, LOCATIONS, SCALES),
    "exponential": (POSITIVE, SCALES),
    "weibull": (POSITIVE, SHAPES, SCALES),
    "rayleigh": (POSITIVE, SCALES),
    "frechet": (POSITIVE, SHAPES, SCALES),
    "pareto": ([0.7, 2.6, 3.1], SCALES, SHAPES),
    "pareto_type_2": (POSITIVE, [-0.3, 0.8, 2.0], SCALES, SHAPES),
    "loglogistic": (POSITIVE, SCALES, SHAPES),
    "gamma": (POSITIVE, SHAPES, SCALES),
    "chi_square": (POSITIVE, SHAPES),
    "inv_gamma": (POSITIVE, SHAPES, SCALES),
    "inv_chi_square": (POSITIVE, SHAPES),
    "scaled_inv_chi_square": (POSITIVE, SHAPES, SCALES),
    "bernoulli": ([0, 0, 0], UNIT),
    "binomial": ([0, 2, 4], [3, 5, 9], UNIT),
    "poisson": ([0, 2, 1], POSITIVE),
    "neg_binomial": ([0, 2, 1], SHAPES, SCALES),
    "neg_binomial_2": ([0, 2, 1], POSITIVE, [0.3, 8.0, 50.0]),
}
NAMES = [name for name in DISTRIBUTION_FUNCTIONS if name.rsplit("_", 1)[0] in POINTS]
# Stan's derivatives of log Φ are rational approximations, those by shapes of incomplete gamma and beta
# functions are truncated series: what is exact here is compared with differences below.
ROUGH = {"normal": 1e-4, "std_normal": 1e-4, "gamma": 1e-4, "chi_square": 1e-4, "inv_gamma": 1e-4}
ROUGH |= {"inv_chi_square": 1e-4, "scaled_inv_chi_square": 1e-4, "neg_binomial_2": 1e-7, "beta": 1e-8}
ROUGH |= {"student_t": 1e-9, "beta_proportion": 1e-8, "neg_binomial": 1e-9}


def is_int(values: list) -> bool:
    return isinstance(values[0], int)


def stan_call(name: str, arguments: list[str]) -> str:
    return f"{name}({arguments[0]} | {', '.join(arguments[1:])})"


def arguments_of(points: tuple[list, ...], parameters) -> list[Value]:
    free = iter(parameters)
    return [
        Value(INTS, np.array(values)) if is_int(values) else Value(VECTOR, next(free)) for values in points
    ]


def test_every_distribution_function_is_tested():
    assert set(NAMES) == set(DISTRIBUTION_FUNCTIONS)


@pytest.mark.parametrize("distribution", POINTS)
def test_values_and_gradients_are_stans(distribution):
    points = POINTS[distribution]
    names = [name for name in NAMES if name.rsplit("_", 1)[0] == distribution]
    data = {f"d{j}": values for j, values in enumerate(points) if is_int(values)}
    reals = [j for j, values in enumerate(points) if not is_int(values)]
    # As for the densities: the derivatives by the weights w are the values.
    program = (
        f"data {{ {' '.join(f'array[3] int {key};' for key in data)} }} parameters {{ vector[{len(names)}] w;"
        + " ".join(f"vector[3] x{m}_{j};" for m in range(len(names)) for j in reals)
        + "} model {"
    )
    for m, name in enumerate(names):
        call = stan_call(name, [f"x{m}_{j}" if j in reals else f"d{j}" for j in range(len(points))])
        program += f"target += w[{m + 1}] * {call};"
    model = stanli.bridgestan_model(stan_code=program + "}", data=data)
    parameters = [np.array(points[j]) for j in reals]
    position = np.concatenate([np.ones(len(names)), *(parameters * len(names))])
    gradient = np.asarray(model.log_density_gradient(position)[1])
    gradients = gradient[len(names) :].reshape(len(names), len(reals), 3)

    def lowered(name, *parameters):
        evaluation = evaluate_distribution_function(name, arguments_of(points, parameters))
        return evaluation.value().data, [condition.data for condition in evaluation.valid]

    def all_of_them(*parameters):
        by = tuple(range(1, 1 + len(reals)))
        return [jax.value_and_grad(lowered, by, has_aux=True)(name, *parameters) for name in names]

    tolerance = ROUGH.get(distribution, 1e-11)
    results = all_of_them(*map(jnp.asarray, parameters))
    for m, ((value, valid), slopes) in enumerate(results):
        assert all(valid)
        np.testing.assert_allclose(value, gradient[m], rtol=1e-11, err_msg=names[m])
        np.testing.assert_allclose(slopes, gradients[m], rtol=tolerance, atol=tolerance, err_msg=names[m])


EDGES = [
    ("exponential", (0.0, 2.0)),
    ("gamma", (0.0, 2.0, 1.0)),
    ("inv_gamma", (0.0, 2.0, 1.0)),
    ("lognormal", (0.0, 1.0, 1.0)),
    ("weibull", (0.0, 2.0, 1.0)),
    ("weibull", (-1.0, 2.0, 1.0)),
    ("beta", (0.0, 2.0, 1.0)),
    ("beta", (1.0, 2.0, 1.0)),
    ("beta", (1.5, 2.0, 1.0)),
    ("uniform", (2.0, 0.0, 1.0)),
    ("uniform", (-2.0, 0.0, 1.0)),
    ("uniform", (0.5, 1.0, 0.0)),
    ("pareto", (0.5, 1.0, 2.0)),
    ("normal", (1.0, 0.0, 0.0)),
    ("normal", (1.0, np.inf, 1.0)),
    ("logistic", (1.0, 0.0, np.inf)),
    ("cauchy", (1.0, 0.0, -1.0)),
    ("student_t", (1.0, 0.0, 0.0, 1.0)),
    ("student_t", (0.5, 4.0, 0.5, 2.0)),
    ("bernoulli", (-1, 0.3)),
    ("bernoulli", (1, 0.3)),
    ("binomial", (-1, 4, 0.3)),
    ("binomial", (4, 4, 0.3)),
    ("binomial", (2, 4, 1.5)),
    ("poisson", (-1, 0.3)),
    ("poisson", (1, -0.3)),
    ("neg_binomial_2", (-1, 0.3, 2.0)),
    ("neg_binomial_2", (1, 0.3, -2.0)),
]


@pytest.mark.parametrize(("distribution", "point"), EDGES)
def test_edges_are_stans(distribution, point):
    names = [name for name in NAMES if name.rsplit("_", 1)[0] == distribution]
    whole = [isinstance(x, int) for x in point]
    parameters = [x for x, w in zip(point, whole, strict=True) if not w]

    def lowered(name, *parameters):
        free = iter(parameters)
        values = [
            Value(INT, np.int64(x)) if w else Value(REAL, next(free))
            for x, w in zip(point, whole, strict=True)
        ]
        evaluation = evaluate_distribution_function(name, values)
        return evaluation.value().data, [condition.data for condition in evaluation.valid]

    def all_of_them(*parameters):
        by = tuple(range(1, 1 + len(parameters)))
        return [jax.value_and_grad(lowered, by, has_aux=True)(name, *parameters) for name in names]

    arguments = [str(x) if w else f"x{j}" for j, (x, w) in enumerate(zip(point, whole, strict=True))]
    declared = " ".join(f"real x{j};" for j, w in enumerate(whole) if not w)
    results = all_of_them(*[jnp.asarray(x, float) for x in parameters])
    for name, ((value, valid), slopes) in zip(names, results, strict=True):
        program = f"parameters {{ {declared} }} model {{ target += {stan_call(name, arguments)}; }}"
        model = stanli.bridgestan_model(stan_code=program, data={})
        try:
            expected, _ = model.log_density_gradient(np.array(parameters))
        except RuntimeError:
            assert not all(valid), name
            continue
        assert all(valid), name
        np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-15, err_msg=name)
        assert not np.isnan(slopes).any(), name


def test_data_without_a_bound_leave_derivatives_alone():
    y = np.array([-np.inf, 0.5, np.inf])

    def survival(mu, sigma):
        arguments = [Value(VECTOR, y[1:]), Value(REAL, mu), Value(REAL, sigma)]
        return evaluate_distribution_function("normal_lcdf", arguments).value().data

    value, slopes = jax.value_and_grad(survival, (0, 1))(jnp.asarray(0.1), jnp.asarray(2.0))
    np.testing.assert_allclose(value, scipy.stats.norm.logcdf(0.2), rtol=1e-13)
    assert np.isfinite(slopes).all()
    arguments = [Value(VECTOR, y), Value(REAL, jnp.asarray(0.1)), Value(REAL, jnp.asarray(2.0))]
    assert evaluate_distribution_function("normal_lcdf", arguments).value().data == -np.inf
    assert evaluate_distribution_function("normal_cdf", arguments).value().data == 0


# -- derivatives by shapes, tails -------------------------------------------------------------------


def difference(function, x, step=2e-3):
    """Central differences of order 8."""
    weights = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
    return sum(w * (function(x + k * step) - function(x - k * step)) for k, w in enumerate(weights, 1)) / step


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize(("a", "x"), [(0.7, 0.12), (3.0, 2.25), (1.4, 3.41), (6.5, 40.0), (30.0, 28.0)])
def test_derivative_of_incomplete_gamma_by_its_shape(upper, a, x):
    concrete = scipy.special.gammaincc if upper else scipy.special.gammainc
    slope = jax.grad(lambda a: log_gamma_tail(upper, a, x))(jnp.asarray(a))
    expected = difference(lambda a: np.log(concrete(a, x)), a)
    np.testing.assert_allclose(slope, expected, rtol=1e-8, atol=1e-11)


def test_incomplete_beta_and_its_derivatives():
    a = np.array([0.7, 3.0, 1.4, 25.0, 80.0, 0.5])
    b = np.array([0.6, 2.5, 30.0, 0.5, 90.0, 2.0])
    x = np.array([0.13, 0.4, 0.3, 0.97, 0.45, 0.9])
    point = [jnp.asarray(array) for array in (a, b, x)]

    def concrete(*point):
        return np.log([scipy.special.betainc(*point), scipy.special.betaincc(*point)])

    for tail in (0, 1):

        def total(a, b, x, tail=tail):
            values = log_beta_tails(a, b, x, 1.0 - x)[tail]
            return values.sum(), values

        (_, values), slopes = jax.value_and_grad(total, (0, 1, 2), has_aux=True)(*point)
        np.testing.assert_allclose(values, concrete(a, b, x)[tail], rtol=1e-12, atol=1e-14)
        for index, slope in enumerate(slopes):

            def along(value, index=index, tail=tail):
                return concrete(*(value if i == index else array for i, array in enumerate((a, b, x))))[tail]

            expected = difference(along, (a, b, x)[index], 1e-3)
            np.testing.assert_allclose(slope, expected, rtol=1e-8, atol=1e-10)


def scalar(name, *point):
    arguments = [Value(REAL, jnp.asarray(float(x))) for x in point]
    return float(evaluate_distribution_function(name, arguments).value().data)


@pytest.mark.parametrize("z", [5.0, 30.0, 1e3, 1e5])
def test_normal_tails(z):
    np.testing.assert_allclose(scalar("std_normal_lcdf", -z), scipy.stats.norm.logcdf(-z), rtol=1e-12)
    np.testing.assert_allclose(scalar("normal_lccdf", 2 * z, 0.0, 2.0), scipy.stats.norm.logsf(z), rtol=1e-12)

    def tail(z):
        return evaluate_distribution_function("std_normal_lcdf", [Value(REAL, z)]).value().data

    mills = np.sqrt(2 / np.pi) / scipy.special.erfcx(z / np.sqrt(2))
    np.testing.assert_allclose(jax.grad(tail)(jnp.asarray(-z)), mills, rtol=1e-11)


def test_tails_that_stan_loses():
    np.testing.assert_allclose(scalar("logistic_lccdf", 900.0, 0.0, 1.0), -900.0, rtol=1e-14)
    np.testing.assert_allclose(scalar("cauchy_lccdf", 1e12, 0.0, 1.0), -np.log(np.pi * 1e12), rtol=1e-13)
    np.testing.assert_allclose(scalar("gumbel_lccdf", 200.0, 0.0, 1.0), -200.0, rtol=1e-13)
    np.testing.assert_allclose(scalar("beta_lcdf", 1e-200, 3.0, 1.0), -600 * np.log(10), rtol=1e-13)
    # Far out a Student t is a power: P(T > t) → c t^−ν.
    far, farther = (scalar("student_t_lccdf", t, 5.0, 0.0, 1.0) for t in (1e50, 1e51))
    np.testing.assert_allclose(far - farther, 5 * np.log(10), rtol=1e-11)
    np.testing.assert_allclose(
        scalar("student_t_lcdf", 0.52, 1e12, 0.0, 1.0), scipy.stats.norm.logcdf(0.52), rtol=1e-11
    )


# -- vectorisation ----------------------------------------------------------------------------------


def test_rows_are_a_loop():
    level = Level(None, 3, np.zeros(3, int))
    y = np.array([[0.5, 1.0], [2.0, 3.0], [0.1, 0.2]])
    alpha = jnp.array([1.0, 2.0, 3.0])
    for name in ("gamma_lccdf", "gamma_cdf", "weibull_lcdf"):
        scale = Value(REAL, np.float64(1.3))
        together = evaluate_distribution_function(
            name, [Value(VECTOR, y, level), Value(REAL, alpha, level), scale]
        ).value()
        one_by_one = [
            evaluate_distribution_function(name, [Value(VECTOR, y[r]), Value(REAL, alpha[r]), scale])
            .value()
            .data
            for r in range(3)
        ]
        assert together.level is level
        np.testing.assert_allclose(together.data, one_by_one, rtol=1e-13)


def test_repeated_elements_are_counted():
    y = Value(VECTOR, np.zeros(4))
    rest = [Value(REAL, jnp.asarray(0.3)), Value(REAL, jnp.asarray(1.0))]
    single = scalar("normal_lcdf", 0.0, 0.3, 1.0)
    np.testing.assert_allclose(
        evaluate_distribution_function("normal_lcdf", [y, *rest]).value().data, 4 * single, rtol=1e-14
    )
    np.testing.assert_allclose(
        evaluate_distribution_function("normal_cdf", [y, *rest]).value().data, np.exp(4 * single), rtol=1e-13
    )
    none = [Value(VECTOR, np.zeros(0)), *rest]
    assert evaluate_distribution_function("normal_cdf", none).value().data == 1
    assert evaluate_distribution_function("normal_lcdf", none).value().data == 0


def test_unknown_functions_say_so():
    with pytest.raises(UnsupportedStanError, match="the function 'von_mises_lcdf'"):
        evaluate_distribution_function("von_mises_lcdf", [])
    assert known("normal_lccdf")
    assert not known("loglogistic_lccdf")
