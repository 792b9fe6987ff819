"""blackjax's NUTS under our interface: what a step costs, and that it samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import standard_gaussian
from essper.samplers import NUTS, Budget
from essper.samplers.adaptation import Tuning
from essper.samplers.metrics import make_metric
from essper.samplers.peers.blackjax import GRADIENTS_PER_STEP, differentiable
from stan_programs import gaussian_posterior, rejecting_posterior


@pytest.mark.parametrize("integrator", GRADIENTS_PER_STEP)
def test_gradients_of_a_step_are_those_executed(integrator):
    target = rejecting_posterior()
    counter = target.counter
    assert counter is not None
    sampler = NUTS(max_num_doublings=6, integrator=integrator)
    kernel = sampler.kernel(target.density, Tuning(jnp.float64(0.3), make_metric(jnp.ones(3))))
    init, step = jax.jit(kernel.init), jax.jit(kernel.step)

    def executed(function, *arguments):
        before = counter.read()
        out = jax.block_until_ready(function(*arguments))
        after = counter.read()
        assert after.densities == before.densities
        return out, after.gradients - before.gradients

    (state, cost), gradients = executed(init, jax.random.key(0), jnp.zeros(3))
    assert (int(cost.gradients), gradients) == (1, 1)
    costs = set()
    for key in jax.random.split(jax.random.key(1), 50):
        (state, info), gradients = executed(step, key, state)
        assert int(info.cost.gradients) == gradients
        assert gradients == int(info.extra["num_integration_steps"]) * GRADIENTS_PER_STEP[integrator]
        costs.add(gradients)
    assert len(costs) > 2


def test_failed_evaluations_keep_their_contract_under_differentiation():
    log_density = differentiable(rejecting_posterior().density)
    value, gradient = jax.value_and_grad(log_density)(jnp.array([0.0, 0.0, 3.0]))
    assert float(value) == -np.inf
    np.testing.assert_array_equal(gradient, 0.0)


def test_moments_of_a_gaussian():
    run = NUTS().run(jax.random.key(3), gaussian_posterior(), Budget(20_000), chains=4)
    n, scales = run.draws.shape[1] * 4, np.array([1.0, 2.0, 3.0])
    assert n > 2000
    draws = run.draws.reshape(n, 3)
    # NUTS's draws of a Gaussian are nearly independent; twice the error allows for the rest
    assert np.abs(draws.mean(0) / scales * np.sqrt(n)).max() < 8
    assert np.abs((draws.var(0) / scales**2 - 1) * np.sqrt(n / 2)).max() < 8


def test_integrator_that_is_not_known():
    with pytest.raises(ValueError, match="integrator='leapfrog': give one of"):
        NUTS(integrator="leapfrog")


def test_dimension_one():
    run = NUTS().run(jax.random.key(0), standard_gaussian(1), Budget(4000), chains=2)
    assert run.draws.shape[2] == 1
    assert run.draws.std() > 0.5
