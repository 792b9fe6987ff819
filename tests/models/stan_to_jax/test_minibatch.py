"""Rows of a Stan program's data: which they are, that they add up, and minibatches of them."""

from dataclasses import dataclass
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models.factorization import Factorization, FactorizationError, from_rows, partition_errors
from essper.models.stan_source import read_data, read_program
from essper.models.stan_to_jax import lower
from essper.models.stan_to_jax.minibatch import factorize, row_candidates, why_no_rows

RANDOM = np.random.default_rng(1)
N, J = 30, 4

# Everything at once: indices among the rows, transformed data of all data, a prior, a matrix, a loop.
VARIED = """
data {
  int<lower=0> N; int<lower=0> J; int K;
  array[N] int<lower=1, upper=J> group;
  vector[N] y;
  matrix[N, K] X;
  array[N] vector[2] z;
  vector<lower=0>[J] scale;
}
transformed data {
  real center = mean(y);
  vector[N] centered = y - center;
  array[N] int zero_based;
  for (n in 1:N) zero_based[n] = group[n] - 1;
}
parameters { vector[J] alpha; vector[K] beta; vector[2] gamma; real<lower=0> sigma; }
model {
  alpha ~ normal(0, scale);
  beta ~ normal(0, 2);
  gamma ~ std_normal();
  sigma ~ exponential(1);
  for (n in 1:N)
    centered[n] ~ normal(alpha[group[n]] + X[n] * beta + z[n]' * gamma + 0.1 * zero_based[n], sigma);
}
"""
VARIED_DATA = {
    "N": N,
    "J": J,
    "K": 2,
    "group": RANDOM.integers(1, J + 1, N).tolist(),
    "y": RANDOM.normal(size=N).tolist(),
    "X": RANDOM.normal(size=(N, 2)).tolist(),
    "z": RANDOM.normal(size=(N, 2)).tolist(),
    "scale": [1.0, 2.0, 3.0, 4.0],
}


def lowered(program, data):
    return lower(read_program(program, None), read_data(data, "model"))


def series(model, **more):
    """A program with one row variable of size T = 10, and its data."""
    declared = "".join(f" int {name};" for name in more)
    text = f"data {{ int T;{declared} vector[T] y; }} parameters {{ real a; real b; }} model {{ {model} }}"
    return text, {"T": 10, "y": RANDOM.normal(size=10).tolist(), **more}


@pytest.fixture(scope="module")
def varied():
    model = lowered(VARIED, VARIED_DATA)
    return SimpleNamespace(
        model=model, factorization=factorize(model), theta=jnp.linspace(-0.5, 0.5, model.dim)
    )


def test_rows_are_read_from_the_declarations(varied):
    (rows,) = row_candidates(varied.model.program)
    assert rows.size == "N"
    assert set(rows.variables) == {"group", "y", "X", "z", "centered", "zero_based"}
    assert (varied.factorization.rows, varied.factorization.n) == ("N", N)


def test_full_batch_is_the_density_and_disjoint_batches_average_to_it(varied):
    whole = jax.jit(jax.grad(varied.model.log_density))(varied.theta)
    gradient = jax.jit(lambda indices: varied.factorization.value_and_grad_batch(varied.theta, indices)[1])
    np.testing.assert_allclose(gradient(jnp.arange(N)), whole, rtol=1e-9, atol=1e-9)
    batches = RANDOM.permutation(N).reshape(5, 6)
    gradients = np.array([gradient(batch) for batch in batches])
    assert np.abs(gradients - np.asarray(whole)).max() > 0.1
    np.testing.assert_allclose(gradients.mean(0), whole, rtol=1e-9, atol=1e-9)


def test_a_batch_is_what_the_program_makes_of_these_rows(varied):
    """Against the program given the rows alone; its constants are the same at both points."""
    indices = np.array([3, 3, 17, 29, 0])  # one of them twice
    fewer = VARIED.replace("real center = mean(y)", "real center = 0")
    rows = {k: np.asarray(VARIED_DATA[k])[indices] for k in ("group", "y", "X", "z")}
    rows["y"] = rows["y"] - np.mean(VARIED_DATA["y"])  # transformed data are those of all rows
    alone = lowered(fewer, VARIED_DATA | {"N": 5} | {k: v.tolist() for k, v in rows.items()})
    nothing = {k: np.asarray(VARIED_DATA[k])[:0].tolist() for k in ("group", "y", "X", "z")}
    prior = lowered(fewer, VARIED_DATA | {"N": 0} | nothing)

    def estimate(theta):
        base = prior.log_density(theta)
        return base + N / 5 * (alone.log_density(theta) - base)

    expected = jax.jit(jax.value_and_grad(estimate))
    got = jax.jit(jax.value_and_grad(lambda theta: varied.factorization.log_density_batch(theta, indices)))
    pairs = [(got(theta), expected(theta)) for theta in (varied.theta, varied.theta[::-1])]
    for (_, gradient), (_, wanted) in pairs:
        np.testing.assert_allclose(gradient, wanted, rtol=1e-10, atol=1e-10)
    constants = [float(value - wanted) for (value, _), (wanted, _) in pairs]
    assert constants[0] == pytest.approx(constants[1], abs=1e-10)


def test_minibatches_are_drawn_inside_a_compiled_loop(varied):
    @jax.jit
    def mean_gradient(factorization: Factorization, key):
        def draw(key):
            indices = jax.random.randint(key, (6,), 0, factorization.n)
            return factorization.value_and_grad_batch(varied.theta, indices)[1]

        gradients = jax.lax.map(draw, jax.random.split(key, 4000))
        return gradients.mean(0), gradients.std(0) / np.sqrt(4000)

    mean, error = mean_gradient(varied.factorization, jax.random.key(0))
    whole = jax.jit(jax.grad(varied.model.log_density))(varied.theta)
    assert np.all(np.abs(mean - whole) < 4.5 * error + 1e-9)
    assert jnp.any(error > 1e-3)


def test_programs_are_shared_by_factorizations_of_one_program(varied):
    again = factorize(varied.model, rows="N")
    assert jax.tree.structure(again) == jax.tree.structure(varied.factorization)
    assert jax.tree.structure(again) != jax.tree.structure(factorize(lowered(VARIED, VARIED_DATA)))


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("for (t in 2:T) y[t] ~ normal(a + b * y[t - 1], 1);", "add up"),  # neighbours
        ("y ~ normal(a, 1); b ~ normal(0, T);", "T"),  # a prior that depends on the number of rows
        ("y[1] ~ normal(a, 1); b ~ std_normal();", "cannot be evaluated"),  # one row of its own
        ("mean(y) ~ normal(a, 1); b ~ std_normal();", "add up|cannot be evaluated"),
    ],
)
def test_density_that_is_no_sum_over_rows_is_refused(model, complaint):
    program, data = series(model)
    for rows in ("T", None):
        with pytest.raises(FactorizationError, match=complaint) as error:
            factorize(lowered(program, data), rows)
        assert "T (rows of y)" in str(error.value)


def test_rows_that_share_a_size_with_something_else_are_named():
    program = """
    data {
      int N; int M; int J; int I;
      vector[N] y; vector[M] x; vector[J] s; matrix[2, I] A; array[3] int k;
    }
    parameters { real a; vector[J] b; }
    model { a ~ normal(0, 1); b ~ normal(0, s); y ~ normal(a, 1); x ~ normal(a, 2); target += a * sum(A); }
    """
    data = {"N": 8, "M": 6, "J": 2, "I": 3, "A": np.ones((2, 3)).tolist(), "k": [1, 2, 3]}
    data |= {"y": [0.1] * 8, "x": [1.0] * 6, "s": [1.0, 1.0]}
    model = lowered(program, data)
    assert [rows.size for rows in row_candidates(model.program)] == ["N", "M"]
    with pytest.raises(FactorizationError, match="several ways: give rows='N' or rows='M'"):
        factorize(model)
    assert factorize(model, rows="M").n == 6
    for name, reason in {
        "J": "J sizes the parameter b",
        "I": "I sizes a dimension of A that is not its first",
        "k": "k is no int among the data",
        "Q": "Q is no int among the data",
    }.items():
        assert why_no_rows(model.program, name) == reason
        with pytest.raises(FactorizationError, match=f"rows='{name}': {reason}; candidates are 'N', 'M'"):
            factorize(model, rows=name)


def test_no_rows():
    with pytest.raises(FactorizationError, match="no data have rows"):
        factorize(lowered("parameters { real a; } model { a ~ normal(0, 1); }", {}))
    program, data = series("y ~ normal(a, 1); b ~ std_normal();")
    with pytest.raises(FactorizationError, match=r"T \(rows of y\) has 1 of them"):
        factorize(lowered(program, data | {"T": 1, "y": [0.5]}))
    square = "data { int N; cov_matrix[N] S; } parameters { real a; } model { a ~ normal(0, S[1, 1]); }"
    assert why_no_rows(lowered(square, {"N": 2, "S": np.eye(2).tolist()}).program, "N").startswith("N sizes")
    unused = "data { int N; } parameters { real a; } model { a ~ normal(0, N); }"
    assert why_no_rows(lowered(unused, {"N": 2}).program, "N") == "N is the leading size of no data"


# -- models written in JAX ------------------------------------------------------------------------


@dataclass
class Regression:
    x = RANDOM.normal(size=(60, 2))
    y = RANDOM.normal(size=60)

    @staticmethod
    def log_prior(theta):
        return -0.5 * (theta**2).sum()

    @staticmethod
    def log_likelihood_row(theta, row):
        return -0.5 * (row["y"] - row["x"] @ theta) ** 2

    @classmethod
    def log_density(cls, theta):
        return cls.log_prior(theta) - 0.5 * ((cls.y - cls.x @ theta) ** 2).sum()


def test_rows_of_a_users_model():
    data = {"x": Regression.x, "y": Regression.y}
    factorization = from_rows(Regression.log_prior, Regression.log_likelihood_row, data)
    points = RANDOM.normal(size=(3, 2))
    errors = partition_errors(factorization, Regression.log_density, points)
    assert max(errors) < 1e-13
    indices, theta = np.array([5, 5, 8]), jnp.asarray(points[0])
    residuals = Regression.y[indices] - Regression.x[indices] @ points[0]
    expected = -points[0] + 60 / 3 * Regression.x[indices].T @ residuals
    np.testing.assert_allclose(
        factorization.value_and_grad_batch(theta, jnp.asarray(indices))[1], expected, rtol=1e-12
    )
    wrong = partition_errors(factorization, lambda x: Regression.log_density(x) + 1e-6 * x[0] ** 2, points)
    assert wrong.value > 1e-9
    assert wrong.gradient > 1e-8


def test_batch_that_is_not_finite_is_a_failure():
    factorization = from_rows(
        lambda x: jnp.zeros(()), lambda x, y: jnp.log(x[0] - y), np.arange(3.0), rows="points"
    )
    value, gradient = factorization.value_and_grad_batch(jnp.array([1.5]), jnp.array([0, 2]))
    assert (float(value), float(gradient[0])) == (-np.inf, 0.0)
    assert np.isfinite(factorization.value_and_grad_batch(jnp.array([1.5]), jnp.array([0, 1]))[0])


@pytest.mark.parametrize("data", [{"x": np.ones(3), "y": np.ones(4)}, np.float64(1.0), np.ones((0, 2)), {}])
def test_data_without_rows_are_refused(data):
    with pytest.raises(FactorizationError, match="one leading size above 0"):
        from_rows(Regression.log_prior, Regression.log_likelihood_row, data)
