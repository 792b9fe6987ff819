"""Cyclical SGLD: its plan, the variance of its draws, and modes that SGLD does not visit."""

from dataclasses import dataclass, replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models.factorization import factorized_target
from essper.samplers import Budget, cyclical_sgld
from essper.samplers.cyclical_sgld import Cosine, CyclicalSGLD
from essper.samplers.sgld import SGLD
from essper.samplers.stochastic import Gradients, Schedule
from jax.scipy.special import logsumexp


def test_plan():
    sampler = CyclicalSGLD(schedule=Schedule(draws=7, burn_in=0.3), cycles=4, exploration=0.6)
    plan = sampler.plan(103)  # cycles of 25 steps, 15 of them exploration
    assert plan.burn_in == 30
    assert plan.steps == plan.kept[-1] <= 100
    assert len(plan.kept) == 7
    last = plan.kept - 1  # the step that made the draw
    assert (np.diff(plan.kept) > 0).all()
    assert (last >= 30).all()
    assert (last % 25 >= 15).all()
    assert set(last // 25) == {1, 2, 3}
    sizes, noise = jax.vmap(lambda k: plan.sizes(k, jnp.asarray(2.0)))(jnp.arange(100))
    np.testing.assert_allclose(sizes, 1 + np.cos(np.pi * (np.arange(100) % 25) / 25))
    np.testing.assert_array_equal(noise, np.arange(100) % 25 >= 15)


def test_more_cycles_than_steps_leave_no_draw():
    assert len(CyclicalSGLD(cycles=50).plan(40).kept) == 0
    assert len(CyclicalSGLD(cycles=1).plan(0).kept) == 0


def test_sampling_begins_with_the_step_size_of_sgld():
    for exploration in (0.0, 0.25, 0.8):
        sampler = CyclicalSGLD(exploration=exploration)
        largest = sampler.first_step_size(jnp.asarray(0.01))
        size, noise = Cosine(100, round(100 * exploration))(jnp.asarray(round(100 * exploration)), largest)
        assert (float(size), float(noise)) == (pytest.approx(0.01), 1.0)


ROWS = np.random.default_rng(0).normal(size=200)
CURVATURE = len(ROWS) + 0.01
CENTRE = ROWS.sum() / CURVATURE
BATCH = 10


@cache
def gaussian_mean():
    """The mean of a normal distribution with variance 1; a wide prior."""
    return factorized_target(
        "mean of a normal", 1, lambda x: -0.5 * (x @ x) / 100, lambda x, row: -0.5 * (row - x[0]) ** 2, ROWS
    )


def z_of_variance() -> float:
    """How far the mean of (θ − E θ)² over the draws is from the recurrence that `cyclical_sgld` states."""
    schedule = Schedule(step_size=0.1 / CURVATURE, draws=400, start="random")
    sampler = CyclicalSGLD(Gradients(batch=BATCH), schedule, cycles=40)
    budget, chains = 250, 200
    run = sampler.run(jax.random.key(0), gaussian_mean(), Budget(budget), chains=chains)
    of_chains = CURVATURE * ((run.draws[..., 0] - CENTRE) ** 2).mean(axis=1)

    plan = sampler.plan((budget - 1) * len(ROWS) // BATCH)  # the start has cost one gradient
    length = (budget - 1) * len(ROWS) // BATCH // sampler.cycles
    place = np.arange(plan.steps) % length
    sizes = 0.1 / CURVATURE / 2 * (1 + np.cos(np.pi * place / length))
    scatter = len(ROWS) ** 2 / BATCH * ROWS.var()  # variance of a gradient
    variance, predicted = 0.0, []  # where chains started is forgotten in the burn-in
    for size, noisy in zip(sizes, place >= length / 2, strict=True):
        variance = (1 - size * CURVATURE) ** 2 * variance + size**2 * scatter + 2 * size * noisy
        predicted.append(variance * CURVATURE)
    right = np.mean(np.asarray(predicted)[plan.kept - 1])
    assert run.draws.shape[1] == len(plan.kept)
    return float((of_chains.mean() - right) / (of_chains.std(ddof=1) / np.sqrt(chains)))


def test_variance_of_draws():
    assert abs(z_of_variance()) < 4


@dataclass(frozen=True)
class Noisy(Cosine):
    """Noise while exploring too."""

    def __call__(self, number, first):
        return super().__call__(number, first)[0], jnp.ones(())


def test_catches_noise_while_exploring(monkeypatch):
    monkeypatch.setattr(cyclical_sgld, "Cosine", Noisy)
    assert abs(z_of_variance()) > 10


APART = 10.0


@cache
def two_modes():
    """N(0, 1) and N(10, 1), half each; every row has its share of the whole log density."""

    def row(x, weight):
        return weight * logsumexp(-0.5 * (x[0] - jnp.array([0.0, APART])) ** 2)

    weights = np.random.default_rng(0).uniform(0.5, 1.5, 50)
    return factorized_target("two modes", 1, lambda x: 0.0 * x[0], row, weights / weights.sum())


def share_of_the_far_mode(sampler) -> np.ndarray:
    """Of every chain; all of them start at the other mode."""
    run = sampler.run(jax.random.key(1), two_modes(), Budget(800), chains=100)
    return (run.draws[..., 0] > APART / 2).mean(axis=1)


def test_visits_both_modes():
    settings = Gradients(batch=10), Schedule(step_size=2.0, start="random", burn_in=0.3)
    share = share_of_the_far_mode(CyclicalSGLD(*settings, cycles=25, exploration=0.25))
    error = share.std(ddof=1) / np.sqrt(len(share))
    assert error < 0.04
    assert abs(share.mean() - 0.5) < 4 * error
    assert (share > 0).mean() > 0.95
    # With the mean step size of its sampling parts most of SGLD's chains stay where they are.
    share = share_of_the_far_mode(SGLD(settings[0], replace(settings[1], step_size=0.7)))
    assert (share == 0).mean() > 0.5


def test_settings_that_make_no_sense():
    with pytest.raises(ValueError, match="cycles=0"):
        CyclicalSGLD(cycles=0)
    with pytest.raises(ValueError, match="exploration=1"):
        CyclicalSGLD(exploration=1.0)
    with pytest.raises(ValueError, match=r"decay=0\.5"):
        CyclicalSGLD(schedule=Schedule(decay=0.5))
