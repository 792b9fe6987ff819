"""SGHMC, SGNHT and preconditioned SGLD have the stationary laws that their docstrings state.

On a Gaussian with curvature 1 and gradients with normal noise of variance V. Every chain gives one mean of
θ²; the chains are independent, so that the standard error is that of their mean.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models.factorization import factorized_target
from essper.samplers import Budget, sgnht
from essper.samplers.preconditioned_sgld import Preconditioned, PreconditionedSGLD, Squares
from essper.samplers.sghmc import SGHMC, Underdamped
from essper.samplers.sgld import SGLD
from essper.samplers.sgnht import SGNHT, NoseHoover
from essper.samplers.stochastic import Gradients, Schedule, Step
from essper.samplers.stochastic.start import step_size_for
from scipy.linalg import solve_discrete_lyapunov


@dataclass(frozen=True)
class Variances:
    """Means of θ² of independent chains, ``f[setting, chain]``."""

    of_chains: np.ndarray

    def z(self, predicted) -> np.ndarray:
        """Of each setting."""
        error = self.of_chains.std(axis=1, ddof=1) / np.sqrt(self.of_chains.shape[1])
        return (self.of_chains.mean(axis=1) - np.asarray(predicted)) / error


def stationary(
    make: Any, settings: list[tuple], *, steps=5000, burn_in=1000, chains=200, dim=1, begin=None
) -> Variances:
    """What ``make(parameter)`` makes of a Gaussian, at settings (parameter, h, V, T); compiled once.

    ``begin`` changes the integrator's state at the start.
    """

    def chain(setting, key):
        parameter, size, noise, temperature = setting
        dynamics, how = make(parameter), Step(size, jnp.ones(()), temperature)
        first, second, key = jax.random.split(key, 3)
        position = jnp.sqrt(temperature) * jax.random.normal(first, (dim,))
        state = dynamics.start(second, position)
        state = state if begin is None else begin(state)

        def step(number, carry):
            state, position, total = carry
            rows, moves = jax.random.split(jax.random.fold_in(key, number))
            error = jnp.sqrt(noise) * jax.random.normal(rows, (dim,))
            state, position = dynamics.step(moves, state, position, lambda x: error - x, how)
            return state, position, total + (number >= burn_in) * jnp.mean(position**2)

        return jax.lax.fori_loop(0, burn_in + steps, step, (state, position, 0.0))[2] / steps

    keys = jax.random.split(jax.random.key(0), chains)
    run = jax.jit(jax.vmap(jax.vmap(chain, (None, 0)), (0, None)))
    return Variances(np.asarray(run(tuple(map(jnp.asarray, zip(*settings, strict=True))), keys)))


# -- SGHMC ----------------------------------------------------------------------------------------


def sghmc_variance(friction, size, noise, temperature=1.0) -> float:
    """Of θ, from the recurrence of (θ, v) on a Gaussian of curvature 1."""
    step = np.array([[1 - size, 1 - friction], [-size, 1 - friction]])
    kick = size**2 * noise + 2 * friction * size * temperature
    return solve_discrete_lyapunov(step, kick * np.ones((2, 2)))[0, 0]


def stated_variance(friction, size, noise, temperature=1.0) -> float:
    """Of θ, as `sghmc` says."""
    return (2 * temperature + size * noise / friction) / (2 - size / (2 - friction))


SGHMC_SETTINGS = [
    (0.1, 0.05, 0.0, 1.0),
    (0.1, 0.02, 10.0, 1.0),
    (0.3, 0.5, 1.0, 1.0),
    (0.3, 0.05, 20.0, 2.0),
    (1.0, 0.1, 5.0, 1.0),
    (0.05, 0.3, 0.2, 0.5),
]


def test_sghmc_variance_in_closed_form():
    for setting in SGHMC_SETTINGS:
        np.testing.assert_allclose(stated_variance(*setting), sghmc_variance(*setting), rtol=1e-12)


def test_sghmc_has_the_variance_of_its_recurrence():
    found = stationary(Underdamped, SGHMC_SETTINGS, chains=100)
    assert np.abs(found.z([sghmc_variance(*setting) for setting in SGHMC_SETTINGS])).max() < 4
    # Not SGLD's: the noise counts 1/α times.
    assert np.abs(found.z([sghmc_variance(1.0, *rest) for _, *rest in SGHMC_SETTINGS])).max() > 20


def test_sghmc_with_noise_of_another_friction_has_not():
    """√(2hT) ξ instead of √(2αhT) ξ, as T/α for T makes it."""
    wrong = [(a, h, noise, t / a) for a, h, noise, t in SGHMC_SETTINGS if a < 1]
    right = [sghmc_variance(a, h, noise, t * a) for a, h, noise, t in wrong]
    assert np.abs(stationary(Underdamped, wrong, steps=1000).z(right)).min() > 5


ROWS = np.random.default_rng(0).normal(size=200)


@cache
def gaussian_mean():
    """The mean of a normal distribution with variance 1; a wide prior."""
    return factorized_target(
        "mean of a normal", 1, lambda x: -0.5 * (x @ x) / 100, lambda x, row: -0.5 * (row - x[0]) ** 2, ROWS
    )


CURVATURE = len(ROWS) + 0.01
CENTRE = ROWS.sum() / CURVATURE


def variances_of_run(sampler, chains: int) -> Variances:
    """In units of the posterior's, from a run with minibatches."""
    run = sampler.run(jax.random.key(0), gaussian_mean(), Budget(400), chains=chains)
    return Variances(CURVATURE * ((run.draws[..., 0] - CENTRE) ** 2).mean(axis=1)[None])


def test_sghmc_on_minibatches():
    batch, scaled_size = 10, 0.05
    noise = len(ROWS) ** 2 / batch * ROWS.var() / CURVATURE
    sampler = SGHMC(
        Gradients(batch=batch),
        Schedule(step_size=scaled_size / CURVATURE, draws=500, start="random"),
        friction=0.3,
    )
    found = variances_of_run(sampler, 100)
    assert abs(found.z(sghmc_variance(0.3, scaled_size, noise))) < 4
    assert abs(found.z(1.0)) > 5


def test_sghmc_without_memory_is_sgld():
    settings = Gradients(batch=10), Schedule(step_size=1e-4, draws=50, start="random")
    runs = [
        sampler.run(jax.random.key(3), gaussian_mean(), Budget(100), chains=3)
        for sampler in (SGLD(*settings), SGHMC(*settings, friction=1.0))
    ]
    np.testing.assert_allclose(runs[0].draws, runs[1].draws, rtol=1e-10)


@pytest.mark.parametrize("noise", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("friction", [0.05, 0.3, 1.0])
def test_step_size_by_rule_inflates_no_more_than_sglds(friction, noise):
    size = float(step_size_for(jnp.ones(()), noise, 0.1))
    assert sghmc_variance(1.0, size, noise) == pytest.approx(1.1)
    own = float(SGHMC(friction=friction).first_step_size(jnp.asarray(size)))
    assert 1 < sghmc_variance(friction, own, noise) < 1.1 + 1e-9
    assert sghmc_variance(friction, own, noise) > 1.1 - 0.12 / (1 + noise)


# -- SGNHT ----------------------------------------------------------------------------------------

SGNHT_SETTINGS = [
    (0.1, 0.01, 0.0, 1.0),
    (0.1, 0.01, 50.0, 1.0),
    (0.1, 0.01, 100.0, 2.0),
    (0.2, 0.02, 30.0, 1.0),
]


def test_sgnht_finds_the_temperature_under_noise_that_it_is_not_told():
    found = stationary(NoseHoover, SGNHT_SETTINGS, dim=10, chains=60)
    assert np.abs(found.z([t for *_, t in SGNHT_SETTINGS])).max() < 4
    assert np.abs(found.z([(1 - (a + h * v / t / 2) / 2) * t for a, h, v, t in SGNHT_SETTINGS])).min() > 5


def test_sgnht_whose_thermostat_does_not_respond_does_not(monkeypatch):
    monkeypatch.setattr(sgnht, "RESPONSE", 0.0)
    found = stationary(NoseHoover, SGNHT_SETTINGS, dim=10, chains=60, steps=2000)
    assert np.abs(found.z([sghmc_variance(*setting) for setting in SGNHT_SETTINGS])).max() < 4
    assert np.abs(found.z([t for *_, t in SGNHT_SETTINGS]))[1:].min() > 20


def test_sgnht_on_minibatches():
    settings = (
        Gradients(batch=10),
        Schedule(step_size=0.01 / CURVATURE, draws=500, burn_in=0.4, start="random"),
    )
    assert abs(variances_of_run(SGNHT(*settings), 100).z(1.0)) < 4
    assert abs(variances_of_run(SGHMC(*settings), 100).z(1.0)) > 5


# -- preconditioned SGLD --------------------------------------------------------------------------

HALF_NORMAL = np.sqrt(2 / np.pi)
"""E|θ| of a standard normal."""


def settled(state: Squares) -> Squares:
    """With s = 1, as if the first steps were over."""
    return state._replace(number=jnp.int32(10_000), square=jnp.ones_like(state.square), scale=jnp.ones(()))


SIZE = 0.005
TEMPERATURES = np.array([1.0, 2.0, 1.0])
PSGLD_SETTINGS = [
    ((0.0, 1.0), SIZE, 0.0, TEMPERATURES[0]),
    ((0.0, 1.0), SIZE, 0.0, TEMPERATURES[1]),
    ((0.8, 0.2), SIZE, 1.0, TEMPERATURES[2]),
]
"""((α, δ), h, V, T): exact gradients without memory twice, and noisy ones with it."""


def psgld_variances(correction: bool) -> Variances:
    return stationary(
        lambda parameter: Preconditioned(parameter[0], parameter[1], correction),
        PSGLD_SETTINGS,
        chains=250,
        begin=settled,
    )


def test_psgld_with_its_drift_has_the_right_variance():
    assert np.abs(psgld_variances(True).z(TEMPERATURES)).max() < 4


def test_psgld_without_its_drift_has_the_wrong_one():
    """p/G where G ∝ 1/(|θ| + δ) with δ = 1: gradients are exact and forgotten at once."""
    found = psgld_variances(False)
    mean = HALF_NORMAL * np.sqrt(TEMPERATURES)  # of |θ|; E|θ|³ is 2T times it
    without = TEMPERATURES * (1 + 2 * mean) / (1 + mean)
    assert np.abs(found.z(without))[:2].max() < 4
    assert np.abs(found.z(TEMPERATURES)).min() > 10


def frozen(dynamics: Preconditioned, key, position, hessian) -> Squares:
    """The state after some steps of size 0, which do not move the position."""
    how = Step(jnp.zeros(()), jnp.ones(()), jnp.ones(()))
    state = settled(dynamics.start(key, position))

    def step(number, state):
        error = jax.random.normal(jax.random.fold_in(jax.random.key(9), number), position.shape)
        moves = jax.random.fold_in(key, number)
        return dynamics.step(moves, state, position, lambda x: error - hessian @ jnp.sinh(x), how)[0]

    return jax.lax.fori_loop(0, 5, step, state)


def test_psgld_drift_is_the_derivative_of_its_metric():
    """Along the path of the same minibatches: exactly in one dimension, on average in several."""
    dynamics = Preconditioned(0.8, 0.3, True)

    def metric(position, hessian):
        return dynamics.metric(frozen(dynamics, jax.random.key(0), position, hessian))[0]

    one = jnp.array([0.7]), 2 * jnp.eye(1)
    drift = dynamics.metric(frozen(dynamics, jax.random.key(0), *one))[1]
    slope = jax.jit(jax.jacfwd(metric))
    np.testing.assert_allclose(drift, slope(*one)[0], rtol=1e-9)

    hessian = jnp.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.7], [0.0, -0.7, 3.0]])
    position = jnp.array([0.7, -0.4, 0.2])
    keys = jax.random.split(jax.random.key(2), 4000)
    drifts = jax.jit(jax.vmap(lambda key: dynamics.metric(frozen(dynamics, key, position, hessian))[1]))(keys)
    drifts, right = np.asarray(drifts), np.diagonal(slope(position, hessian))
    error = drifts.std(axis=0) / np.sqrt(len(drifts))
    assert (error > 0).all()
    assert np.abs((drifts.mean(axis=0) - right) / error).max() < 4


def test_psgld_counts_the_product_with_the_hessian():
    settings = Gradients(batch=10), Schedule(step_size=1e-4, draws=100, start="random")
    runs = [
        PreconditionedSGLD(*settings, drift_correction=correction).run(
            jax.random.key(0), gaussian_mean(), Budget(200), chains=2
        )
        for correction in (True, False)
    ]
    for run in runs:
        spent = run.equivalents(run.warmup) + run.equivalents(run.sampling)
        assert (spent <= 200).all()
        assert (spent > 150).all()
    steps = [
        run.info.cost.datum_gradients[0, 0] / (10 * cost) for run, cost in zip(runs, (2, 1), strict=True)
    ]
    assert steps[0] == int(steps[0])
    assert steps[1] == pytest.approx(2 * steps[0], abs=1)


def test_psgld_metric_is_one_at_first_and_follows_the_scales():
    """Standard deviations of gradients of 1 and 100: G is about 1 where they are largest, and 100."""
    dynamics, how = Preconditioned(0.9, 0.001, False), Step(*map(jnp.asarray, (1e-9, 1.0, 1.0)))

    def step(state, key):
        error = jnp.array([100.0, 1.0]) * jax.random.normal(key, (2,))
        metric = dynamics.metric(state)[0]
        return dynamics.step(key, state, jnp.zeros(2), lambda x: error, how)[0], metric

    start = dynamics.start(jax.random.key(0), jnp.zeros(2))
    metrics = np.asarray(jax.lax.scan(step, start, jax.random.split(jax.random.key(1), 2000))[1])
    np.testing.assert_array_equal(metrics[:100], 1)
    first, second = np.median(metrics[100:], axis=0)
    assert 0.8 < first < 1.3
    assert 70 < second < 130


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGHMC(friction=0.0), "friction=0.0"),
        (lambda: SGNHT(diffusion=2.0), "diffusion=2.0"),
        (lambda: PreconditionedSGLD(averaging=1.0), "averaging=1.0"),
        (lambda: PreconditionedSGLD(damping=0.0), "damping=0.0"),
        (lambda: PreconditionedSGLD(Gradients(estimator="svrg")), "drift_correction=false"),
    ],
)
def test_settings_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_svrg_without_the_drift():
    gradients = Gradients(batch=10, estimator="svrg")
    sampler = PreconditionedSGLD(
        gradients, Schedule(step_size=1e-4, draws=20, start="random"), drift_correction=False
    )
    run = sampler.run(jax.random.key(0), gaussian_mean(), Budget(200), chains=2)
    assert np.isfinite(run.draws).all()
