"""Estimates of the metric: closed forms on Gaussians, invariances, degenerate observations."""

import jax.numpy as jnp
import numpy as np
import pytest
from essper.samplers.mass_matrix import (
    estimated,
    fisher_dense,
    fisher_diagonal,
    geometric_mean,
    initial_inverse,
    start_moments,
    update_moments,
)

RNG = np.random.default_rng(3)
DIM = 4
_ROOT = RNG.normal(size=(DIM, DIM)) * [0.1, 1.0, 10.0, 100.0]
COVARIANCE = _ROOT.T @ _ROOT + np.diag([0.01, 1.0, 100.0, 1e4])
PRECISION = np.linalg.inv(COVARIANCE)


def moments(x, gradients, dense):
    state = start_moments(x.shape[1], dense, jnp.float64, True)
    return update_moments(state, jnp.asarray(x), jnp.asarray(gradients))


@pytest.mark.parametrize("n", [2, 3, 20])
def test_diagonal_is_exact_for_independent_coordinates_from_any_draws(n):
    variances = np.array([1e-6, 1.0, 9.0, 1e8])
    # neither independent nor from the Gaussian, and far from its mode
    x = np.cumsum(RNG.exponential(size=(n, DIM)), axis=0) * 10 + 1e3
    estimate = estimated(moments(x, -x / variances, False), jnp.ones(DIM))
    np.testing.assert_allclose(estimate, variances, rtol=1e-7)


def test_diagonal_of_a_correlated_gaussian():
    # g = −Σ⁻¹(x − μ) has covariance Σ⁻¹: between the marginal and the conditional variance.
    x = RNG.multivariate_normal(np.zeros(DIM), COVARIANCE, size=200_000)
    estimate = estimated(moments(x, -x @ PRECISION, False), jnp.ones(DIM))
    np.testing.assert_allclose(estimate, np.sqrt(np.diag(COVARIANCE) / np.diag(PRECISION)), rtol=0.02)
    assert (estimate < np.diag(COVARIANCE)).all()
    assert (estimate > 1 / np.diag(PRECISION)).all()


def test_geometric_mean_solves_its_equation():
    a, b = (m @ m.T + 0.1 * np.eye(DIM) for m in RNG.normal(size=(2, DIM, DIM)))
    x = np.asarray(geometric_mean(jnp.asarray(a), jnp.asarray(b)))
    np.testing.assert_allclose(x @ b @ x, a, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(x, x.T)
    assert (np.linalg.eigvalsh(x) > 0).all()
    # the mean of a and b⁻¹: symmetric in the two, and √(a/b) where they commute
    inverse = np.asarray(geometric_mean(jnp.asarray(b), jnp.asarray(a)))
    np.testing.assert_allclose(inverse @ x, np.eye(DIM), atol=1e-9)
    np.testing.assert_allclose(
        geometric_mean(jnp.diag(jnp.array([4.0, 9.0])), jnp.diag(jnp.array([1.0, 4.0]))), np.diag([2.0, 1.5])
    )


def test_geometric_mean_of_a_gaussians_moments_is_its_covariance_from_any_draws():
    x = RNG.exponential(size=(DIM + 3, DIM)) * 30.0
    covariance, of_gradients = np.cov(x.T), np.cov((-x @ PRECISION).T)
    estimate = geometric_mean(jnp.asarray(covariance), jnp.asarray(of_gradients))
    np.testing.assert_allclose(estimate, COVARIANCE, rtol=1e-5)


def test_dense_estimate_tends_to_the_covariance():
    x = RNG.multivariate_normal(np.zeros(DIM), COVARIANCE, size=20_000)
    estimate = np.asarray(estimated(moments(x, -x @ PRECISION, True), jnp.eye(DIM)))
    scale = np.sqrt(np.diag(COVARIANCE))
    np.testing.assert_allclose(
        estimate / np.outer(scale, scale), COVARIANCE / np.outer(scale, scale), atol=0.01
    )


@pytest.mark.parametrize("n", [3, 30])
def test_dense_estimate_follows_a_change_of_units_and_stays_definite(n):
    # Three draws in four dimensions: both sample covariances are singular.
    x = RNG.multivariate_normal(np.zeros(DIM), COVARIANCE, size=n)
    units = np.array([1e-3, 1.0, 20.0, 1e5])
    estimate = np.asarray(estimated(moments(x, -x @ PRECISION, True), jnp.eye(DIM)))
    rescaled = np.asarray(estimated(moments(x * units, -x @ PRECISION / units, True), jnp.eye(DIM)))
    np.testing.assert_allclose(rescaled, estimate * np.outer(units, units), rtol=1e-6)
    scale = np.sqrt(np.diag(estimate))
    assert (np.linalg.eigvalsh(estimate / np.outer(scale, scale)) > 0).all()


def test_without_correlations_dense_is_diagonal():
    variance, of_gradients = jnp.array([4.0, 0.25]), jnp.array([1.0, 100.0])
    dense = fisher_dense(jnp.diag(variance), jnp.diag(of_gradients), jnp.float64(12.0))
    np.testing.assert_allclose(dense, np.diag(fisher_diagonal(variance, of_gradients)), rtol=1e-12)


@pytest.mark.parametrize(
    ("variance", "of_gradients"),
    [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (np.inf, 1.0), (1.0, np.inf), (1.0, np.nan)],
)
def test_variances_that_say_nothing(variance, of_gradients):
    assert np.isnan(fisher_diagonal(jnp.float64(variance), jnp.float64(of_gradients)))


def test_extreme_scales_neither_overflow_nor_underflow():
    found = fisher_diagonal(jnp.array([1e-280, 1e280]), jnp.array([1e280, 1e-280]))
    np.testing.assert_allclose(found, [1e-280, 1e280], rtol=1e-12)


@pytest.mark.parametrize("dense", [False, True])
def test_draws_that_never_moved_change_nothing(dense):
    before = jnp.eye(2) * 7.0 if dense else jnp.array([7.0, 8.0])
    estimate = estimated(moments(np.ones((12, 2)), np.ones((12, 2)), dense), before)
    np.testing.assert_array_equal(estimate, before)


def test_first_guess_follows_the_gradients():
    gradients = jnp.array([[3.0, 0.0, 1e-30, jnp.inf], [-4.0, 0.0, 0.0, 1.0]])
    found = initial_inverse(gradients, False)
    np.testing.assert_allclose(found, [1 / np.sqrt(12.5), 1.0, 1e10, 1.0], rtol=1e-12)
    np.testing.assert_array_equal(initial_inverse(gradients, True), np.diag(found))
