"""Warmup is Stan's: its windows, its dual averaging, its metric; and what it spends is bounded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import from_log_density, ill_conditioned_gaussian, standard_gaussian
from essper.samplers import HMC, NUTS, Budget, TrajectoryLength, WindowedAdaptation
from essper.samplers.adaptation import (
    AdaptationState,
    Tuning,
    adapt,
    finish_adaptation,
    reasonable_step_size,
    regularized_variance,
    stan_windows,
    start_averaging,
    start_welford,
    update_averaging,
    update_welford,
)
from essper.samplers.metrics import make_metric


@pytest.mark.parametrize(
    ("num_warmup", "start", "ends"),
    [
        (1000, 75, [100, 150, 250, 450, 950]),
        (200, 75, [100, 150]),
        (199, 75, [100, 149]),  # the first window is never stretched
        (150, 75, [100]),
        (149, 22, [135]),
        (20, 3, [18]),
        (19, 19, []),
        (0, 0, []),
    ],
)
def test_windows(num_warmup, start, ends):
    windows = stan_windows(num_warmup)
    assert (windows.slow_start, windows.ends.tolist()) == (start, ends)


@pytest.mark.parametrize("dense", [False, True])
def test_welford_is_the_sample_covariance(dense):
    x = np.random.default_rng(0).normal(size=(7, 3, 4)) * [1.0, 10.0, 0.1, 3.0] + 100.0
    state = start_welford(4, dense, jnp.float64)
    for group in x:  # groups of three chains, one observation each
        state = update_welford(state, jnp.asarray(group))
    n = 21
    covariance = np.cov(x.reshape(n, 4).T)
    expected = n / (n + 5) * covariance + 1e-3 * 5 / (n + 5) * np.eye(4)
    np.testing.assert_allclose(state.mean, x.reshape(n, 4).mean(0), rtol=1e-13)
    got = np.asarray(regularized_variance(state))
    np.testing.assert_allclose(got, expected if dense else np.diag(expected), rtol=1e-9, atol=1e-12)


def test_dual_averaging_is_hoffman_and_gelmans():
    # eq. 6 in the paper's own variables, and algorithm 5's averaged iterate
    first, target, gamma, t0, kappa = 0.3, 0.8, 0.05, 10.0, 0.75
    mu, error, averaged = np.log(10 * first), 0.0, 0.0
    state = start_averaging(jnp.float64(first))
    acceptances = np.random.default_rng(1).uniform(size=50)
    for m, acceptance in enumerate(acceptances, start=1):
        error = (1 - 1 / (m + t0)) * error + (target - acceptance) / (m + t0)
        log_step = mu - np.sqrt(m) / gamma * error
        averaged = m**-kappa * log_step + (1 - m**-kappa) * averaged
        state = update_averaging(state, jnp.float64(acceptance), target)
        np.testing.assert_allclose(state.log_step_size, log_step, rtol=1e-12)
        np.testing.assert_allclose(state.log_averaged, averaged, rtol=1e-12)


def test_dual_averaging_finds_the_step_of_the_target_acceptance():
    state = start_averaging(jnp.float64(1.0))
    for _ in range(1000):
        state = update_averaging(state, jnp.exp(-jnp.exp(state.log_step_size)), 0.8)
    np.testing.assert_allclose(np.exp(state.log_averaged), -np.log(0.8), rtol=0.05)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_reasonable_step_size_follows_the_scale(scale):
    target = from_log_density(f"scale {scale}", 5, lambda x: -0.5 * jnp.sum((x / scale) ** 2))
    tuning = Tuning(jnp.float64(1.0), make_metric(jnp.ones(5)))
    positions = scale * jax.random.normal(jax.random.key(0), (3, 5))
    step_size, spent = reasonable_step_size(jax.random.key(1), target.density, positions, tuning)
    assert 0.1 < float(step_size) / scale < 4
    # one evaluation at the start, then one for each power of two on the way and for the crossing
    doublings = abs(np.log2(float(step_size)))
    assert doublings == round(doublings)
    assert int(spent) == 1 + doublings + 1


def test_evaluations_handed_on_are_not_paid_for_again():
    target = standard_gaussian(2)
    tuning = Tuning(jnp.float64(1.0), make_metric(jnp.ones(2)))
    x = jnp.ones((2, 2))
    arguments = (jax.random.key(0), target.density, x, tuning)
    step_size, spent = reasonable_step_size(*arguments)
    again, less = reasonable_step_size(*arguments, evaluated=jax.vmap(target.value_and_grad)(x))
    assert (float(step_size), int(spent)) == (float(again), int(less) + 1)


DENSITY = standard_gaussian(3).density


def state_at(config, step, observations=(), closed=0):
    tuning = Tuning(jnp.float64(0.5), make_metric(jnp.eye(3) if config.metric == "dense" else jnp.ones(3)))
    welford = start_welford(3, config.metric == "dense", jnp.float64)
    if len(observations):
        welford = update_welford(welford, jnp.asarray(observations))
    averaging = start_averaging(tuning.step_size)
    return AdaptationState(tuning, averaging, welford, jnp.int32(step), jnp.int32(closed))


def learn(config, state, position=0.0, progress=0.0):
    return adapt(
        config,
        jax.random.key(0),
        DENSITY,
        state,
        jnp.full((1, 3), position),
        jnp.array([0.7]),
        jnp.float64(progress),
    )


OBSERVATIONS = np.random.default_rng(2).normal(size=(30, 3)) * [1.0, 5.0, 0.2]


def test_metric_is_set_at_the_end_of_a_window_and_only_there():
    config = WindowedAdaptation()
    before, spent = learn(config, state_at(config, 98, OBSERVATIONS))
    np.testing.assert_array_equal(before.tuning.metric.inverse_mass_matrix, np.ones(3))
    assert (int(spent), int(before.welford.observations), int(before.closed)) == (0, 31, 0)

    after, spent = learn(config, state_at(config, 99, OBSERVATIONS))
    taken = np.vstack([OBSERVATIONS, np.zeros(3)])
    expected = 31 / 36 * taken.var(axis=0, ddof=1) + 1e-3 * 5 / 36
    np.testing.assert_allclose(after.tuning.metric.inverse_mass_matrix, expected, rtol=1e-12)
    assert int(spent) >= 2  # a new first step size
    assert (int(after.welford.observations), int(after.closed), float(after.averaging.updates)) == (0, 1, 0)


@pytest.mark.parametrize(("step", "observations"), [(74, 0), (75, 1), (949, 1), (950, 0)])
def test_positions_count_in_the_slow_phase_only(step, observations):
    config = WindowedAdaptation()
    closed = int((stan_windows(1000).ends <= step).sum())
    state, _ = learn(config, state_at(config, step, closed=closed))
    assert int(state.welford.observations) == observations


def test_phases_follow_the_budget_where_steps_are_costly():
    config = WindowedAdaptation()
    # The first 85 % of the budget are the 950 steps before the last phase: 0.3 · 950 / 0.85 = 335.
    state, _ = learn(config, state_at(config, 80, OBSERVATIONS), progress=0.3)
    assert (int(state.step), int(state.closed)) == (335, 3)
    state, _ = learn(config, state, progress=0.1)  # and never go back
    assert int(state.step) == 336
    # All windows are closed when 85 % are spent; the last phase goes step by step.
    state, _ = learn(config, state_at(config, 400, OBSERVATIONS, closed=3), progress=0.851)
    assert (int(state.step), int(state.closed)) == (950, 5)
    state, _ = learn(config, state, progress=0.99)
    assert int(state.step) == 951


def test_window_with_too_few_positions_stays_open():
    config = WindowedAdaptation()
    state, spent = learn(config, state_at(config, 99, OBSERVATIONS[:5]))
    assert (int(state.closed), int(state.welford.observations), int(spent)) == (0, 6, 0)


@pytest.mark.parametrize("metric", ["diagonal", "dense"])
def test_covariance_without_a_factor_leaves_the_metric_as_it_was(metric):
    # Here the covariance overflows. Momenta would be NaN for the rest of the run.
    config = WindowedAdaptation(metric=metric)
    state, _ = learn(config, state_at(config, 99, 1e200 * OBSERVATIONS))
    assert int(state.closed) == 1
    np.testing.assert_array_equal(state.tuning.metric.factor, state_at(config, 0).tuning.metric.factor)
    assert np.isfinite(state.tuning.step_size)


def test_indefinite_covariance_leaves_the_metric_as_it_was():
    # Of rank one but for rounding, which makes an eigenvalue negative: Cholesky's answer is NaN.
    config = WindowedAdaptation(metric="dense")
    observations = np.outer(OBSERVATIONS[:, 0], [1e12, 3e12, 7e12])
    covariance = regularized_variance(state_at(config, 99, np.vstack([observations, np.zeros(3)])).welford)
    assert np.isnan(np.asarray(make_metric(covariance).factor)).any()
    state, _ = learn(config, state_at(config, 99, observations))
    np.testing.assert_array_equal(state.tuning.metric.inverse_mass_matrix, np.eye(3))


def test_improper_posterior_neither_hangs_nor_gives_nan():
    target = from_log_density("level", 2, lambda x: 0.0 * x.sum())
    sampler = HMC(adaptation=WindowedAdaptation(num_warmup=500))
    run = sampler.run(jax.random.key(0), target, Budget(3000), chains=1)
    assert np.isfinite(run.draws).all()
    assert np.isfinite(run.info.acceptance).all()
    assert all(np.isfinite(leaf).all() for leaf in run.tuning.values())
    assert (run.info.cost.gradients > 0).all()


def test_averaged_step_size_is_what_sampling_uses():
    config = WindowedAdaptation()
    state, _ = learn(config, state_at(config, 10))
    np.testing.assert_allclose(
        finish_adaptation(config, state).step_size, np.exp(state.averaging.log_averaged)
    )
    assert float(finish_adaptation(config, state_at(config, 10)).step_size) == 0.5  # nothing averaged yet


VARIANCES = np.geomspace(1e-2, 1e2, 5)


@pytest.mark.parametrize("metric", ["diagonal", "dense"])
def test_metric_finds_the_variances(metric):
    target = ill_conditioned_gaussian(5, 1e4)
    config = WindowedAdaptation(metric=metric)
    run = HMC(adaptation=config).run(jax.random.key(1), target, Budget(60_000), chains=4)
    inverse = run.tuning["inverse_mass_matrix"].reshape(-1, *([5] * (1 + (metric == "dense"))))[0]
    found = np.diag(inverse) if metric == "dense" else inverse
    np.testing.assert_allclose(found, VARIANCES, rtol=0.35)
    np.testing.assert_allclose(run.info.acceptance.mean(), 0.8, atol=0.1)
    assert (run.warmup.gradients < 30_000 + 128 + 101).all()


def test_warmup_keeps_to_its_part_of_the_budget():
    config = WindowedAdaptation(budget_fraction=0.25)
    sampler = NUTS(max_num_doublings=5, adaptation=config)
    run = sampler.run(jax.random.key(2), ill_conditioned_gaussian(5, 1e4), Budget(4000), chains=3)
    assert (run.warmup.gradients >= 1000).all()
    assert (run.warmup.gradients < 1000 + 31 + 101).all()


def test_nothing_to_adapt_costs_nothing():
    config = WindowedAdaptation(metric="identity", step_size=0.25)
    sampler = HMC(trajectory=TrajectoryLength(num_integration_steps=4), adaptation=config)
    run = sampler.run(jax.random.key(3), standard_gaussian(2), Budget(200), chains=2)
    np.testing.assert_array_equal(
        run.warmup.gradients, 2
    )  # the first position, once to find and once to start
    np.testing.assert_array_equal(run.tuning["step_size"], 0.25)
    np.testing.assert_array_equal(run.tuning["inverse_mass_matrix"], 1.0)


def test_without_warmup_the_first_step_size_serves():
    config = WindowedAdaptation(num_warmup=0)
    run = HMC(adaptation=config).run(jax.random.key(4), standard_gaussian(2), Budget(200), chains=1)
    exponent = np.log2(run.tuning["step_size"])
    np.testing.assert_array_equal(exponent, np.round(exponent))
    assert (run.warmup.gradients < 10).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "full"}, "metric='full'"),
        ({"target_acceptance": 1.0}, r"target_acceptance=1\.0"),
        ({"budget_fraction": 1.0}, r"budget_fraction=1\.0"),
        ({"step_size": 0.0}, r"step_size=0\.0"),
        ({"num_warmup": -1}, "num_warmup=-1"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        WindowedAdaptation(**settings)
