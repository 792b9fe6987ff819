"""MALA proposes Langevin steps and leaves its target invariant."""

from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from essper.models import correlated_gaussian, funnel
from essper.samplers import hmc
from essper.samplers.adaptation import Tuning
from essper.samplers.mala import MALA
from essper.samplers.metrics import make_metric
from invariance import Drift, drift, funnel_functions

SCALES = jnp.linspace(0.5, 2.0, 10)
"""A diagonal metric that fits no target."""


def drift_on_the_funnel(n: int) -> Drift:
    target = funnel(10)
    kernel = MALA().kernel(target.density, Tuning(jnp.asarray(1.0), make_metric(SCALES)))
    return drift(kernel, target, funnel_functions, steps=10, n=n)


def test_funnel():
    found = drift_on_the_funnel(20_000)
    assert 0.05 < found.acceptance < 0.8
    assert found.worst < 4


def test_catches_acceptance_of_everything():
    with patch.object(hmc, "log_uniform", lambda key, stage: -jnp.inf):
        assert drift_on_the_funnel(10_000).worst > 5


def test_moves_are_langevin_steps():
    """θ + h M⁻¹∇ log p + √(2h) M^(−1/2) ξ with h = ε²/2: standardized, they are standard normal."""
    step_size, target = 0.7, correlated_gaussian(4, 0.9)
    scales = jnp.array([0.5, 1.0, 1.5, 2.0])
    kernel = MALA().kernel(target.density, Tuning(jnp.asarray(step_size), make_metric(scales)))
    start = jnp.array([0.3, -0.2, 0.1, 0.4])
    state, _ = kernel.init(jax.random.key(0), start)
    with patch.object(hmc, "log_uniform", lambda key, stage: -jnp.inf):
        moved = jax.vmap(lambda key: kernel.step(key, state)[0].position)(
            jax.random.split(jax.random.key(1), 20_000)
        )
    h = step_size**2 / 2
    standard = (moved - start - h * scales * state.gradient) / jnp.sqrt(2 * h * scales)
    standard = np.asarray(standard)
    assert np.abs(standard.mean(axis=0)).max() < 4 / np.sqrt(len(standard))
    errors = np.cov(standard.T) - np.eye(4)
    assert np.abs(errors).max() < 4 * np.sqrt(2 / len(standard))
