"""Rules for the integration time: closed forms on Gaussians, and what a pilot costs."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import correlated_gaussian, from_log_density, standard_gaussian
from essper.samplers import HMC, Budget, DelayedRejectionHMC, TrajectoryLength, WindowedAdaptation
from essper.samplers.adaptation import Tuning, shared_tuning
from essper.samplers.metrics import make_metric
from essper.samplers.trajectory_time import LongestScale, quarter_period, start_scale, update_scale
from stan_programs import rejecting_posterior

DIM = 6
ROOT = (
    np.diag([1.0, 1.0, 2.0, 1.0, 1.0, 1.0])
    @ np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, DIM)))[0]
)


def followed(metric, points) -> LongestScale:
    state = start_scale(points.shape[-1], jnp.float64)
    return jax.lax.scan(lambda s, x: (update_scale(s, metric, x), None), state, jnp.asarray(points))[0]


def normals(n, chains, dim=DIM):
    return np.random.default_rng(1).normal(size=(n, chains, dim))


@pytest.mark.parametrize("chains", [1, 4])
def test_longest_scale_is_the_first_principal_component(chains):
    state = followed(make_metric(jnp.ones(DIM)), normals(2000, chains) @ ROOT)
    axis = np.asarray(state.axis) / np.linalg.norm(state.axis)
    assert abs(axis @ ROOT[2] / 2) > 0.99
    np.testing.assert_allclose(state.variance, 4.0, rtol=0.2)
    np.testing.assert_allclose(quarter_period(state, 1.5), 1.5 * np.sqrt(state.variance))


@pytest.mark.parametrize("dense", [False, True])
def test_longest_scale_is_in_the_units_of_the_metric(dense):
    # The same draws in other units, and the metric with them.
    units = np.array([1e-3, 1.0, 50.0, 1.0, 1.0, 7.0])
    shape = jnp.eye(DIM) if dense else jnp.ones(DIM)
    scaled = make_metric(jnp.diag(jnp.asarray(units**2)) if dense else jnp.asarray(units**2))
    points = normals(500, 2) @ ROOT
    plain, rescaled = followed(make_metric(shape), points), followed(scaled, points * units)
    np.testing.assert_allclose(rescaled.variance, plain.variance, rtol=1e-9)
    np.testing.assert_allclose(rescaled.axis, plain.axis * units, rtol=1e-7, atol=1e-9)


def test_dense_metric_that_is_right_leaves_no_scale():
    points = normals(2000, 2) @ ROOT
    state = followed(make_metric(jnp.asarray(ROOT.T @ ROOT)), points)
    np.testing.assert_allclose(state.variance, 1.0, atol=0.15)


def test_noise_of_many_dimensions_is_no_scale():
    # The largest eigenvalue of the sample covariance would be near (1 + √(100/300))² = 2.5.
    points = normals(300, 1, 100)
    assert np.linalg.eigvalsh(np.cov(points[:, 0].T))[-1] > 2
    state = followed(make_metric(jnp.ones(100)), points)
    np.testing.assert_allclose(state.variance, 1.0, atol=0.3)


def test_no_position_yet_or_none_that_is_finite():
    start = start_scale(3, jnp.float64)
    assert float(quarter_period(start, 1.5)) == 1.5
    metric = make_metric(jnp.ones(3))
    for bad in (jnp.full((2, 3), jnp.nan), jnp.full((2, 3), 1e200)):
        state = update_scale(update_scale(start, metric, jnp.ones((2, 3))), metric, bad)
        assert np.isfinite(np.asarray(state.axis)).all()
        assert np.isfinite(float(quarter_period(state, 1.5)))
    still = followed(metric, np.zeros((50, 2, 3)))  # never moved
    assert float(quarter_period(still, 1.5)) == 1.5


def test_found_time_takes_the_place_of_the_fixed_one():
    length = TrajectoryLength(integration_time=1.0, jitter=0.0)
    assert int(length.steps(jnp.int32(0), jnp.float64(0.1))) == 10
    assert int(length.steps(jnp.int32(0), jnp.float64(0.1), jnp.float64(2.5))) == 25
    steps = TrajectoryLength(num_integration_steps=4, jitter=0.0)
    assert steps.finds == "fixed"
    assert int(steps.steps(jnp.int32(0), jnp.float64(0.1))) == 4
    with pytest.raises(ValueError, match="rule='chees'"):
        TrajectoryLength(rule="chees")  # pyright: ignore[reportArgumentType]


def test_chains_share_the_median_time():
    metric = make_metric(jnp.ones(2))
    tunings = [Tuning(jnp.float64(0.1), metric, jnp.float64(time)) for time in (1.0, 2.0, 90.0)]
    shared = shared_tuning(tunings)
    assert shared.integration_time is not None
    assert float(shared.integration_time) == 2.0
    assert shared_tuning([Tuning(jnp.float64(0.1), metric)]).integration_time is None


@pytest.mark.parametrize("rule", ["fixed", "scale"])
def test_time_found_for_a_correlated_gaussian(rule):
    # Unit variances, all correlations 0.9: in the units of the Fisher metric the longest scale is
    # √(λ₁ / M⁻¹) with λ₁ = 1 + 9 · 0.9 and M⁻¹ = 1/√(Σ⁻¹)ᵢᵢ.
    target = correlated_gaussian(10, 0.9, structure="equicorrelated")
    covariance = np.full((10, 10), 0.9) + 0.1 * np.eye(10)
    longest = np.sqrt((1 + 9 * 0.9) * np.sqrt(np.linalg.inv(covariance)[0, 0]))
    sampler = HMC(trajectory=TrajectoryLength(rule=rule))
    run = sampler.run(jax.random.key(0), target, Budget(25_000), chains=4)
    if rule == "fixed":
        assert "integration_time" not in run.tuning
    else:
        # The variance is taken over 311 steps of 4 chains. Weights ∝ s² leave 5/9 of them; lengths jittered
        # over (0.4, 1.6) quarter periods, four of five accepted, leave squares that correlate by 0.4, thus
        # 1/2.3 of those: 300 draws, whose standard deviation is good to 1/√600 = 4 %. Five of these.
        np.testing.assert_allclose(run.tuning["integration_time"], np.pi / 2 * longest, rtol=0.2)


ACCOUNTED = {
    "HMC nuts": HMC(trajectory=TrajectoryLength(rule="nuts", max_num_integration_steps=15)),
    "DR-HMC nuts": DelayedRejectionHMC(
        stages=2, trajectory=TrajectoryLength(rule="nuts", max_num_integration_steps=15)
    ),
}


@pytest.mark.parametrize("name", ACCOUNTED)
def test_pilot_is_accounted_for(name):
    target, sampler = rejecting_posterior(), ACCOUNTED[name]
    run = sampler.run(jax.random.key(0), target, Budget(1500), chains=3)
    assert run.executed is not None
    spent = np.asarray(run.warmup.gradients) + np.asarray(run.sampling.gradients)
    assert run.executed.gradients == spent.sum()
    # The pilot's last trajectory or the last step may begin with one gradient left; a step of two
    # stages costs at most three trajectories.
    assert (run.warmup.gradients < 750 + 3 * 15 + 101).all()
    assert np.isfinite(run.tuning["integration_time"])
    again = sampler.run(jax.random.key(0), target, Budget(1500), chains=3)
    assert again.draws.tobytes() == run.draws.tobytes()


def test_pilot_without_a_budget_is_left_out():
    adaptation = WindowedAdaptation(budget_fraction=0.01)
    sampler = replace(ACCOUNTED["HMC nuts"], adaptation=adaptation)
    run = sampler.run(jax.random.key(0), standard_gaussian(2), Budget(600), chains=2)
    assert "integration_time" not in run.tuning


NOTHING_TO_ADAPT = WindowedAdaptation(metric="identity", step_size=0.25)


@pytest.mark.parametrize(
    "adaptation",
    [NOTHING_TO_ADAPT, WindowedAdaptation(num_warmup=19), WindowedAdaptation(num_warmup=0)],
    ids=["nothing to adapt", "too few steps for a window", "no warmup"],
)
def test_scale_that_is_not_looked_for_is_not_found(adaptation):
    # The time of the configuration serves, as it does by the rule "fixed": of a scale of 1.
    runs = [
        HMC(trajectory=TrajectoryLength(integration_time=1.1, rule=rule), adaptation=adaptation).run(
            jax.random.key(0), correlated_gaussian(3, 0.9), Budget(600), chains=2
        )
        for rule in ("scale", "fixed")
    ]
    assert all("integration_time" not in run.tuning for run in runs)
    np.testing.assert_array_equal(runs[0].draws, runs[1].draws)
    np.testing.assert_array_equal(runs[0].warmup.gradients, runs[1].warmup.gradients)


@pytest.mark.parametrize(("sd", "step_size", "steps"), [(1.0, 0.3, 15), (1.0, 0.5, 7), (3.0, 0.9, 15)])
def test_pilot_finds_half_a_period(sd, step_size, steps):
    # On an isotropic Gaussian of many dimensions the product of the momentum at an end with the sum of all
    # momenta is as sin of the angle, wherever a trajectory begins: NUTS stops with the first of its
    # 1, 3, 7, … steps that reach π sd.
    target = from_log_density(f"isotropic {sd}", 100, lambda x: -0.5 * jnp.sum((x / sd) ** 2))
    adaptation = WindowedAdaptation(metric="identity", step_size=step_size)
    sampler = HMC(trajectory=TrajectoryLength(rule="nuts"), adaptation=adaptation)
    run = sampler.run(jax.random.key(0), target, Budget(6000), chains=2)
    assert (steps - 1) // 2 * step_size < np.pi * sd < steps * step_size
    np.testing.assert_allclose(run.tuning["integration_time"], steps * step_size, rtol=1e-12)


@pytest.mark.parametrize(
    "settings",
    [{}, {"metric": "identity"}, {"schedule": "stan", "estimator": "variance"}, {"schedule": "stan"}],
    ids=["default", "identity", "Stan", "Stan with gradients"],
)
def test_the_scale_is_about_the_mean_wherever_that_is(settings):
    # Deviations from 0 instead would find a scale of 50 and more.
    away = from_log_density("away", 2, lambda x: -0.5 * jnp.sum((x - 50.0) ** 2))
    sampler = HMC(adaptation=WindowedAdaptation(num_warmup=400, **settings))
    run = sampler.run(jax.random.key(0), away, Budget(20_000), chains=2)
    assert 1.5 < run.tuning["integration_time"] < 2.2
