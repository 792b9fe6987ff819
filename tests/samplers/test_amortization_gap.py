"""The amortization gap against dense linear algebra, its conditions, memorization, and what it costs."""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import Target, from_stan
from essper.models.hierarchy import Hierarchy, HierarchyError
from essper.models.target import jax_density, unconstrained_target
from essper.samplers import AmortizedVI, Budget, ConstantFactorVI, Fitting, MeanFieldVI
from essper.samplers.amortized import amortization_gap
from essper.samplers.vi.conditions import Conditions, probe_conditions
from essper.samplers.vi.contenders import Arena
from essper.samplers.vi.factorized import sampled_bounds
from essper.samplers.vi.gaussian import Factors
from essper.samplers.vi.gaussian_optimum import Gaussian, factors_of, gaussian_of, tied_optimum
from essper.samplers.vi.hierarchical import Network
from essper.samplers.vi.partly_amortized import HeldOutSampler

DIM = 41
"""Of every Gaussian here: they share compiled programs."""
QUICK = Fitting(samples=4, learning_rates=(0.03,), start="random")
"""One rate and no climb: fewer programs to compile."""


def _quadratic(operand, x):
    mean, precision = operand
    return -0.5 * (x - mean) @ precision @ (x - mean) + 3.5


def gaussian_target(mean: np.ndarray, precision: np.ndarray, hierarchy: Hierarchy | None = None) -> Target:
    density = jax_density(_quadratic, (jnp.asarray(mean), jnp.asarray(precision)))
    return replace(unconstrained_target("quadratic", len(mean), density), hierarchy=hierarchy)


def hierarchy_of(inputs: np.ndarray) -> Hierarchy:
    """The last coordinates belong to a datum each; those before them are global."""
    places = np.arange(DIM - len(inputs), DIM)[:, None]
    return Hierarchy(DIM, places, inputs.reshape(len(inputs), -1), tuple("xy"[: inputs[0].size]))


class Model(NamedTuple):
    x: np.ndarray
    mean: np.ndarray
    precision: np.ndarray

    def target(self, inputs: np.ndarray | None = None) -> Target:
        return gaussian_target(self.mean, self.precision, hierarchy_of(self.x if inputs is None else inputs))


TAU, SIGMA = 1.155, 2.43


def linear(x: np.ndarray, sigma: np.ndarray | float = SIGMA) -> Model:
    """θ flat, z_k ~ N(θ, τ²), x_k ~ N(z_k, σ_k²)."""
    n = len(x)
    noise = 1 / np.broadcast_to(sigma, (n,)) ** 2
    precision = np.diag([n / TAU**2, *(1 / TAU**2 + noise)])
    precision[0, 1:] = precision[1:, 0] = -1 / TAU**2
    return Model(x, np.linalg.solve(precision, np.concatenate([[0.0], noise * x])), precision)


def hidden_markov(x: np.ndarray) -> Model:
    """z_1 ~ N(0, τ²), z_k ~ N(0.9 z_(k−1), τ²), x_k ~ N(z_k, σ²)."""
    n = len(x)
    moves = np.eye(n) - 0.9 * np.eye(n, k=-1)
    precision = moves.T @ moves / TAU**2 + np.eye(n) / SIGMA**2
    return Model(x, np.linalg.solve(precision, x / SIGMA**2), precision)


def saw_tooth(n: int) -> Model:
    """z_k ~ N(0, 1), x_k ~ N(0.8 x_(k−1) + z_k, 1), x_0 = 0; and a global parameter for itself, N(0, 1)."""
    rng, x = np.random.default_rng(5), [0.0]
    for _ in range(n):
        x.append(0.8 * x[-1] + np.sqrt(2) * rng.standard_normal())
    series = np.array(x)
    mean = np.concatenate([[0.0], (series[1:] - 0.8 * series[:-1]) / 2])
    return Model(series[1:], mean, np.diag(np.r_[1.0, np.full(n, 2.0)]))


@cache
def data(n: int) -> np.ndarray:
    return np.random.default_rng(1).normal(3.0, np.hypot(TAU, SIGMA), n)


def found(target: Target) -> Gaussian:
    gaussian, _ = gaussian_of(target, jax.random.key(0))
    assert gaussian is not None
    return gaussian


def shortfall(model: Model, mean: np.ndarray, variance: np.ndarray) -> float:
    """ELBO of N(m, 1/Λ_kk) minus that of a factorized Gaussian, by the dense precision."""
    away, ratio = mean - model.mean, variance * np.diag(model.precision)
    return float(away @ model.precision @ away + np.sum(ratio - 1 - np.log(ratio))) / 2


def test_the_optimum_is_that_of_dense_linear_algebra():
    rng = np.random.default_rng(2)
    root = rng.normal(size=(DIM, DIM)) * np.geomspace(0.01, 100, DIM)
    precision = root.T @ root + np.diag(np.geomspace(0.01, 100, DIM) ** 2)
    mean = 1000 * rng.normal(size=DIM)
    gaussian = found(gaussian_target(mean, precision))
    sd = 1 / np.sqrt(np.diag(precision))
    assert np.max(np.abs(gaussian.mode - mean) / sd) < 1e-6
    np.testing.assert_allclose(gaussian.precisions, np.diag(precision), rtol=1e-8)
    np.testing.assert_allclose(gaussian.optimum.log_scale, np.log(sd), atol=1e-8)
    elbo = 3.5 - DIM / 2 + np.sum(0.5 * np.log(2 * np.pi * np.e * sd**2))
    assert float(gaussian.elbo) == pytest.approx(elbo, abs=1e-6)


def test_the_exact_elbo_agrees_with_monte_carlo():
    model = linear(data(40))
    target, rng = model.target(), np.random.default_rng(3)
    gaussian = found(target)
    sd = 1 / np.sqrt(np.diag(model.precision))
    mean, log_sd = model.mean + sd * rng.normal(size=DIM), np.log(sd) + rng.normal(scale=0.3, size=DIM)
    factors = Factors(jnp.asarray(mean), jnp.asarray(log_sd))
    exact = float(gaussian.shortfall(factors))
    assert exact == pytest.approx(shortfall(model, mean, np.exp(2 * log_sd)), rel=1e-10)
    bounds = sampled_bounds(target.density, [gaussian.optimum, factors], jax.random.key(1), 4096)
    for number, expected in enumerate([gaussian.elbo, gaussian.elbo - exact]):
        assert abs(bounds.elbos[number] - expected) < 4 * bounds.error(number) < 1
    difference, error = bounds.difference(0, 1)
    assert abs(difference - exact) < 4 * error


def test_what_is_quadratic_in_places_only_is_not_taken_for_a_gaussian():
    def huber(_, x):
        return -jnp.sum(jnp.where(jnp.abs(x) < 2.5, 0.5 * x**2, 2.5 * jnp.abs(x) - 3.125))

    gaussian, cost = gaussian_of(unconstrained_target("huber", 8, jax_density(huber, ())), jax.random.key(0))
    assert gaussian is None
    assert cost.gradients > 9  # the box in which chains start says nothing; its mode's neighbourhood does


def test_an_improper_quadratic_is_refused():
    model = linear(data(40))
    flat = model.precision - np.diag(np.r_[0, np.full(DIM - 1, 1 / SIGMA**2)])  # no data: θ + z is free
    with pytest.raises(ValueError, match="along some direction it does not fall"):
        gaussian_of(gaussian_target(model.mean, flat), jax.random.key(0))
    rising = np.diag(np.r_[-1.0, np.ones(DIM - 1)])
    with pytest.raises(ValueError, match="along 1 coordinates, the first of them number 0"):
        gaussian_of(gaussian_target(model.mean, rising), jax.random.key(0))


def test_shared_factors_have_their_closed_form():
    x = np.resize(data(10), DIM)
    model = hidden_markov(x)
    _, groups = np.unique(x, return_inverse=True)
    target = model.target()
    shared, _ = tied_optimum(target, found(target), groups, jax.random.key(0))
    indicators = np.equal(groups[:, None], np.arange(10)).astype(float)
    reduced = indicators.T @ model.precision @ indicators
    mean = indicators @ np.linalg.solve(reduced, indicators.T @ model.precision @ model.mean)
    variance = indicators @ (indicators.sum(0) / (np.diag(model.precision) @ indicators))
    np.testing.assert_allclose(shared.loc, mean, atol=1e-8)
    np.testing.assert_allclose(np.exp(2 * shared.log_scale), variance, rtol=1e-8)


LINEAR = AmortizedVI(depth=0, fitting=QUICK)
WINDOWS = replace(LINEAR, before=1)


def test_a_linear_map_closes_the_gap_of_the_linear_model():
    x = data(40)
    target = linear(x).target()
    result = amortization_gap(target, WINDOWS, budget=Budget(10_000), replicates=2)
    expected = TAU**2 * np.sum((x - x.mean()) ** 2) / (2 * SIGMA**2 * (TAU**2 + SIGMA**2))
    assert result.constant_gap == pytest.approx(expected, rel=1e-8)
    assert result.factorized.analytic
    assert result.factorized.error == 0
    assert result.amortized.converged
    assert abs(result.relative) < 1e-9
    assert result.error < 1e-9
    assert abs(result.stochastic_gap) < 0.01 * expected
    assert result.conditions.locals_independent.holds

    constant = amortization_gap(target, ConstantFactorVI())
    assert constant.gap == constant.constant_gap == pytest.approx(expected, rel=1e-8)
    assert constant.relative == 1
    assert constant.cost.gradients < 4 * DIM + 200  # nothing was fitted


def test_a_window_closes_the_gap_of_the_saw_tooth_series_and_one_datum_does_not():
    model = saw_tooth(40)
    assert amortization_gap(model.target(), WINDOWS, budget=Budget(5_000), replicates=1).relative < 1e-9
    noise = np.random.default_rng(6).normal(size=40)
    one = model.target(np.stack([model.x, noise], axis=1))
    features = np.stack([np.ones(40), model.x, noise], axis=1)
    left = model.mean[1:] - features @ np.linalg.lstsq(features, model.mean[1:])[0]
    result = amortization_gap(one, LINEAR, budget=Budget(5_000), replicates=1)
    assert result.gap == pytest.approx(left @ left, rel=1e-8)  # ½ (1/τ² + 1/σ²) RSS


def test_a_wide_network_memorizes_a_series_that_no_map_of_one_datum_explains():
    model = saw_tooth(40)
    target = model.target()
    gaussian = found(target)
    network = Network(width=32, depth=2)
    sampler = HeldOutSampler(AmortizedVI(fitting=QUICK), network, held=10, seed=0)
    arena = Arena(target, gaussian, Budget(5_000), replicates=2)
    fits = arena.ascended(sampler, arena.fitted(sampler, jax.random.key(0)))
    lost, _ = arena.losses(sampler, fits, gaussian.optimum, jax.random.key(1))
    held_out, trained = lost.mean(axis=0)
    away = model.mean[1:] - np.polyval(np.polyfit(model.x, model.mean[1:], 1), model.x)
    assert trained < 0.5 * away @ away / 40  # ½ (1/τ² + 1/σ²) RSS of the best line
    assert held_out > 1.5 * trained

    # By hand: the first replicate's map at what was held out, everything else at the optimum.
    family, (one, *_), held = sampler.family, fits.fits, sampler.family.held_out(40)
    mapped = factors_of(one.problem, family.mapped(one.params, one.problem.space))
    mean, variance = model.mean.copy(), 1 / np.diag(model.precision)
    mean[1 + held] = mapped.loc[1 + held]
    variance[1 + held] = np.exp(2 * mapped.log_scale[1 + held])
    assert lost[0, 0] == pytest.approx(shortfall(model, mean, variance) / 10, rel=1e-6)
    free = np.abs(np.asarray(fits.factors[0].loc) - model.mean)[1 + held]
    assert free.max() < 1e-3  # their own factors were free


def conditions_of(target: Target) -> Conditions:
    assert target.hierarchy is not None
    locals = AmortizedVI().locals_of(target)
    found_ones, _ = probe_conditions(target, locals, [found(target).optimum], True, jax.random.key(0))
    return found_ones


def test_conditions_of_hierarchical_models_and_of_series():
    x = np.resize(data(10), 40)
    simple = conditions_of(linear(x).target())
    assert simple.locals_independent.holds
    assert simple.same_inputs_same_models.holds
    assert simple.same_inputs_same_factors.holds
    assert (simple.same_inputs_same_factors.data, simple.same_inputs_same_factors.groups) == (40, 10)

    series = hidden_markov(np.resize(data(10), DIM))
    chain = conditions_of(series.target())
    assert chain.locals_independent.holds is False
    same = chain.same_inputs_same_factors
    assert same.holds is False
    groups = [series.mean[k::10] for k in range(10)]
    sds = [np.exp(np.mean(-0.5 * np.log(np.diag(series.precision)[k::10]))) for k in range(10)]
    expected = max(np.ptp(g) / s for g, s in zip(groups, sds, strict=True))
    assert same.mean_difference == pytest.approx(expected, rel=1e-6)


def test_inputs_that_leave_out_a_covariate_are_told():
    x, sigma = np.resize(data(10), 40), np.linspace(1, 3, 40)
    model = linear(x, sigma)
    blind = conditions_of(model.target())
    assert blind.locals_independent.holds
    assert blind.same_inputs_same_models.holds is False
    assert blind.same_inputs_same_factors.holds is False
    whole = conditions_of(model.target(np.stack([x, sigma], axis=1)))
    assert whole.same_inputs_same_factors.holds is None


SCHOOLS = """
data { int J; vector[J] y; }
parameters { real mu; real<lower=0> tau; vector[J] eta; }
model { mu ~ normal(0, 5); tau ~ normal(0, 2); eta ~ normal(0, 1); y ~ normal(mu + tau * eta, 1); }
"""


def test_other_targets_are_fitted_and_every_gradient_is_counted():
    target = from_stan(SCHOOLS, {"J": 3, "y": [1.5, -2.0, 0.5]}, hierarchy="J")
    assert target.counter is not None
    before = target.counter.read()
    family = AmortizedVI(width=4, depth=1, fitting=QUICK)
    result = amortization_gap(target, family, budget=Budget(3_000), replicates=2, held_out=0.34)
    executed = target.counter.read().since(before)
    assert (result.cost.gradients, result.cost.densities) == (executed.gradients, executed.densities)
    assert not result.factorized.analytic
    assert len(result.factorized.replicates) == 2
    assert result.error > 0
    assert abs(result.gap) < 3
    assert result.constant_gap > 0
    assert result.gap == result.stochastic_gap
    assert result.conditions.locals_independent.holds
    assert "memorizing" in result.text
    assert result.held_out is not None
    assert result.held_out.data == 1


def test_what_is_asked_for_has_to_make_sense():
    target = linear(data(40)).target()
    for part in (-0.1, 1.0, 0.001):
        with pytest.raises(ValueError, match="held_out"):
            amortization_gap(target, held_out=part)
    with pytest.raises(ValueError, match="constant factor"):
        amortization_gap(target, ConstantFactorVI(), held_out=0.5)
    with pytest.raises(HierarchyError, match="hierarchy"):
        amortization_gap(replace(target, hierarchy=None))
    with pytest.raises(TypeError, match="AmortizedVI"):
        amortization_gap(target, MeanFieldVI())  # type: ignore[arg-type]  (that is the mistake)
