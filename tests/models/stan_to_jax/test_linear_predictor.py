"""Linear predictors are collected into one product, and rows of data become a factorization."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import from_stan
from essper.models.factorization import FactorizationError
from essper.models.stan_source import read_program
from essper.models.stan_to_jax import lower

N = 40
PROGRAM = """
data { int N; vector[N] x; vector[N] z; array[N] int g; vector[N] y; }
parameters { vector[3] b; vector[4] a; real<lower=0> s; }
model {
  a ~ normal(0, 1);
  BODY
}
"""
VECTORS = "y ~ normal(b[1] + b[2] * x - b[3] * z + a[g] + 0.5, s);"
LOOP = "for (n in 1:N) y[n] ~ normal(b[1] + b[2] * x[n] - b[3] * z[n] + a[g[n]] + 0.5, s);"


def data():
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=N) for name in "xyz"}
    return {"N": N, "g": rng.integers(1, 5, N), **columns}


def direct(theta, given):
    b, a, s = theta[:3], theta[3:7], jnp.exp(theta[7])
    mean = b[0] + b[1] * given["x"] - b[2] * given["z"] + a[given["g"] - 1] + 0.5
    likelihood = jnp.sum(-0.5 * ((given["y"] - mean) / s) ** 2) - N * theta[7]
    return likelihood - 0.5 * jnp.sum(a**2) + theta[7]


@pytest.mark.parametrize("body", [VECTORS, LOOP], ids=["vectors", "loop"])
def test_predictor_is_one_product(body):
    lowered = lower(read_program(PROGRAM.replace("BODY", body), "regression"), data())
    theta = jnp.asarray(np.random.default_rng(1).normal(size=8))
    value, gradient = jax.value_and_grad(lowered.log_density)(theta)
    expected = jax.value_and_grad(direct)(theta, data())
    np.testing.assert_allclose(value, expected[0], rtol=1e-13)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-11)
    program = str(jax.make_jaxpr(lowered.log_density)(theta))
    assert program.count("dot_general") == 1


def test_rows_of_a_target_are_a_factorization():
    program = PROGRAM.replace("BODY", LOOP)
    target = from_stan(program, data(), backend="jax", rows="auto", verify=False)
    assert target.likelihood is not None
    assert (target.likelihood.n, target.likelihood.rows) == (N, "N")
    theta = jnp.full(8, 0.1)
    halves = [target.likelihood.log_likelihood(theta, jnp.arange(N)[k::2]) for k in range(2)]
    whole = target.log_density(theta)
    np.testing.assert_allclose(target.likelihood.log_prior(theta) + sum(halves), whole, rtol=1e-12)
    with pytest.raises(FactorizationError, match="candidates are 'N'"):
        from_stan(program, data(), backend="jax", rows="K", verify=False)
    with pytest.raises(ValueError, match="rows"):
        from_stan(program, data(), backend="bridgestan", rows="N")
