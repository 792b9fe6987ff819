"""Every kernel leaves its target invariant, and the test that says so catches kernels that do not.

The delayed-rejection family has too many variants for all of them on all targets. `design` takes 16
of the combinations of target, refreshment (all of it at every step, or damping 0.08, 0.5 and 1), number of
stages, length, retry, metric and trajectory, by the rows of an orthogonal array of strength 2 (Rao 1947):
every pair of levels of two factors occurs in one of them, so that every target meets every sampler, and so
does every triple of stages, length and retry. Steps are so large that most first proposals are rejected.
"""

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Literal, NamedTuple
from unittest.mock import patch

import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import (
    Target,
    correlated_gaussian,
    funnel,
    gaussian_mixture,
    ill_conditioned_gaussian,
    rosenbrock,
    standard_gaussian,
)
from essper.samplers import (
    HMC,
    NUTS,
    DelayedRejectionGeneralizedHMC,
    DelayedRejectionHMC,
    TrajectoryLength,
    generalized_delayed_rejection,
    hmc,
    stages,
)
from essper.samplers.adaptation import Tuning
from essper.samplers.metrics import Metric, coloured, make_metric, sample_momentum, whitened
from invariance import (
    Drift,
    TestFunctions,
    coordinate_functions,
    drift,
    funnel_functions,
    in_phase_space,
    rosenbrock_functions,
    with_momentum,
)

FIXED = TrajectoryLength(num_integration_steps=2, jitter=0.0)
JITTERED = TrajectoryLength(num_integration_steps=3, jitter=0.5)  # 2 to 4 steps
SINGLE = TrajectoryLength(num_integration_steps=1, jitter=0.0)


class Setting(NamedTuple):
    """A target and a first step that is far too large for its narrowest part."""

    target: Target
    functions: TestFunctions
    step_size: float


SETTINGS = {
    "funnel": Setting(funnel(10), funnel_functions, 1.0),
    "rosenbrock": Setting(rosenbrock(), rosenbrock_functions, 0.3),
    "mixture": Setting(gaussian_mixture(3), coordinate_functions, 1.6),
    "ill-conditioned": Setting(
        ill_conditioned_gaussian(4, 100.0, rotation_seed=1), coordinate_functions, 0.6
    ),
}
GAUSSIAN = Setting(correlated_gaussian(4, 0.9), coordinate_functions, 0.45)


def metric_of(dim: int, kind: str) -> Metric:
    """That fits no target."""
    root = np.diag(np.linspace(0.7, 1.4, dim)) + 0.1 * np.tri(dim, k=-1) / np.arange(1, dim + 1)
    return make_metric(jnp.asarray(root @ root.T) if kind == "dense" else jnp.linspace(0.5, 2.0, dim))


def drift_on(setting: Setting, sampler, metric: Metric | str = "diagonal", **options) -> Drift:
    target, functions, step_size = setting
    metric = metric_of(target.dim, metric) if isinstance(metric, str) else metric
    kernel = sampler.kernel(target.density, Tuning(jnp.asarray(step_size), metric))
    if isinstance(sampler, DelayedRejectionGeneralizedHMC):
        kernel, functions = in_phase_space(kernel), with_momentum(functions)
    return drift(kernel, target, functions, **options)


class Case(NamedTuple):
    target: str
    damping: float | None
    """None for `DelayedRejectionHMC`."""
    stages: int
    length: str
    retry: str
    metric: str
    jitter: bool

    @property
    def sampler(self):
        settings = {
            "stages": self.stages,
            "reduction": {2: 5.0, 3: 4.0, 4: 2.0}[self.stages],
            "length": self.length,
            "retry": self.retry,
            "trajectory": JITTERED if self.jitter else FIXED,
        }
        if self.damping is None:
            return DelayedRejectionHMC(**settings)
        return DelayedRejectionGeneralizedHMC(damping=self.damping, transitions=1, **settings)

    def __str__(self) -> str:
        damping = "" if self.damping is None else f"damping {self.damping}"
        jitter = "jittered" if self.jitter else ""
        words = (self.target, damping, f"K={self.stages}", self.length, self.retry, self.metric, jitter)
        return " ".join(word for word in words if word)


def design() -> list[Case]:
    """The array OA(16, 5, 4, 2) over the field of four elements: columns a, b, a+b, a+2b and a+3b.

    A column of four levels is two columns of two levels, or one of three with one of them twice.
    """
    by_two, by_three = (0, 2, 3, 1), (0, 3, 1, 2)  # products in the field; addition is exclusive or
    return [
        Case(
            target=list(SETTINGS)[a],
            damping=(None, 0.08, 0.5, 1.0)[b],
            stages=(3, 2, 4, 2)[a ^ b],
            length=("time", "steps")[(a ^ by_two[b]) >> 1],
            retry=("always", "probabilistic")[(a ^ by_two[b]) & 1],
            metric=("diagonal", "dense")[(a ^ by_three[b]) >> 1],
            jitter=bool((a ^ by_three[b]) & 1),
        )
        for a, b in itertools.product(range(4), repeat=2)
    ]


DESIGN = design()


def test_design_has_every_pair_of_levels():
    for i, j in itertools.combinations(range(len(Case._fields)), 2):
        levels = [{case[k] for case in DESIGN} for k in (i, j)]
        assert {(case[i], case[j]) for case in DESIGN} == set(itertools.product(*levels))
    assert len({(case.stages, case.length, case.retry) for case in DESIGN}) == 3 * 2 * 2


@pytest.mark.parametrize("case", DESIGN, ids=str)
def test_delayed_rejection(case):
    found = drift_on(SETTINGS[case.target], case.sampler, case.metric)
    # Of the first stage: most are rejected, so that the later ones matter, and in its 20 steps a chain
    # accepts one at least on average, so that this too is put to the test.
    assert 1 / 20 < found.acceptance < 0.6
    assert found.worst < 4


def test_several_transitions_a_draw():
    sampler = DelayedRejectionGeneralizedHMC(stages=2, retry="always", transitions=3, trajectory=JITTERED)
    found = drift_on(SETTINGS["funnel"], sampler, "dense", steps=7)
    assert found.acceptance < 0.6
    assert found.worst < 4


@pytest.mark.parametrize(
    ("trajectory", "metric"), [(FIXED, "diagonal"), (JITTERED, "dense")], ids=["fixed", "jittered dense"]
)
def test_hmc_on_the_funnel(trajectory, metric):
    found = drift_on(SETTINGS["funnel"], HMC(trajectory=trajectory), metric)
    assert found.acceptance < 0.6
    assert found.worst < 4


def drift_of_near_successes(retry: Literal["always", "probabilistic"]) -> Drift:
    """Where stages nearly succeed, and not only in the funnel, where they succeed or fail outright."""
    sampler = DelayedRejectionHMC(
        stages=2, reduction=2.0, length="steps", retry=retry, trajectory=SINGLE
    )  # fmt: skip
    plane = Setting(standard_gaussian(2), coordinate_functions, 1.9)
    return drift_on(plane, sampler, make_metric(jnp.ones(2)), n=400_000)


@pytest.mark.parametrize("retry", ["always", "probabilistic"])
def test_near_successes(retry):
    found = drift_of_near_successes(retry)
    assert 0.2 < found.acceptance < 0.5
    assert found.worst < 4


CORRELATED = make_metric(jnp.asarray(np.cov(np.random.default_rng(0).normal(size=(4, 9)))))
"""A dense metric that does not fit the target."""


def test_dense_metric_on_a_correlated_gaussian():
    assert drift_on(GAUSSIAN, HMC(trajectory=JITTERED), CORRELATED).worst < 4


@pytest.mark.parametrize("integrator", ["velocity_verlet", "mclachlan"])
def test_nuts(integrator):
    sampler = NUTS(max_num_doublings=4, integrator=integrator)
    assert drift_on(GAUSSIAN, sampler, CORRELATED, steps=5).worst < 4


# Kernels with a mistake. Each must fail the test above, or the test proves nothing.

ATTEMPT: Callable[..., stages.Attempt] = stages.attempt
TRANSITION: Callable[..., stages.Outcome] = stages.transition


def attempt_without_ghosts(stage, start, log_rejections, propose, log_joint, power, wanted):
    """α from the two ends alone, corrected for the rejections at the start only."""
    proposal, gradients = propose(stage, start, wanted)
    change = log_joint(proposal) - log_joint(start) - power * sum(log_rejections, start=0.0)
    return stages.Attempt(proposal, jnp.minimum(0.0, change), gradients)


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
    "all ghosts dropped": (3, "time", "attempt", attempt_without_ghosts),
    "the second stage's ghost dropped": (2, "time", "attempt", AttemptWithout(1, 0)),
    "the third stage's second ghost dropped": (3, "time", "attempt", AttemptWithout(2, 1)),
    "ghosts from the momentum as it is": (2, "steps", "flip", lambda point: point),
}


@pytest.mark.parametrize("mistake", MUTANTS)
def test_catches_delayed_rejection_with(mistake):
    count, length, function, mutant = MUTANTS[mistake]
    case = Case("funnel", None, count, length, "always", "diagonal", jitter=False)
    with patch.object(stages, function, mutant):
        assert drift_on(SETTINGS["funnel"], case.sampler, n=20_000).worst > 5


@pytest.mark.parametrize(
    ("retry", "power"), [("probabilistic", 1.0), ("always", 2.0)], ids=["not squared", "squared"]
)
def test_catches_rejections_that_enter_the_balance_wrongly_often(retry, power):
    with patch.object(stages.StageSettings, "power", power):
        assert drift_of_near_successes(retry).worst > 5


def transition_that_keeps_its_direction(*arguments):
    """The momentum of a rejected start, too, is reversed, and so it is not after the flip that follows."""
    outcome = TRANSITION(*arguments)
    turned = jnp.where(outcome.accepted_stage > 0, 1.0, -1.0) * outcome.chosen.momentum
    return outcome._replace(chosen=outcome.chosen._replace(momentum=turned))


def refreshed_with_wrong_weights(self, key, momentum, steps, tuning):
    """(1 − γ) ρ + √γ ξ: the root is forgotten."""
    fresh = GENERALIZED_REFRESH(self, key, 0.0 * momentum, steps, tuning)
    return (1.0 - self.damping) * momentum + fresh


def refreshed_with_weights_exchanged(self, key, momentum, steps, tuning):
    """√(1−γ) ρ + (1 − γ) ξ."""
    kept = GENERALIZED_REFRESH(self, key, momentum, steps, tuning)
    fresh = GENERALIZED_REFRESH(self, key, 0.0 * momentum, steps, tuning)
    return kept - fresh + (1.0 - self.damping) * fresh / jnp.sqrt(self.damping)


def other_metric(metric: Metric) -> Metric:
    """Its diagonal alone."""
    return make_metric(jnp.diagonal(metric.inverse_mass_matrix))


GENERALIZED_REFRESH = DelayedRejectionGeneralizedHMC._refreshed
GENERALIZED_MUTANTS = {
    "a direction kept on rejection": {"transition": transition_that_keeps_its_direction},
    "momenta of another metric": {
        "coloured": lambda metric, z: coloured(other_metric(metric), z),
        "whitened": lambda metric, p: whitened(other_metric(metric), p),
    },
    "momenta that go back to another metric": {
        "whitened": lambda metric, p: whitened(other_metric(metric), p)
    },
    "a momentum kept in wrong units": {"whitened": lambda metric, p: p},
    "a root forgotten in the refreshment": {"_refreshed": refreshed_with_wrong_weights},
    "weights of the refreshment exchanged": {"_refreshed": refreshed_with_weights_exchanged},
}


def drift_of_positions(mistake: str) -> Drift:
    """Under a mistake, of the position alone: that is what a user sees."""
    if mistake == "a direction kept on rejection":
        (target, functions, step_size), metric, n = SETTINGS["funnel"], metric_of(10, "diagonal"), 50_000
        settings = {"damping": 0.08, "reduction": 4.0, "trajectory": SINGLE}
    else:
        (target, functions, step_size), metric, n = GAUSSIAN, CORRELATED, 20_000
        settings = {"damping": 0.3, "reduction": 4.0, "trajectory": FIXED}
    sampler = DelayedRejectionGeneralizedHMC(stages=2, retry="always", transitions=1, **settings)
    with ExitStack() as stack:
        for name, mutant in GENERALIZED_MUTANTS.get(mistake, {}).items():
            owner = DelayedRejectionGeneralizedHMC if name == "_refreshed" else generalized_delayed_rejection
            stack.enter_context(patch.object(owner, name, mutant))
        kernel = sampler.kernel(target.density, Tuning(jnp.asarray(step_size), metric))
        return drift(kernel, target, functions, n=n)


def test_generalized_delayed_rejection_without_mistakes():
    assert drift_of_positions("none").worst < 4


@pytest.mark.parametrize("mistake", GENERALIZED_MUTANTS)
def test_catches_generalized_delayed_rejection_with(mistake):
    assert drift_of_positions(mistake).worst > 5


def test_catches_hmc_that_accepts_everything():
    with patch.object(hmc, "log_uniform", lambda key, stage: -jnp.inf):
        assert drift_on(SETTINGS["funnel"], HMC(trajectory=FIXED), n=20_000).worst > 5


def test_catches_momenta_of_another_metric():
    other = other_metric(CORRELATED)
    with patch.object(hmc, "sample_momentum", lambda key, metric: sample_momentum(key, other)):
        assert drift_on(GAUSSIAN, HMC(trajectory=JITTERED), CORRELATED).worst > 5
