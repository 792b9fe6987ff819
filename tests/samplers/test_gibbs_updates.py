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
from invariance import coordinate_functions, drift, drifts, funnel_functions

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


def check_right_and_wrong(target, functions, update_of, wrong):
    """``update_of(0)`` leaves the target invariant; of every other operand that is found out."""

    def kernel(operand):
        return kernel_of(target, update_of(operand))

    right, *others = drifts(kernel, range(wrong + 1), target, functions, steps=5, n=N)
    assert right.worst < 4
    assert min(found.worst for found in others) > 5


@dataclass(frozen=True)
class Multiplied:
    """An update that takes the log density for a multiple of itself: 0 accepts all, −1 takes the inverse."""

    update: Any
    factor: Any

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


def test_metropolis_with_a_wrong_ratio_is_found_out():
    """Every proposal accepted; the ratio upside down; a tempered one."""
    factors = jnp.array([1.0, 0.0, -1.0, 0.8])
    check_right_and_wrong(
        funnel(5), funnel_functions, lambda case: Multiplied(MetropolisUpdate(), factors[case]), 3
    )


def test_wrong_hmc_is_found_out(monkeypatch):
    """Everything accepted; the kinetic energy added; momenta of another metric. The steps are so long that
    their error counts."""
    log_joint, sample_momentum = hamiltonian.log_joint, hamiltonian.sample_momentum
    monkeypatch.setattr(hamiltonian, "FIRST", 0.8)

    def update_of(case):
        def energy(metric, point):
            right = log_joint(metric, point)
            return jnp.select([case == 1, case == 2], [0.0 * right, 2 * point.log_density - right], right)

        def momentum(key, metric):
            return jnp.where(case == 3, 1.3, 1.0) * sample_momentum(key, metric)

        monkeypatch.setattr(hamiltonian, "log_joint", energy)
        monkeypatch.setattr(hamiltonian, "sample_momentum", momentum)
        return HMCUpdate()

    check_right_and_wrong(funnel(5), funnel_functions, update_of, 3)


def elliptical_update():
    """Of the last three coordinates, with a prior that is not theirs alone: the rest is likelihood."""
    return EllipticalSliceUpdate(
        (1, 2, 3), lambda x: GaussianPrior(jnp.full(3, 0.5), jnp.array([2.0, 1.0, 3.0]))
    )


def test_an_elliptical_slice_that_counts_the_prior_twice_is_found_out(monkeypatch):
    right = elliptical.GaussianPrior.log_density

    def update_of(case):
        def density(prior, x):
            return jnp.where(case == 1, 0.0, right(prior, x))

        monkeypatch.setattr(elliptical.GaussianPrior, "log_density", density)
        return elliptical_update()

    check_right_and_wrong(correlated_gaussian(4, 0.8), coordinate_functions, update_of, 1)


NARROW = SliceUpdate((0, 1), width=0.5, steps=4)
"""Slices are wider than what may be stepped out to."""


def test_slices_stepped_out_to_one_side_only_are_found_out(monkeypatch):
    """The number of steps to either side is not drawn."""
    right = slices._stepped_out

    def update_of(case):
        def stepped(height, level, edge, move, steps):
            lopsided = jnp.where(move > 0, NARROW.steps - 1, 0)
            return right(height, level, edge, move, jnp.where(case == 1, lopsided, steps))

        monkeypatch.setattr(slices, "_stepped_out", stepped)
        return NARROW

    check_right_and_wrong(standard_gaussian(2), coordinate_functions, update_of, 1)


GAUSSIANS = {
    "equicorrelated": correlated_gaussian(4, -0.2, structure="equicorrelated"),
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
    "hmc and metropolis": (HMCUpdate((0, 1)), MetropolisUpdate((2,))),
    "elliptical and slice": (EllipticalSliceUpdate((0, 1), prior), SliceUpdate((2,))),
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
    """To rounding, which a chain amplifies: not for long. What is reported is what Stan has executed."""
    target = from_stan(PROGRAM, DATA, backend="bridgestan")
    counter_of(target).reset()
    stan, lowered = (
        swept(each, UPDATES[name], 10) for each in (target, from_stan(PROGRAM, DATA, backend="jax"))
    )
    jax.effects_barrier()
    assert counts(target)[:2] == (stan[1].gradients.sum(), stan[1].densities.sum())
    assert np.allclose(stan[0], lowered[0], rtol=1e-7, atol=1e-7)
    assert all(np.array_equal(a, b) for a, b in zip(stan[1], lowered[1], strict=True))
    assert np.ptp(stan[0], axis=0).min() > 0


@pytest.mark.parametrize("backend", ["bridgestan", "jax"])
def test_the_value_beside_a_gradient_is_the_density(backend):
    """Updates use the one for the other: a constant between them would decide what is accepted."""
    target = from_stan(PROGRAM, DATA, backend=backend)
    for x in np.random.default_rng(0).normal(size=(5, target.dim)):
        value, _ = jax.jit(target.value_and_grad)(x)
        assert np.allclose(value, jax.jit(target.log_density)(x), rtol=1e-13)


ADAPTIVE = (SliceUpdate((0, 1)), MetropolisUpdate((0, 1)), HMCUpdate((0, 1)))


def test_only_warmup_adapts():
    """Every update has something that it adapts; a step leaves all of it as it is."""
    kernel = kernel_of(standard_gaussian(2), *ADAPTIVE)
    assert kernel.warm is not None

    def swept(move):
        state, _ = kernel.init(jax.random.key(0), jnp.full(2, 0.5))
        own = [state.updates]
        for i in range(2):
            state, _ = move(jax.random.key(i), state)
            own.append(state.updates)
        return [[np.concatenate([np.ravel(x) for x in jax.tree.leaves(each)]) for each in of] for of in own]

    first, *others = swept(jax.jit(kernel.step))
    assert all(np.array_equal(a, b) for other in others for a, b in zip(first, other, strict=True))
    first, *_, last = swept(jax.jit(kernel.warm))
    assert not any(np.array_equal(a, b) for a, b in zip(first, last, strict=True))


ONCE = {
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
