"""Wrong generic updates are found out; right ones agree on two backends and report what they evaluate."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import (
    Density,
    correlated_gaussian,
    from_stan,
    funnel,
    ill_conditioned_gaussian,
    standard_gaussian,
)
from essper.models.conditional import Conditional
from essper.models.gaussian import coordinates_given_others
from essper.samplers.gibbs import (
    EllipticalSliceUpdate,
    Exact,
    GaussianPrior,
    HMCUpdate,
    MetropolisUpdate,
    SliceUpdate,
    elliptical,
    gibbs_kernel,
    hamiltonian,
)
from essper.samplers.gibbs import slice as slices
from invariance import coordinate_functions, drift, funnel_functions

N = 10_000


def counter_of(target):
    assert target.counter is not None
    return target.counter


def counts(target):
    """(gradients, densities, failed) since the last reset."""
    return counter_of(target).read()


def kernel_of(target, *updates):
    return gibbs_kernel(target.density, updates, "systematic")


def worst(target, functions, *updates):
    return drift(kernel_of(target, *updates), target, functions, steps=5, n=N).worst


@dataclass(frozen=True)
class Multiplied:
    """An update that takes the log density for a multiple of itself: 0 accepts all, −1 takes the inverse."""

    update: Any
    factor: float

    @property
    def size(self):
        return self.update.size

    def start(self, point):
        return self.update.start(point)

    def step(self, key, block, state, point, density, adapting):
        def fused(_, x):
            return density.value_and_grad(x)

        wrong = Density(fused, lambda _, x: self.factor * density.log_density(x), ())
        return self.update.step(key, block, state, point, wrong, adapting)


@pytest.mark.parametrize("factor", [0.0, -1.0, 0.8])
def test_metropolis_with_a_wrong_ratio_is_found_out(factor):
    """Every proposal accepted; the ratio upside down; a tempered one."""
    assert worst(funnel(5), funnel_functions, Multiplied(MetropolisUpdate(), factor)) > 5
    assert worst(funnel(5), funnel_functions, Multiplied(MetropolisUpdate(), 1.0)) < 4


@pytest.fixture
def long_steps(monkeypatch):
    """Leapfrog steps whose error counts."""
    monkeypatch.setattr(hamiltonian, "FIRST", 0.8)


def test_hmc_with_long_steps_is_invariant(long_steps):
    assert worst(funnel(5), funnel_functions, HMCUpdate()) < 4


def test_hmc_that_accepts_everything_is_found_out(long_steps, monkeypatch):
    monkeypatch.setattr(hamiltonian, "log_joint", lambda metric, point: jnp.zeros(()))
    assert worst(funnel(5), funnel_functions, HMCUpdate()) > 5


def test_hmc_with_the_kinetic_energy_added_is_found_out(long_steps, monkeypatch):
    right = hamiltonian.log_joint
    monkeypatch.setattr(hamiltonian, "log_joint", lambda m, point: 2 * point.log_density - right(m, point))
    assert worst(funnel(5), funnel_functions, HMCUpdate()) > 5


def test_hmc_with_momenta_of_another_metric_is_found_out(long_steps, monkeypatch):
    right = hamiltonian.sample_momentum
    monkeypatch.setattr(hamiltonian, "sample_momentum", lambda key, metric: 1.3 * right(key, metric))
    assert worst(funnel(5), funnel_functions, HMCUpdate()) > 5


def elliptical_update():
    """Of the last three coordinates, with a prior that is not theirs alone: the rest is likelihood."""
    return EllipticalSliceUpdate(
        (1, 2, 3), lambda x: GaussianPrior(jnp.full(3, 0.5), jnp.array([2.0, 1.0, 3.0]))
    )


def test_elliptical_slices_leave_a_gaussian_invariant():
    assert worst(correlated_gaussian(4, 0.8), coordinate_functions, elliptical_update()) < 4


def test_an_elliptical_slice_that_counts_the_prior_twice_is_found_out(monkeypatch):
    monkeypatch.setattr(elliptical.GaussianPrior, "log_density", lambda self, x: jnp.zeros(()))
    assert worst(correlated_gaussian(4, 0.8), coordinate_functions, elliptical_update()) > 5


NARROW = SliceUpdate((0, 1), width=0.5, steps=4)
"""Slices are wider than what may be stepped out to."""


def test_narrow_slices_leave_a_gaussian_invariant():
    assert worst(standard_gaussian(2), coordinate_functions, NARROW) < 4


def test_slices_stepped_out_to_one_side_only_are_found_out(monkeypatch):
    """The number of steps to either side is not drawn."""
    right = slices._stepped_out

    def lopsided(height, level, edge, move, steps):
        return right(height, level, edge, move, jnp.where(move > 0, NARROW.steps - 1, 0))

    monkeypatch.setattr(slices, "_stepped_out", lopsided)
    assert worst(standard_gaussian(2), coordinate_functions, NARROW) > 5


GAUSSIANS = {
    "standard": standard_gaussian(3),
    "ar1": correlated_gaussian(4, 0.8),
    "equicorrelated": correlated_gaussian(4, -0.2, structure="equicorrelated"),
    "axes": ill_conditioned_gaussian(3, 100.0),
    "rotated": ill_conditioned_gaussian(3, 100.0, rotation_seed=0),
}


@pytest.mark.parametrize("name", GAUSSIANS)
def test_coordinates_given_the_others_leave_a_gaussian_invariant(name):
    target = GAUSSIANS[name]
    assert target.blocks is not None
    assert worst(target, coordinate_functions, Exact(target.blocks.conditionals["x"])) < 4
    precision = -np.asarray(jax.hessian(target.log_density)(jnp.zeros(target.dim)))
    wrong = coordinates_given_others(0.85 * precision)
    assert worst(target, coordinate_functions, Exact(wrong)) > 5


PROGRAM = """
data { int N; vector[N] y; }
parameters { vector[2] b; real<lower=0> s; }
model { b ~ normal(0, 2); s ~ exponential(1); y ~ normal(b[1] + square(b[2]), s); }
"""
DATA = {"N": 5, "y": [0.3, 1.2, -0.5, 2.0, 0.8]}


def prior(x):
    return GaussianPrior(jnp.zeros(2), jnp.full(2, 2.0))


UPDATES = {
    "slice": (SliceUpdate((0, 1, 2)),),
    "metropolis": (MetropolisUpdate(),),
    "hmc": (HMCUpdate(),),
    "elliptical": (EllipticalSliceUpdate((0, 1), prior), SliceUpdate((2,))),
}


def swept(target, updates, steps):
    """Positions after every sweep of one chain, half of them adapting, and the cost of each."""
    kernel = kernel_of(target, *updates)
    state, _ = kernel.init(jax.random.key(0), jnp.full(target.dim, 0.5))
    assert kernel.warm is not None

    def one(move):
        def step(state, key):
            state, info = move(key, state)
            return state, (kernel.position(state), info.cost)

        return step

    @jax.jit
    def run(state):
        warm, sample = jax.random.split(jax.random.key(1), (2, steps))
        state, first = jax.lax.scan(one(kernel.warm), state, warm)
        return first, jax.lax.scan(one(kernel.step), state, sample)[1]

    first, second = run(state)
    return jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)


@pytest.mark.parametrize("name", UPDATES)
def test_both_backends_give_the_same_draws(name):
    """To rounding, which a chain amplifies: not for long."""
    stan, lowered = (
        swept(from_stan(PROGRAM, DATA, backend=backend), UPDATES[name], 10)
        for backend in ("bridgestan", "jax")
    )
    assert np.allclose(stan[0], lowered[0], rtol=1e-7, atol=1e-7)
    assert all(np.array_equal(a, b) for a, b in zip(stan[1], lowered[1], strict=True))
    assert np.ptp(stan[0], axis=0).min() > 0


ONCE = {
    "metropolis": ((MetropolisUpdate(),), 1, 1),
    "two blocks": ((MetropolisUpdate((0,)), MetropolisUpdate((1, 2))), 1, 2),
    "after hmc": ((HMCUpdate(), MetropolisUpdate((0,))), 0, 1),
    "after an exact draw": (
        (Exact(Conditional(lambda key, block, x, extra: (x, extra))), MetropolisUpdate()),
        0,
        2,
    ),
}


@pytest.mark.parametrize("name", ONCE)
def test_a_density_that_is_known_is_not_asked_for(name):
    """The first sweep pays for its start, if no gradient has; later ones for what they try, unless an exact
    draw has moved the point since."""
    updates, first, each = ONCE[name]
    target, steps = from_stan(PROGRAM, DATA), 7
    counter_of(target).reset()
    _, cost = swept(target, updates, steps)
    jax.effects_barrier()
    assert counts(target).densities == first + each * 2 * steps == cost.densities.sum()
    assert counts(target).gradients == cost.gradients.sum()


@pytest.mark.parametrize("name", UPDATES)
def test_what_is_reported_is_what_is_executed(name):
    target = from_stan(PROGRAM, DATA)
    counter_of(target).reset()
    _, cost = swept(target, UPDATES[name], 20)
    assert counts(target)[:2] == (cost.gradients.sum(), cost.densities.sum())


def test_a_slice_pays_for_steps_and_tries_alone(monkeypatch):
    """Of a width far wider than the slice: one look at either end, and the points that are tried."""
    target = from_stan(PROGRAM, DATA)
    counter_of(target).reset()
    tried, right = [], slices._shrunk

    def noted(*args):
        found = right(*args)
        jax.debug.callback(lambda n: tried.append(int(n)), found.evaluations)
        return found

    monkeypatch.setattr(slices, "_shrunk", noted)
    kernel = kernel_of(target, SliceUpdate((0,), width=100.0, steps=10**6))
    state, _ = kernel.init(jax.random.key(0), jnp.full(target.dim, 0.5))
    step = jax.jit(kernel.step)
    for i in range(10):
        state, _ = step(jax.random.key(i), state)
    jax.effects_barrier()
    assert len(tried) == 10
    assert counts(target).densities == 1 + sum(2 + n for n in tried)
