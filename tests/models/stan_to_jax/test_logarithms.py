"""The series for log(1 + x): rounding errors, derivatives, and its place in what is computed by it."""

import jax
import jax.numpy as jnp
import numpy as np
from essper.models.stan_to_jax import numeric

RNG = np.random.default_rng(0)
UNIT = np.concatenate([RNG.uniform(0, 1, 3000), np.exp(RNG.uniform(-40, 0, 3000)), [0.0, 1.0]])
ULP = float(np.finfo(float).eps)


def test_log1p_of_unit_is_exact_to_rounding():
    found = np.asarray(jax.jit(numeric.log1p_of_unit)(jnp.asarray(UNIT)))
    exact = np.log1p(UNIT.astype(np.longdouble))
    assert np.all(abs(found - exact) <= 3 * ULP * exact)
    slope = np.asarray(jax.vmap(jax.grad(numeric.log1p_of_unit))(jnp.asarray(UNIT)))
    np.testing.assert_allclose(slope, 1 / (1 + UNIT), rtol=4 * ULP)


def test_log_sigmoid_is_exact_to_rounding_on_both_sides():
    x = np.concatenate([RNG.normal(size=2000) * 5, [-800.0, -40.0, 0.0, 40.0, 700.0]])
    value, slope = jax.vmap(jax.value_and_grad(numeric.log_sigmoid))(jnp.asarray(x))
    wide = x.astype(np.longdouble)
    exact = np.where(x > 0, -np.log1p(np.exp(-abs(wide))), wide - np.log1p(np.exp(-abs(wide))))
    assert np.all(abs(np.asarray(value) - exact) <= 6 * ULP * abs(exact))
    np.testing.assert_allclose(np.asarray(slope), (1 / (1 + np.exp(wide))).astype(float), rtol=8 * ULP)
