"""Gibbs: updates leave their target invariant, scans mix as they must, costs are what was executed."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import correlated_gaussian, from_stan, funnel
from essper.models.conditional import Blocks, Conditional
from essper.samplers import Budget
from essper.samplers.gibbs import (
    EllipticalSliceUpdate,
    Exact,
    GaussianPrior,
    Gibbs,
    HMCUpdate,
    MetropolisUpdate,
    SliceUpdate,
    gibbs_kernel,
)
from essper.samplers.gibbs.scans import Scan
from invariance import coordinate_functions, drift, funnel_functions

N = 10_000


def kernel_of(target, *updates, scan: Scan = "systematic"):
    return gibbs_kernel(target.density, updates, scan)


def funnel_prior(x):
    """The exponent's coordinate held, the others' prior in the funnel."""
    scale = jnp.exp(x[0] / 2)
    return GaussianPrior(jnp.zeros(4), jnp.full(4, scale))


UPDATES = {
    "hmc on a block, slice on the rest": (HMCUpdate((1, 2, 3)), SliceUpdate((0, 4))),
    "elliptical, with slice": (
        EllipticalSliceUpdate((1, 2, 3, 4), funnel_prior),
        SliceUpdate((0,), width=4.0),
    ),
}


@pytest.mark.parametrize("name", UPDATES)
def test_updates_leave_the_funnel_invariant(name):
    target = funnel(5)
    assert drift(kernel_of(target, *UPDATES[name]), target, funnel_functions, steps=5, n=N).worst < 4


@pytest.mark.parametrize("scan", ["reversed", "random", "random-permutation"])
def test_scans_leave_a_gaussian_invariant(scan):
    target = correlated_gaussian(4, 0.8)
    assert target.blocks is not None
    exact = Exact(target.blocks.conditionals["x"])
    kernel = kernel_of(target, exact, MetropolisUpdate((0, 2)), scan=scan)
    assert drift(kernel, target, coordinate_functions, steps=5, n=N).worst < 4


def test_a_slice_that_does_not_shrink_is_found_out(monkeypatch):
    """A point outside of the slice is taken where it falls."""
    from essper.samplers.gibbs import slice as module

    honest = module._shrunk

    def careless(height, level, *rest):
        return honest(height, level - 3.0, *rest)

    monkeypatch.setattr(module, "_shrunk", careless)
    target = correlated_gaussian(2, 0.8)
    assert drift(kernel_of(target, SliceUpdate((0, 1))), target, coordinate_functions, steps=5, n=N).worst > 5


def test_a_wrong_conditional_is_found_out():
    target = correlated_gaussian(4, 0.8)
    assert target.blocks is not None
    right = target.blocks.conditionals["x"]

    def wide(key, block, x, extra):
        moved, extra = right.draw(key, block, x, extra)
        return x + 1.1 * (moved - x), extra

    kernel = kernel_of(target, Exact(Conditional(wide, size=4)))
    assert drift(kernel, target, coordinate_functions, steps=5, n=N).worst > 5


def test_autocorrelation_of_a_systematic_scan():
    """Of x_2 in a bivariate Gaussian, at lag k: ρ^(2k)."""
    rho, target = 0.9, correlated_gaussian(2, 0.9)
    run = Gibbs(warmup=0.0).run(jax.random.key(0), target, Budget(40_000), chains=8)
    x = run.draws[:, 100:, 1]
    x = x - x.mean()
    for lag in (1, 2, 3):
        found = np.mean(x[:, lag:] * x[:, :-lag]) / np.mean(x**2)
        assert abs(found - rho ** (2 * lag)) < 0.01
    assert not run.sampling.gradients.any()
    assert not run.sampling.densities.any()
    assert np.all(run.sampling.conditional_draws == 2 * run.draws.shape[1])
    assert run.warnings == ()


def test_conditional_draws_fill_the_budget():
    """Of a sweep that declares six of them, warmup's included: no sweep is begun once it is spent."""
    target, budget = correlated_gaussian(2, 0.5), 1000
    assert target.blocks is not None
    threefold = replace(target.blocks.conditionals["x"], draws=3)
    run = Gibbs().run(
        jax.random.key(0), replace(target, blocks=Blocks({"x": threefold})), Budget(budget), chains=2
    )
    assert np.all(run.sampling.conditional_draws == 6 * run.draws.shape[1])
    assert np.all(run.info.cost.conditional_draws == 6)
    assert np.all(run.warmup.gradients == 1)  # is the density finite at the start?
    assert np.all(run.evaluations(run.warmup) + run.evaluations(run.sampling) == 1 + 167 * 6)
    assert np.all(run.evaluations(run.warmup) > 0)


def test_blocks_that_are_alike_are_not_unrolled():
    """The program of 200 single-site draws is as long as that of 4."""

    def equations(dim):
        target = correlated_gaussian(dim, 0.5)
        assert target.blocks is not None
        kernel = kernel_of(target, Exact(target.blocks.conditionals["x"]))
        state, _ = kernel.init(jax.random.key(0), jnp.zeros(dim))
        return len(str(jax.make_jaxpr(kernel.step)(jax.random.key(0), state)).splitlines())

    assert equations(200) == equations(4)


@pytest.mark.parametrize("generic", ["metropolis", "hmc"])
def test_what_is_reported_is_what_stan_has_executed(generic):
    target = from_stan("parameters { vector[3] x; } model { x ~ normal(0, [1, 2, 3]'); }")
    run = Gibbs(generic=generic).run(jax.random.key(0), target, Budget(2000), chains=2)
    assert run.executed is not None
    total = [getattr(run.warmup, name) + getattr(run.sampling, name) for name in ("gradients", "densities")]
    assert run.executed[:2] == tuple(int(np.sum(found)) for found in total)
    assert np.all(np.add(*total) >= 2000)
    assert np.allclose(run.draws.std(axis=(0, 1)), [1, 2, 3], rtol=0.5)


def test_warmup_adapts_and_sampling_does_not():
    target = from_stan("parameters { real x; } model { x ~ normal(0, 100); }")
    run = Gibbs().run(jax.random.key(0), target, Budget(4000), chains=1)
    each = run.sampling.densities / run.draws.shape[1]
    assert each < 8  # a width of 1 would step out 16 times
    assert run.executed is not None
    assert run.executed.densities == np.sum(run.warmup.densities + run.sampling.densities)


def test_extra_variables_are_kept():
    """A coin that is tossed at every sweep stands beside the draws."""

    def toss(key, block, x, extra):
        return x, {"coin": jax.random.bernoulli(key).astype(int)}

    target = correlated_gaussian(2, 0.5)
    blocks = Blocks({"coin": Conditional(toss)}, left=(0, 1), start=lambda key, x: {"coin": jnp.asarray(0)})
    sampler = Gibbs(generic="metropolis")
    run = sampler.run(jax.random.key(0), replace(target, blocks=blocks), Budget(4000), chains=2)
    coins = np.asarray(run.info.extra["coin"])
    assert coins.shape == run.draws.shape[:2]
    assert abs(coins.mean() - 0.5) < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scan": "sideways"}, "scan="),
        ({"generic": "nuts"}, "generic="),
        ({"warmup": 1.0}, "warmup="),
        ({"scan": "weighted"}, "weights"),
        ({"weights": (1.0, 2.0)}, "weights"),
        ({"scan": "weighted", "weights": (1.0, 0.0)}, "positive"),
    ],
)
def test_wrong_settings(options, message):
    with pytest.raises(ValueError, match=message):
        Gibbs(**options)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (SliceUpdate((0, 3)), r"SliceUpdate.* has the unconstrained coordinates 0 … 2, not 3"),
        (MetropolisUpdate((0, -1)), "not -1"),
        (HMCUpdate((1, 1)), "each once"),
        (SliceUpdate(()), "one or more"),
    ],
)
def test_updates_of_coordinates_that_are_not_there(update, message):
    with pytest.raises(ValueError, match=message):
        Gibbs(updates=(update,)).run(jax.random.key(0), correlated_gaussian(3, 0.5), Budget(100))


def test_coordinates_that_nothing_updates_are_named():
    target = correlated_gaussian(3, 0.5)
    run = Gibbs(updates=(MetropolisUpdate((0, 2)),)).run(jax.random.key(0), target, Budget(400), chains=2)
    assert run.warnings == ("the coordinates 1 never moved: does an update draw them?",)


def test_as_many_weights_as_blocks():
    target = correlated_gaussian(3, 0.5)
    sampler = Gibbs(scan="weighted", weights=(1.0, 2.0))
    with pytest.raises(ValueError, match="2 weights for 3 blocks"):
        sampler.run(jax.random.key(0), target, Budget(100))
