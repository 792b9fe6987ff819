"""The latent linear and nonlinear models: densities, closed forms, exact draws, places and data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models.latent_linear import LatentLinear, latent_linear, simulate_latent_linear
from essper.models.latent_nonlinear import latent_nonlinear, simulate_latent_nonlinear
from scipy import stats

SMALL = simulate_latent_linear(7, 0.8, 1.7, 3, theta=2.0)


def hessian(target) -> np.ndarray:
    return np.asarray(jax.hessian(target.log_density)(np.zeros(target.dim)))


def test_the_linear_density_is_that_of_the_model() -> None:
    theta, z = 0.4, np.linspace(-1, 1, 7)
    expected = stats.norm.logpdf(z).sum() + stats.norm.logpdf(SMALL.x, theta + 0.8 * z, 1.7).sum()
    position = np.concatenate([[theta], z])
    assert float(latent_linear(SMALL).log_density(jnp.asarray(position))) == pytest.approx(
        expected, rel=1e-12
    )


def test_the_linear_closed_forms_are_those_of_the_density() -> None:
    target = latent_linear(SMALL)
    assert np.max(np.abs(target.value_and_grad(jnp.asarray(SMALL.mode))[1])) < 1e-12
    np.testing.assert_allclose(SMALL.curvature, -np.diag(hessian(target)), rtol=1e-12)


def test_the_constant_gap_is_the_smallest_loss_that_sharing_allows() -> None:
    precision = -hessian(latent_linear(SMALL))
    # With equal variances the loss is half the quadratic form of m − m̂, for m = (t, a, a, …).
    shared = np.zeros((8, 2))
    shared[0, 0] = shared[1:, 1] = 1
    best = shared @ np.linalg.solve(shared.T @ precision @ shared, shared.T @ precision @ SMALL.mode)
    loss = 0.5 * (SMALL.mode - best) @ precision @ (SMALL.mode - best)
    assert SMALL.constant_gap == pytest.approx(loss, rel=1e-12)


def test_the_constant_gap_has_the_expectation_that_is_stated() -> None:
    gaps = [simulate_latent_linear(1000, 1.155, 2.43, seed).constant_gap for seed in range(200)]
    expected = 999 * 1.155**2 / (2 * 2.43**2)
    error = expected * np.sqrt(2 / 999 / 200)
    assert abs(np.mean(gaps) - expected) < 4 * error


def test_exact_draws_have_the_moments_of_the_posterior() -> None:
    target = latent_linear(SMALL)
    assert target.exact is not None
    draws = np.asarray(target.exact(jax.random.key(0), 40_000))
    covariance = np.linalg.inv(-hessian(target))
    sd = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(draws.mean(0) - SMALL.mode) < 5 * sd / 200)
    np.testing.assert_allclose(np.cov(draws.T) / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=0.04)


def test_the_nonlinear_density_has_the_normalizer_that_depends_on_z() -> None:
    x = np.array([0.3, -2.0, 4.0])
    theta, z = -0.7, np.array([0.1, 1.5, -2.2])
    mean, sd = theta + z * np.sin(z) + z, np.exp(np.cos(z))
    expected = stats.norm.logpdf([theta, *z]).sum() + stats.norm.logpdf(x, mean, sd).sum()
    found = latent_nonlinear(x).log_density(jnp.asarray([theta, *z]))
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_nonlinear_data_are_simulated_as_specified() -> None:
    found = simulate_latent_nonlinear(20_000, 1, theta=0.5)
    z = found.z
    noise = (found.x - 0.5 - z - z * np.sin(z)) * np.exp(-np.cos(z))
    for values in (z, noise):
        assert stats.kstest(values, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(z, noise)[0, 1]) < 0.03


@pytest.mark.parametrize("target", [latent_linear(SMALL), latent_nonlinear(SMALL.x)], ids=lambda t: t.name)
def test_every_local_parameter_is_given_its_datum(target) -> None:
    found = target.hierarchy
    assert found.shared.tolist() == [0]
    np.testing.assert_array_equal(found.inputs[:, 0], SMALL.x)
    cross = hessian(target)
    # A change of datum k moves the gradient of θ and of z_k alone: that of its own place.
    assert np.count_nonzero(cross[1:, 1:] - np.diag(np.diag(cross[1:, 1:]))) == 0
    assert len(target.param_names) == target.dim == 8


def test_other_data_or_scales_are_another_target() -> None:
    digests = {
        latent_linear(SMALL).digest,
        latent_linear(SMALL._replace(tau=0.9)).digest,
        latent_linear(SMALL._replace(x=SMALL.x + 1)).digest,
        latent_nonlinear(SMALL.x).digest,
        latent_nonlinear(SMALL.x + 1).digest,
    }
    assert len(digests) == 5


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match="two data"):
        latent_linear(LatentLinear(np.zeros(1), 1.0, 1.0))
    with pytest.raises(ValueError, match="positive"):
        latent_linear(SMALL._replace(sigma=0.0))
    with pytest.raises(ValueError, match="one datum"):
        latent_nonlinear(np.zeros((2, 2)))
