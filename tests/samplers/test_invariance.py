"""Every kernel leaves its target invariant, and the test that says so catches kernels that do not."""

from collections.abc import Callable
from unittest.mock import patch

import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import correlated_gaussian, funnel, standard_gaussian
from essper.samplers import HMC, NUTS, DelayedRejectionHMC, TrajectoryLength, delayed_rejection, hmc
from essper.samplers.adaptation import Tuning
from essper.samplers.metrics import make_metric, sample_momentum
from invariance import Drift, coordinate_functions, drift, funnel_functions

DIM = 10
FUNNEL = funnel(DIM)
GAUSSIAN = correlated_gaussian(4, 0.9)
PLANE = standard_gaussian(2)
FIXED = TrajectoryLength(num_integration_steps=2, jitter=0.0)
JITTERED = TrajectoryLength(num_integration_steps=3, jitter=0.5)  # 2 to 4 steps

DIAGONAL = make_metric(jnp.linspace(0.5, 2.0, DIM))
_ROOT = np.eye(DIM) + 0.3 * np.tri(DIM, k=-1) / np.arange(1, DIM + 1)
DENSE = make_metric(jnp.asarray(_ROOT @ _ROOT.T))


def tuning(step_size, metric):
    return Tuning(jnp.asarray(step_size, float), metric)


def drift_on_funnel(sampler, metric=DIAGONAL, **settings) -> Drift:
    """With a step far too large for the neck, so that most first proposals are rejected."""
    return drift(sampler.kernel(FUNNEL.density, tuning(1.0, metric)), FUNNEL, funnel_functions, **settings)


def drift_on_gaussian(sampler, metric, step_size=0.45, **settings) -> Drift:
    kernel = sampler.kernel(GAUSSIAN.density, tuning(step_size, metric))
    return drift(kernel, GAUSSIAN, coordinate_functions, **settings)


def delayed(stages, reduction, length, retry, trajectory=FIXED):
    return DelayedRejectionHMC(
        stages=stages, reduction=reduction, length=length, retry=retry, trajectory=trajectory
    )


SINGLE = TrajectoryLength(num_integration_steps=1, jitter=0.0)

DELAYED = {
    "K=2 time always": (delayed(2, 10.0, "time", "always"), DIAGONAL),
    "K=2 time probabilistic jittered": (delayed(2, 2.0, "time", "probabilistic", JITTERED), DIAGONAL),
    "K=2 steps probabilistic dense": (delayed(2, 2.0, "steps", "probabilistic"), DENSE),
    "K=3 time always": (delayed(3, 4.0, "time", "always"), DIAGONAL),
    "K=3 time probabilistic": (delayed(3, 4.0, "time", "probabilistic"), DIAGONAL),
    "K=3 steps always jittered": (delayed(3, 4.0, "steps", "always", JITTERED), DIAGONAL),
    "K=4 steps always": (delayed(4, 10.0, "steps", "always", SINGLE), DIAGONAL),
    "K=4 time probabilistic": (delayed(4, 2.0, "time", "probabilistic", SINGLE), DIAGONAL),
}


@pytest.mark.parametrize("name", DELAYED)
def test_delayed_rejection_on_the_funnel(name):
    found = drift_on_funnel(*DELAYED[name])
    assert found.acceptance < 0.6  # of the first stage, so that the later ones matter
    assert found.worst < 4


@pytest.mark.parametrize(
    ("trajectory", "metric"), [(FIXED, DIAGONAL), (JITTERED, DENSE)], ids=["fixed", "jittered dense"]
)
def test_hmc_on_the_funnel(trajectory, metric):
    found = drift_on_funnel(HMC(trajectory=trajectory), metric)
    assert found.acceptance < 0.6
    assert found.worst < 4


def drift_of_probabilistic_retries() -> Drift:
    """Where stages nearly succeed, and not only in the funnel, where they succeed or fail outright."""
    kernel = delayed(2, 2.0, "steps", "probabilistic", SINGLE).kernel(
        PLANE.density, tuning(1.9, make_metric(jnp.ones(2)))
    )
    return drift(kernel, PLANE, coordinate_functions, n=400_000)


def test_probabilistic_retries_on_a_gaussian():
    found = drift_of_probabilistic_retries()
    assert 0.2 < found.acceptance < 0.5
    assert found.worst < 4


CORRELATED = make_metric(jnp.asarray(np.cov(np.random.default_rng(0).normal(size=(4, 9)))))
"""A dense metric that does not fit the target."""


@pytest.mark.parametrize(
    "sampler",
    [HMC(trajectory=JITTERED), delayed(3, 4.0, "steps", "probabilistic", JITTERED)],
    ids=["HMC", "delayed rejection"],
)
def test_dense_metric_on_a_correlated_gaussian(sampler):
    assert drift_on_gaussian(sampler, CORRELATED).worst < 4


@pytest.mark.parametrize("integrator", ["velocity_verlet", "mclachlan"])
def test_nuts(integrator):
    sampler = NUTS(max_num_doublings=4, integrator=integrator)
    assert drift_on_gaussian(sampler, CORRELATED, steps=5, n=50_000).worst < 4


# Kernels with a mistake. Each must fail the test above, or the test proves nothing.


def attempt_without_ghosts(stage, start, log_rejections, propose, log_joint, power):
    """α from the two ends alone, corrected for the rejections at the start only."""
    proposal, gradients = propose(stage, start)
    change = log_joint(proposal) - log_joint(start) - power * sum(log_rejections, start=0.0)
    return delayed_rejection.Attempt(proposal, jnp.minimum(0.0, change), gradients)


ATTEMPT: Callable[..., delayed_rejection.Attempt] = delayed_rejection.attempt


def attempt_not_squared(*arguments):
    """The retry is a draw, but its probability is left out of the balance."""
    return ATTEMPT(*arguments[:-1], 1.0)


class AttemptWithout:
    """Treats one ghost as never accepted: that of the given path, stages from 0."""

    def __init__(self, *forgotten: int) -> None:
        self.forgotten, self.path = forgotten, ()

    def __call__(self, stage, *arguments):
        self.path = (*self.path, stage)
        tried = ATTEMPT(stage, *arguments)
        if self.path == self.forgotten:
            tried = tried._replace(log_acceptance=jnp.full_like(tried.log_acceptance, -jnp.inf))
        self.path = self.path[:-1]
        return tried


MUTANTS = {
    "all ghosts dropped": ("K=3 time always", "attempt", attempt_without_ghosts),
    "the second stage's ghost dropped": ("K=2 time always", "attempt", AttemptWithout(1, 0)),
    "the third stage's second ghost dropped": ("K=3 time always", "attempt", AttemptWithout(2, 1)),
    "ghosts from the momentum as it is": ("K=3 steps always jittered", "flip", lambda point: point),
}


@pytest.mark.parametrize("mistake", MUTANTS)
def test_catches_delayed_rejection_with(mistake):
    case, function, mutant = MUTANTS[mistake]
    with patch.object(delayed_rejection, function, mutant):
        assert drift_on_funnel(*DELAYED[case], n=20_000).worst > 5


def test_catches_a_retry_whose_probability_is_left_out():
    with patch.object(delayed_rejection, "attempt", attempt_not_squared):
        assert drift_of_probabilistic_retries().worst > 5


def test_catches_hmc_that_accepts_everything():
    with patch.object(hmc, "log_uniform", lambda key, stage: -jnp.inf):
        assert drift_on_funnel(HMC(trajectory=FIXED), n=20_000).worst > 5


def test_catches_momenta_of_another_metric():
    other = make_metric(jnp.diagonal(CORRELATED.inverse_mass_matrix))
    with patch.object(hmc, "sample_momentum", lambda key, metric: sample_momentum(key, other)):
        assert drift_on_gaussian(HMC(trajectory=JITTERED), CORRELATED).worst > 5
