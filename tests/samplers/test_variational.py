"""Variational inference: families, estimators, starts, the rule of convergence, and what fits find."""

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import (
    Density,
    Hierarchy,
    HierarchyError,
    Target,
    from_log_density,
    standard_gaussian,
)
from essper.samplers import (
    AmortizedVI,
    Budget,
    ConstantFactorVI,
    FlowVI,
    FullRankVI,
    LowRankVI,
    MeanFieldVI,
)
from essper.samplers.mode_search import LINE_SEARCH
from essper.samplers.timing import Clock
from essper.samplers.vi import Family, Fit, Fitting, Problem, Space, draws_of, fit, fits, objective
from essper.samplers.vi.families import Locals, hierarchical_locals
from essper.samplers.vi.fitting import programs_for
from essper.samplers.vi.flow import CouplingFlow
from essper.samplers.vi.gaussian import (
    Factors,
    FullRankGaussian,
    LowRank,
    LowRankGaussian,
    MeanFieldGaussian,
    Triangular,
)
from essper.samplers.vi.hierarchical import AmortizedGaussian, Constant, Network
from essper.samplers.vi.objective import elbo_gradient
from essper.samplers.vi.start import climbed_start, secant_diagonal, tied
from jax.flatten_util import ravel_pytree
from scipy.stats import multivariate_normal, norm
from stan_programs import gaussian_posterior, rejecting_posterior

WEIGHTS = np.array([1.0, -1.5, 2.0])
COVARIANCE = np.outer(WEIGHTS, WEIGHTS) + np.diag([0.5, 1.0, 2.0])
"""Of rank 1 plus a diagonal."""
CENTER = np.array([3.0, -40.0, 0.5])
DIM = len(CENTER)
LOG_NORMALIZER = 2.5
Z = 4.0
"""No |z| of some dozen correct means exceeds it."""


@functools.cache
def gaussian() -> Target:
    precision = jnp.asarray(np.linalg.inv(COVARIANCE))
    constant = LOG_NORMALIZER - 0.5 * np.linalg.slogdet(2 * np.pi * COVARIANCE)[1]

    def log_density(x: jax.Array) -> jax.Array:
        return constant - 0.5 * (x - CENTER) @ precision @ (x - CENTER)

    return from_log_density("gaussian, e^2.5 too high", DIM, log_density)


def as_it_is(target: Target) -> Problem:
    return Problem(target.density, jnp.zeros(target.dim), jnp.ones(target.dim), Space(target.dim))


PARAMS: dict[str, tuple[Family, Any, np.ndarray, np.ndarray]] = {
    "mean-field": (
        MeanFieldGaussian(),
        Factors(jnp.array([1.0, -2.0, 0.3]), jnp.array([0.2, -1.0, 0.0])),
        np.array([1.0, -2.0, 0.3]),
        np.diag(np.exp([0.4, -2.0, 0.0])),
    ),
    "full-rank": (
        FullRankGaussian(),
        Triangular(
            jnp.array([1.0, -2.0, 0.3]),
            jnp.array([[9.0, 9.0, 9.0], [0.5, 9.0, 9.0], [-1.0, 2.0, 9.0]]),
            jnp.log(jnp.array([0.5, 2.0, 1.0])),
        ),
        np.array([1.0, -2.0, 0.3]),
        (lambda root: root @ root.T)(np.array([[0.5, 0, 0], [0.5, 2.0, 0], [-1.0, 2.0, 1.0]])),
    ),
    "low-rank": (
        LowRankGaussian(1),
        LowRank(jnp.asarray(CENTER), jnp.asarray(WEIGHTS[:, None]), jnp.log(jnp.array([0.5, 1.0, 2.0]))),
        CENTER,
        COVARIANCE,
    ),
}

# -- families -----------------------------------------------------------------------------------------


@functools.cache
def programs_of(family: Family, space: Space):
    """``log_prob(params, u[n, dim])`` and ``sample(params, keys)``, compiled."""
    log_prob = jax.jit(jax.vmap(lambda params, u: family.log_prob(params, u, space), in_axes=(None, 0)))
    sample = jax.jit(jax.vmap(lambda params, key: family.sample(params, key, space), in_axes=(None, 0)))
    return log_prob, sample


@pytest.mark.parametrize("name", PARAMS)
def test_gaussian_families_are_the_distributions_that_they_say(name):
    family, params, mean, covariance = PARAMS[name]
    log_prob, sample = programs_of(family, Space(DIM))
    reference: Any = multivariate_normal(mean, covariance)  # type: ignore[arg-type]
    n = 20_000
    points = 3 * np.random.default_rng(0).normal(size=(n, DIM))
    np.testing.assert_allclose(log_prob(params, points), reference.logpdf(points), rtol=1e-11)
    draws, log_q = map(np.asarray, sample(params, jax.random.split(jax.random.key(0), n)))
    np.testing.assert_allclose(log_q, log_prob(params, draws), rtol=1e-10)
    sd = np.sqrt(np.diag(covariance))
    assert np.abs((draws.mean(axis=0) - mean) / sd).max() < Z / n**0.5
    # An element of the sample covariance has standard error √((C_ii C_jj + C_ij²)/n).
    errors = np.sqrt((np.outer(sd, sd) ** 2 + covariance**2) / n)
    assert (np.abs(np.cov(draws.T) - covariance) < Z * errors).all()
    started = family.init(jax.random.key(1), Space(DIM))
    near = points / 3
    np.testing.assert_allclose(log_prob(started, near), norm.logpdf(near).sum(axis=1), atol=0.05)


def test_the_density_of_a_draw_is_right_even_where_the_covariance_cannot_be_inverted():
    # Or a fit that has gone astray has an ELBO of 10⁵⁷ and is the best of its grid.
    n, family, space = 30, FullRankGaussian(), Space(30)
    below = 20 * np.random.default_rng(0).normal(size=(n, n))
    log_diagonal = np.linspace(-25, 25, n)
    params = Triangular(jnp.zeros(n), jnp.asarray(below), jnp.asarray(log_diagonal))
    _, sample = programs_of(family, space)
    _, log_q = sample(params, jax.random.split(jax.random.key(0), 2000))
    entropy = 0.5 * n * np.log(2 * np.pi * np.e) + log_diagonal.sum()
    assert abs(np.mean(log_q) + entropy) < Z * (0.5 * n / 2000) ** 0.5


def test_the_log_density_of_a_low_rank_gaussian_is_right_far_beyond_what_its_covariance_can_hold():
    """Of W = 1e10 and D = 1 the covariance has lost D altogether; −E log q is still the entropy."""
    space, huge = Space(40), 1e10
    factor = huge * jax.random.normal(jax.random.key(0), (40, 2))
    params = LowRank(jnp.ones(40), factor, jnp.zeros(40))
    found = jax.vmap(lambda key: LowRankGaussian(2).sample(params, key, space)[1])(
        jax.random.split(jax.random.key(1), 4000)
    )
    scales = np.linalg.svd(np.asarray(factor), compute_uv=False)
    entropy = 0.5 * 40 * np.log(2 * np.pi * np.e) + np.log(scales).sum()
    error = np.asarray(found).std() / np.sqrt(len(found))
    assert abs(np.mean(found) + entropy) < Z * error
    assert error == pytest.approx(np.sqrt(20 / 4000), rel=0.1)  # half a χ² of 40 degrees of freedom


def test_a_flow_is_a_normalized_density_and_its_draws_have_it():
    family, space = CouplingFlow(layers=2, width=4), Space(2)
    params = family.init(jax.random.key(0), space)
    flat, restore = ravel_pytree(params)
    params = restore(flat + 0.4 * jax.random.normal(jax.random.key(1), flat.shape))
    grid = np.linspace(-14, 14, 561)
    cells = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    log_prob, sample = programs_of(family, space)
    density = np.exp(np.asarray(log_prob(params, cells))).reshape(len(grid), len(grid))
    mass = density * (grid[1] - grid[0]) ** 2
    assert mass.sum() == pytest.approx(1, abs=2e-3)
    n = 20_000
    draws, log_q = map(np.asarray, sample(params, jax.random.split(jax.random.key(2), n)))
    np.testing.assert_allclose(log_q, log_prob(params, draws), atol=1e-9)  # forward and inverse
    assert np.abs(np.corrcoef(draws.T)[0, 1]) > 0.05  # no standard normal
    for below in np.quantile(draws, [0.2, 0.5, 0.8], axis=0):
        inside = mass[np.ix_(grid < below[0], grid < below[1])].sum()
        observed = (draws < below).all(axis=1).mean()
        assert abs(observed - inside) < Z * (inside * (1 - inside) / n) ** 0.5 + 0.01  # the grid's edge
    # Importance weights of another normalized density have mean 1.
    weights = np.exp(norm.logpdf(draws, 0, 0.5).sum(axis=1) - log_q)
    assert abs(weights.mean() - 1) < Z * weights.std() / n**0.5


def test_a_flow_needs_two_coordinates():
    with pytest.raises(ValueError, match="needs two coordinates"):
        CouplingFlow(2, 4).init(jax.random.key(0), Space(1))


# -- the estimators -----------------------------------------------------------------------------------


@functools.cache
def estimators_of(family: Family):
    """``(params, problem, keys) -> (f[draw, parameter], f[draw, parameter])``: path and total, compiled."""

    def one(params: Any, problem: Problem, key: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(
            ravel_pytree(elbo_gradient(family, problem, estimator, params, key[None]).gradient)[0]
            for estimator in ("path", "total")
        )

    return jax.jit(jax.vmap(one, in_axes=(None, None, 0)))


def estimates(family: Family, params: Any, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    path, total = estimators_of(family)(params, problem, jax.random.split(jax.random.key(7), 4000))
    return np.asarray(path), np.asarray(total)


def disagreement(a: np.ndarray, b: np.ndarray) -> float:
    """The largest |z| of the mean difference of gradients from the same draws."""
    difference = a - b
    error = np.maximum(difference.std(axis=0) / len(a) ** 0.5, 1e-12)
    return float(np.abs(difference.mean(axis=0) / error).max())


class HeldSample(MeanFieldGaussian):
    """A broken path estimator: parameters are held in the draw too."""

    def sample(self, params, key, space):
        return super().sample(jax.lax.stop_gradient(params), key, space)

    def __hash__(self):
        return 1

    def __eq__(self, other):
        return type(other) is HeldSample


@pytest.mark.parametrize("name", PARAMS)
def test_estimators_agree_in_mean(name):
    family, params, *_ = PARAMS[name]
    problem = replace(as_it_is(gaussian()), center=jnp.asarray(CENTER), scale=jnp.array([2.0, 1.0, 0.5]))
    path, total = estimates(family, params, problem)
    assert disagreement(path, total) < Z
    if name == "mean-field":
        held, _ = estimates(HeldSample(), params, problem)
        assert disagreement(held, total) > 10


def test_the_gradient_is_that_of_the_elbo():
    # In closed form for a Gaussian: −Λ(m − μ), and 1 − Λ_kk s_k² for log s_k.
    family, params, *_ = PARAMS["mean-field"]
    precision = np.linalg.inv(COVARIANCE)
    exact = np.concatenate(
        [
            -precision @ (np.asarray(params.loc) - CENTER),
            1 - np.diag(precision) * np.exp(2 * np.asarray(params.log_scale)),
        ]
    )
    for found in estimates(family, params, as_it_is(gaussian())):
        assert disagreement(found, np.broadcast_to(exact, found.shape)) < Z


@pytest.mark.parametrize("name", ["full-rank", "low-rank"])
def test_the_path_gradient_does_not_vary_where_q_is_p(name):
    family = PARAMS[name][0]
    root = np.linalg.cholesky(COVARIANCE)
    params = PARAMS["low-rank"][1]
    if name == "full-rank":
        params = Triangular(jnp.asarray(CENTER), jnp.asarray(root), jnp.log(jnp.diag(jnp.asarray(root))))
    path, total = estimates(family, params, as_it_is(gaussian()))
    assert np.abs(path).max() < 1e-11
    assert total.std(axis=0).max() > 1
    assert np.abs(total.mean(axis=0)).max() < 6 * total.std(axis=0).max() / 4000**0.5


def test_draws_of_density_zero_are_left_out_and_counted():
    half = from_log_density("half", 1, lambda x: jnp.where(x[0] > 0, -x[0], -jnp.inf))
    family, params, keys = (
        MeanFieldGaussian(),
        Factors(jnp.zeros(1), jnp.zeros(1)),
        jax.random.split(jax.random.key(0), 64),
    )
    problem = as_it_is(half)
    program = jax.jit(lambda at: elbo_gradient(family, problem, "total", at, keys))
    found = program(params)
    u = np.asarray(jax.vmap(lambda k: family.sample(params, k, Space(1))[0][0])(keys))
    good = u > 0
    assert 10 < good.sum() < 54
    assert int(found.failed) == (~good).sum()
    # log p − log q = −u + u²/2 + const., u = m + s e: −1 for m, 1 − u for log s.
    np.testing.assert_allclose(found.gradient.loc, [-1.0], rtol=1e-12)
    np.testing.assert_allclose(found.gradient.log_scale, [np.mean(1 - u[good])], rtol=1e-12)
    assert float(found.elbo) == pytest.approx(np.mean(-u[good] - norm.logpdf(u[good])), rel=1e-12)
    far = Factors(jnp.full(1, -50.0), jnp.zeros(1))
    none = program(far)
    assert int(none.failed) == 64
    assert np.isnan(none.elbo)
    assert (np.asarray(none.gradient.loc), np.asarray(none.gradient.log_scale)) == (0.0, 0.0)


# -- steps and the rule of convergence ------------------------------------------------------------------


def lane_of(problem: Problem, fitting: Fitting, rate: float, steps: int, total: int | None = None):
    """A mean-field lane from N(0, I)."""
    programs, clock, key = programs_for(MeanFieldGaussian(), fitting), Clock(), jax.random.key(0)
    lane = programs.begin(clock, problem, key)
    numbers = np.float64(rate), np.int64(total or steps), np.int64(steps)
    return programs.advance(clock, problem, lane, key, *numbers)


RULE = Fitting(samples=2, window=10, patience=3, halvings=4)


@pytest.mark.parametrize("halvings", [3, 4, 6])
def test_a_flat_fit_ends_after_the_stated_windows(halvings):
    # q is p and the gradient exactly 0: every window has the same ELBO, the first one is the best.
    lane = lane_of(as_it_is(standard_gaussian(2)), replace(RULE, halvings=halvings), 0.1, 10_000)
    assert int(lane.step) == 10 * (1 + 3 * halvings)
    assert float(lane.halvings) == halvings


def test_an_improving_fit_is_not_ended():
    # From 100 standard deviations away with steps of 0.05: every window gains tens of nats.
    problem = replace(as_it_is(standard_gaussian(2)), center=jnp.full(2, 100.0))
    lane = lane_of(problem, RULE, 0.05, 400, total=10_000)
    assert int(lane.step) == 400 > 10 * (1 + 3 * 4)
    assert float(lane.halvings) == 0
    assert (np.asarray(lane.params.loc) < -15).all()


@pytest.mark.parametrize("gradient", [np.nan, np.inf, 1e200, -1e300])
def test_no_gradient_is_too_bad_for_parameters(gradient):
    def fused(operand, x):
        bad = x[0] > 0.5
        return -0.5 * jnp.sum(x**2), jnp.where(bad, operand, -x)

    density = Density(fused, lambda operand, x: fused(operand, x)[0], jnp.asarray(gradient))
    problem = Problem(density, jnp.zeros(2), jnp.ones(2), Space(2))
    lane = lane_of(problem, RULE, 0.1, 300)
    for leaf in jax.tree.leaves((lane.params, lane.best)):
        assert np.isfinite(leaf).all()


def test_an_elbo_that_has_overflowed_is_never_the_best():
    def fused(operand, x):
        return jnp.where(x[0] > operand, 1e308, -0.5 * jnp.sum(x**2)), -x

    density = Density(fused, lambda operand, x: fused(operand, x)[0], jnp.asarray(-5.0))  # 8 e308 = ∞
    lane = lane_of(Problem(density, jnp.zeros(2), jnp.ones(2), Space(2)), replace(RULE, samples=8), 0.1, 100)
    assert float(lane.best_elbo) == -np.inf


def test_results_do_not_depend_on_how_the_work_was_cut(monkeypatch):
    sampler = MeanFieldVI(replace(RULE, learning_rates=(0.03, 0.1), start="random"))
    found, reports = [], []
    for calls in (3, 17):
        monkeypatch.setattr(fits, "CALLS", calls)
        report: Any = None if calls == 3 else lambda *args: reports.append(args)
        found.append(fit(sampler, jax.random.key(0), gaussian(), Budget(1000), chains=2, progress=report))
    for a, b in zip(*found, strict=True):
        assert a.cost == b.cost
        assert [leaf.tobytes() for leaf in map(np.asarray, a.params)] == [
            leaf.tobytes() for leaf in map(np.asarray, b.params)
        ]
        np.testing.assert_array_equal(a.steps, b.steps)
    assert len(reports) > 20
    assert reports[-1][1] <= 2000


# -- what fits find ---------------------------------------------------------------------------------------

FITTING = Fitting(samples=8, learning_rates=(0.03, 0.1))
"""Two rates of the grid."""


def moments(found: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of a fitted Gaussian on the target's space."""
    scale, params = np.asarray(found.problem.scale), found.params
    match params:
        case Factors():
            covariance = np.diag(np.exp(2 * np.asarray(params.log_scale)))
        case Triangular():
            covariance = np.asarray(params.factor @ params.factor.T)
        case _:
            covariance = np.asarray(params.factor @ params.factor.T + jnp.diag(jnp.exp(params.log_diagonal)))
    return np.asarray(found.problem.position(params.loc)), covariance * np.outer(scale, scale)


@pytest.mark.parametrize("sampler", [FullRankVI(FITTING), LowRankVI(FITTING, rank=1)], ids=["full", "low"])
def test_families_that_can_be_the_gaussian_become_it(sampler):
    for found in fit(sampler, jax.random.key(0), gaussian(), Budget(16_000), chains=2):
        mean, covariance = moments(found)
        sd = np.sqrt(np.diag(COVARIANCE))
        np.testing.assert_allclose(covariance / np.outer(sd, sd), COVARIANCE / np.outer(sd, sd), atol=1e-3)
        np.testing.assert_allclose((mean - CENTER) / sd, 0, atol=1e-3)
        assert found.cost.gradients <= 16_000
        # q is p: every weight is the normalizing constant, the Jacobian of the scaled space included.
        _, log_weight = draws_of(sampler, found, jax.random.key(1), 20)
        np.testing.assert_allclose(log_weight, LOG_NORMALIZER, atol=1e-2)


def test_mean_field_finds_means_and_the_inverse_diagonal_of_the_precision(monkeypatch):
    sampler = MeanFieldVI(replace(FITTING, samples=32))
    precision = np.linalg.inv(COVARIANCE)

    def errors(found: Fit) -> tuple[float, float]:
        mean, covariance = moments(found)
        sd = 1 / np.sqrt(np.diag(precision))
        off = np.abs((mean - CENTER) / sd).max()
        return float(off), float(np.abs(np.log(np.diag(covariance) * np.diag(precision))).max())

    (found,) = fit(sampler, jax.random.key(0), gaussian(), Budget(40_000))
    assert max(errors(found)) < 0.05
    _, log_weight = draws_of(sampler, found, jax.random.key(1), 4000)
    # E_q log p/q for the optimum: log Z less ½ (Σ log Λ_kk − log |Λ|).
    gap = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    error = log_weight.std() / 4000**0.5
    assert abs(log_weight.mean() - (LOG_NORMALIZER - gap)) < Z * error + 0.01
    weights = np.exp(log_weight - LOG_NORMALIZER)
    assert abs(weights.mean() - 1) < 6 * weights.std() / 4000**0.5

    # An objective without its entropy: the same test has to fail.
    right = objective.elbo_gradient

    def broken(family, problem, estimator, params, keys):
        found = right(family, problem, estimator, params, keys)
        gradient = found.gradient._replace(log_scale=found.gradient.log_scale - 1)
        return found._replace(gradient=gradient)

    monkeypatch.setattr("essper.samplers.vi.fitting.elbo_gradient", broken)
    programs_for.cache_clear()
    (wrong,) = fit(sampler, jax.random.key(0), gaussian(), Budget(40_000))
    programs_for.cache_clear()
    assert max(errors(wrong)) > 1


def test_a_flow_is_better_than_any_gaussian_on_a_banana():
    def log_density(x: jax.Array) -> jax.Array:
        return jnp.sum(
            jax.scipy.stats.norm.logpdf(x, jnp.stack([0.0 * x[0], x[0] ** 2]), jnp.array([1.0, 0.5]))
        )

    banana = from_log_density("banana", 2, log_density)
    elbo, settings = {}, Fitting(samples=8, learning_rates=(0.03,), start="random")
    for sampler in (FullRankVI(settings), FlowVI(settings, layers=2, width=8)):
        (found,) = fit(sampler, jax.random.key(0), banana, Budget(8000))
        draws, log_weight = draws_of(sampler, found, jax.random.key(1), 4000)
        elbo[type(sampler)] = log_weight.mean()
        exact = np.array([float(log_density(x)) for x in jnp.asarray(draws[:5])])
        space = found.problem.space
        u = (draws[:5] - np.asarray(found.problem.center)) / np.asarray(found.problem.scale)
        log_q = [float(sampler.family.log_prob(found.params, jnp.asarray(x), space)) for x in u]
        jacobian = np.log(np.asarray(found.problem.scale)).sum()
        np.testing.assert_allclose(log_weight[:5], exact - (np.array(log_q) - jacobian), atol=1e-8)
        if isinstance(sampler, FlowVI):  # log Z is 0
            assert np.log(np.exp(log_weight).mean()) == pytest.approx(0, abs=0.1)
            assert np.cov(draws[:, 0] ** 2, draws[:, 1])[0, 1] > 1
    assert elbo[FlowVI] > -0.15
    assert elbo[FlowVI] > elbo[FullRankVI] + 0.3


# -- the start ----------------------------------------------------------------------------------------------


def test_the_secant_diagonal_is_the_formula_and_finds_a_diagonal_hessian():
    rng, curvatures = np.random.default_rng(0), np.array([0.01, 1.0, 25.0, 400.0])
    diagonal = np.ones(4)
    update = jax.jit(secant_diagonal)
    for _ in range(40):
        s = rng.normal(size=4) / np.sqrt(curvatures)
        y = curvatures * s
        # Gilbert & Lemaréchal 1989, (4.6): the diagonal of the BFGS update of diag(d)⁻¹, inverted.
        hessian = np.diag(1 / diagonal)
        bfgs = hessian * (y @ np.diag(diagonal) @ y) / (y @ s) + np.outer(y, y) / (y @ s)
        bfgs -= (y @ np.diag(diagonal) @ y) / (y @ s) * np.outer(hessian @ s, hessian @ s) / (s @ hessian @ s)
        found = np.asarray(update(jnp.asarray(diagonal), jnp.asarray(s), jnp.asarray(y)))
        np.testing.assert_allclose(found, 1 / np.diag(bfgs), rtol=1e-10)
        diagonal = found
    np.testing.assert_allclose(diagonal * curvatures, 1, rtol=1e-3)
    for y in (-curvatures, np.zeros(4)):  # no curvature: nothing is learnt
        kept = update(jnp.asarray(diagonal), jnp.ones(4), jnp.asarray(y))
        np.testing.assert_array_equal(kept, diagonal)


climb = jax.jit(functools.partial(climbed_start, dim=3, budget=10_000))


@pytest.mark.parametrize("target", [gaussian_posterior, rejecting_posterior])
def test_the_start_counts_what_it_evaluates(target):
    target = target()
    before = target.counter.read()
    start = jax.block_until_ready(climb(target.density, jax.random.key(3)))
    spent = target.counter.read().since(before)
    assert (spent.gradients, spent.densities) == (int(start.cost.gradients), int(start.cost.densities))
    assert bool(start.found)
    if target is gaussian_posterior():
        assert np.abs(np.log(np.asarray(start.scale) / [1, 2, 3])).max() < np.log(4)
        assert (np.abs(np.asarray(start.center)) < [2, 4, 6]).all()


def test_climbs_towards_a_pole_end_at_their_share():
    target = from_log_density(
        "no maximum", 3, lambda x: x[0] - 0.5 * (x[1] ** 2 + jnp.exp(-x[0]) * x[2] ** 2)
    )
    start = climb(target.density, jax.random.key(0))
    assert 500 < int(start.cost.gradients) < 1000 + 4 * LINE_SEARCH
    assert np.isfinite(np.asarray(start.center)).all()


def test_a_climb_goes_on_through_a_narrow_valley():
    """Earnings on heights, not centred: intercept and slope have correlation −0.998, and sds apart by 70."""
    heights = np.linspace(60.0, 75.0, 40)
    earnings = -8e4 + 1500 * heights + 2e4 * np.random.default_rng(0).standard_normal(40)
    design = np.stack([np.ones(40), heights], axis=1)
    best, (squares,) = np.linalg.lstsq(design, earnings)[:2]

    def log_density(u):
        return -0.5 * jnp.sum((earnings - design @ u[:2]) ** 2) * jnp.exp(-2 * u[2]) - 39 * u[2]

    start = climb(from_log_density("earnings", 3, log_density).density, jax.random.key(0))
    offset = np.asarray(start.center)[:2] - best
    z = np.linalg.cholesky(design.T @ design).T @ offset / np.sqrt(squares / 38)
    assert np.abs(z).max() < 1  # climbs that stop after five idle iterations end 2.8 away


# -- hierarchies -------------------------------------------------------------------------------------------

PLACES = np.array([[4, 0], [1, 6], [5, 2]])
"""In no order; 3 is global."""


def hierarchical() -> Target:
    y = np.array([[1.0, 10.0], [2.0, 10.0], [6.0, 10.0]])
    return replace(standard_gaussian(7), hierarchy=Hierarchy(7, PLACES, y, ("y", "constant")))


def test_inputs_are_standardized_windows():
    locals = hierarchical_locals(hierarchical(), before=1)
    assert locals.shared.tolist() == [3]
    inputs = np.asarray(locals.inputs)
    assert inputs.shape == (3, 4)
    np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(inputs.std(axis=0), [1, 1, 1, 0], atol=1e-12)
    before, now = (np.array([0.0, 1, 2]), np.array([1.0, 2, 6]))
    np.testing.assert_allclose(inputs[:, 0], (before - before.mean()) / before.std())
    np.testing.assert_allclose(inputs[:, 2], (now - now.mean()) / now.std())


@pytest.mark.parametrize("local_map", [Constant(), Network(4, 1), Network(4, 0)], ids=str)
def test_an_amortized_family_is_mean_field_at_the_maps_factors(local_map):
    family, space = AmortizedGaussian(local_map), Space(7, hierarchical_locals(hierarchical()))
    flat, restore = ravel_pytree(family.init(jax.random.key(0), space))
    params = restore(flat + jax.random.normal(jax.random.key(1), flat.shape))
    assert space.locals is not None
    factors = family.factors(params, space)
    mapped = np.asarray(local_map(params.local_map, space.locals.inputs, 4))
    for k, places in enumerate(PLACES):
        np.testing.assert_array_equal(np.asarray(factors.loc)[places], mapped[k, :2])
        np.testing.assert_array_equal(np.asarray(factors.log_scale)[places], mapped[k, 2:])
    assert float(factors.loc[3]) == float(params.shared.loc[0])
    assert len(np.unique(mapped, axis=0)) == (1 if isinstance(local_map, Constant) else 3)
    u, plain = jnp.linspace(-2, 2, 7), MeanFieldGaussian()
    expected = float(plain.log_prob(factors, u, space))
    assert float(family.log_prob(params, u, space)) == pytest.approx(expected, rel=1e-12)
    keys = jax.random.split(jax.random.key(2), 4000)
    draws, log_q = map(np.asarray, jax.jit(jax.vmap(lambda k: family.sample(params, k, space)))(keys))
    np.testing.assert_allclose(log_q[0], family.log_prob(params, draws[0], space), rtol=1e-12)
    z = (draws - np.asarray(factors.loc)) / np.exp(np.asarray(factors.log_scale))
    assert np.abs(z.mean(axis=0)).max() < Z / 4000**0.5
    np.testing.assert_allclose(np.cov(z.T), np.eye(7), atol=Z * (2 / 4000) ** 0.5)


def test_networks_begin_near_the_standard_normal():
    space = Space(7, hierarchical_locals(hierarchical()))
    for local_map in (Constant(), Network(16, 2)):
        family = AmortizedGaussian(local_map)
        factors = family.factors(family.init(jax.random.key(0), space), space)
        assert np.abs(np.concatenate(factors)).max() < 0.1


def test_the_start_of_data_is_tied():
    from essper.samplers.base import Cost
    from essper.samplers.vi.start import Start

    center, scale = jnp.arange(7.0), jnp.exp(jnp.arange(7.0))
    locals = Locals(jnp.asarray(PLACES), jnp.array([3]), jnp.zeros((3, 0)))
    found = tied(Start(center, scale, jnp.asarray(True), Cost()), locals)
    first, second = [4, 1, 5], [0, 6, 2]
    np.testing.assert_allclose(np.asarray(found.center)[first], np.mean(first))
    np.testing.assert_allclose(np.asarray(found.center)[second], np.mean(second))
    np.testing.assert_allclose(np.log(np.asarray(found.scale))[first], np.mean(first))
    assert (found.center[3], found.scale[3]) == (center[3], scale[3])


@pytest.mark.parametrize("sampler", [AmortizedVI(), ConstantFactorVI()], ids=["avi", "constant"])
def test_a_target_without_a_hierarchy_says_what_to_do(sampler):
    with pytest.raises(HierarchyError, match=r"standard_gaussian .* hierarchy='auto'"):
        sampler.run(jax.random.key(0), standard_gaussian(2), Budget(10_000), chains=1)


@pytest.mark.parametrize("sampler", [AmortizedVI, ConstantFactorVI])
def test_a_sampler_that_asks_for_another_hierarchy_is_refused(sampler):
    for named in (None, "auto", "data"):
        assert sampler(hierarchy=named).locals_of(hierarchical()).shared.tolist() == [3]
    with pytest.raises(HierarchyError, match=r"'data'.*'schools'"):
        sampler(hierarchy="schools").run(jax.random.key(0), hierarchical(), Budget(10_000), chains=1)


# -- settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"estimator": "score"}, "estimator='score': give one of path, total"),
        ({"start": "mode"}, "start='mode': give one of climb, random"),
        ({"samples": 0}, "samples=0: give at least 1"),
        ({"window": 0}, "window=0"),
        ({"patience": 0}, "patience=0"),
        ({"halvings": 0}, "halvings=0"),
        ({"draws": 0}, "draws=0"),
        ({"learning_rates": ()}, r"learning_rates=\(\)"),
        ({"learning_rates": (0.1, -1.0)}, "all positive"),
        ({"screening": 1.0}, "screening=1.0"),
        ({"tolerance": 0.0}, "tolerance=0.0"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        Fitting(**settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LowRankVI(rank=0), "rank=0"),
        (lambda: FlowVI(layers=0), "layers=0"),
        (lambda: FlowVI(width=0), "width=0"),
        (lambda: AmortizedVI(width=0), "width=0"),
        (lambda: AmortizedVI(depth=-1), "depth=-1"),
        (lambda: AmortizedVI(before=-1), "before=-1"),
    ],
)
def test_families_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_budget_that_leaves_no_window():
    with pytest.raises(
        ValueError, match=r"leaves no window of 10 steps of 2 gradients for each of 2 learning"
    ):
        MeanFieldVI(replace(RULE, learning_rates=(0.03, 0.1), start="random")).run(
            jax.random.key(0), gaussian(), Budget(150), chains=1
        )
    with pytest.raises(ValueError, match="at least one chain"):
        MeanFieldVI().run(jax.random.key(0), gaussian(), Budget(10_000), chains=0)
