"""Ensembles with a fixed tuning: what is counted, what is recorded, what is estimated."""

import threading
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.benchmarks.reproductions.ensemble import (
    Stopped,
    Trace,
    bulk_ess,
    chain_means,
    per_gradient,
    run_ensemble,
    stuck_chains,
)
from essper.models import funnel
from essper.samplers import HMC, DelayedRejectionHMC, TrajectoryLength
from essper.samplers.adaptation import Tuning
from essper.samplers.base import chain_keys
from essper.samplers.metrics import make_metric

TARGET = funnel(3)
STARTS = np.array([[0.0, 1.0, -1.0], [1.0, 0.5, 0.2], [-2.0, 0.1, 0.3]])
KEY = jax.random.key(5)
DR = DelayedRejectionHMC(stages=2, reduction=3.0, trajectory=TrajectoryLength(num_integration_steps=2))


def first(x: jax.Array) -> jax.Array:
    return x[:1]


def length(steps: int) -> TrajectoryLength:
    return TrajectoryLength(num_integration_steps=steps, jitter=0.0)


def by_hand(sampler, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """v and cumulative gradients of every chain, stepped one by one outside any loop."""
    tuning = Tuning(step_size=jnp.asarray(0.9), metric=make_metric(jnp.ones(3)))
    kernel = sampler.kernel(TARGET.density, tuning)
    step = jax.jit(kernel.step)
    values, gradients = [], []
    for key, start in zip(chain_keys(KEY, len(STARTS)), STARTS, strict=True):
        state, cost = kernel.init(jax.random.fold_in(key, 0), jnp.asarray(start))
        v, spent = [], [int(cost.gradients)]
        for i in range(steps):
            state, info = step(jax.random.fold_in(jax.random.fold_in(key, 1), i), state)
            v.append(float(kernel.position(state)[0]))
            spent.append(spent[-1] + int(info.cost.gradients))
        values.append(v)
        gradients.append(spent[1:])
    return np.array(values), np.array(gradients)


def test_hmc_costs_its_steps_and_every_chain_spends_its_gradients() -> None:
    trace = run_ensemble(
        HMC(trajectory=length(3)), TARGET, KEY, STARTS, step_size=0.1, gradients=50, observe=first
    )
    assert trace.values.shape == (3, 17, 1)  # 1 + 3 · 16 = 49 is not enough
    np.testing.assert_array_equal(trace.gradients, np.tile(1 + 3 * np.arange(1, 18), (3, 1)))


@pytest.mark.parametrize("sampler", [DR, HMC(trajectory=length(2))])
def test_draws_and_gradients_are_the_kernels_own(sampler) -> None:
    trace = run_ensemble(sampler, TARGET, KEY, STARTS, step_size=0.9, gradients=60, observe=first)
    draws = trace.values.shape[1]
    values, gradients = by_hand(sampler, draws)
    np.testing.assert_array_equal(trace.gradients, gradients)
    np.testing.assert_allclose(trace.values[:, :, 0], values, rtol=1e-12)
    assert gradients[:, -1].min() >= 60 > gradients[:, -2].min()


def test_thinned_draws_count_the_steps_between() -> None:
    every = run_ensemble(DR, TARGET, KEY, STARTS, step_size=0.9, gradients=100, observe=first)
    third = run_ensemble(DR, TARGET, KEY, STARTS, step_size=0.9, gradients=60, observe=first, thin=3)
    n = third.values.shape[1]
    np.testing.assert_array_equal(third.gradients, every.gradients[:, 2 : 3 * n : 3])
    np.testing.assert_array_equal(third.values, every.values[:, 2 : 3 * n : 3])


@dataclass(frozen=True)
class InLockstep:
    """A sampler whose chains are made to move together."""

    sampler: DelayedRejectionHMC
    equal_steps: ClassVar[bool] = True

    def kernel(self, density, tuning):
        return self.sampler.kernel(density, tuning)


def test_draws_do_not_depend_on_how_chains_are_executed() -> None:
    alone = run_ensemble(DR, TARGET, KEY, STARTS, step_size=0.9, gradients=80, observe=first)
    together = run_ensemble(InLockstep(DR), TARGET, KEY, STARTS, step_size=0.9, gradients=80, observe=first)
    np.testing.assert_array_equal(alone.gradients, together.gradients)
    np.testing.assert_allclose(alone.values, together.values, rtol=1e-10)


@pytest.mark.parametrize("sampler", [DR, InLockstep(DR)])
def test_means_are_of_the_draws_within_each_chains_budget(sampler) -> None:
    trace = run_ensemble(DR, TARGET, KEY, STARTS, step_size=0.9, gradients=200, observe=first)
    means, spent = chain_means(sampler, TARGET, KEY, STARTS, step_size=0.9, gradients=120, observe=first)
    for values, gradients, mean, total in zip(trace.values, trace.gradients, means, spent, strict=True):
        counted = np.concatenate([[1], gradients[:-1]]) < 120
        assert mean[0] == pytest.approx(values[counted, 0].mean(), rel=1e-10)
        assert total == gradients[counted][-1] >= 120


def test_the_first_part_is_dropped_by_gradients_and_counting_starts_again() -> None:
    gradients = np.array([[10, 20, 30, 40, 100], [30, 60, 90, 120, 300]])
    kept = Trace(np.arange(10.0).reshape(2, 5, 1), gradients).kept(0.2)
    np.testing.assert_array_equal(kept.values[:, :, 0], [[2, 3, 4], [7, 8, 9]])
    np.testing.assert_array_equal(kept.gradients, [[10, 20, 80], [30, 60, 240]])
    with pytest.raises(ValueError, match="give more gradients"):
        Trace(np.zeros((2, 1, 1)), np.full((2, 1), 50)).kept(0.2)


def test_ess_of_independent_draws_is_their_number_and_costs_all_chains_gradients() -> None:
    draws = np.random.default_rng(0).standard_normal((4, 500, 1))
    ess = bulk_ess(draws)
    assert 1500 < ess[0] < 2700
    trace = Trace(draws, np.tile(5 * np.arange(1, 501), (4, 1)))
    assert per_gradient(ess, trace)[0] == pytest.approx(1000 * ess[0] / (4 * 2500))


def test_an_indicator_may_be_constant_in_a_chain_that_moves_but_not_everywhere() -> None:
    draws = np.random.default_rng(1).standard_normal((4, 200, 1))
    tail = draws > 1.5
    tail[0] = False
    assert bulk_ess(tail)[0] > 0
    assert bulk_ess(np.zeros((4, 200, 1)))[0] == 0
    draws[2] = 7.0
    assert stuck_chains(draws) == 1


def test_a_run_can_be_stopped_and_wrong_starts_are_refused() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        run_ensemble(DR, TARGET, KEY, STARTS, step_size=0.9, gradients=80, observe=first, stop=stop)
    with pytest.raises(ValueError, match=r"needs \[chain, 3\]"):
        run_ensemble(DR, TARGET, KEY, STARTS[:, :2], step_size=0.9, gradients=80, observe=first)
