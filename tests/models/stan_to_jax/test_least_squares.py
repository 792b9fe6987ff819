"""Sums of squares from a triangular factor: that they are taken, and their rounding errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models.stan_source import read_program
from essper.models.stan_to_jax import lower
from essper.models.stan_to_jax.densities.least_squares import sum_of_squares
from essper.models.stan_to_jax.linear_predictor import LinearPredictor
from essper.models.stan_to_jax.values import REAL, VECTOR, Value

N = 1000
RNG = np.random.default_rng(0)
X = np.column_stack([np.ones(N), 1e4 + RNG.normal(size=N), 1e-3 * RNG.normal(size=N)])
B = np.array([-20.0, 3.0, 500.0])


def normal(y, coefficients, sigma=1.0, rest=()):
    """The arguments of a normal regression on X."""
    mu = Value(VECTOR, LinearPredictor(N, ((X, coefficients),), rest))
    return Value(VECTOR, y), mu, Value(REAL, np.asarray(sigma))


@pytest.mark.parametrize("noise", [1.0, 1e-4])
def test_rounding_errors_are_those_of_residuals(noise):
    y = X @ B + noise * RNG.normal(size=N)

    def squares(b):
        return sum_of_squares("normal", normal(y, b))

    value, gradient = map(np.asarray, jax.value_and_grad(squares)(jnp.asarray(B)))
    residual = y.astype(np.longdouble) - X.astype(np.longdouble) @ B
    exact, exact_gradient = residual @ residual, -2 * X.T @ residual
    # A residual of two numbers as large as y has an error of 2⁻⁵³ |y|.
    size = np.finfo(float).eps * np.linalg.norm(y)
    assert abs(float(value) - float(exact)) < 8 * size * np.linalg.norm(residual.astype(float))
    np.testing.assert_array_less(abs(gradient - exact_gradient), 8 * size * np.linalg.norm(X, axis=0))


def test_offsets_belong_to_the_data():
    y, offset = RNG.normal(size=N), RNG.normal(size=N)
    found = sum_of_squares("normal", normal(y, jnp.asarray(B), rest=(offset, np.float64(2.0))))
    np.testing.assert_allclose(np.asarray(found), np.sum((y - X @ B - offset - 2) ** 2), rtol=1e-13)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("cauchy", normal(np.zeros(N), jnp.asarray(B))),
        ("normal", normal(jnp.zeros(N), jnp.asarray(B))),  # y is no data
        ("normal", normal(np.zeros(N), jnp.asarray(B), rest=(jnp.zeros(N),))),
        ("normal", (*normal(np.zeros(N), jnp.asarray(B))[:2], Value(VECTOR, np.ones(N)))),
        ("normal", normal(np.zeros(N), jnp.asarray(B))[:2]),
        ("normal", normal(np.zeros(N - 1), jnp.asarray(B))),
        ("normal", normal(np.full(N, np.nan), jnp.asarray(B))),
    ],
)
def test_there_is_none_for_anything_else(name, arguments):
    assert sum_of_squares(name, arguments) is None


STATEMENTS = {
    "vector": "y ~ normal(a + b * x, s);",
    "loop": "for (n in 1:N) y[n] ~ normal(a + b * x[n], s);",
    "kept": "vector[N] mu; for (n in 1:N) { mu[n] = a + b * x[n]; target += normal_lpdf(y[n] | mu[n], s); }",
    "glm": "y ~ normal_id_glm(to_matrix(x, N, 1), a, [b]', s);",
}


@pytest.mark.parametrize("form", STATEMENTS)
def test_no_operation_on_all_rows_is_left(form):
    program = (
        "data { int N; vector[N] x; vector[N] y; } parameters { real a; real b; real<lower=0> s; }"
        f"model {{ {STATEMENTS[form]} }}"
    )
    lowered = lower(read_program(program, form), {"N": N, "x": X[:, 1], "y": X[:, 2]})
    compiled = str(jax.jit(jax.value_and_grad(lowered.log_density)).lower(jnp.zeros(3)).compile().as_text())
    assert "exponential" in compiled  # of the scale
    assert f"[{N}" not in compiled


def test_a_scale_of_0_in_a_branch_that_is_not_taken_harms_nothing():
    program = (
        "data { int N; vector[N] y; } parameters { real s; }"
        "model { s ~ normal(1, 1); if (s > 0) for (n in 1:N) y[n] ~ normal(0, s); }"
    )
    lowered = lower(read_program(program, "branch"), {"N": N, "y": X[:, 2]})
    value, gradient = jax.value_and_grad(lowered.log_density)(jnp.zeros(1))
    assert (float(value), float(gradient[0])) == (-0.5, 1.0)
