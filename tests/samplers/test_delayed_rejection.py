"""Delayed rejection against the paper's formulas, against detailed balance, and against HMC."""

import itertools
from decimal import Decimal, getcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import from_log_density, funnel, standard_gaussian
from essper.samplers import (
    HMC,
    Budget,
    DelayedRejectionHMC,
    TrajectoryLength,
    WindowedAdaptation,
    stages,
)
from essper.samplers.adaptation import Tuning
from essper.samplers.base import Cost
from essper.samplers.integrators import PhasePoint, flip, log_joint, trajectory
from essper.samplers.metrics import make_metric, sample_momentum
from essper.samplers.stages import attempt, log1mexp
from jax.core import eval_jaxpr
from stan_programs import rejecting_posterior

DIM = 4
FUNNEL = funnel(DIM)
METRIC = make_metric(jnp.linspace(0.5, 2.0, DIM))
STEPS, STEP_SIZE, REDUCTION = 2, 1.0, 3.0


# The paper, in plain numpy. Phase points are pairs (θ, ρ); F(k, x) is stage k's flipped end point.


def density(theta):
    """Log density and gradient of Neal's funnel, constants included."""
    v, x = theta[0], theta[1:]
    value = -0.5 * v**2 / 9 - np.log(3) - 0.5 * np.sum(x**2) * np.exp(-v) - 0.5 * v * len(x)
    gradient = np.append(-v / 9 + 0.5 * np.sum(x**2) * np.exp(-v) - 0.5 * len(x), -x * np.exp(-v))
    return value - 0.5 * len(theta) * np.log(2 * np.pi), gradient


def log_pi(x):
    theta, rho = x
    return density(theta)[0] - 0.5 * np.sum(np.asarray(METRIC.inverse_mass_matrix) * rho**2)


def ratio(y, x):
    """π(y)/π(x), cut where it would overflow: only its minimum with 1 is ever used."""
    return np.exp(min(log_pi(y) - log_pi(x), 700.0))


def F(k, x, length="time"):
    theta, rho = map(np.array, x)
    step, steps = STEP_SIZE / REDUCTION ** (k - 1), STEPS
    if length == "time":
        steps = int(STEPS * REDUCTION ** (k - 1))
    for _ in range(steps):
        rho = rho + step / 2 * density(theta)[1]
        theta = theta + step * np.asarray(METRIC.inverse_mass_matrix) * rho
        rho = rho + step / 2 * density(theta)[1]
    return theta, -rho


def paper_alphas(x, length, power):
    """α₁, α₂ and α₃ written out, with their ghosts."""

    def alpha1(x):
        return min(1.0, ratio(F(1, x, length), x))

    def alpha2(x):
        y = F(2, x, length)
        if alpha1(y) == 1:
            return 0.0
        return min(1.0, ratio(y, x) * ((1 - alpha1(y)) / (1 - alpha1(x))) ** power)

    def alpha3(x):
        y = F(3, x, length)
        if alpha1(y) == 1 or alpha2(y) == 1:
            return 0.0
        rejected = (1 - alpha1(y)) * (1 - alpha2(y)) / ((1 - alpha1(x)) * (1 - alpha2(x)))
        return min(1.0, ratio(y, x) * rejected**power)

    first = alpha1(x)
    second = alpha2(x) if first < 1 else None
    third = alpha3(x) if second is not None and second < 1 else None
    return first, second, third


def phase_points(n, seed):
    """Exact draws of the funnel with momenta; the last ones lie in the neck."""
    key, other = jax.random.split(jax.random.key(seed))
    assert FUNNEL.exact is not None
    positions = np.array(FUNNEL.exact(key, n))
    positions[n // 2 :, 1:] *= np.exp((-3.0 - positions[n // 2 :, :1]) / 2)
    positions[n // 2 :, 0] = -3.0
    momenta = jax.vmap(lambda k: sample_momentum(k, METRIC))(jax.random.split(other, n))
    return positions, np.array(momenta)


def engine(sampler):
    """``(θ, ρ) -> log α of every stage`` by the code under test; NaN for stages never reached."""

    def joint(point):
        return log_joint(METRIC, point)

    def propose(stage, point, wanted):
        steps = sampler.stage_steps(stage, jnp.int32(STEPS))
        end = trajectory(FUNNEL.density, METRIC, point, STEP_SIZE / sampler.reduction**stage, steps)
        return flip(end), steps

    @jax.jit
    def stages(theta, rho):
        start = PhasePoint(theta, rho, *FUNNEL.value_and_grad(theta))
        rejections, found, reached = [], [], jnp.bool_(True)
        for stage in range(sampler.stages):
            tried = attempt(stage, start, rejections, propose, joint, sampler.power, reached)
            found.append((jnp.where(reached, tried.log_acceptance, jnp.nan), tried.proposal, tried.gradients))
            rejection = log1mexp(tried.log_acceptance)
            reached &= rejection > -jnp.inf
            rejections.append(jnp.where(reached, rejection, 0.0))
        return joint(start), found

    return stages


@pytest.mark.parametrize(
    ("length", "retry"), list(itertools.product(["time", "steps"], ["always", "probabilistic"]))
)
def test_acceptance_is_the_papers(length, retry):
    sampler = DelayedRejectionHMC(stages=3, reduction=REDUCTION, length=length, retry=retry)
    stages = engine(sampler)
    compared = np.zeros(3, int)
    for theta, rho in zip(*phase_points(30, 3), strict=True):
        expected = paper_alphas((theta, rho), length, sampler.power)
        _, found = stages(theta, rho)
        for stage, alpha in enumerate(expected):
            got = float(found[stage][0])
            if alpha is None:
                assert np.isnan(got)
            else:
                np.testing.assert_allclose(np.exp(got), alpha, atol=1e-10)
                compared[stage] += 0 < alpha < 1
    assert (compared >= 5).all()


@pytest.mark.parametrize("retry", ["always", "probabilistic"])
@pytest.mark.parametrize(("stages", "length"), [(3, "time"), (4, "steps")])
def test_detailed_balance(stages, length, retry):
    """π(x) P(x → F_k(x)) = π(y) P(y → F_k(y)), rejections and retries included; F_k(F_k(x)) = x."""
    sampler = DelayedRejectionHMC(stages=stages, reduction=2.0, length=length, retry=retry)
    run = engine(sampler)

    def log_flows(theta, rho):
        joint, found = run(theta, rho)
        alphas = np.array([float(log_alpha) for log_alpha, *_ in found])
        before = sampler.power * np.cumsum([0.0, *np.log1p(-np.exp(alphas[:-1]))])
        return float(joint) + np.where(np.isnan(alphas), -np.inf, before + alphas), found

    compared = np.zeros(stages, int)
    with np.errstate(divide="ignore"):
        for theta, rho in zip(*phase_points(30, 5), strict=True):
            there, found = log_flows(theta, rho)
            for k in range(stages):
                if not np.isfinite(there[k]):
                    continue
                proposal = found[k][1]
                back, returned = log_flows(proposal.position, proposal.momentum)
                np.testing.assert_allclose(returned[k][1].position, theta, rtol=1e-7, atol=1e-9)
                np.testing.assert_allclose(back[k], there[k], rtol=1e-8, atol=1e-8)
                compared[k] += 1
    assert (compared >= 3).all()


def exact_log1mexp(a):
    getcontext().prec = 400
    return float((1 - Decimal(a).exp()).ln())


@pytest.mark.parametrize("a", [-1e-300, -1e-16, -1e-9, -0.69, -0.7, -3.0, -50.0, -700.0])
def test_log1mexp(a):
    np.testing.assert_allclose(float(log1mexp(jnp.float64(a))), exact_log1mexp(a), rtol=1e-14)


def test_log1mexp_at_the_ends():
    assert float(log1mexp(jnp.float64(0.0))) == -np.inf
    assert float(log1mexp(jnp.float64(-np.inf))) == 0.0


def tuned(step_size, dim=DIM):
    return Tuning(jnp.asarray(step_size, float), make_metric(jnp.ones(dim)))


def test_one_stage_is_hmc_draw_for_draw():
    length = TrajectoryLength(num_integration_steps=5, jitter=0.4)
    tuning = tuned(0.7)
    hmc = HMC(trajectory=length).kernel(FUNNEL.density, tuning)
    single = DelayedRejectionHMC(stages=1, trajectory=length).kernel(FUNNEL.density, tuning)
    state, _ = hmc.init(jax.random.key(0), jnp.ones(DIM))
    other, step, other_step = state, jax.jit(hmc.step), jax.jit(single.step)
    moves = 0
    for key in jax.random.split(jax.random.key(1), 100):
        before = state.position
        state, info = step(key, state)
        other, other_info = other_step(key, other)
        np.testing.assert_array_equal(state.position, other.position)
        assert info.cost.gradients == other_info.cost.gradients
        np.testing.assert_allclose(info.acceptance, other_info.acceptance)
        moves += bool((state.position != before).any())
    assert 10 < moves < 100


def test_one_stage_is_hmc_through_a_run():
    settings = WindowedAdaptation(num_warmup=0, metric="dense")
    runs = [
        sampler.run(jax.random.key(3), standard_gaussian(3), Budget(800), chains=1)
        for sampler in (HMC(adaptation=settings), DelayedRejectionHMC(stages=1, adaptation=settings))
    ]
    np.testing.assert_array_equal(runs[0].draws, runs[1].draws)
    assert runs[0].warmup == runs[1].warmup


def worst_gradients(sampler, first):
    """G₁ = N, G_k = N_k + Σ_{i<k} G_i: what a stage costs with all of its ghosts."""
    each = []
    for stage in range(sampler.stages):
        each.append(
            round(first * sampler.reduction**stage if sampler.length == "time" else first) + sum(each)
        )
    return each


@pytest.mark.parametrize("length", ["time", "steps"])
def test_gradients_of_a_step_in_which_no_ghost_is_spared(length):
    # Ghosts are spared after an impossible proposal or a ghost that would surely be accepted; where
    # neither happens the formula is met exactly.
    sampler = DelayedRejectionHMC(stages=4, reduction=2.0, length=length, retry="always")
    run = engine(sampler)
    all_spent = 0
    worst = worst_gradients(sampler, STEPS)
    for theta, rho in zip(*phase_points(60, 7), strict=True):
        _, found = run(theta, rho)
        spent = [int(gradients) for *_, gradients in found]
        assert all(s <= w for s, w in zip(spent, worst, strict=True))
        all_spent += spent == worst
    assert all_spent >= 3


@pytest.mark.parametrize(("length", "retry"), [("time", "always"), ("steps", "probabilistic")])
def test_gradients_of_a_step_are_those_executed(length, retry):
    target = rejecting_posterior()
    counter = target.counter
    assert counter is not None
    sampler = DelayedRejectionHMC(
        stages=3, reduction=3.0, length=length, retry=retry,
        trajectory=TrajectoryLength(num_integration_steps=3, jitter=0.5),
    )  # fmt: skip
    kernel = sampler.kernel(target.density, tuned(1.2, 3))
    state, _ = kernel.init(jax.random.key(0), jnp.zeros(3))
    step, costs = jax.jit(kernel.step), set()
    for key in jax.random.split(jax.random.key(1), 100):
        before = counter.read().gradients
        state, info = jax.block_until_ready(step(key, state))
        assert int(info.cost.gradients) == counter.read().gradients - before
        costs.add((int(info.extra["tried_stages"]), int(info.cost.gradients)))
    assert {stages for stages, _ in costs} == {1, 2, 3}
    assert len(costs) > 6  # short-circuits included


def isolated(dim):
    """Positive density within the unit ball only."""
    return from_log_density("ball", dim, lambda x: jnp.where(x @ x < 1, -0.5 * (x @ x), -jnp.inf))


def test_impossible_proposals_are_rejected_and_have_no_ghosts():
    sampler = DelayedRejectionHMC(
        stages=3, length="time", reduction=4.0, retry="always",
        trajectory=TrajectoryLength(num_integration_steps=2, jitter=0.0),
    )  # fmt: skip
    kernel = sampler.kernel(isolated(2).density, tuned(1e3, 2))
    state, _ = kernel.init(jax.random.key(0), jnp.zeros(2))
    new, info = jax.jit(kernel.step)(jax.random.key(1), state)
    np.testing.assert_array_equal(new.position, state.position)
    assert (int(info.cost.gradients), float(info.acceptance)) == (2 + 8 + 32, 0.0)
    assert (int(info.extra["tried_stages"]), int(info.extra["accepted_stage"])) == (3, 0)


def scripted(values):
    """``propose`` and ``log_joint`` over points 0, 1, 2, … of given log joint density.

    A point's position is its number; stage k of point i leads to ``values``' key (i, k).
    """
    table, joints = values

    def propose(stage, point, wanted):
        target = jnp.int32(0)
        for (i, k), end in table.items():
            target = jnp.where((point.position == i) & (stage == k), end, target)
        return PhasePoint(target, point.momentum, point.log_density, point.gradient), jnp.int32(1)

    return propose, lambda point: jnp.asarray(joints)[point.position]


@pytest.mark.parametrize(
    ("ghost", "log_alpha", "why"),
    [
        (0.5, -np.inf, "a ghost that would surely be accepted"),
        (-np.inf, np.log(0.5) - np.log(0.75), "a ghost of zero density is never accepted"),
        (np.log(0.25), np.log(0.5) + np.log(0.5) - np.log(0.75), "a ghost accepted half the time"),
    ],
)
def test_second_stage_with(ghost, log_alpha, why):
    # x = 0 with π = 1; its first proposal 1 with π = 1/4; its second 2 with π = 1/2; 2's ghost is 3
    table = {(0, 0): 1, (0, 1): 2, (2, 0): 3}
    propose, joint = scripted((table, [0.0, np.log(0.25), np.log(0.5), ghost]))
    start = PhasePoint(jnp.int32(0), jnp.float64(0), jnp.float64(0), jnp.float64(0))
    tried = attempt(1, start, [jnp.log(jnp.float64(0.75))], propose, joint, 1.0, jnp.bool_(True))
    np.testing.assert_allclose(float(tried.log_acceptance), log_alpha, rtol=1e-14, err_msg=why)


def test_dead_lanes_subtract_no_infinities():
    # Lane by lane: a second stage of density 0, whose ghost would start there; one that is not
    # wanted; one that has a ghost of density 0.
    joints = [0.0, -np.inf, -np.inf, np.log(0.5), -np.inf, 0.0]
    propose, joint = scripted(({(0, 1): 1, (1, 0): 2, (5, 1): 3, (3, 0): 4}, joints))

    def lane(i, wanted):
        start = PhasePoint(i, jnp.float64(0), jnp.float64(0), jnp.float64(0))
        return attempt(1, start, [jnp.log(jnp.float64(0.75))], propose, joint, 1.0, wanted).log_acceptance

    lanes = jnp.array([0, 0, 5]), jnp.array([True, False, True])
    operations = jax.make_jaxpr(jax.vmap(lane))(*lanes)
    with jax.debug_nans(True):  # after every operation
        (found,) = eval_jaxpr(operations.jaxpr, operations.consts, *lanes)
    np.testing.assert_allclose(found, [-np.inf, -np.inf, np.log(0.5) - np.log(0.75)])


def test_stages_without_end_give_no_nan():
    sampler = DelayedRejectionHMC(
        stages=5, reduction=10.0, retry="always",
        trajectory=TrajectoryLength(num_integration_steps=1, jitter=0.0),
    )  # fmt: skip
    kernel = sampler.kernel(FUNNEL.density, tuned(50.0))
    state, _ = kernel.init(jax.random.key(0), jnp.array([-6.0, 0.02, 0.01, -0.03]))
    last, infos = jax.jit(lambda s, k: jax.lax.scan(lambda s, k: kernel.step(k, s), s, k))(
        state, jax.random.split(jax.random.key(1), 200)
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((last, infos)))
    stages = np.asarray(infos.extra["accepted_stage"])
    assert stages.max() >= 4
    assert np.asarray(infos.cost.gradients).max() <= sum(worst_gradients(sampler, 1))


def test_vmapped_kernel_is_the_kernel():
    # Under vmap both branches of every conditional are executed; what is not wanted must not leak.
    kernel = DelayedRejectionHMC(
        retry="always", trajectory=TrajectoryLength(num_integration_steps=2)
    ).kernel(FUNNEL.density, tuned(1.5))  # fmt: skip
    keys = jax.random.split(jax.random.key(2), 40)
    states = jax.vmap(lambda x: kernel.init(keys[0], x)[0])(jnp.asarray(phase_points(40, 11)[0]))
    together, infos = jax.jit(jax.vmap(kernel.step))(keys, states)
    alone = jax.jit(kernel.step)
    for i in range(40):
        state, info = alone(keys[i], jax.tree.map(lambda leaf, i=i: leaf[i], states))
        np.testing.assert_allclose(together.position[i], state.position, rtol=1e-9, atol=1e-12)
        assert infos.cost.gradients[i] == info.cost.gradients
        assert infos.extra["accepted_stage"][i] == info.extra["accepted_stage"]
    assert set(np.asarray(infos.extra["accepted_stage"]).tolist()) >= {0, 1, 2}


def test_acceptance_that_is_certain_never_fails(monkeypatch):
    # u = 1 has positive probability, in float32 about once in ten million steps. A stage rejected
    # with α = 1 would divide the next one by 1 − α = 0.
    monkeypatch.setattr(stages, "log_uniform", lambda key, stage: jnp.float64(0.0))
    flat = from_log_density("level", 2, lambda x: 0.0 * x.sum())
    sampler = DelayedRejectionHMC(
        stages=2, retry="always", trajectory=TrajectoryLength(num_integration_steps=1, jitter=0.0)
    )
    kernel = sampler.kernel(flat.density, tuned(0.5, 2))
    state, cost = kernel.init(jax.random.key(0), jnp.zeros(2))
    assert cost == Cost(gradients=1)
    _, info = jax.jit(kernel.step)(jax.random.key(4), state)
    assert (int(info.extra["accepted_stage"]), int(info.cost.gradients)) == (1, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stages": 0}, "stages=0"),
        ({"reduction": 1.0}, r"reduction=1\.0"),
        ({"length": "both"}, "length='both'"),
        ({"retry": "never"}, "retry='never'"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        DelayedRejectionHMC(**settings)
