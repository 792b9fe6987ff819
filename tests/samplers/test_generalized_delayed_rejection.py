"""DR-G-HMC against the paper's algorithm in plain numpy, against DR-HMC, and in how it moves."""

from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.benchmarks import gates, metrics
from essper.models import from_log_density, funnel, standard_gaussian
from essper.samplers import (
    Budget,
    DelayedRejectionGeneralizedHMC,
    DelayedRejectionHMC,
    TrajectoryLength,
    WindowedAdaptation,
    generalized_delayed_rejection,
)
from essper.samplers.adaptation import Tuning
from essper.samplers.generalized_delayed_rejection import GeneralizedState
from essper.samplers.metrics import make_metric, whitened
from stan_programs import rejecting_posterior

DIM = 4
FUNNEL = funnel(DIM)
_ROOT = np.eye(DIM) + np.tri(DIM, k=-1) / 4
METRICS = {"diagonal": np.linspace(0.5, 2.0, DIM), "dense": _ROOT @ _ROOT.T}
STEP_SIZE, STEPS = 0.9, 2
FIXED = TrajectoryLength(num_integration_steps=STEPS, jitter=0.0)


def generalized(**settings):
    return DelayedRejectionGeneralizedHMC(**{"transitions": 1, "trajectory": FIXED, **settings})


def tuned(step_size, inverse_mass_matrix):
    return Tuning(jnp.asarray(step_size, float), make_metric(jnp.asarray(inverse_mass_matrix)))


class Paper:
    """Turok, Modi & Carpenter's algorithm on the funnel, with probabilities instead of their logarithms.

    Phase points are pairs (θ, ρ). Every random number is given.
    """

    def __init__(self, sampler, inverse_mass_matrix):
        self.sampler, self.gradients = sampler, 0
        inverse = inverse_mass_matrix if inverse_mass_matrix.ndim == 2 else np.diag(inverse_mass_matrix)
        self.inverse, self.root = inverse, np.linalg.cholesky(np.linalg.inv(inverse))

    def log_density(self, theta):
        v, x = theta[0], theta[1:]
        # FUNNEL's derivative has the scale's square in it: where that overflows, the evaluation fails.
        if v > np.log(np.finfo(float).max):
            return -np.inf, np.zeros(theta.size)
        gradient = np.append(-v / 9 + 0.5 * x @ x * np.exp(-v) - 0.5 * x.size, -x * np.exp(-v))
        return -(v**2) / 18 - 0.5 * x @ x * np.exp(-v) - 0.5 * v * x.size, gradient

    def log_pi(self, point):
        theta, rho = point
        return self.log_density(theta)[0] - 0.5 * rho @ self.inverse @ rho

    def leapfrog(self, point, step, steps):
        theta, rho = point
        for _ in range(steps):
            half = rho + step / 2 * self.log_density(theta)[1]
            theta = theta + step * self.inverse @ half
            rho = half + step / 2 * self.log_density(theta)[1]
            self.gradients += 1
        return theta, rho

    def F(self, k, point):
        shrink = self.sampler.reduction**k
        steps = round(STEPS * shrink) if self.sampler.length == "time" else STEPS
        theta, rho = self.leapfrog(point, STEP_SIZE / shrink, steps)
        return theta, -rho

    def alpha(self, k, x, rejected):
        """α_k(x) and F_k(x); ``rejected`` has 1 − α_j(x) for j < k."""
        y, ghosts = self.F(k, x), []
        if not np.isfinite(self.log_pi(y)):
            return 0.0, y
        for j in range(k):
            ghosts.append(1 - self.alpha(j, y, ghosts)[0])
            if ghosts[-1] == 0:
                return 0.0, y
        again = 2 if self.sampler.retry == "probabilistic" else 1
        change = min(self.log_pi(y) - self.log_pi(x), 700.0)
        return min(1.0, np.exp(change) * (np.prod(ghosts) / np.prod(rejected)) ** again), y

    def transition(self, point, xi, uniforms, retries):
        """The next phase point, and which stage was accepted (from 1; 0 for none)."""
        theta, rho = point
        gamma = self.sampler.damping
        x, rejected = (theta, np.sqrt(1 - gamma) * rho + np.sqrt(gamma) * xi), []
        for k in range(self.sampler.stages):
            alpha, (end, rho_end) = self.alpha(k, x, rejected)
            if uniforms[k] <= alpha:
                return (end, -rho_end), k + 1
            if self.sampler.retry == "probabilistic" and retries[k] > 1 - alpha:
                break
            rejected.append(1 - alpha)
        return (theta, -x[1]), 0


def random_numbers(key, dim, stages):
    """What a transition of the kernel draws from its key."""
    key_momentum, key_stages = jax.random.split(key)
    key_retry = jax.random.fold_in(key_stages, 1 << 16)

    def uniforms(key):
        return [1 - float(jax.random.uniform(jax.random.fold_in(key, k))) for k in range(stages)]

    return np.array(jax.random.normal(key_momentum, (dim,))), uniforms(key_stages), uniforms(key_retry)


def momentum_in(paper, z):
    """ρ = L⁻ᵀ z, the kernel's standard normal momentum in the metric M = L⁻ᵀ L⁻¹."""
    return np.linalg.solve(np.linalg.cholesky(paper.inverse).T, z)


def exact_draws(n):
    assert FUNNEL.exact is not None
    return FUNNEL.exact(jax.random.key(0), n)


@pytest.mark.parametrize(
    ("stages", "length", "retry", "metric"),
    [
        (1, "steps", "always", "dense"),
        (2, "time", "probabilistic", "dense"),
        (3, "steps", "always", "dense"),
        (3, "time", "probabilistic", "diagonal"),
    ],
)
def test_transition_is_the_papers(stages, length, retry, metric):
    sampler = generalized(damping=0.3, stages=stages, reduction=3.0, length=length, retry=retry)
    tuning = tuned(STEP_SIZE, METRICS[metric])
    kernel = sampler.kernel(FUNNEL.density, tuning)
    step, outcomes = jax.jit(kernel.step), []
    for start, key in zip(exact_draws(20), jax.random.split(jax.random.key(1), 20), strict=True):
        state, _ = kernel.init(key, start)
        for k in jax.random.split(key, 5):
            paper = Paper(sampler, METRICS[metric])
            noise, uniforms, retries = random_numbers(k, DIM, stages)
            here = np.array(state.position), momentum_in(paper, state.momentum)
            xi = momentum_in(paper, noise)
            (theta, rho), accepted = paper.transition(here, xi, uniforms, retries)
            state, info = step(k, state)
            np.testing.assert_allclose(state.position, theta, rtol=1e-8, atol=1e-9)
            np.testing.assert_allclose(momentum_in(paper, state.momentum), rho, rtol=1e-8, atol=1e-9)
            assert info.extra["accepted"] == (accepted > 0)
            assert info.cost.gradients == paper.gradients
            np.testing.assert_allclose(-info.extra["energy"], paper.log_pi((theta, rho)) + LOG_CONSTANT)
            outcomes.append(accepted)
    assert all(outcomes.count(k) >= 5 for k in range(stages + 1))


LOG_CONSTANT = -0.5 * DIM * np.log(2 * np.pi) - np.log(3)


def test_one_stage_is_horowitzs():
    sampler = generalized(damping=0.2, stages=1)
    kernel = sampler.kernel(FUNNEL.density, tuned(STEP_SIZE, METRICS["diagonal"]))
    paper, step, rejections = Paper(sampler, METRICS["diagonal"]), jax.jit(kernel.step), 0
    for start, key in zip(exact_draws(60), jax.random.split(jax.random.key(1), 60), strict=True):
        state, _ = kernel.init(jax.random.fold_in(key, 0), start)
        noise, (uniform,), _ = random_numbers(key, DIM, 1)
        theta, rho = np.array(state.position), momentum_in(paper, state.momentum)
        rho = np.sqrt(0.8) * rho + np.sqrt(0.2) * momentum_in(paper, noise)
        end = paper.leapfrog((theta, rho), STEP_SIZE, STEPS)
        rejected = np.log(uniform) > paper.log_pi(end) - paper.log_pi((theta, rho))
        theta, rho = (theta, -rho) if rejected else end
        state, _ = step(key, state)
        np.testing.assert_allclose(state.position, theta, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(momentum_in(paper, state.momentum), rho, rtol=1e-8, atol=1e-9)
        rejections += rejected
    assert 10 < rejections < 50


@pytest.mark.parametrize(
    ("length", "retry", "metric"), [("time", "always", "dense"), ("steps", "probabilistic", "diagonal")]
)
def test_full_refreshment_is_delayed_rejection_draw_for_draw(length, retry, metric):
    settings = {
        "stages": 3, "reduction": 3.0, "length": length, "retry": retry,
        "trajectory": TrajectoryLength(num_integration_steps=3, jitter=0.5),
    }  # fmt: skip
    tuning = tuned(STEP_SIZE, METRICS[metric])
    forgetful = generalized(damping=1.0, **settings).kernel(FUNNEL.density, tuning)
    plain = DelayedRejectionHMC(**settings).kernel(FUNNEL.density, tuning)
    state, _ = forgetful.init(jax.random.key(0), jnp.ones(DIM))
    other, _ = plain.init(jax.random.key(0), jnp.ones(DIM))
    step, other_step, accepted = jax.jit(forgetful.step), jax.jit(plain.step), set()
    for key in jax.random.split(jax.random.key(1), 100):
        state, info = step(key, state)
        other, other_info = other_step(key, other)
        np.testing.assert_array_equal(state.position, other.position)
        assert info.cost.gradients == other_info.cost.gradients
        assert info.acceptance == other_info.acceptance
        accepted.add(int(other_info.extra["accepted_stage"]))
    assert accepted >= {0, 1, 2}


@pytest.mark.parametrize("transitions", [4, None])
def test_a_draw_is_so_many_transitions(transitions):
    # T = π/2 and a first stage of 2 steps of 0.2: four of them reach T
    settings = {"damping": None, "stages": 2, "retry": "always"}
    tuning = tuned(0.2, METRICS["diagonal"])
    several = generalized(**settings | {"transitions": transitions}).kernel(FUNNEL.density, tuning)
    one = generalized(**settings).kernel(FUNNEL.density, tuning)
    state, _ = several.init(jax.random.key(0), jnp.array([-5.0, 0.1, 0.2, -0.1]))
    step, single, infos = jax.jit(several.step), jax.jit(one.step), []
    for key in jax.random.split(jax.random.key(1), 10):
        expected, infos = state, []
        for i in range(4):
            expected, info = single(jax.random.fold_in(key, i), expected)
            infos.append(info)
        state, info = step(key, state)
        for a, b in zip(state, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
        assert info.cost.gradients == sum(i.cost.gradients for i in infos)
        assert info.divergent == any(i.divergent for i in infos)
        np.testing.assert_allclose(info.acceptance, np.mean([i.acceptance for i in infos]))
        np.testing.assert_allclose(info.extra["accepted"], np.mean([i.extra["accepted"] for i in infos]))
        assert info.extra["tried_stages"] == sum(i.extra["tried_stages"] for i in infos)
        np.testing.assert_allclose(info.extra["energy"], infos[-1].extra["energy"])
    assert state.iteration == 40


def test_momentum_is_forgotten_at_the_rate_of_the_integration_time():
    sampler = generalized(damping=None)
    key, momentum = jax.random.key(0), jnp.arange(1.0, 5.0)
    refreshed = sampler._refreshed(key, momentum, jnp.int32(STEPS), tuned(0.3, METRICS["diagonal"]))
    kept = np.exp(-STEPS * 0.3 / (np.pi / 2))
    noise = jax.random.normal(key, (DIM,))
    np.testing.assert_allclose(refreshed, kept * momentum + np.sqrt(1 - kept**2) * noise)


def test_momentum_outlives_a_change_of_the_metric():
    # What persists is standard normal; its momentum is that of the metric in use.
    sampler, noise = generalized(damping=1e-300, stages=1), jnp.array([0.5, -1.0, 0.3, 1.2])
    start = jnp.array([1.0, 0.5, -0.5, 0.2])
    state = GeneralizedState(start, *FUNNEL.value_and_grad(start), jnp.int32(0), noise)
    for inverse in METRICS.values():
        kernel = sampler.kernel(FUNNEL.density, tuned(1e-3, inverse))
        paper = Paper(sampler, inverse)
        moved, _ = jax.jit(kernel.step)(jax.random.key(0), state)
        velocity = paper.inverse @ momentum_in(paper, noise)
        np.testing.assert_allclose((moved.position - start) / (STEPS * 1e-3), velocity, rtol=5e-3, atol=5e-3)


def autocorrelation(sampler, step_size, lags, n=20_000):
    """corr(x_0, x_t) on a standard Gaussian for t in ``lags``, over chains that start exactly."""
    target = standard_gaussian(1)
    kernel = sampler.kernel(target.density, tuned(step_size, [1.0]))

    def chain(key):
        start, key_init, key_steps = jax.random.split(key, 3)
        x = jax.random.normal(start, (1,))
        keys = jax.random.split(key_steps, max(lags))
        _, path = jax.lax.scan(lambda s, k: (lambda new: (new, new.position[0]))(kernel.step(k, s)[0]),
                               kernel.init(key_init, x)[0], keys)  # fmt: skip
        return x[0] * path[jnp.asarray(lags) - 1]

    return np.asarray(jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(0), n))).mean(axis=0)


def linear_dynamics(step_size, damping, flipped):
    """E[(x, ρ) after a transition | before] with every proposal accepted: the leapfrog map of ½(x² + ρ²)."""
    e = step_size
    leapfrog = np.array([[1 - e**2 / 2, e], [-e * (1 - e**2 / 4), 1 - e**2 / 2]])
    reflection = np.diag([1.0, 1.0 if flipped else -1.0])
    return reflection @ leapfrog @ np.diag([1.0, np.sqrt(1 - damping)])


def autocorrelation_time(dynamics):
    """1 + 2 Σ_t corr(x_0, x_t)."""
    return 2 * np.linalg.inv(np.eye(2) - dynamics)[0, 0] - 1


@pytest.mark.parametrize("flipped", [True, False], ids=["persistent", "the flip forgotten"])
def test_motion_persists(flipped):
    # Without the flip at the end an accepted move is followed by one that goes back. The target stays
    # invariant; only how fast a chain moves tells.
    lags, step_size, damping = [1, 4, 8, 16, 32], 0.2, 0.08
    sampler = generalized(
        damping=damping, stages=2, trajectory=TrajectoryLength(num_integration_steps=1, jitter=0.0)
    )
    sign = 1 if flipped else -1
    ending = patch.object(generalized_delayed_rejection, "whitened", lambda m, p: sign * whitened(m, p))
    with ending:
        found = autocorrelation(sampler, step_size, lags)
    power = [np.linalg.matrix_power(linear_dynamics(step_size, damping, flipped), t)[0, 0] for t in lags]
    np.testing.assert_allclose(found, power, atol=0.05)


def test_effective_draws_that_the_flip_is_worth():
    times = [autocorrelation_time(linear_dynamics(0.2, 0.08, flipped)) for flipped in (True, False)]
    assert times[1] > 100 * times[0]  # a mutant that the test above cannot miss


DELAYED = {"stages": 3, "reduction": 3.0}
COUNTED = {
    "DR-HMC time always": DelayedRejectionHMC(length="time", retry="always", trajectory=FIXED, **DELAYED),
    "DR-HMC steps probabilistic": DelayedRejectionHMC(trajectory=FIXED, **DELAYED),
    "DR-G-HMC time always": generalized(length="time", retry="always", damping=0.5, **DELAYED),
    "DR-G-HMC steps probabilistic": generalized(damping=0.08, **DELAYED),
    "DR-G-HMC 3 transitions": generalized(retry="always", transitions=3, **DELAYED),
}


@pytest.mark.parametrize("name", COUNTED)
def test_gradients_of_a_step_are_those_executed(name):
    target = rejecting_posterior()
    counter = target.counter
    assert counter is not None
    kernel = COUNTED[name].kernel(target.density, tuned(1.2, np.ones(3)))
    step, costs = jax.jit(kernel.step), set()
    state, _ = kernel.init(jax.random.key(0), jnp.zeros(3))
    for key in jax.random.split(jax.random.key(1), 60):
        before = counter.read().gradients
        state, info = jax.block_until_ready(step(key, state))
        assert int(info.cost.gradients) == counter.read().gradients - before
        costs.add(int(info.cost.gradients))
    assert len(costs) > 3  # short-circuits included

    # Together, every lane evaluates for itself alone, although both branches of a conditional run.
    together, batch = jax.vmap(lambda x: kernel.init(jax.random.key(0), x)[0]), jax.jit(jax.vmap(kernel.step))
    states = together(jnp.asarray(np.random.default_rng(0).normal(size=(8, 3))))
    for key in jax.random.split(jax.random.key(2), 20):
        before = jax.block_until_ready(counter.read().gradients)
        states, info = jax.block_until_ready(batch(jax.random.split(key, 8), states))
        assert int(info.cost.gradients.sum()) == counter.read().gradients - before
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((states, info)))


def test_stages_without_end_give_no_nan():
    sampler = generalized(
        damping=0.1, stages=5, reduction=10.0, retry="always",
        trajectory=TrajectoryLength(num_integration_steps=1, jitter=0.0),
    )  # fmt: skip
    kernel = sampler.kernel(FUNNEL.density, tuned(50.0, np.ones(DIM)))
    state, _ = kernel.init(jax.random.key(0), jnp.array([-6.0, 0.02, 0.01, -0.03]))
    last, infos = jax.jit(lambda s, k: jax.lax.scan(lambda s, k: kernel.step(k, s), s, k))(
        state, jax.random.split(jax.random.key(1), 200)
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((last, infos)))
    assert 0 < np.asarray(infos.extra["accepted"]).mean() < 1


@pytest.mark.parametrize("chains", [1, 3])
def test_chains_that_never_move_are_reported(chains):
    # Positive density in a ball that every stage, 10⁴ times too long, jumps out of
    ball = from_log_density("large ball", 2, lambda x: jnp.where(x @ x < 100, -0.5 * (x @ x), -jnp.inf))
    sampler = generalized(
        damping=0.5, stages=2, retry="always", adaptation=WindowedAdaptation(metric="identity", step_size=1e5)
    )  # fmt: skip
    run = sampler.run(jax.random.key(0), ball, Budget(500), chains=chains)
    assert metrics.stuck_chains(run.draws) == chains
    assert np.isfinite(run.draws).all()
    assert run.info.acceptance.max() == 0.0
    assert run.info.divergent.all()
    found = metrics.efficiency(run.draws)
    assert (found.ess_bulk == 0).all()
    assert (found.ess_tail == 0).all()
    assert not gates.converged(found.rhat, found.ess_bulk, chains)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"damping": 0.0}, r"damping=0\.0"),
        ({"damping": 1.5}, r"damping=1\.5"),
        ({"transitions": 0}, "transitions=0"),
        ({"stages": 0}, "stages=0"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        DelayedRejectionGeneralizedHMC(**settings)
