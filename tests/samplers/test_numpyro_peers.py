"""NumPyro's Gibbs samplers under our interface: what they leave invariant, and that all is counted."""

from dataclasses import replace
from typing import Any

import discrete_models
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from arviz_stats.base.array import array_stats
from essper.models import Target, from_numpyro, from_stan, funnel, standard_gaussian
from essper.models.conditional import Blocks, Conditional
from essper.posteriordb_adapter import PosteriorDatabase
from essper.samplers import Budget, Run, WindowedAdaptation
from essper.samplers.adaptation import Tuning
from essper.samplers.metrics import make_metric
from essper.samplers.peers.numpyro import NumPyroDiscreteHMCGibbs, NumPyroHMCGibbs
from invariance import coordinate_functions, drift, drifts, funnel_functions

FIXED = WindowedAdaptation(metric="identity", step_size=0.4, budget_fraction=0.1)
N = 5_000


def spent(run: Run) -> dict[str, np.ndarray]:
    names = ("gradients", "densities", "conditional_draws")
    return {name: getattr(run.warmup, name) + getattr(run.sampling, name) for name in names}


def check_account(run: Run) -> None:
    """What the target has executed is what was reported, of draws as of chains."""
    assert run.executed is not None
    total = spent(run)
    assert run.executed.gradients == total["gradients"].sum()
    assert run.executed.densities == total["densities"].sum()
    of_draws = run.info.cost.gradients.sum(axis=1)
    assert (of_draws <= run.sampling.gradients).all()
    assert (of_draws == run.sampling.gradients).any()


def z_scores(draws: np.ndarray, mean: np.ndarray, error: np.ndarray | float = 0.0) -> np.ndarray:
    """Of means over ``f[chain, draw, n]``; ``error`` is what the other ones have."""
    mcse = [array_stats.mcse(draws[..., i], chain_axis=0, draw_axis=1) for i in range(draws.shape[-1])]
    return (draws.mean(axis=(0, 1)) - mean) / np.hypot(np.asarray(mcse, float), error)


# -- HMCGibbs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schools():
    posterior = PosteriorDatabase().posterior("eight_schools-eight_schools_noncentered")
    return posterior, posterior.target(backend="bridgestan", blocks=True)


def test_eight_schools(schools):
    posterior, target = schools
    budget = Budget(20_000)
    run = NumPyroHMCGibbs().run(jax.random.key(0), target, budget, chains=4)
    check_account(run)
    total, steps = spent(run), run.info.extra["num_integration_steps"]
    assert (run.info.cost.gradients == steps + 1).all()  # the schools always move
    assert (run.info.cost.conditional_draws == 2).all()
    assert len(np.unique(steps)) > 2
    evaluations = total["gradients"] + total["conditional_draws"]
    assert (evaluations < budget.gradients + steps.max() + 3).all()
    assert evaluations.max() >= budget.gradients

    reference = posterior.reference()
    names = ("mu", "tau", *(f"theta[{i + 1}]" for i in range(8)))
    known, columns = reference.select(names).draws, [target.param_names.index(name) for name in names]
    errors = [array_stats.mcse(known[..., i], chain_axis=0, draw_axis=1) for i in range(len(names))]
    found = z_scores(run.constrained()[..., columns], known.mean(axis=(0, 1)), np.asarray(errors, float))
    assert np.abs(found).max() < 4


def test_numpyro_gets_its_part_of_the_metric():
    inverse = np.array([[1.0, 0.2, 0.1], [0.2, 2.0, 0.7], [0.1, 0.7, 3.0]])
    blocks = Blocks({"x": Conditional(lambda key, block, x, extra: (x, extra))}, left=(2, 0))
    target = replace(standard_gaussian(3), blocks=blocks)
    for metric in (inverse, np.diag(inverse)):
        kind = "dense" if metric.ndim == 2 else "diagonal"
        bound = NumPyroHMCGibbs(adaptation=WindowedAdaptation(metric=kind)).bound(target)
        kernel = bound.kernel(target.density, Tuning(jnp.float64(0.3), make_metric(jnp.asarray(metric))))
        state, _ = kernel.init(jax.random.key(0), jnp.zeros(3))
        adapted = state.hmc_state.adapt_state
        (part,), (root,) = adapted.inverse_mass_matrix.values(), adapted.mass_matrix_sqrt.values()
        expected = inverse[np.ix_([2, 0], [2, 0])] if kind == "dense" else np.array([3.0, 1.0])
        np.testing.assert_allclose(part, expected)
        mass = np.linalg.inv(expected) if kind == "dense" else np.diag(1 / expected)
        square = root @ root.T if kind == "dense" else np.diag(root**2)
        np.testing.assert_allclose(square, mass, rtol=1e-12, atol=1e-12)
        assert adapted.step_size == 0.3


def draw_of_funnel(wide: jax.Array) -> Target:
    """The funnel with its x_1 … x_4 drawn given v, too wide by a factor."""

    def draw(key, block, x, extra):
        return x.at[1:].set(wide * jnp.exp(x[0] / 2) * jax.random.normal(key, (4,))), extra

    return replace(funnel(5), blocks=Blocks({"x": Conditional(draw)}, left=(0,)))


@pytest.mark.parametrize("inner", ["nuts", "hmc"])
def test_steps_leave_the_funnel_invariant(inner):
    """And do not if what is drawn is too wide."""
    sampler = NumPyroHMCGibbs(inner=inner, max_num_doublings=3, num_integration_steps=4)

    def kernel_of(wide: jax.Array):
        target = draw_of_funnel(wide)
        tuning = Tuning(jnp.float64(0.5), make_metric(jnp.ones(target.dim)))
        return sampler.bound(target).kernel(target.density, tuning)

    right, wrong = drifts(kernel_of, (1.0, 1.1), funnel(5), funnel_functions, steps=3, n=N)
    assert right.worst < 4
    assert wrong.worst > 5


def test_a_gradient_more_only_where_something_was_drawn():
    """A coin stands beside the draws: where it falls as before, the last gradient still holds."""

    def toss(key, block, x, extra):
        return x, {"coin": jax.random.bernoulli(key).astype(int)}

    target = from_stan("parameters { vector[2] x; } model { x ~ normal(0, [1, 2]'); }")
    blocks = Blocks({"coin": Conditional(toss)}, left=(0, 1), start=lambda key, x: {"coin": jnp.asarray(0)})
    sampler = NumPyroHMCGibbs(inner="hmc", num_integration_steps=4, adaptation=FIXED)
    run = sampler.run(jax.random.key(0), replace(target, blocks=blocks), Budget(2000), chains=2)
    check_account(run)
    coins = np.asarray(run.info.extra["coin"])
    assert coins.shape == run.draws.shape[:2]
    turned = coins[:, 1:] != coins[:, :-1]
    np.testing.assert_array_equal(run.info.cost.gradients[:, 1:], 4 + turned)
    assert 0.3 < turned.mean() < 0.7


def test_nothing_to_draw_or_nothing_to_move():
    target = standard_gaussian(2)
    with pytest.raises(ValueError, match=r"no exact conditionals.* run nuts"):
        NumPyroHMCGibbs().bound(replace(target, blocks=None))
    draw = Conditional(lambda key, block, x, extra: (jax.random.normal(key, (2,)), extra))
    with pytest.raises(ValueError, match="none to move by gradients: run gibbs"):
        NumPyroHMCGibbs().bound(replace(target, blocks=Blocks({"x": draw})))


@pytest.mark.parametrize(
    "options", [{"inner": "gibbs"}, {"max_num_doublings": 0}, {"num_integration_steps": 0}]
)
def test_wrong_settings(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}="):
        NumPyroHMCGibbs(**options)


# -- DiscreteHMCGibbs -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixture():
    """The target, and what is known of it."""
    target = from_numpyro(discrete_models.marginal, discrete_models.Y)
    return target, discrete_models.exact_means(target, discrete_models.Y)


@pytest.mark.parametrize(("random_walk", "modified"), [(False, False), (True, True)])
def test_mixture(mixture, random_walk, modified):
    target, exact = mixture
    counted = discrete_models.Evaluations()
    sampler = NumPyroDiscreteHMCGibbs(
        inner="hmc" if random_walk or modified else "nuts",
        adaptation=FIXED if random_walk or modified else WindowedAdaptation(),
        model=discrete_models.mixture,
        args=(discrete_models.Y, counted),
        random_walk=random_walk,
        modified=modified,
    )
    assert list(sampler.peer.columns) == [1, 0]  # NumPyro's order is the alphabet's
    counted.gradients = counted.densities = 0  # of preparing it
    budget = Budget(10_000)
    run = sampler.run(jax.random.key(0), target, budget, chains=2)
    total = {name: int(values.sum()) for name, values in spent(run).items()}
    assert total == {
        "gradients": counted.gradients,
        "densities": counted.densities,
        "conditional_draws": 0,
    }

    labels, wide = (np.asarray(run.info.extra[name]) for name in ("label", "wide"))
    turned = (labels[:, 1:] != labels[:, :-1]).any(axis=2) | (wide[:, 1:] != wide[:, :-1])
    moved = (run.draws[:, 1:] != run.draws[:, :-1]).any(axis=2)
    cost, steps = run.info.cost, run.info.extra["num_integration_steps"]
    np.testing.assert_array_equal(cost.gradients[:, 1:], steps[:, 1:] + turned)
    np.testing.assert_array_equal(cost.densities[:, 1:], (5 if random_walk else 9) + moved)
    most = steps.max() + 1 + 10
    evaluations = spent(run)["gradients"] + spent(run)["densities"]
    assert (evaluations < budget.gradients + most).all()
    assert evaluations.max() >= budget.gradients

    found = np.concatenate([run.constrained(), wide[..., None], labels == 1], axis=2)
    assert np.abs(z_scores(found, exact)).max() < 4


def switches():
    """A prior: of its discrete sites given u, chains start from exact draws."""
    u: Any = numpyro.sample("u", dist.Normal(0.0, 1.0))
    with numpyro.plate("switch", 3):
        numpyro.sample("on", dist.BernoulliLogits(2 * u))
    numpyro.sample("which", dist.CategoricalLogits(jnp.stack([u, jnp.zeros(()), -u])))


def normal():
    numpyro.sample("u", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize(("random_walk", "modified"), [(False, True), (True, False)])
def test_steps_leave_a_prior_invariant(random_walk, modified):
    exact = standard_gaussian(1).exact
    target = replace(from_numpyro(normal), exact=exact)
    sampler = NumPyroDiscreteHMCGibbs(
        inner="hmc", num_integration_steps=3, model=switches, random_walk=random_walk, modified=modified
    )
    kernel = sampler.peer.bound.kernel(target.density, Tuning(jnp.float64(0.7), make_metric(jnp.ones(1))))
    assert drift(kernel, target, coordinate_functions, steps=3, n=N).worst < 4


def test_draws_are_those_of_the_seed_and_of_the_chain_alone():
    target = from_numpyro(normal)
    sampler = NumPyroDiscreteHMCGibbs(inner="hmc", num_integration_steps=2, adaptation=FIXED, model=switches)
    runs = [sampler.run(jax.random.key(0), target, Budget(600), chains=n) for n in (3, 3, 1)]
    assert runs[0].draws.tobytes() == runs[1].draws.tobytes()
    n = min(run.draws.shape[1] for run in runs)
    for a, b in zip(jax.tree.leaves(runs[2].info), jax.tree.leaves(runs[0].info), strict=True):
        np.testing.assert_array_equal(a[:, :n], b[:1, :n])
    np.testing.assert_array_equal(runs[2].draws[:, :n], runs[0].draws[:1, :n])
    assert runs[0].to_datatree()["sample_stats"]["on"].shape == (*runs[0].draws.shape[:2], 3)
    other = sampler.run(jax.random.key(1), target, Budget(600), chains=3)
    assert not np.isin(other.draws, runs[0].draws).any()


def test_first_values_of_density_0_are_drawn_again():
    """Switches of which all but one are impossible: the prior finds that one in every eighth try."""

    def one_of_eight():
        u: Any = numpyro.sample("u", dist.Normal(0.0, 1.0))
        with numpyro.plate("switch", 3):
            on: Any = numpyro.sample("on", dist.BernoulliProbs(0.5))
        numpyro.factor("all", jnp.where(on.sum() == 3, 0.0 * u, -jnp.inf))

    target = from_numpyro(normal)
    sampler = NumPyroDiscreteHMCGibbs(inner="hmc", num_integration_steps=2, model=one_of_eight)
    kernel = sampler.peer.bound.kernel(target.density, Tuning(jnp.float64(0.7), make_metric(jnp.ones(1))))
    keys = jax.random.split(jax.random.key(0), 50)
    states, costs = jax.jit(jax.vmap(lambda key: kernel.init(key, jnp.zeros(1))))(keys)
    assert (states.z["on"] == 1).all()
    assert (costs.densities >= 1).all()
    assert 4 < costs.densities.mean() < 14


def test_models_that_will_not_do():
    def shifted():
        u: Any = numpyro.sample("u", dist.Normal(0.0, 1.0))
        numpyro.sample("k", dist.DiscreteUniform(1, 3))
        numpyro.factor("f", u)

    def discrete():
        numpyro.sample("k", dist.BernoulliProbs(0.5))

    target = from_numpyro(normal)
    for model, message in (
        (shifted, "'k' has the values 1 … 3"),
        (discrete, "no continuous latent site"),
        (normal, "no discrete latent site"),
    ):
        with pytest.raises(ValueError, match=message):
            NumPyroDiscreteHMCGibbs(model=model).run(jax.random.key(0), target, Budget(100))


def test_targets_that_are_not_the_marginal():
    sampler = NumPyroDiscreteHMCGibbs(model=switches)
    with pytest.raises(ValueError, match=r"has the parameters x\[1\], the model's continuous sites are u"):
        sampler.run(jax.random.key(0), standard_gaussian(1), Budget(100))

    def positive():
        numpyro.sample("u", dist.HalfNormal(1.0))

    with pytest.raises(ValueError, match="other unconstrained coordinates"):
        sampler.run(jax.random.key(0), from_numpyro(positive), Budget(100))
