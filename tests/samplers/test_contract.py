"""What every sampler keeps: shapes, purity, reproducibility, its budget, and an exact account."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import Hierarchy, from_stan, standard_gaussian
from essper.samplers import (
    HMC,
    NUTS,
    AmortizedVI,
    Budget,
    ConstantFactorVI,
    DelayedRejectionGeneralizedHMC,
    DelayedRejectionHMC,
    FlowVI,
    FullRankVI,
    Gibbs,
    HMCUpdate,
    LowRankVI,
    MeanFieldVI,
    Run,
    SliceUpdate,
    TrajectoryLength,
    WindowedAdaptation,
)
from essper.samplers.adaptation import Tuning
from essper.samplers.mala import MALA
from essper.samplers.metrics import make_metric
from essper.samplers.vi import Fitting
from stan_programs import rejecting_posterior

DENSE = WindowedAdaptation(metric="dense")
SHORT = TrajectoryLength(max_num_integration_steps=16)
CHAINS = 3
BUDGET = Budget(1200)

SAMPLERS = {
    "HMC": HMC(trajectory=SHORT),
    "HMC dense": HMC(trajectory=TrajectoryLength(num_integration_steps=5, jitter=0.5), adaptation=DENSE),
    "NUTS": NUTS(max_num_doublings=5),
    "NUTS mclachlan dense": NUTS(max_num_doublings=5, integrator="mclachlan", adaptation=DENSE),
    "DR-HMC": DelayedRejectionHMC(trajectory=SHORT),
    "DR-HMC K=2 time always dense": DelayedRejectionHMC(
        stages=2, reduction=4.0, length="time", retry="always", trajectory=SHORT, adaptation=DENSE
    ),
    "DR-HMC K=4 steps": DelayedRejectionHMC(stages=4, reduction=10.0, trajectory=SHORT),
    "DR-G-HMC": DelayedRejectionGeneralizedHMC(
        trajectory=TrajectoryLength(num_integration_steps=1, jitter=0.0, max_num_integration_steps=16)
    ),
    "DR-G-HMC K=2 always dense": DelayedRejectionGeneralizedHMC(
        stages=2, retry="always", damping=0.5, transitions=1, trajectory=SHORT, adaptation=DENSE
    ),
    "MALA": MALA(),
}


def most_gradients(sampler) -> int:
    """That one step can cost."""
    if isinstance(sampler, NUTS):
        per_step = {"velocity_verlet": 1, "mclachlan": 2}[sampler.integrator]
        return (2**sampler.max_num_doublings - 1) * per_step
    stages, total = getattr(sampler, "stages", 1), 0
    for stage in range(stages):  # a stage's ghosts cost at most what all stages before it cost
        growth = sampler.reduction**stage if getattr(sampler, "length", "") == "time" else 1
        total += round(sampler.trajectory.max_num_integration_steps * growth) + total
    if isinstance(sampler, DelayedRejectionGeneralizedHMC):
        return total * (sampler.transitions or sampler.trajectory.max_num_integration_steps)
    return total


FIRST_STEP_SIZE = 101
"""Gradients that a search for a first step size can cost."""


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler(name, monkeypatch):
    sampler, target = SAMPLERS[name], rejecting_posterior()
    run = sampler.run(jax.random.key(0), target, BUDGET, chains=CHAINS)
    check_shapes(run)
    check_account(run)
    check_budget(run)
    check_datatree(run)
    assert run.executed is not None
    assert run.executed.failed > 0  # or the next line has nothing to find
    assert np.isfinite(run.draws).all()
    assert np.isfinite(run.info.acceptance).all()
    assert len(np.unique(run.draws[:, :, 0])) > run.draws.shape[1]

    monkeypatch.setenv("ESSPER_THREADS", "1")
    reports = []
    again = sampler.run(
        jax.random.key(0), target, BUDGET, chains=CHAINS, progress=lambda *report: reports.append(report)
    )
    assert again.draws.tobytes() == run.draws.tobytes()
    for a, b in zip(
        jax.tree.leaves((run.info, run.warmup)), jax.tree.leaves((again.info, again.warmup)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert {phase for phase, *_ in reports} == {"warmup", "sampling"}
    assert reports[-1][1] == spent(again).sum()
    other = sampler.run(jax.random.key(1), target, BUDGET, chains=CHAINS)
    assert not np.isin(other.draws, run.draws).any()


def spent(run: Run) -> np.ndarray:
    return np.asarray(run.warmup.gradients) + np.asarray(run.sampling.gradients)


def check_shapes(run: Run):
    draws = run.draws.shape[1]
    assert run.draws.shape == (CHAINS, draws, run.target.dim)
    assert draws > 10
    assert run.draws.dtype == np.float64
    for leaf in jax.tree.leaves(run.info):
        assert leaf.shape == (CHAINS, draws)
    for leaf in jax.tree.leaves((run.warmup, run.sampling)):
        assert leaf.shape == (CHAINS,)
    assert ((run.info.acceptance >= 0) & (run.info.acceptance <= 1 + 1e-12)).all()
    assert run.info.divergent.dtype == bool


def check_account(run: Run):
    assert run.executed is not None
    assert run.executed.gradients == spent(run).sum()
    assert run.executed.densities == 0
    # Draws past the shortest chain's end are dropped, what they cost is not.
    of_draws = run.info.cost.gradients.sum(axis=1)
    assert (of_draws <= run.sampling.gradients).all()
    assert (of_draws == run.sampling.gradients).any()


def check_budget(run: Run):
    one_step = most_gradients(run.sampler)
    warmup = int(run.sampler.adaptation.budget_fraction * BUDGET.gradients)
    assert (run.warmup.gradients < warmup + one_step + FIRST_STEP_SIZE).all()
    assert (spent(run) < BUDGET.gradients + one_step).all()
    assert spent(run).max() >= BUDGET.gradients
    assert run.info.cost.gradients.max() <= one_step
    before_last = run.warmup.gradients + run.info.cost.gradients[:, :-1].sum(axis=1)
    assert (before_last < BUDGET.gradients).all()


def check_datatree(run: Run):
    from arviz_stats.summary import summary

    tree = run.to_datatree()
    draws = run.draws.shape[1]
    assert tree["posterior"]["theta"].shape == (CHAINS, draws, 2)
    np.testing.assert_allclose(tree["posterior"]["tau"], np.exp(run.draws[:, :, 2]))
    for statistic in ("diverging", "acceptance_rate", "n_gradients", "energy"):
        assert tree["sample_stats"][statistic].shape == (CHAINS, draws)
    table = summary(tree)
    assert list(table.index) == ["theta[0]", "theta[1]", "tau", "shift"]


FIXED = WindowedAdaptation(metric="identity", step_size=0.4)


@pytest.mark.parametrize("name", SAMPLERS)
def test_step_is_pure(name):
    target = standard_gaussian(2)
    dense = "dense" in name
    metric = make_metric(jnp.array([[1.0, 0.3], [0.3, 0.5]]) if dense else jnp.array([1.0, 0.5]))
    kernel = SAMPLERS[name].kernel(target.density, Tuning(jnp.float64(0.9), metric))
    state, cost = kernel.init(jax.random.key(0), jnp.array([0.5, -1.0]))
    assert cost.gradients == 1
    untouched, key = jax.tree.map(np.array, state), jax.random.key(5)
    step = jax.jit(kernel.step)
    compiled, again, interpreted = step(key, state), step(key, state), kernel.step(key, state)
    for a, b, c in zip(*map(jax.tree.leaves, (compiled, again, interpreted)), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-12, atol=1e-12)
    for a, b in zip(jax.tree.leaves(untouched), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (kernel.position(compiled[0]) != kernel.position(state)).any()


@pytest.mark.parametrize("name", ["NUTS", "DR-HMC"])
def test_draws_of_a_chain_do_not_depend_on_the_others(name):
    # With a tuning of their own to share, chains do depend on each other.
    sampler = replace(SAMPLERS[name], adaptation=FIXED, execution="independent")
    runs = [sampler.run(jax.random.key(0), rejecting_posterior(), Budget(600), chains=n) for n in (1, 2, 5)]
    for run in runs:
        check_account(run)
    n = min(run.draws.shape[1] for run in runs)
    for run in runs[:-1]:
        np.testing.assert_array_equal(run.draws[:, :n], runs[-1].draws[: run.chains, :n])


def test_lockstep_accounts_for_one_chain_too():
    run = HMC(trajectory=SHORT, adaptation=FIXED).run(
        jax.random.key(0), rejecting_posterior(), Budget(300), chains=1
    )
    check_account(run)
    np.testing.assert_array_equal(run.info.cost.gradients.sum(axis=1), run.sampling.gradients)


@pytest.mark.parametrize("gradients", [1, 4])
def test_budget_that_leaves_no_draw(gradients):
    # Finding a position, evaluating it and finding a step size take at least four.
    with pytest.raises(ValueError, match=rf"budget of {gradients} gradients leaves no draw on rejecting"):
        SAMPLERS["HMC"].run(jax.random.key(0), rejecting_posterior(), Budget(gradients), chains=CHAINS)


@pytest.mark.parametrize("gradients", [0, -5])
def test_budget_that_is_none(gradients):
    with pytest.raises(ValueError, match="allows no step"):
        Budget(gradients)


@pytest.mark.parametrize("sampler", [HMC(), NUTS()], ids=["HMC", "NUTS"])
def test_target_without_a_first_position_says_what_stan_said(sampler):
    target = from_stan('parameters { real x; } model { reject("never, at ", x > 3); }', name="impossible")
    with pytest.raises(ValueError, match=r"no initial position .* impossible: 100 tries .* never, at 0"):
        sampler.run(jax.random.key(0), target, Budget(1000), chains=2)
    assert target.counter is not None
    assert target.counter.read().gradients >= 100


def test_no_chains():
    with pytest.raises(ValueError, match="at least one chain"):
        HMC().run(jax.random.key(0), standard_gaussian(1), Budget(100), chains=0)


def test_threads_that_are_no_number(monkeypatch):
    monkeypatch.setenv("ESSPER_THREADS", "many")
    with pytest.raises(ValueError, match="ESSPER_THREADS='many'"):
        HMC().run(jax.random.key(0), standard_gaussian(1), Budget(100), chains=1)


@pytest.fixture
def change_precision():
    yield lambda x64: jax.config.update("jax_enable_x64", x64)
    jax.config.update("jax_enable_x64", True)


def test_precision_can_change_between_runs(change_precision):
    # What was compiled in one precision must not serve the other.
    target, sampler = standard_gaussian(1), HMC(trajectory=SHORT, adaptation=FIXED)
    narrow = replace(target, density=jax.tree.map(lambda leaf: leaf.astype(np.float32), target.density))
    found = []
    for x64 in (True, False, True):
        change_precision(x64)
        found.append(sampler.run(jax.random.key(0), narrow, Budget(100), chains=1).draws.dtype)
    assert found == [np.float64, np.float32, np.float64]


def test_doublings_that_make_no_sense():
    with pytest.raises(ValueError, match="max_num_doublings=0"):
        NUTS(max_num_doublings=0)


GIBBS = {
    "slice": (Gibbs(), 3 * 120),
    "metropolis, reversed": (Gibbs(generic="metropolis", scan="reversed"), 2),
    "hmc": (Gibbs(generic="hmc"), 9),
    "random scan": (Gibbs(scan="random"), 3 * 120),
    "two updates, permuted": (
        Gibbs(updates=(HMCUpdate((0, 1)), SliceUpdate((2,))), scan="random-permutation"),
        9 + 120,
    ),
}
"""With the evaluations that a sweep can cost."""


@pytest.mark.parametrize("name", GIBBS)
def test_gibbs(name, monkeypatch):
    (sampler, one_sweep), target = GIBBS[name], rejecting_posterior()
    run = sampler.run(jax.random.key(0), target, BUDGET, chains=CHAINS)
    check_shapes(run)
    assert run.executed is not None
    for kind in ("gradients", "densities"):
        total = np.sum(getattr(run.warmup, kind) + getattr(run.sampling, kind))
        assert getattr(run.executed, kind) == total
    assert run.executed.failed > 0
    assert np.isfinite(run.draws).all()
    warmup, sampling = run.evaluations(run.warmup), run.evaluations(run.sampling)
    assert (warmup < 0.2 * BUDGET.gradients + one_sweep + FIRST_STEP_SIZE).all()
    assert BUDGET.gradients <= (warmup + sampling).max() < BUDGET.gradients + one_sweep
    of_draws = run.evaluations(run.info.cost)
    assert of_draws.max() <= one_sweep
    assert (of_draws.sum(axis=1) <= sampling).all()
    assert (of_draws.sum(axis=1) == sampling).any()
    stats = run.to_datatree()["sample_stats"]
    assert ("n_densities" in stats) == (name != "hmc")
    monkeypatch.setenv("ESSPER_THREADS", "1")
    again = sampler.run(jax.random.key(0), target, BUDGET, chains=CHAINS)
    assert again.draws.tobytes() == run.draws.tobytes()
    more = sampler.run(jax.random.key(0), target, BUDGET, chains=CHAINS + 1)
    n = min(run.draws.shape[1], more.draws.shape[1])
    np.testing.assert_array_equal(more.draws[:CHAINS, :n], run.draws[:, :n])


FITTING = Fitting(samples=2, learning_rates=(0.03, 0.3), window=10, patience=2, halvings=3, draws=60)
VARIATIONAL = {
    "mean-field": MeanFieldVI(FITTING),
    "mean-field total, random start": MeanFieldVI(replace(FITTING, estimator="total", start="random")),
    "full-rank": FullRankVI(FITTING),
    "low-rank": LowRankVI(FITTING, rank=2),
    "flow": FlowVI(FITTING, layers=1, width=4),
    "amortized": AmortizedVI(FITTING, width=4, depth=1, before=1),
    "constant": ConstantFactorVI(FITTING),
}


@pytest.mark.parametrize("name", VARIATIONAL)
def test_variational_method(name, monkeypatch):
    sampler, target = VARIATIONAL[name], rejecting_posterior()
    data = Hierarchy(3, np.array([[0], [1]]), np.array([[1.5], [-2.0]]), ("y",), "N")
    target, before = replace(target, hierarchy=data), jax.tree.map(np.array, target.density)
    run = sampler.run(jax.random.key(0), target, BUDGET, chains=CHAINS)
    assert run.draws.shape == (CHAINS, 60, 3)
    assert run.draws.dtype == np.float64
    assert np.isfinite(run.draws).all()
    log_weight = np.asarray(run.info.extra["log_weight"])
    for leaf in jax.tree.leaves(run.info):
        assert leaf.shape == (CHAINS, 60)
    for leaf in jax.tree.leaves((run.warmup, run.sampling)):
        assert leaf.shape == (CHAINS,)
    assert np.isnan(run.info.acceptance).all()

    assert run.executed is not None
    assert run.executed.failed > 0  # or the account is not put to the test
    assert run.executed.gradients == run.warmup.gradients.sum()
    assert run.executed.densities == (run.warmup.densities + run.sampling.densities).sum()
    assert (run.sampling.gradients == 0).all()
    assert (run.sampling.densities == 60).all()
    assert (run.warmup.gradients <= BUDGET.gradients).all()
    steps = run.tuning["steps"]
    unfinished = ~run.tuning["converged"]
    assert (run.warmup.gradients[unfinished] > BUDGET.gradients - FITTING.samples).all()

    np.testing.assert_allclose(run.tuning["elbo"], log_weight.mean(axis=1))
    assert run.tuning["grid_elbo"].shape == steps.shape == (CHAINS, 2)
    assert set(run.tuning["learning_rate"]) <= set(run.tuning["learning_rates"])
    value = np.array([float(target.log_density(jnp.asarray(x))) for x in run.draws[0, :5]])
    np.testing.assert_array_equal(np.isfinite(value), np.isfinite(log_weight[0, :5]))
    tree = run.to_datatree()
    assert tree["posterior"]["theta"].shape == (CHAINS, 60, 2)
    assert tree["sample_stats"]["log_weight"].shape == (CHAINS, 60)

    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(target.density), strict=True):
        np.testing.assert_array_equal(a, b)
    monkeypatch.setenv("ESSPER_THREADS", "1")
    reports = []
    again = sampler.run(
        jax.random.key(0), target, BUDGET, chains=CHAINS, progress=lambda *report: reports.append(report)
    )
    assert again.draws.tobytes() == run.draws.tobytes()
    for a, b in zip(
        jax.tree.leaves((run.info, run.warmup, run.tuning)),
        jax.tree.leaves((again.info, again.warmup, again.tuning)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert {phase for phase, *_ in reports} == {"warmup"}
    assert (np.diff([gradients for _, gradients, _ in reports]) >= 0).all()
    other = sampler.run(jax.random.key(1), target, BUDGET, chains=1)
    assert not np.isin(other.draws, run.draws).any()


def test_every_variational_method_of_the_command_line_is_here():
    from essper.benchmarks.specs import SAMPLERS as offered

    known = {type(sampler) for sampler in VARIATIONAL.values()}
    assert {
        kind
        for kind in offered.values()
        if hasattr(kind, "fitting") or "fitting" in kind.__dataclass_fields__
    } == known


def test_fits_of_a_chain_do_not_depend_on_the_others():
    sampler = VARIATIONAL["mean-field"]
    runs = [sampler.run(jax.random.key(0), rejecting_posterior(), BUDGET, chains=n) for n in (1, 4)]
    np.testing.assert_array_equal(runs[0].tuning["steps"], runs[1].tuning["steps"][:1])
    np.testing.assert_array_equal(runs[0].tuning["grid_elbo"], runs[1].tuning["grid_elbo"][:1])
    np.testing.assert_array_equal(runs[0].draws, runs[1].draws[:1])
