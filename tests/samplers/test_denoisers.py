"""Denoisers: times of noise levels, the discretized chain against its own recursion, the trained network."""

import itertools
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models.gaussian_field import GaussianField
from essper.samplers.diffusion import (
    ExactMean,
    ReverseDiffusion,
    Schedule,
    Training,
    WienerDenoiser,
    excess_loss,
    load,
    save,
    train,
)

FIELD, SCHEDULE = GaussianField(), Schedule()
QUICK = Training(steps=100, batch=32)


def recursion(method, steps, phi, sigma, field=FIELD):
    """Gain on ŷ and variance of every mode of the chain with the exact mean, which is linear and Gaussian."""
    v = (sigma * (1 - np.arange(steps + 1) / steps)) ** 2
    prior, noise = field.prior_spectrum, np.asarray(field.noise_spectrum(jnp.asarray(phi)))
    gain, variance = np.ones_like(prior), np.zeros_like(prior)
    for before, after in itertools.pairwise(v):
        if method == "ancestral":
            kept = after / before
            factor = kept + (1 - kept) * prior / (prior + before * noise)
            added = after * (1 - kept) * noise
        else:
            width, here, there = before - after, *(-noise / (prior + at * noise) for at in (before, after))
            factor, added = 1 + width * here, width * noise
            if after > 0:
                factor = 1 + 0.5 * width * (here + there * factor)
                added = added * (1 + 0.5 * width * there) ** 2
        gain, variance = gain * factor, variance * factor**2 + added
    return gain, variance


@pytest.mark.parametrize("sigma", [1e-6, 0.04, 0.17, 0.3, 5.0])
def test_the_time_of_a_noise_level(sigma):
    t = SCHEDULE.time_of(jnp.asarray(sigma))
    assert float(SCHEDULE.alpha_bar(t)) == pytest.approx(1 / (1 + sigma**2), rel=4e-16)
    assert float(SCHEDULE.level(t)) == pytest.approx(sigma, rel=1e-13)


def test_the_grid_of_times_moves_with_the_noise_level():
    times = SCHEDULE.times(jnp.asarray(0.2), 10)
    assert times[-1] == 0
    assert np.all(np.diff(times) < 0)
    assert np.allclose(SCHEDULE.level(times), 0.2 * (1 - np.arange(11) / 10), atol=1e-15)
    slope = jax.jacfwd(lambda sigma: SCHEDULE.times(sigma, 10))(jnp.asarray(0.2))
    assert np.all(slope[:-1] > 0)


@pytest.mark.parametrize("method", ["ancestral", "heun"])
def test_a_draw_is_a_smooth_function_of_the_noise_level(method):
    """With one key: nothing is rounded to a step, so that x changes in proportion to σ."""
    y = FIELD.simulate(jax.random.key(0)).y
    denoiser = ReverseDiffusion(FIELD, ExactMean(FIELD), 8, method)
    draw = jax.jit(lambda sigma: denoiser.draw(jax.random.key(1), y, jnp.asarray(0.3), sigma))
    sigmas = np.linspace(0.1, 0.102, 41)
    draws = np.stack([draw(sigma) for sigma in sigmas])
    changes = np.linalg.norm(np.diff(draws, axis=0), axis=(1, 2))
    assert changes.max() < 1.05 * changes.min()


@pytest.mark.parametrize(("method", "steps"), [("ancestral", 4), ("heun", 4), ("heun", 1)])
def test_draws_follow_the_recursion(method, steps):
    phi, sigma, n = jnp.asarray(0.8), jnp.asarray(0.25), 20_000
    y = FIELD.simulate(jax.random.key(0)).y
    denoiser = ReverseDiffusion(FIELD, ExactMean(FIELD), steps, method)
    draw = jax.jit(jax.vmap(lambda key: FIELD.transform(denoiser.draw(key, y, phi, sigma))))
    draws = np.asarray(draw(jax.random.split(jax.random.key(1), n)))
    gain, variance = recursion(method, steps, float(phi), float(sigma))
    mean = gain * np.asarray(FIELD.transform(y))
    assert np.abs((draws.mean(0) - mean) / np.sqrt(variance / n)).max() < 5  # of 256 modes
    assert np.abs(draws.var(0) / variance - 1).max() < 5 * np.sqrt(2 / n)


def error_of(method, steps, phi, sigma):
    """The largest relative error of a mode's variance, once the gains are known to be exact."""
    at = jnp.asarray(phi), jnp.asarray(sigma)
    gain, variance = recursion(method, steps, phi, sigma)
    assert np.allclose(gain, FIELD.wiener_gain(*at), rtol=1e-10)
    return np.abs(variance / np.asarray(FIELD.wiener_variance(*at)) - 1).max()


@pytest.mark.parametrize(("method", "order"), [("ancestral", 1), ("heun", 2)])
@pytest.mark.parametrize(("phi", "sigma"), [(1.0, 0.3), (-1.0, 0.04)])
def test_the_chain_converges_to_wiener(method, order, phi, sigma):
    """The mean is exact; the variance's error falls as steps^−order."""
    errors = [error_of(method, steps, phi, sigma) for steps in (256, 512, 1024)]
    assert np.allclose(-np.diff(np.log2(errors)), order, atol=0.12)


@pytest.mark.parametrize(
    ("method", "errors"),
    [
        ("ancestral", [(0.51, 0.35), (0.23, 0.11), (0.074, 0.030)]),
        ("heun", [(0.11, 0.00013), (0.011, 9.5e-6), (0.00069, 6e-7)]),
    ],
)
def test_the_documented_errors(method, errors):
    found = [[error_of(method, steps, *at) for at in ((1.0, 0.3), (-1.0, 0.04))] for steps in (8, 32, 128)]
    assert np.allclose(found, errors, rtol=0.04)


@pytest.mark.parametrize("method", ["ancestral", "heun"])
def test_evaluations_are_those_executed(method):
    count = []

    @dataclass(frozen=True)
    class Counted:
        mean: ExactMean

        def __call__(self, x_t, phi, alpha_bar):
            jax.debug.callback(lambda _: count.append(1), alpha_bar)
            return self.mean(x_t, phi, alpha_bar)

    denoiser = ReverseDiffusion(FIELD, Counted(ExactMean(FIELD)), 6, method)
    x = jax.jit(denoiser.draw)(jax.random.key(0), jnp.ones((16, 16)), jnp.asarray(0.0), jnp.asarray(0.1))
    jax.block_until_ready(x)
    jax.effects_barrier()
    assert len(count) == denoiser.evaluations == (6 if method == "ancestral" else 11)
    assert WienerDenoiser(FIELD).evaluations == 0


@pytest.fixture(scope="module")
def quick():
    return train(FIELD, QUICK)


def test_a_short_training_comes_near_the_optimum(quick):
    """Within 15 % of the smallest squared error; untrained it is several times that."""
    phi, level = map(jnp.ravel, jnp.meshgrid(jnp.array([-0.8, 0.0, 0.8]), jnp.array([0.01, 0.1, 0.3])))
    excess = jax.jit(lambda phi, level: excess_loss(quick, FIELD, phi, level, jax.random.key(7), 32))
    assert max(float(excess(*pair)) for pair in zip(phi, level, strict=True)) < 0.15


def test_the_exact_mean_has_no_excess():
    @jax.jit
    def excess(factor):
        def mean(x_t, phi, alpha_bar):
            return factor * ExactMean(FIELD)(x_t, phi, alpha_bar)

        return excess_loss(mean, FIELD, jnp.asarray(0.5), jnp.asarray(0.2), jax.random.key(0), 8)

    assert float(excess(1.0)) < 1e-20
    assert float(excess(0.9)) > 0.01


def test_networks_are_kept_in_files(quick, tmp_path):
    path = tmp_path / "network.eqx"
    save(path, quick)
    again = load(path, FIELD, QUICK)
    assert eqx.tree_equal(quick.network, again.network)
    y = FIELD.simulate(jax.random.key(0)).y
    phi, alpha_bar = jnp.asarray(0.2), jnp.asarray(0.99)
    before, after = jax.jit(lambda *at: (quick(*at), again(*at)))(y, phi, alpha_bar)
    assert np.array_equal(before, after)
    with pytest.raises(RuntimeError):
        load(path, FIELD, Training(hidden=8))


@pytest.mark.parametrize("options", [{"steps": 0}, {"method": "euler"}])
def test_wrong_settings_of_a_chain(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ReverseDiffusion(FIELD, ExactMean(FIELD), **options)


@pytest.mark.parametrize("options", [{"beta_min": 0.0}, {"beta_max": 0.05}])
def test_wrong_settings_of_a_schedule(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Schedule(**options)
