"""The two latent series: densities, exact draws, and what factorized Gaussians come to on them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models.latent_series import Factors, HiddenMarkov, SawTooth, best_linear, best_shared
from scipy import stats
from scipy.optimize import minimize

N = 9
SAW = SawTooth(alpha=0.7, tau=1.3, sigma=0.6, start=0.9)
HMM = HiddenMarkov(rho=0.8, tau=1.3, sigma=0.6)
MODELS = pytest.mark.parametrize("model", [SAW, HMM], ids=["saw-tooth", "hidden Markov"])


def data(model, n=N, seed=0):
    return model.simulate(np.random.default_rng(seed), n)


def written_out(model, x, z):
    """log p(z, x), step by step."""
    if isinstance(model, SawTooth):
        before = [model.start, *x[:-1]]
        prior = sum(stats.norm.logpdf(zk, 0, model.tau) for zk in z)
        means = [model.alpha * last + zk for last, zk in zip(before, z, strict=True)]
    else:
        prior = stats.norm.logpdf(z[0], 0, model.tau / (1 - model.rho**2) ** 0.5)
        prior += sum(stats.norm.logpdf(b, model.rho * a, model.tau) for a, b in itertools.pairwise(z))
        means = z
    return prior + sum(stats.norm.logpdf(xk, mean, model.sigma) for xk, mean in zip(x, means, strict=True))


@MODELS
def test_the_density_is_that_of_the_model(model):
    x, z = data(model), np.random.default_rng(1).normal(size=N)
    assert float(model.target(x).log_density(jnp.asarray(z))) == pytest.approx(written_out(model, x, z))


@MODELS
def test_the_posterior_is_the_densitys(model):
    x = data(model)
    target, posterior = model.target(x), model.posterior(x)
    mean = jnp.asarray(posterior.mean)
    np.testing.assert_allclose(-jax.hessian(target.log_density)(mean), posterior.precision, atol=1e-12)
    np.testing.assert_allclose(jax.grad(target.log_density)(mean), 0.0, atol=1e-12)
    # log p(x) = log p(z, x) − log p(z | x), at any z
    height = (
        float(target.log_density(mean))
        + 0.5 * np.linalg.slogdet(2 * np.pi * np.linalg.inv(posterior.precision))[1]
    )
    assert model.log_evidence(x) == pytest.approx(height)


@MODELS
def test_exact_draws_have_the_posteriors_moments(model):
    x, count = data(model), 40_000
    posterior = model.posterior(x)
    draws = np.asarray(model.target(x).exact(jax.random.key(0), count))
    covariance = np.linalg.inv(posterior.precision)
    np.testing.assert_allclose(draws.mean(0), posterior.mean, atol=5 * np.sqrt(covariance.max() / count))
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=8 * covariance.max() / count**0.5)


@MODELS
def test_simulated_series_have_the_models_covariance(model):
    many = np.array([data(model, 4, seed) for seed in range(4000)])
    if isinstance(model, SawTooth):
        steps = np.array([[model.alpha ** max(0, k - j) * (j <= k) for j in range(4)] for k in range(4)])
        covariance = (model.tau**2 + model.sigma**2) * steps @ steps.T
        mean = model.start * model.alpha ** np.arange(1, 5)
    else:
        covariance, mean = model.covariance(4), np.zeros(4)
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(many.mean(0) / scale, mean / scale, atol=0.08)
    np.testing.assert_allclose(
        np.cov(many.T) / np.outer(scale, scale), covariance / np.outer(scale, scale), atol=0.12
    )


@MODELS
def test_a_gap_is_the_difference_of_two_elbos(model):
    """Each by the density alone."""
    x = data(model)
    target, posterior = model.target(x), model.posterior(x)
    rng = np.random.default_rng(2)
    other = Factors(rng.normal(size=N), rng.uniform(0.1, 2.0, N))

    def elbo(factors):
        # A quadratic's expectation from the 2 N points at ± √N standard deviations along every axis
        moves = np.diag(np.sqrt(N * factors.variance))
        points = np.concatenate([factors.mean + moves, factors.mean - moves])
        entropy = 0.5 * np.log(2 * np.pi * np.e * factors.variance).sum()
        return float(jnp.mean(jax.vmap(target.log_density)(jnp.asarray(points)))) + entropy

    assert posterior.gap(other) == pytest.approx(elbo(posterior.best) - elbo(other))
    assert posterior.gap(posterior.best) == pytest.approx(0.0, abs=1e-14)
    assert model.log_evidence(x) - elbo(posterior.best) == pytest.approx(posterior.lost, abs=1e-9)
    if isinstance(model, SawTooth):
        assert posterior.lost == pytest.approx(0.0, abs=1e-12)
    else:
        assert posterior.lost > 0.05


@MODELS
def test_no_shared_and_no_linear_factors_are_better_than_the_best(model):
    """Against a numerical search that knows nothing but the gap."""
    equal = np.array([0.0, 1.0, 1.0, -1.0, 0.0, 2.0, -1.0, 1.0, 0.0])[:, None]
    posterior = model.posterior(equal[:, 0])
    groups = np.equal(equal, np.unique(equal)).astype(float)

    def searched(features):
        k = features.shape[1]
        found = minimize(
            lambda w: posterior.gap(Factors(features @ w[:k], np.exp(2 * features @ w[k:]))), np.zeros(2 * k)
        )
        return found.fun

    shared = posterior.gap(best_shared(posterior, equal))
    assert shared == pytest.approx(searched(groups), rel=1e-6)
    assert shared > 0.05
    linear = posterior.gap(best_linear(posterior, equal))
    assert linear == pytest.approx(searched(np.column_stack([np.ones(N), equal])), rel=1e-6)
    assert linear > shared


def test_the_saw_tooths_linear_gap_is_the_residual_sum_of_squares():
    x = data(SAW, 30)
    posterior = SAW.posterior(x)
    rss = np.sum((posterior.mean - np.polyval(np.polyfit(x, posterior.mean, 1), x)) ** 2)
    expected = 0.5 * (1 / SAW.tau**2 + 1 / SAW.sigma**2) * rss
    assert posterior.gap(best_linear(posterior, x[:, None])) == pytest.approx(expected)


def test_a_window_of_two_is_exact_where_the_series_starts_at_zero():
    for start, closes in ((0.0, True), (5.0, False)):
        model = SawTooth(start=start)
        x = data(model, 40)
        hierarchy, posterior = model.target(x).hierarchy, model.posterior(x)
        assert hierarchy is not None
        gap = posterior.gap(best_linear(posterior, hierarchy.windows(before=1)))
        assert (gap < 1e-12) == closes
    assert gap > 1.0


@MODELS
def test_what_no_function_of_one_datum_explains(model):
    """The best linear maps, chosen on very many series, have that gap on average."""
    n, count = 12, 3000
    many = [model.simulate(np.random.default_rng([5, seed]), n) for seed in range(count)]
    posteriors = [model.posterior(x) for x in many]
    precision = posteriors[0].precision
    if isinstance(model, SawTooth):
        # A map of its own for every k: the bound's own case, from regressions over series
        means, x = np.array([p.mean for p in posteriors]), np.array(many)
        lines = [np.polyfit(x[:, k], means[:, k], 1) for k in range(n)]
        fitted = np.array([np.polyval(line, x[:, k]) for k, line in enumerate(lines)]).T
        variances = np.full(n, 1 / model.precision)
    else:
        top = sum(x @ x for x in many) / model.sigma**2
        fitted = top / sum(x @ precision @ x for x in many) * np.array(many)
        variances = np.full(n, n / np.trace(precision))
    gaps = [p.gap(Factors(f, variances)) for p, f in zip(posteriors, fitted, strict=True)]
    error = np.std(gaps) / count**0.5
    assert np.mean(gaps) == pytest.approx(model.unexplained(n), abs=4 * error)


def test_the_hierarchy_names_every_coordinate_and_its_datum():
    x = data(HMM)
    target = HMM.target(x)
    assert target.hierarchy is not None
    np.testing.assert_array_equal(target.hierarchy.local, np.arange(N)[:, None])
    np.testing.assert_array_equal(target.hierarchy.inputs[:, 0], x)
    digests = {
        target.digest,
        HMM.target(x + 1e-9).digest,
        HiddenMarkov(rho=0.81).target(x).digest,
        SAW.target(x).digest,
    }
    assert len(digests) == 4
