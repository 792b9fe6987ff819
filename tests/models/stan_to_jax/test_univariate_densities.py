"""Every univariate density against Stan: values with and without constants, gradients, edges, rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
import stanli
from essper.models.stan_to_jax.densities import evaluate, is_mass_function, known
from essper.models.stan_to_jax.errors import UnsupportedStanError
from essper.models.stan_to_jax.values import INT, MATRIX, REAL, ROW_VECTOR, VECTOR, Level, Type, Value

INTS = Type("int", 1)
REALS = [-1.7, 0.3, 2.2, 45.0]
LOCATIONS = [0.4, -1.0, 2.0, 30.0]
POSITIVE = [0.2, 0.9, 3.1, 17.0]
SCALES = [0.6, 2.5, 1.1, 8.0]
SHAPES = [0.7, 3.0, 1.4, 6.5]
UNIT = [0.03, 0.4, 0.71, 0.98]
COUNTS = [0, 2, 1, 9]
TRIALS = [3, 5, 1, 20]

# Arguments inside of the support at four points: lists of ints are int arguments.
POINTS: dict[str, tuple[list, ...]] = {
    "normal": (REALS, LOCATIONS, SCALES),
    "std_normal": (REALS,),
    "cauchy": (REALS, LOCATIONS, SCALES),
    "student_t": (REALS, [0.8, 3.0, 41.0, 900.0], LOCATIONS, SCALES),
    "double_exponential": (REALS, LOCATIONS, SCALES),
    "logistic": (REALS, LOCATIONS, SCALES),
    "gumbel": (REALS, LOCATIONS, SCALES),
    "von_mises": ([-1.7, 0.3, 2.2, 9.0], [0.4, -1.0, 2.0, 3.0], [0.2, 1.0, 9.0, 80.0]),
    "skew_normal": (REALS, LOCATIONS, SCALES, [-1.5, 0.0, 3.0, 0.5]),
    "exp_mod_normal": (REALS, LOCATIONS, SCALES, [0.7, 3.0, 1.4, 0.5]),
    "skew_double_exponential": (REALS, LOCATIONS, SCALES, UNIT),
    "uniform": ([0.3, 0.3, 0.3, 1.95], [-1.0, 0.0, 0.2, 1.9], [0.4, 1.0, 2.0, 2.0]),
    "beta": (UNIT, SHAPES, SCALES),
    "beta_proportion": (UNIT, [0.3, 0.6, 0.05, 0.9], SHAPES),
    "lognormal": (POSITIVE, [0.4, -1.0, 2.0, 0.0], SCALES),
    "gamma": (POSITIVE, SHAPES, SCALES),
    "inv_gamma": (POSITIVE, SHAPES, SCALES),
    "exponential": (POSITIVE, SCALES),
    "chi_square": (POSITIVE, SHAPES),
    "inv_chi_square": (POSITIVE, SHAPES),
    "scaled_inv_chi_square": (POSITIVE, SHAPES, SCALES),
    "weibull": (POSITIVE, SHAPES, SCALES),
    "frechet": (POSITIVE, SHAPES, SCALES),
    "rayleigh": (POSITIVE, SCALES),
    "loglogistic": (POSITIVE, SCALES, SHAPES),
    "pareto": ([0.7, 2.6, 3.1, 17.0], SCALES, SHAPES),
    "pareto_type_2": (POSITIVE, [-0.3, 0.8, 2.0, -1.0], SCALES, SHAPES),
    "bernoulli": ([0, 1, 1, 0], UNIT),
    "bernoulli_logit": ([0, 1, 1, 0], [-1.7, 0.3, 12.0, 15.0]),
    "binomial": (COUNTS, TRIALS, UNIT),
    "binomial_logit": (COUNTS, TRIALS, [-1.7, 0.3, 12.0, 25.0]),
    "beta_binomial": (COUNTS, TRIALS, SHAPES, SCALES),
    "poisson": (COUNTS, POSITIVE),
    "poisson_log": (COUNTS, [-1.7, 0.3, 2.2, 5.0]),
    "neg_binomial": (COUNTS, SHAPES, SCALES),
    "neg_binomial_2": (COUNTS, POSITIVE, [0.3, 8.0, 50.0, 1e5]),
    "neg_binomial_2_log": (COUNTS, [-1.7, 0.3, 2.2, 5.0], [0.3, 8.0, 50.0, 1e5]),
}


def is_int(values: list) -> bool:
    return isinstance(values[0], int)


def density_call(name: str, arguments: list[str], dropping: bool) -> str:
    suffix = ("lup" if dropping else "lp") + ("mf" if is_mass_function(name) else "df")
    return f"{name}_{suffix}({arguments[0]} | {', '.join(arguments[1:])})"


def choices(points: tuple[list, ...]) -> list[tuple[bool, ...]]:
    """Which arguments are parameters: each real one alone, and all of them."""
    reals = [not is_int(values) for values in points]
    alone = [tuple(i == j for i in range(len(points))) for j, real in enumerate(reals) if real]
    return [*alone, tuple(reals)] if sum(reals) > 1 else alone


class StanTerms:
    """One Stan program with every choice of parameters: each choice has parameters and a weight of its own.

    The derivatives by the weights are the values, so that one evaluation gives all of them.
    """

    def __init__(self, name: str, points: tuple[list, ...]) -> None:
        self.masks = choices(points)
        size, count = len(points[0]), len(self.masks)
        kinds = [f"array[{size}] int" if is_int(values) else f"vector[{size}]" for values in points]
        data = [f"{kind} d{j};" for j, kind in enumerate(kinds)]
        self.owners = [(m, j) for m, mask in enumerate(self.masks) for j, own in enumerate(mask) if own]
        parameters = [f"vector[{size}] x{m}_{j};" for m, j in self.owners]
        statements = []
        for m, mask in enumerate(self.masks):
            arguments = [f"x{m}_{j}" if own else f"d{j}" for j, own in enumerate(mask)]
            statements.append(f"target += w[{m + 1}] * {density_call(name, arguments, True)};")
            statements.append(f"target += v[{m + 1}] * {density_call(name, arguments, False)};")
        program = (
            f"data {{ {' '.join(data)} }}\n"
            f"parameters {{ vector[{count}] w; vector[{count}] v; {' '.join(parameters)} }}\n"
            f"model {{ {' '.join(statements)} }}"
        )
        model = stanli.bridgestan_model(stan_code=program, data={f"d{j}": d for j, d in enumerate(points)})
        position = np.concatenate([np.ones(count), np.zeros(count), *(points[j] for _, j in self.owners)])
        gradient = np.asarray(model.log_density_gradient(position)[1])
        self.dropped, self.full = gradient[:count], gradient[count : 2 * count]
        self.gradients = gradient[2 * count :].reshape(-1, size)

    def gradient(self, mask_index: int) -> np.ndarray:
        return self.gradients[[m == mask_index for m, _ in self.owners]]


def lowered(name: str, points: tuple[list, ...], mask: tuple[bool, ...]):
    """Value without constants, value with constants, gradients by the masked arguments."""

    def log_density(*parameters):
        free = iter(parameters)
        arguments = [
            Value(INTS, np.array(values))
            if is_int(values)
            else Value(VECTOR, next(free) if own else np.array(values))
            for values, own in zip(points, mask, strict=True)
        ]
        evaluation = evaluate(name, arguments)
        assert all(bool(condition.data) for condition in (*evaluation.support, *evaluation.valid))
        return evaluation.value(constants=False).data, evaluation.value().data

    parameters = [jnp.array(values) for values, own in zip(points, mask, strict=True) if own]
    argnums = tuple(range(len(parameters)))
    (dropped, full), gradient = jax.value_and_grad(log_density, argnums, has_aux=True)(*parameters)
    return dropped, full, np.stack(gradient)


@pytest.mark.parametrize("name", POINTS)
def test_values_constants_and_gradients_are_stans(name):
    stan = StanTerms(name, POINTS[name])
    for index, mask in enumerate(stan.masks):
        dropped, full, gradient = lowered(name, POINTS[name], mask)
        np.testing.assert_allclose(dropped, stan.dropped[index], rtol=2e-12, atol=1e-12, err_msg=str(mask))
        np.testing.assert_allclose(full, stan.full[index], rtol=2e-12, atol=1e-12, err_msg=str(mask))
        np.testing.assert_allclose(gradient, stan.gradient(index), rtol=1e-11, atol=1e-12, err_msg=str(mask))


def scalar_evaluation(name: str, point: list):
    """Fails or not, value, gradient, and whether the point is in the support: all reals are parameters."""
    ints = [is_int(values) for values in POINTS[name]]

    def log_density(*parameters):
        free = iter(parameters)
        arguments = [
            Value(INT, np.int64(x)) if whole else Value(REAL, next(free))
            for x, whole in zip(point, ints, strict=True)
        ]
        evaluation = evaluate(name, arguments)
        support = all(bool(condition.data) for condition in evaluation.support)
        valid = all(bool(condition.data) for condition in evaluation.valid)
        total = sum(term.data for term in evaluation.values(constants=False))
        return total, (support, valid)

    reals = [jnp.asarray(x, float) for x, whole in zip(point, ints, strict=True) if not whole]
    (value, (support, valid)), gradient = jax.value_and_grad(
        log_density, tuple(range(len(reals))), has_aux=True
    )(*reals)
    fails = not (support and valid and np.isfinite(value))
    return fails, float(value), np.array(gradient), support, valid


@functools.cache
def scalar_model(name: str, whole: tuple[int, ...]):
    """Stan's model of a density at these int arguments; all reals are parameters."""
    given, arguments, parameters = iter(whole), [], []
    for j, values in enumerate(POINTS[name]):
        arguments.append(str(next(given)) if is_int(values) else f"x{j}")
        parameters += [] if is_int(values) else [f"real x{j};"]
    call = density_call(name, arguments, True)
    program = f"parameters {{ {' '.join(parameters)} }} model {{ target += {call}; }}"
    return stanli.bridgestan_model(stan_code=program, data={})


def scalar_stan(name: str, point: list):
    ints = [is_int(values) for values in POINTS[name]]
    model = scalar_model(name, tuple(x for x, whole in zip(point, ints, strict=True) if whole))
    position = np.array([x for x, whole in zip(point, ints, strict=True) if not whole], float)
    try:
        value, gradient = model.log_density_gradient(position)
    except RuntimeError:
        return True, -np.inf, np.zeros(len(position))
    return not np.isfinite(value), value, np.asarray(gradient)


@pytest.mark.parametrize("name", POINTS)
def test_edges_of_every_argument_are_stans(name):
    base = [values[1] for values in POINTS[name]]
    for j, values in enumerate(POINTS[name]):
        for edge in [-1, 0, 6] if is_int(values) else [-1.0, 0.0, np.inf, np.nan]:
            point = [*base[:j], edge, *base[j + 1 :]]
            fails, value, gradient, support, valid = scalar_evaluation(name, point)
            stan_fails, stan_value, stan_gradient = scalar_stan(name, point)
            assert fails == stan_fails, point
            if not fails:
                np.testing.assert_allclose(value, stan_value, rtol=1e-12, atol=1e-12, err_msg=str(point))
                np.testing.assert_allclose(gradient, stan_gradient, rtol=1e-10, err_msg=str(point))
            elif valid and not support:
                assert not np.isnan(gradient).any(), point


@pytest.mark.parametrize(
    ("name", "point"),
    [
        ("bernoulli", (1, 1.0)),
        ("bernoulli", (0, 0.0)),
        ("bernoulli", (1, 0.0)),
        ("binomial", (3, 3, 1.0)),
        ("binomial", (2, 3, 1.0)),
        ("binomial", (0, 0, 0.0)),
        ("poisson", (2, 0.0)),
        ("poisson_log", (0, 800.0)),
        ("beta", (0.0, 1.0, 1.0)),
        ("beta", (1.0, 2.0, 3.0)),
        ("weibull", (0.0, 1.0, 2.0)),
        ("chi_square", (0.0, 2.0)),
        ("neg_binomial_2_log", (5, 800.0, 2.0)),
        ("logistic", (-800.0, 0.0, 1.0)),
        ("bernoulli_logit", (1, -800.0)),
        ("von_mises", (1.0, 0.0, 0.0)),
        ("double_exponential", (1.0, 1.0, 2.0)),
        ("gumbel", (-800.0, 0.0, 1.0)),
        ("uniform", (1.0, 0.0, 1.0)),
    ],
)
def test_corners_are_stans(name, point):
    fails, value, gradient, *_ = scalar_evaluation(name, list(point))
    stan_fails, stan_value, stan_gradient = scalar_stan(name, list(point))
    assert fails == stan_fails
    if not fails:
        np.testing.assert_allclose(value, stan_value, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(gradient, stan_gradient, rtol=1e-11, atol=1e-12)


def test_integer_distributions_are_constants_of_the_right_size():
    arguments = [Value(INT, np.int64(x)) for x in (2, 5, 4, 7)]
    full = evaluate("hypergeometric", arguments).value().data
    np.testing.assert_allclose(full, scipy.stats.hypergeom.logpmf(2, 11, 4, 5), rtol=1e-13)
    assert evaluate("hypergeometric", arguments).value(constants=False).data == 0
    arguments = [Value(INT, np.int64(x)) for x in (2, -1, 4)]
    np.testing.assert_allclose(evaluate("discrete_range", arguments).value().data, -np.log(6), rtol=1e-15)


# -- stability --------------------------------------------------------------------------------------


def scalar_value(name: str, *point: float) -> float:
    ints = [is_int(values) for values in POINTS[name]]
    arguments = [
        Value(INT, np.int64(x)) if whole else Value(REAL, jnp.asarray(float(x)))
        for x, whole in zip(point, ints, strict=True)
    ]
    return float(evaluate(name, arguments).value().data)


@pytest.mark.parametrize("phi", [1e8, 1e12, 1e15])
def test_negative_binomial_of_large_precision_is_poisson(phi):
    expected = scipy.stats.poisson.logpmf(90, 100.0)
    for value in (
        scalar_value("neg_binomial_2", 90, 100.0, phi),
        scalar_value("neg_binomial_2_log", 90, np.log(100.0), phi),
    ):
        np.testing.assert_allclose(value, expected, rtol=1e-12 + 100.0 / phi)


def test_student_t_of_many_degrees_of_freedom_is_normal():
    for nu in (1e8, 1e12, 1e16):
        value = scalar_value("student_t", 1.3, nu, 0.2, 2.0)
        np.testing.assert_allclose(value, scipy.stats.norm.logpdf(1.3, 0.2, 2.0), rtol=1e-14 + 1 / nu)


def test_beta_binomial_of_large_shapes_is_binomial():
    value = scalar_value("beta_binomial", 3, 7, 1e12, 1e12)
    np.testing.assert_allclose(value, scipy.stats.binom.logpmf(3, 7, 0.5), rtol=1e-11)


@pytest.mark.parametrize("rate", [1e3, 1e6, 1e10])
def test_exponentially_modified_normal_of_large_rate_is_normal(rate):
    value = scalar_value("exp_mod_normal", 0.3, -1.0, 2.5, rate)
    np.testing.assert_allclose(value, scipy.stats.norm.logpdf(0.3, -1.0, 2.5), rtol=1e-12 + 1 / rate)


def test_exponentially_modified_normal_is_smooth_where_its_formula_changes():
    # t = (y − μ)/σ − λσ = −20 at λ = 20.
    inside, outside = (scalar_value("exp_mod_normal", 0.0, 0.0, 1.0, 20.0 + d) for d in (-1e-9, 1e-9))
    np.testing.assert_allclose(inside, outside, rtol=1e-9)


def test_bernoulli_logit_keeps_its_tails():
    np.testing.assert_allclose(scalar_value("bernoulli_logit", 1, 40.0), -np.exp(-40.0), rtol=1e-13)
    assert scalar_value("bernoulli_logit", 0, 1e6) == -1e6


# -- vectorisation, rows, errors --------------------------------------------------------------------


def test_scalars_are_repeated_and_constants_counted():
    y = np.array([0.5, -1.0, 2.0])

    def log_density(mu):
        evaluation = evaluate("normal", [Value(VECTOR, y), Value(REAL, mu), Value(REAL, np.float64(2.0))])
        return evaluation.value(constants=False).data, evaluation.value().data

    dropped, full = log_density(jnp.asarray(0.3))
    np.testing.assert_allclose(dropped, -0.125 * np.sum((y - 0.3) ** 2), rtol=1e-14)
    np.testing.assert_allclose(full, scipy.stats.norm.logpdf(y, 0.3, 2.0).sum(), rtol=1e-14)
    # log σ is a constant, so nothing of it is traced.
    assert " log " not in str(jax.make_jaxpr(log_density)(0.3))


def test_a_term_of_one_parameter_is_not_spread_over_the_elements():
    y = np.zeros(7)

    def log_density(sigma):
        arguments = [Value(VECTOR, y), Value(REAL, np.float64(0.0)), Value(REAL, sigma)]
        return evaluate("normal", arguments).value().data

    jaxpr = str(jax.make_jaxpr(log_density)(1.5))
    assert "f64[] = log " in jaxpr
    np.testing.assert_allclose(log_density(jnp.asarray(1.5)), 7 * scipy.stats.norm.logpdf(0, 0, 1.5))


def test_concrete_arguments_give_constants():
    evaluation = evaluate("gamma", [Value(REAL, np.float64(x)) for x in (1.0, 2.0, 3.0)])
    assert all(term.concrete for term in evaluation.terms)
    assert evaluation.value(constants=False).data == 0


ROWS = {
    "outcomes with rows": ([True, False, False], ["vector", "real", "real"]),
    "locations with rows": ([False, True, False], ["vector", "real", "real"]),
    "scales with rows": ([False, False, True], ["vector", "real", "real"]),
    "vectors with rows": ([True, True, False], ["vector", "vector", "vector"]),
    "all scalars": ([True, True, True], ["real", "real", "real"]),
    "nothing": ([False, False, False], ["vector", "vector", "real"]),
}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("case", ROWS)
def test_rows_are_a_loop(case, traced):
    rows, kinds = ROWS[case]
    size, length = 4, 3
    level = Level(None, size, np.zeros(size, int))
    rng = np.random.default_rng(0)
    types = [VECTOR if kind == "vector" else REAL for kind in kinds]
    shapes = [(size,) * row + (length,) * type.rank for row, type in zip(rows, types, strict=True)]
    arrays = [rng.uniform(0.5, 2.0, shape) for shape in shapes]
    if traced:
        arrays = [jnp.asarray(array) for array in arrays]
    together = evaluate(
        "lognormal",
        [Value(t, a, level if row else None) for t, a, row in zip(types, arrays, rows, strict=True)],
    ).value()
    one_by_one = [
        evaluate(
            "lognormal",
            [Value(t, a[r] if row else a) for t, a, row in zip(types, arrays, rows, strict=True)],
        )
        .value()
        .data
        for r in range(size)
    ]
    assert together.level is (level if any(rows) else None)
    np.testing.assert_allclose(np.broadcast_to(together.data, size), one_by_one, rtol=1e-13)


def test_terms_and_conditions_keep_their_own_level():
    level = Level(None, 2, np.zeros(2, int))
    arguments = [
        Value(VECTOR, np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 2.0]]), level),
        Value(REAL, jnp.asarray(0.5)),
        Value(REAL, jnp.asarray(1.5)),
    ]
    evaluation = evaluate("lognormal", arguments)
    levels = {str(np.shape(term.data)): term.level for term in evaluation.values()}
    assert levels == {"(2,)": level, "()": None}
    (support,) = evaluation.support
    assert support.level is level
    assert np.array_equal(support.data, [True, False])
    assert [condition.level for condition in evaluation.valid] == [None]


def test_no_elements_are_no_terms():
    empty = evaluate("normal", [Value(VECTOR, np.zeros(0)), Value(REAL, 0.0), Value(REAL, jnp.asarray(-1.0))])
    assert empty == ((), (), ())
    assert empty.value().data == 0


def test_what_cannot_be_evaluated_says_so():
    one, three = Value(VECTOR, np.zeros(1)), Value(VECTOR, np.zeros(3))
    scale = Value(REAL, np.float64(1.0))
    with pytest.raises(UnsupportedStanError, match="the distribution 'wiener'"):
        evaluate("wiener", [scale])
    with pytest.raises(UnsupportedStanError, match=r"sizes do not agree: \(1,\), \(3,\), \(\)"):
        evaluate("normal", [one, three, scale])
    with pytest.raises(UnsupportedStanError, match="'normal' with 2 arguments"):
        evaluate("normal", [one, scale])
    assert known("normal")
    assert known("poisson_log_glm")
    assert not known("wiener")


# -- generalized linear models ----------------------------------------------------------------------

GLM = """
data {{ matrix[5, 2] X; array[5] int y; array[5] int k; array[5] int N; vector[5] r; }}
parameters {{ real a; vector[2] b; real s; vector[3] c; matrix[2, 3] B; vector[5] av; }}
model {{ target += {}; }}
"""
RNG = np.random.default_rng(1)
GLM_DATA = {
    "X": RNG.normal(size=(5, 2)),
    "y": np.array([0, 1, 1, 0, 1]),
    "k": np.array([1, 3, 2, 2, 1]),
    "N": np.array([3, 2, 2, 2, 4]),
    "r": RNG.normal(size=5),
}
GLM_POSITION = np.concatenate(
    [[0.3, -0.4, 0.7, 1.7], [-0.5, 0.2, 0.9], RNG.normal(size=6), RNG.normal(size=5)]
)


def glm_arguments(names: str, position) -> list[Value]:
    table = {name: Value(INTS, GLM_DATA[name]) for name in ("y", "k", "N")} | {
        "X": Value(MATRIX, GLM_DATA["X"]),
        "X[1]": Value(ROW_VECTOR, GLM_DATA["X"][0]),
        "r": Value(VECTOR, GLM_DATA["r"]),
        "a": Value(REAL, position[0]),
        "b": Value(VECTOR, position[1:3]),
        "s": Value(REAL, position[3]),
        "c": Value(VECTOR, position[4:7]),
        "B": Value(MATRIX, position[7:13].reshape(3, 2).T),
        "av": Value(VECTOR, position[13:18]),
        "2": Value(INT, np.int64(2)),
        "1.3": Value(REAL, np.float64(1.3)),
        "[1.0,2.0]'": Value(VECTOR, np.array([1.0, 2.0])),
    }
    return [table[name] for name in names.replace("|", "").split()]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("bernoulli_logit_glm", "y | X a b"),
        ("poisson_log_glm", "y | X av b"),
        ("binomial_logit_glm", "y | N X a b"),
        ("normal_id_glm", "r | X a b s"),
        ("normal_id_glm", "r | X a b 1.3"),
        ("normal_id_glm", "r | X a [1.0,2.0]' s"),
        ("neg_binomial_2_log_glm", "y | X a b s"),
        ("neg_binomial_2_log_glm", "y | X a b 1.3"),
        ("ordered_logistic_glm", "k | X b c"),
        ("categorical_logit_glm", "k | X c B"),
        ("categorical_logit_glm", "2 | X[1] c B"),
    ],
)
@pytest.mark.parametrize("dropping", [True, False])
def test_generalized_linear_models_are_stans(name, arguments, dropping):
    outcome, *others = arguments.replace("|", "").split()
    program = GLM.format(density_call(name, [outcome, *others], dropping))
    data = {key: array.tolist() for key, array in GLM_DATA.items()}
    expected, expected_gradient = stanli.bridgestan_model(stan_code=program, data=data).log_density_gradient(
        GLM_POSITION
    )

    def log_density(position):
        return evaluate(name, glm_arguments(arguments, position)).value(constants=not dropping).data

    value, gradient = jax.value_and_grad(log_density)(jnp.asarray(GLM_POSITION))
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, np.asarray(expected_gradient), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("a", "b"), [(0.3, 0.7), (8.0, 9.5), (1e-3, 40.0), (300.0, 2.0), (1e6, 1e7)])
def test_log_beta(a, b):
    from essper.models.stan_to_jax.densities.special import log_beta

    expected = scipy.special.betaln(a, b)
    np.testing.assert_allclose(log_beta(jnp.asarray(a), jnp.asarray(b)), expected, rtol=1e-13)
