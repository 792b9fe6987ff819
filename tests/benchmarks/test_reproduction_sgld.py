"""sgld-bias and cold-posterior: what they predict, and both from end to end in miniature."""

from pathlib import Path

import numpy as np
import pytest
from essper.benchmarks.reproductions import cold_posterior, sgld_bias, sgld_curve, sgld_inflation
from essper.benchmarks.reproductions.cold_posterior import ColdPlan
from essper.benchmarks.reproductions.sgld_bias import BiasPlan
from essper.benchmarks.reproductions.stochastic_runs import langevin_inflation, mean_estimate
from essper.benchmarks.reproductions.tempered_predictions import WORLDS, scores
from essper.benchmarks.reproductions.tempered_regression import (
    SIGMA,
    Moments,
    Regression,
    draw_design,
    log_score,
    simulated_regression,
    stationary_covariance,
)
from essper.posteriordb_adapter import PosteriorDatabase
from test_cli_reproduce import check, in_miniature


def test_means_of_chains_have_students_interval() -> None:
    found = mean_estimate([1.0, 2.0, 3.0, 4.0])
    assert found.value == 2.5
    assert found.low == pytest.approx(2.5 - 3.1824 * (5 / 12) ** 0.5, abs=1e-4)
    assert found.high == pytest.approx(2.5 + 3.1824 * (5 / 12) ** 0.5, abs=1e-4)
    assert mean_estimate([2.0]).low is None


def test_the_inflation_of_an_autoregression() -> None:
    """Var = ρ² Var + h² V + 2h, iterated, at λ = 1."""
    h, noise, variance = 0.3, 20.0, 0.0
    for _ in range(500):
        variance = (1 - h) ** 2 * variance + h**2 * noise + 2 * h
    assert langevin_inflation(h, noise) == pytest.approx(variance)


def step(data: Regression, theta: np.ndarray, rows: np.ndarray, temperature: float) -> np.ndarray:
    """∇ log prior + n/m Σ ∇ log p(row)^(1/T), written out."""
    x, residuals = data.x[rows], data.y[rows] - data.x[rows] @ theta
    scale = len(data.y) / len(rows) / temperature / SIGMA**2
    return -cold_posterior.PRIOR_PRECISION * theta + scale * x.T @ residuals


@pytest.mark.parametrize("tempering", ["full", "likelihood"])
def test_the_stationary_covariance_is_stationary(tempering) -> None:
    """One step with every possible minibatch of one row keeps mean and covariance, exactly."""
    data, t, h = simulated_regression(12), 0.5, 0.01
    tempered = data.tempered(tempering, t)
    likelihood, full = (t, 1.0) if tempering == "likelihood" else (1.0, t)
    expected = stationary_covariance(data, tempering, t, step_size=h, batch=1, control_variates=False)
    factor = np.linalg.cholesky(expected) * len(expected) ** 0.5
    points = [tempered.mean + sign * column for column in factor.T for sign in (1, -1)]  # these moments
    moved = [
        point + h * step(data, point, np.array([row]), likelihood) - tempered.mean
        for point in points
        for row in range(12)
    ]
    assert np.mean(moved, axis=0) == pytest.approx(np.zeros(4), abs=1e-12)
    after = np.mean([np.outer(m, m) for m in moved], axis=0) + 2 * h * full * np.eye(4)
    assert after == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_with_control_variates_the_covariance_is_proportional_to_the_temperature() -> None:
    data, settings = simulated_regression(30), {"step_size": 1e-3, "batch": 5}
    one, cold = (
        stationary_covariance(data, "full", t, control_variates=True, **settings) for t in (1.0, 0.1)
    )
    assert cold == pytest.approx(0.1 * one)
    plain = stationary_covariance(data, "full", 0.1, control_variates=False, **settings)
    assert np.trace(plain) > 1.2 * np.trace(cold)


def test_log_scores_are_expectations() -> None:
    rng = np.random.default_rng(0)
    x, truth = draw_design(rng, 3), np.array([0.2, -0.1, 0.3, 0.0])
    moments = Moments(truth + 0.1, np.diag([9.0, 5.0, 4.0, 3.0]))
    y = x @ truth + 0.5 * rng.normal(size=(200_000, 3))
    variance = np.diag(x @ moments.covariance @ x.T) + SIGMA**2
    drawn = -0.5 * np.log(2 * np.pi * variance) - (y - x @ moments.mean) ** 2 / (2 * variance)
    error = drawn.mean(1).std() / len(y) ** 0.5
    assert log_score(moments, x, truth, 0.5) == pytest.approx(drawn.mean(), abs=4 * error)


def test_worlds_share_their_temperature_one() -> None:
    """At T = 1 the two temperings are the posterior; elsewhere they differ."""
    for world in WORLDS:
        found = scores(world, 3)
        one = cold_posterior.TEMPERATURES.index(1.0)
        assert np.allclose(found["full"][:, one], found["likelihood"][:, one])
        assert not np.allclose(found["full"][:, 0], found["likelihood"][:, 0])


def test_the_built_in_posterior_serves_where_posteriordbs_is_not_complete() -> None:
    assert sgld_curve.find_posterior(PosteriorDatabase(builtin=True)).name in sgld_curve.POSTERIORS


def test_the_bias_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTERIORDB_PATH", raising=False)
    settings = sgld_inflation.SETTINGS
    monkeypatch.setattr(sgld_inflation, "SETTINGS", (settings[1], settings[-3]))
    in_miniature(monkeypatch, "sgld-bias", BiasPlan(seeds=2, chains=3, effective=100, gradients=120))
    rows = check("sgld-bias", tmp_path)["rows"]
    compared = len(sgld_bias.COMPARED_STEPS)
    assert len(rows) == 2 + 1 + 1 + len(sgld_bias.SLOPE_STEPS) + compared + 1 + 1 + compared + 2
    assert any("simulated_nes-nes" in row["setting"] for row in rows)


def test_the_cold_posterior_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = ColdPlan(seeds=2, chains=3, gradients=60, data_sets=20)
    in_miniature(monkeypatch, "cold-posterior", plan)
    written = check("cold-posterior", tmp_path)
    assert len(written["rows"]) == len(cold_posterior.SETTINGS) + 3 + 2 + 1 + 2 * len(WORLDS)
    assert len(written["measurements"]) == 2 * len(cold_posterior.SETTINGS)
