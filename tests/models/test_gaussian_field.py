"""The field and its noise: spectra, exact draws and log densities against dense linear algebra."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models.gaussian_field import GaussianField
from jax.test_util import check_grads
from scipy import stats

FIELD, SMALL = GaussianField(), GaussianField(side=4)


def matrix_of(field):
    """The transform's matrix, from its action on single pixels."""
    pixels = np.eye(field.side**2).reshape(-1, field.side, field.side)
    return np.asarray(transform_of(field)(pixels)).reshape(len(pixels), -1)


@cache
def transform_of(field):
    return jax.jit(jax.vmap(field.transform))


@cache
def simulator(field):
    return jax.jit(field.simulate)


def simulated(field, seed):
    """Data."""
    return simulator(field)(jax.random.key(seed)).y


@pytest.mark.parametrize("side", [4, 5])
def test_the_transform_is_orthogonal_and_symmetric(side):
    field = GaussianField(side=side)
    hartley = matrix_of(field)
    n = np.arange(side)
    row, column = (a.ravel() for a in np.meshgrid(n, n, indexing="ij"))
    angle = 2 * np.pi * (np.outer(row, row) + np.outer(column, column)) / side
    assert np.allclose(hartley, (np.cos(angle) + np.sin(angle)) / side, atol=1e-14)
    assert np.allclose(hartley, hartley.T, atol=1e-14)
    assert np.allclose(hartley @ hartley, np.eye(side**2), atol=1e-14)


def test_the_transform_diagonalizes_stationary_covariances():
    """Of the noise: H diag(S) H depends on the offset of two pixels alone."""
    hartley = matrix_of(SMALL)
    spectrum = np.asarray(SMALL.noise_spectrum(jnp.asarray(0.7))).ravel()
    covariance = (hartley @ np.diag(spectrum) @ hartley).reshape(4, 4, 4, 4)
    for shift in ((1, 0), (0, 3), (2, 1)):
        assert np.allclose(covariance, np.roll(covariance, (*shift, *shift), axis=(0, 1, 2, 3)), atol=1e-14)


@pytest.mark.parametrize("phi", [-1.0, 0.0, 0.6])
def test_spectra(phi):
    noise = np.asarray(FIELD.noise_spectrum(jnp.asarray(phi)))
    assert noise.mean() == pytest.approx(1)
    assert noise[3, 4] / noise[0, 1] == pytest.approx(5**phi)
    assert noise[0, 0] == noise[0, 1] == noise[-1, 0]
    assert FIELD.prior_spectrum[0, 0] == 1
    assert FIELD.prior_spectrum[-3, 4] == pytest.approx(1 / 25)


def test_simulations_have_the_spectra_that_they_are_said_to_have():
    found = jax.jit(jax.vmap(FIELD.simulate))(jax.random.split(jax.random.key(0), 4000))
    assert stats.kstest(found.phi, "uniform", (-1, 2)).pvalue > 1e-3
    assert stats.kstest(found.sigma, "uniform", (0.04, 0.26)).pvalue > 1e-3
    transform = transform_of(FIELD)
    field = np.asarray(transform(found.x)) / np.sqrt(FIELD.prior_spectrum)
    noise = np.asarray(transform(np.asarray(found.y) - np.asarray(found.x)))
    noise = noise / np.asarray(found.sigma)[:, None, None]
    noise = noise / np.sqrt(jax.jit(jax.vmap(FIELD.noise_spectrum))(found.phi))
    for white in (field, noise):
        ratio = np.sum(np.square(white), axis=0)
        assert stats.kstest(ratio.ravel(), "chi2", (4000,)).pvalue > 1e-3
        assert np.abs(np.mean(white, axis=0)).max() * np.sqrt(4000) < 4.5


def test_wiener_draws_are_the_conditional_distribution():
    """Mean and covariance from the joint Gaussian's, by dense algebra; draws against both."""
    phi, sigma = jnp.asarray(0.5), jnp.asarray(0.2)
    y = simulated(SMALL, 1)
    hartley = matrix_of(SMALL)
    prior = hartley @ np.diag(SMALL.prior_spectrum.ravel()) @ hartley
    noise = 0.04 * hartley @ np.diag(np.asarray(SMALL.noise_spectrum(phi)).ravel()) @ hartley
    gain = prior @ np.linalg.inv(prior + noise)
    mean, covariance = gain @ np.asarray(y).ravel(), prior - gain @ prior
    assert np.allclose(SMALL.wiener_mean(y, phi, sigma).ravel(), mean)
    assert np.allclose(hartley @ np.diag(SMALL.wiener_variance(phi, sigma).ravel()) @ hartley, covariance)
    keys = jax.random.split(jax.random.key(2), 20_000)
    draw = jax.jit(jax.vmap(lambda key: SMALL.draw_wiener(key, y, phi, sigma)))
    draws = np.asarray(draw(keys)).reshape(20_000, -1)
    white = (draws - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    assert np.abs(white.mean(0)).max() * np.sqrt(20_000) < 4.5
    assert np.abs(white.T @ white / 20_000 - np.eye(16)).max() < 0.045


@pytest.mark.parametrize("u", [(0.3, -0.5), (-2.0, 1.5)])
def test_the_log_densities_are_those_of_multivariate_normals(u):
    """And of the logistic prior of u, with all constants."""
    u, y = jnp.asarray(u), simulated(SMALL, 3)
    place = 1 / (1 + np.exp(-np.asarray(u)))
    phi, sigma = -1 + 2 * place[0], 0.04 + 0.26 * place[1]
    hartley, log_jacobian = matrix_of(SMALL), np.log(place * (1 - place)).sum()
    noise = sigma**2 * np.asarray(SMALL.noise_spectrum(jnp.asarray(phi))).ravel()
    for density, variance in (
        (SMALL.density_given_data(y), noise + SMALL.prior_spectrum.ravel()),
        (SMALL.density_given_noise(y), noise),
    ):
        covariance: Any = hartley @ np.diag(variance) @ hartley
        expected = stats.multivariate_normal.logpdf(np.asarray(y).ravel(), cov=covariance) + log_jacobian
        log_density = jax.jit(density.log_density)
        assert float(log_density(u)) == pytest.approx(expected, rel=1e-12)
        check_grads(log_density, (u,), 1, modes=["rev"])


def test_the_grid_is_the_target():
    y = simulated(FIELD, 4)
    target, grid = FIELD.target(y), FIELD.grid(y, 60)
    assert grid.probability.sum() == pytest.approx(1)
    chosen = np.array([[10, 20], [30, 35], [50, 12]])
    phi, sigma = jnp.asarray(grid.phi[chosen[:, 0]]), jnp.asarray(grid.sigma[chosen[:, 1]])
    u = FIELD.unconstrain(phi, sigma)
    assert np.allclose(target.constrain(u), np.stack([phi, sigma], -1))
    log_p = np.asarray(jax.jit(jax.vmap(target.log_density))(u)) - stats.logistic.logpdf(u).sum(-1)
    on_grid = np.log(grid.probability[chosen[:, 0], chosen[:, 1]])
    assert np.allclose(np.diff(log_p), np.diff(on_grid))


def test_targets_of_different_data_are_told_apart_and_share_functions():
    a, b = (FIELD.target(simulated(FIELD, seed)) for seed in (0, 1))
    assert a.digest != b.digest
    assert jax.tree.structure(a.density) == jax.tree.structure(b.density)


@pytest.mark.parametrize("options", [{"side": 1}, {"phi": (1.0, 1.0)}, {"sigma": (0.0, 0.3)}])
def test_wrong_settings(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        GaussianField(**options)


def test_wrong_data():
    with pytest.raises(ValueError, match="shape"):
        FIELD.target(jnp.zeros((4, 4)))
    with pytest.raises(ValueError, match="not finite"):
        FIELD.target(jnp.full((16, 16), jnp.nan))
