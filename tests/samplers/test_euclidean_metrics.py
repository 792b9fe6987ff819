"""Momenta match the kinetic energy: their covariance is the mass matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.samplers.metrics import kinetic_energy, make_metric, sample_momentum, velocity

INVERSE = np.array([[2.0, 0.6, -0.3], [0.6, 1.0, 0.4], [-0.3, 0.4, 0.5]])


@pytest.fixture(params=["diagonal", "dense"])
def inverse(request):
    return np.diag(INVERSE) if request.param == "diagonal" else INVERSE


def as_matrix(inverse):
    return np.diag(inverse) if inverse.ndim == 1 else inverse


def test_kinetic_energy_and_velocity(inverse):
    metric, p = make_metric(jnp.asarray(inverse)), np.array([0.3, -1.2, 2.0])
    np.testing.assert_allclose(velocity(metric, jnp.asarray(p)), as_matrix(inverse) @ p, rtol=1e-14)
    expected = 0.5 * p @ as_matrix(inverse) @ p
    np.testing.assert_allclose(kinetic_energy(metric, jnp.asarray(p)), expected, rtol=1e-14)


def test_covariance_of_momenta_is_the_mass_matrix(inverse):
    metric, n = make_metric(jnp.asarray(inverse)), 200_000
    keys = jax.random.split(jax.random.key(0), n)
    momenta = np.asarray(jax.vmap(lambda key: sample_momentum(key, metric))(keys))
    mass = np.linalg.inv(as_matrix(inverse))
    error = np.sqrt((np.outer(np.diag(mass), np.diag(mass)) + mass**2) / n)
    assert np.abs((np.cov(momenta.T) - mass) / error).max() < 4
    assert np.abs(momenta.mean(0) / np.sqrt(np.diag(mass) / n)).max() < 4


def test_twice_the_kinetic_energy_is_chi_squared(inverse):
    metric, n = make_metric(jnp.asarray(inverse)), 200_000
    keys = jax.random.split(jax.random.key(1), n)
    twice = 2 * jax.vmap(lambda key: kinetic_energy(metric, sample_momentum(key, metric)))(keys)
    assert abs(float(twice.mean()) - 3) < 4 * np.sqrt(6 / n)
