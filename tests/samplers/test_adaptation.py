"""Warmup: the two schedules, dual averaging, what is shared by chains; and what it spends is bounded."""

from dataclasses import replace

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
    settle,
    shared_tuning,
)
from essper.samplers.base import Kernel
from essper.samplers.mass_matrix import (
    regularized_variance,
    start_moments,
    start_welford,
    update_moments,
    update_welford,
)
from essper.samplers.metrics import make_metric
from essper.samplers.schedules import overlapping_windows, stan_windows
from essper.samplers.step_size import reasonable_step_size, start_averaging, update_averaging

STAN = WindowedAdaptation(num_warmup=1000, schedule="stan", estimator="variance")


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


@pytest.mark.parametrize("num_warmup", [20, 30, 100, 500, 1000])
def test_overlapping_windows(num_warmup):
    windows = overlapping_windows(num_warmup)
    ends = windows.ends
    assert windows.slow_start == 0
    assert windows.final_start == num_warmup - round(0.15 * num_warmup) == ends[-1]
    assert 10 <= ends[0] < 10 * 1.5**2
    np.testing.assert_allclose(ends[1:] / ends[:-1], 1.5, rtol=0.1)  # rounded down


def test_overlapping_windows_without_room():
    assert overlapping_windows(19).ends.tolist() == []
    assert overlapping_windows(19).final_start == 0


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
    positions = scale * jax.random.normal(jax.random.key(0), (3, 5))
    metric = make_metric(jnp.ones(5))
    step_size, spent = reasonable_step_size(
        jax.random.key(1), target.density, positions, jnp.float64(1.0), metric
    )
    assert 0.1 < float(step_size) / scale < 4
    # one evaluation at the start, then one for each power of two on the way and for the crossing
    doublings = abs(np.log2(float(step_size)))
    assert doublings == round(doublings)
    assert int(spent) == 1 + doublings + 1


def test_evaluations_handed_on_are_not_paid_for_again():
    target = standard_gaussian(2)
    x = jnp.ones((2, 2))
    arguments = (jax.random.key(0), target.density, x, jnp.float64(1.0), make_metric(jnp.ones(2)))
    step_size, spent = reasonable_step_size(*arguments)
    again, less = reasonable_step_size(*arguments, evaluated=jax.vmap(target.value_and_grad)(x))
    assert (float(step_size), int(spent)) == (float(again), int(less) + 1)


DENSITY = standard_gaussian(3).density


def state_at(config, step, observations=(), gradients=None, closed=0):
    """Both of two overlapping windows have seen the same."""
    dense = config.metric == "dense"
    tuning = Tuning(jnp.float64(0.5), make_metric(jnp.eye(3) if dense else jnp.ones(3)))
    window = start_moments(3, dense, jnp.float64, gradients is not None)
    if len(observations):
        window = update_moments(window, jnp.asarray(observations), gradients)
    return AdaptationState(
        tuning,
        start_averaging(tuning.step_size),
        window,
        window if config.windows.overlapping else None,
        jnp.int32(step),
        jnp.int32(closed),
    )


def learn(config, state, position=0.0, progress=0.0):
    return adapt(
        config,
        jax.random.key(0),
        DENSITY,
        state,
        jnp.full((1, 3), position),
        None if state.window.gradients is None else jnp.full((1, 3), -position),
        jnp.array([0.7]),
        jnp.float64(progress),
    )


OBSERVATIONS = np.random.default_rng(2).normal(size=(30, 3)) * [1.0, 5.0, 0.2]


def test_metric_is_set_at_the_end_of_a_window_and_only_there():
    config = STAN
    before, spent = learn(config, state_at(config, 98, OBSERVATIONS))
    np.testing.assert_array_equal(before.tuning.metric.inverse_mass_matrix, np.ones(3))
    assert (int(spent), int(before.window.positions.observations), int(before.closed)) == (0, 31, 0)

    after, spent = learn(config, state_at(config, 99, OBSERVATIONS))
    taken = np.vstack([OBSERVATIONS, np.zeros(3)])
    expected = 31 / 36 * taken.var(axis=0, ddof=1) + 1e-3 * 5 / 36
    np.testing.assert_allclose(after.tuning.metric.inverse_mass_matrix, expected, rtol=1e-12)
    assert int(spent) >= 2  # a new first step size
    assert (int(after.window.positions.observations), int(after.closed), float(after.averaging.updates)) == (
        0,
        1,
        0,
    )


@pytest.mark.parametrize(("step", "observations"), [(74, 0), (75, 1), (949, 1), (950, 0)])
def test_positions_count_in_the_slow_phase_only(step, observations):
    config = STAN
    closed = int((stan_windows(1000).ends <= step).sum())
    state, _ = learn(config, state_at(config, step, closed=closed))
    assert int(state.window.positions.observations) == observations


def test_phases_follow_the_budget_where_steps_are_costly():
    config = STAN
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
    config = STAN
    state, spent = learn(config, state_at(config, 99, OBSERVATIONS[:5]))
    assert (int(state.closed), int(state.window.positions.observations), int(spent)) == (0, 6, 0)


@pytest.mark.parametrize("metric", ["diagonal", "dense"])
def test_covariance_without_a_factor_leaves_the_metric_as_it_was(metric):
    # Here the covariance overflows. Momenta would be NaN for the rest of the run.
    config = replace(STAN, metric=metric)
    state, _ = learn(config, state_at(config, 99, 1e200 * OBSERVATIONS))
    assert int(state.closed) == 1
    np.testing.assert_array_equal(state.tuning.metric.factor, state_at(config, 0).tuning.metric.factor)
    assert np.isfinite(state.tuning.step_size)


def test_indefinite_covariance_leaves_the_metric_as_it_was():
    # Of rank one but for rounding, which makes an eigenvalue negative: Cholesky's answer is NaN.
    config = replace(STAN, metric="dense")
    observations = np.outer(OBSERVATIONS[:, 0], [1e12, 3e12, 7e12])
    covariance = regularized_variance(
        state_at(config, 99, np.vstack([observations, np.zeros(3)])).window.positions
    )
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
    config = STAN
    state, _ = learn(config, state_at(config, 10))
    np.testing.assert_allclose(
        finish_adaptation(config, state).step_size, np.exp(state.averaging.log_averaged)
    )
    assert float(finish_adaptation(config, state_at(config, 10)).step_size) == 0.5  # nothing averaged yet


GRADIENTS = -OBSERVATIONS / np.array([1.0, 25.0, 0.04])
OVERLAPPING = WindowedAdaptation(num_warmup=1000)
END = int(overlapping_windows(1000).ends[4])


def test_overlapping_windows_succeed_each_other():
    # The window that ends was fed twice as long as its successor: 31 positions against 13.
    state = state_at(OVERLAPPING, END - 1, OBSERVATIONS, GRADIENTS, closed=4)
    short = update_moments(
        start_moments(3, False, jnp.float64, True),
        jnp.asarray(OBSERVATIONS[:12]),
        jnp.asarray(GRADIENTS[:12]),
    )
    before, spent = learn(OVERLAPPING, state._replace(step=jnp.int32(END - 2), next_window=short))
    np.testing.assert_array_equal(before.tuning.metric.inverse_mass_matrix, np.ones(3))
    assert (int(spent), int(before.closed)) == (0, 4)
    after, spent = learn(OVERLAPPING, state._replace(next_window=short))
    # Of a Gaussian with independent coordinates the Fisher metric is exact.
    np.testing.assert_allclose(after.tuning.metric.inverse_mass_matrix, [1.0, 25.0, 0.04], rtol=1e-10)
    assert int(spent) >= 2
    assert (int(after.closed), float(after.averaging.updates)) == (5, 0)
    assert after.next_window is not None
    assert int(after.window.positions.observations) == 13
    assert int(after.next_window.positions.observations) == 0


def test_successor_with_too_few_positions_waits():
    state = state_at(OVERLAPPING, END - 1, OBSERVATIONS, GRADIENTS, closed=4)
    empty = start_moments(3, False, jnp.float64, True)
    after, _ = learn(OVERLAPPING, state._replace(next_window=empty))
    assert after.next_window is not None
    assert int(after.closed) == 5
    assert int(after.window.positions.observations) == 31
    assert int(after.next_window.positions.observations) == 1


def test_coordinate_without_information_keeps_its_scale():
    # The first never moved; the log density is linear in the second.
    positions, gradients = OBSERVATIONS.copy(), GRADIENTS.copy()
    positions[:, 0], gradients[:, 1] = 0.0, 0.0
    state = state_at(OVERLAPPING, END - 1, positions, gradients, closed=4)
    after, _ = learn(OVERLAPPING, state)
    np.testing.assert_allclose(after.tuning.metric.inverse_mass_matrix, [1.0, 1.0, 0.04], rtol=1e-10)


@pytest.mark.parametrize("metric", ["diagonal", "dense"])
def test_moments_that_overflow_leave_the_metric_as_it_was(metric):
    config = replace(OVERLAPPING, metric=metric)
    state = state_at(config, END - 1, 1e200 * OBSERVATIONS, 1e200 * GRADIENTS, closed=4)
    after, _ = learn(config, state)
    np.testing.assert_array_equal(after.tuning.metric.factor, state.tuning.metric.factor)
    assert np.isfinite(after.tuning.step_size)


def test_groups_settle_on_one_metric_and_step_size():
    states = []
    for scale, step_size in ((1.0, 0.1), (4.0, 0.2), (400.0, 9.0)):
        state = state_at(OVERLAPPING, 850)
        tuning = Tuning(jnp.float64(step_size), make_metric(jnp.full(3, scale)))
        states.append(state._replace(tuning=tuning, averaging=start_averaging(tuning.step_size)))
    for state in settle(OVERLAPPING, states):
        np.testing.assert_array_equal(state.tuning.metric.inverse_mass_matrix, 4.0)
        np.testing.assert_allclose(state.tuning.step_size, 0.2)
        np.testing.assert_allclose(np.exp(state.averaging.log_step_size), 0.2)
    assert settle(STAN, states) == states
    shared = shared_tuning([state.tuning for state in states])
    np.testing.assert_array_equal(shared.metric.factor, 2.0)


def without_gradient(config):
    class Blind(HMC):
        def kernel(self, density, tuning) -> Kernel:
            return super().kernel(density, tuning)._replace(gradient=None)

    return Blind(trajectory=TrajectoryLength(max_num_integration_steps=16), adaptation=config)


def test_kernel_without_gradients_adapts_to_the_variance():
    target, results = ill_conditioned_gaussian(3, 100.0), []
    for estimator in ("auto", "variance"):
        sampler = without_gradient(WindowedAdaptation(estimator=estimator))
        results.append(sampler.run(jax.random.key(0), target, Budget(3000), chains=2))
    np.testing.assert_array_equal(results[0].draws, results[1].draws)
    sampler = without_gradient(WindowedAdaptation(estimator="fisher"))
    with pytest.raises(ValueError, match="estimator='fisher' needs the gradient"):
        sampler.run(jax.random.key(0), target, Budget(3000), chains=2)


VARIANCES = np.geomspace(1e-2, 1e2, 5)


@pytest.mark.parametrize(
    ("metric", "estimator", "tolerance"),
    [
        ("diagonal", "fisher", 1e-6),  # whatever the draws are
        ("dense", "fisher", 0.1),  # its correlations are shrunk
        ("diagonal", "variance", 0.35),
        ("dense", "variance", 0.35),
    ],
)
def test_metric_finds_the_variances(metric, estimator, tolerance):
    target = ill_conditioned_gaussian(5, 1e4)
    config = WindowedAdaptation(metric=metric, estimator=estimator)
    if estimator == "variance":
        config = replace(config, schedule="stan", num_warmup=1000)
    run = HMC(adaptation=config).run(jax.random.key(1), target, Budget(40_000), chains=4)
    inverse = run.tuning["inverse_mass_matrix"]
    found = np.diag(inverse) if metric == "dense" else inverse
    np.testing.assert_allclose(found, VARIANCES, rtol=tolerance)
    assert (run.warmup.gradients < 20_000 + 128 + 101).all()


@pytest.mark.parametrize(("sampler", "aim"), [(HMC(), 0.65), (NUTS(), 0.8)], ids=["HMC", "NUTS"])
def test_acceptance_in_sampling_is_what_was_aimed_at(sampler, aim):
    # Stan's schedule ends at 0.86 to 0.95 for 0.8.
    sampler = replace(sampler, adaptation=WindowedAdaptation(target_acceptance=aim))
    run = sampler.run(jax.random.key(2), ill_conditioned_gaussian(10, 100.0), Budget(15_000), chains=4)
    np.testing.assert_allclose(run.info.acceptance.mean(), aim, atol=0.07)


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
        ({"estimator": "hessian"}, "estimator='hessian'"),
        ({"schedule": "nutpie"}, "schedule='nutpie'"),
        ({"target_acceptance": 1.0}, r"target_acceptance=1\.0"),
        ({"budget_fraction": 1.0}, r"budget_fraction=1\.0"),
        ({"step_size": 0.0}, r"step_size=0\.0"),
        ({"num_warmup": -1}, "num_warmup=-1"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        WindowedAdaptation(**settings)
