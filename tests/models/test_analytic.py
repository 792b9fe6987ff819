"""Analytic targets: densities against independent formulas, exact draws against known moments."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper import models
from jax.test_util import check_grads
from scipy import stats

N = 40_000
AR1 = 0.9 ** np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
EQUI = np.full((4, 4), 0.5) + 0.5 * np.eye(4)
MEANS = np.array([[-2.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
SCALES, WEIGHTS = np.array([0.5, 1.0, 2.0]), np.array([0.2, 0.5, 0.3])


def gaussian_reference(mean: Any, covariance: Any) -> Callable[..., Any]:
    return lambda x: stats.multivariate_normal.logpdf(x, mean, covariance)


def funnel_reference(x):
    v = x[0]
    return stats.norm.logpdf(v, 0, 3) + stats.norm.logpdf(x[1:], 0, np.exp(v / 2)).sum()


def rosenbrock_reference(x):
    # two blocks of three: x1; x2, x3; x4, x5
    before = np.array([x[0], x[1], x[0], x[3]])
    return stats.norm.logpdf(x[0], 1, 10**0.5) + stats.norm.logpdf(x[1:], before**2, 0.1**0.5).sum()


def mixture_reference(x):
    parts = zip(WEIGHTS, MEANS, SCALES, strict=True)
    return np.log(sum(w * np.exp(gaussian_reference(m, s**2 * np.eye(2))(x)) for w, m, s in parts))


def two_modes_reference(x):
    modes = ((2 / 3, -4.0), (1 / 3, 4.0))
    return np.log(sum(w * np.exp(gaussian_reference([m, 0, 0], np.eye(3))(x)) for w, m in modes))


# name: target, its log density by scipy, its mean and variances
CASES = {
    "standard": (models.standard_gaussian(3), gaussian_reference(np.zeros(3), np.eye(3)), 0, np.ones(3)),
    "ar1": (models.correlated_gaussian(5), gaussian_reference(np.zeros(5), AR1), 0, np.ones(5)),
    "equicorrelated": (
        models.correlated_gaussian(4, 0.5, structure="equicorrelated"),
        gaussian_reference(np.zeros(4), EQUI),
        0,
        np.ones(4),
    ),
    "ill-conditioned": (
        models.ill_conditioned_gaussian(3, 1e4),
        gaussian_reference(np.zeros(3), np.diag([0.01, 1, 100])),
        0,
        np.array([0.01, 1, 100]),
    ),
    "funnel": (models.funnel(4), funnel_reference, None, None),
    "rosenbrock": (models.rosenbrock(2, 3), rosenbrock_reference, None, None),
    "mixture": (
        models.gaussian_mixture(means=MEANS, scales=tuple(SCALES), weights=tuple(WEIGHTS)),
        mixture_reference,
        WEIGHTS @ MEANS,
        WEIGHTS @ (MEANS**2 + SCALES[:, None] ** 2) - (WEIGHTS @ MEANS) ** 2,
    ),
    "two modes": (models.gaussian_mixture(3), two_modes_reference, np.array([-4 / 3, 0, 0]), None),
}


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request):
    return CASES[request.param]


def draws(target, seed=0):
    return np.asarray(target.exact(jax.random.key(seed), N))


def assert_mean(sample, expected, what=""):
    """Means of independent draws, within 4.5 standard errors."""
    error = sample.std(0) / np.sqrt(len(sample))
    z = (sample.mean(0) - expected) / error
    assert np.all(np.abs(z) < 4.5), f"{what} z = {z}"


def test_log_density_is_normalised_and_matches_scipy(case):
    target, reference, *_ = case
    points = draws(target, seed=1)[:20]
    np.testing.assert_allclose(
        jax.jit(jax.vmap(target.log_density))(points), [reference(x) for x in points], rtol=1e-10, atol=1e-10
    )


def test_gradient(case):
    target = case[0]
    log_density, value_and_grad = jax.jit(target.log_density), jax.jit(target.value_and_grad)
    slope = jax.jit(jax.grad(target.log_density))
    for x in draws(target, seed=2)[:3]:
        check_grads(log_density, (jnp.asarray(x),), order=1, modes=["rev"], rtol=1e-5)
        value, gradient = value_and_grad(jnp.asarray(x))
        np.testing.assert_allclose(value, log_density(jnp.asarray(x)), rtol=1e-13)
        np.testing.assert_allclose(gradient, slope(jnp.asarray(x)), rtol=1e-12)


def test_exact_draws_have_the_known_moments(case):
    target, _, mean, variance = case
    x = draws(target)
    assert x.shape == (N, target.dim)
    if mean is not None:
        assert_mean(x, mean, "mean")
    if mean is not None and variance is not None:
        assert_mean((x - mean) ** 2, variance, "variance")


def test_exact_draws_satisfy_the_score_identity(case):
    # E ∇log p = 0 holds for draws of p alone: it ties the draws to the density
    target = case[0]
    x = draws(target, seed=3)
    assert_mean(np.asarray(jax.jit(jax.vmap(target.value_and_grad))(x)[1]), 0.0, "score")


def test_exact_draws_do_not_depend_on_anything_but_the_key(case):
    target = case[0]
    np.testing.assert_array_equal(draws(target), draws(target))
    assert not np.array_equal(draws(target), draws(target, seed=1))


@pytest.mark.parametrize(("name", "covariance"), [("ar1", AR1), ("equicorrelated", EQUI)])
def test_correlations_of_exact_draws(name, covariance):
    x = draws(CASES[name][0])
    assert_mean(x[:, :, None] * x[:, None, :], covariance, "covariance")


def test_funnel_moments():
    x = draws(models.funnel(3))
    assert_mean(x[:, 0], 0.0)
    assert_mean(x[:, 0] ** 2, 9.0)
    assert_mean((x[:, 1:] / np.exp(x[:, :1] / 2)) ** 2, 1.0)
    assert models.funnel(3).param_names == ("v", "x[1]", "x[2]")


def test_rosenbrock_moments():
    location, scale, noise = 0.5, 0.7, 0.3
    x = draws(models.rosenbrock(3, 2, location=location, scale=scale, noise=noise))
    second = location**2 + scale**2
    assert_mean(x, np.array([location, second, second, second]))
    spread = 2 * scale**4 + 4 * location**2 * scale**2  # of x[1]², which the blocks share
    covariance = spread + noise**2 * np.eye(3)
    centred = x[:, 1:] - second
    assert_mean(centred[:, :, None] * centred[:, None, :], covariance)


def test_rotation_keeps_the_spectrum_and_depends_on_the_seed():
    axes = models.ill_conditioned_gaussian(6, 100.0)
    rotated = models.ill_conditioned_gaussian(6, 100.0, rotation_seed=1)
    precision = -jax.jacobian(lambda x: rotated.value_and_grad(x)[1])(jnp.zeros(6))
    np.testing.assert_allclose(np.linalg.eigvalsh(precision), np.geomspace(0.1, 10, 6), rtol=1e-10)
    assert np.abs(precision - np.diag(np.diagonal(precision))).max() > 0.1
    x = draws(rotated)
    assert_mean(x[:, :, None] * x[:, None, :], np.linalg.inv(precision))
    again = models.ill_conditioned_gaussian(6, 100.0, rotation_seed=1)
    other = models.ill_conditioned_gaussian(6, 100.0, rotation_seed=2)
    assert rotated.digest == again.digest
    assert len({axes.digest, rotated.digest, other.digest}) == 3


def test_one_program_serves_targets_that_differ_in_numbers():
    traced = []

    @jax.jit
    def evaluate(density, x):
        traced.append(density)
        return density.log_density(x)

    values = [evaluate(models.correlated_gaussian(5, c).density, jnp.ones(5)) for c in (0.1, 0.5, 0.9)]
    assert len(traced) == 1
    assert len({float(v) for v in values}) == 3


@pytest.mark.parametrize(
    ("constructor", "message"),
    [
        (lambda: models.funnel(1), "dim=1 is too small"),
        (lambda: models.correlated_gaussian(3, 1.0), "strictly between -1.0 and 1"),
        (lambda: models.correlated_gaussian(3, -0.5, structure="equicorrelated"), "strictly between -0.5"),
        (lambda: models.correlated_gaussian(3, structure="banded"), "use 'ar1' or 'equicorrelated'"),  # pyright: ignore
        (lambda: models.ill_conditioned_gaussian(3, 0.5), "must be at least 1"),
        (lambda: models.rosenbrock(0), "blocks=0"),
        (lambda: models.rosenbrock(noise=0.0), "must be positive"),
        (lambda: models.gaussian_mixture(3, means=MEANS), "must have shape"),
        (lambda: models.gaussian_mixture(2, weights=(0.5, 0.6)), "add up to 1"),
        (lambda: models.gaussian_mixture(2, scales=-1.0), "must be positive"),
    ],
)
def test_settings_that_make_no_distribution(constructor, message):
    with pytest.raises(ValueError, match=message):
        constructor()


def test_failed_evaluations_are_minus_infinity():
    value, gradient = models.funnel(2).value_and_grad(jnp.array([-1e4, 1.0]))
    assert np.isneginf(value)
    np.testing.assert_array_equal(gradient, 0.0)
