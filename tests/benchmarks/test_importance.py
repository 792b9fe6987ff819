"""Importance weights: tails of known index, estimates under the target, and weights that are none."""

import numpy as np
import pytest
from essper.benchmarks import accuracy, importance
from scipy import stats


def from_normal(seed: int, shape: tuple[int, int], location: float, scale: float):
    """Draws of q = N(location, scale²) and log p − log q for p = N(0, 1), p without its constant."""
    draws = np.random.default_rng(seed).normal(location, scale, shape)
    return draws, -(draws**2) / 2 - stats.norm.logpdf(draws, location, scale)


@pytest.mark.parametrize("scale", [0.9, 0.8, 0.7])
def test_khat_is_the_tail_index_of_a_ratio_of_normal_densities(scale):
    """For q = N(0, s²), s < 1, w = exp(z² (1 − s²) / 2) has P(w > t) ~ t^(−1 / (1 − s²)): k = 1 − s²."""
    khat = importance.smoothed_weights(from_normal(1, (16, 10_000), 0, scale)[1]).khat
    error = khat.std(ddof=1) / np.sqrt(16)
    assert khat.mean() == pytest.approx(1 - scale**2, abs=3 * error + 0.02)  # a logarithm in the tail: a bias
    assert khat.std() < 0.15


def test_khat_of_a_generalized_pareto_tail_is_its_shape():
    for shape in (0.2, 0.5, 0.9):
        log_weight = np.log(stats.genpareto.rvs(shape, size=(8, 10_000), random_state=2))
        found = importance.smoothed_weights(log_weight - 1e5)  # up to any constant
        assert found.khat.mean() == pytest.approx(shape, abs=0.1)
        np.testing.assert_allclose(found.weight.sum(axis=1), 1)


def test_bounded_weights_have_a_negative_khat():
    assert (importance.smoothed_weights(from_normal(3, (4, 2000), 0, 1.5)[1]).khat < 0).all()


def test_weighted_draws_of_a_shifted_normal_are_draws_of_the_target():
    draws, log_weight = from_normal(4, (4, 5000), 0.5, 1.2)
    weights = importance.smoothed_weights(log_weight)
    assert (weights.khat < importance.khat_threshold(5000)).all()
    assert ((weights.ess > 2500) & (weights.ess < 5000)).all()
    np.testing.assert_allclose(weights.ess, 1 / (weights.weight**2).sum(axis=1))
    found = accuracy.estimates(draws[..., None], importance.pooled(weights.weight))
    noise = 4 / np.sqrt(weights.ess.sum())
    assert found.mean[0] == pytest.approx(0, abs=noise)
    assert found.sd[0] == pytest.approx(1, abs=noise)
    assert found.quantile[:, 0] == pytest.approx([-1.645, 0, 1.645], abs=2.2 * noise)
    assert abs(draws.mean() - 0.5) < noise  # as they are, they are not


def test_every_chain_counts_the_same_whatever_its_constant():
    _, log_weight = from_normal(5, (3, 1000), 0.3, 1.1)
    constants = np.array([[0.0], [-700.0], [900.0]])
    alike, shifted = (
        importance.smoothed_weights(logs).weight for logs in (log_weight, log_weight + constants)
    )
    np.testing.assert_allclose(alike, shifted, rtol=1e-9)
    assert importance.pooled(alike).reshape(3, 1000).sum(axis=1) == pytest.approx([1 / 3] * 3)


def test_the_elbo_is_minus_the_divergence_of_normal_densities():
    _, log_weight = from_normal(6, (4, 20_000), 0.5, 0.8)
    divergence = (0.8**2 + 0.5**2 - 1) / 2 - np.log(0.8) - np.log(2 * np.pi) / 2  # p has no constant
    value, error = importance.elbo(log_weight)
    assert (np.abs(value + divergence) < 4 * error).all()
    np.testing.assert_allclose(error, log_weight.std(axis=1, ddof=1) / np.sqrt(20_000))
    assert np.isnan(importance.elbo(log_weight[:, :1])[1]).all()


@pytest.mark.parametrize(("draws", "limit"), [(100, 0.5), (1000, 2 / 3), (2200, 0.7), (10**6, 0.7)])
def test_the_threshold_grows_with_the_draws_up_to_a_cap(draws, limit):
    assert importance.khat_threshold(draws) == pytest.approx(limit, abs=2e-3)


def test_draws_where_the_target_is_zero_have_no_weight():
    log_weight = from_normal(7, (2, 1000), 0, 1.2)[1]
    log_weight[0, :300] = -np.inf
    found = importance.smoothed_weights(log_weight)
    assert found.reason is None
    assert np.isfinite(found.khat).all()
    np.testing.assert_array_equal(found.weight[0, :300], 0)
    assert found.weight[0, 300:].sum() == pytest.approx(1)
    value, error = importance.elbo(log_weight)
    assert np.isneginf(value[0])
    assert np.isnan(error[0])
    assert np.isfinite([value[1], error[1]]).all()


def _chain(kind: str) -> np.ndarray:
    logs = np.random.default_rng(8).normal(size=1000)
    match kind:
        case "zero":
            logs[:] = -np.inf
        case "nan":
            logs[[4, 7]] = np.nan
        case "infinite":
            logs[3] = np.inf
        case "few":
            logs[:-10] = -np.inf
        case "far":
            logs *= 1e4
    return logs


@pytest.mark.parametrize(
    ("kind", "reason", "weighted"),
    [
        ("zero", "the density of the target is 0 at every draw", False),
        ("nan", "2 of 1000 log weights are NaN or +inf", False),
        ("infinite", "1 of 1000 log weights are NaN or +inf", False),
        ("few", "k-hat cannot be estimated: a few draws have all of the weight", True),
        ("far", "k-hat cannot be estimated: a few draws have all of the weight", True),
    ],
)
def test_what_has_no_khat_says_why(kind, reason, weighted):
    found = importance.smoothed_weights(np.stack([_chain("fine"), _chain(kind)]))
    assert np.isfinite(found.khat[0])
    assert np.isnan(found.khat[1])
    assert found.reason == f"chain 2: {reason}"
    assert np.isfinite(found.weight[1]).all() == weighted
    assert np.isnan(found.ess[1]) != weighted


def test_few_draws_have_weights_but_no_khat():
    found = importance.smoothed_weights(np.log([[1.0, 2.0, 3.0, 4.0]]))
    assert found.weight == pytest.approx(np.array([[0.1, 0.2, 0.3, 0.4]]))
    assert np.isnan(found.khat[0])
    assert found.reason == "chain 1: 4 draws are too few for k-hat, which needs 25"


def test_weights_that_are_all_the_same_are_fine():
    found = importance.smoothed_weights(np.full((1, 500), -12.5))
    assert np.isneginf(found.khat[0])
    assert (found.reason, found.ess[0]) == (None, pytest.approx(500))
