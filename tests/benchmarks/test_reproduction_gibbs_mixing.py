"""gibbs-mixing: predictions and estimators, wrong predictions and samplers, and all of it in miniature."""

import dataclasses
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from essper.benchmarks.reproductions import (
    gibbs_mixing,
    gibbs_mixing_posteriors,
    gibbs_mixing_relaxation,
    registry,
)
from essper.benchmarks.reproductions.ensemble import Stopped
from essper.benchmarks.reproductions.framework import NOT_REPRODUCED, REPRODUCED
from essper.benchmarks.reproductions.gibbs_mixing import (
    GIBBS_MIXING,
    MixingPlan,
    predicted_autocorrelations,
    scan_measurement,
    scan_rows,
    scan_scores,
    score_bound,
    wrong_row,
)
from essper.benchmarks.reproductions.gibbs_mixing_relaxation import (
    case_of,
    relaxation_measurement,
    relaxation_scores,
)
from essper.benchmarks.reproductions.gibbs_mixing_runs import (
    jump_correlation,
    known_autocorrelations,
    pooled_autocorrelations,
)
from essper.benchmarks.reproductions.gibbs_mixing_theory import (
    conductance_bound,
    entropy_bound,
    integrated_time,
    linear_functions,
    precision_of,
    regression_functions,
    relaxation,
)
from essper.models.conditional import Blocks
from essper.models.gaussian import coordinates_given_others, correlated_gaussian, ill_conditioned_gaussian
from essper.samplers import Gibbs
from test_cli_reproduce import check

SMALL = MixingPlan(
    seeds=2,
    chains=2048,
    sweeps=400,
    run_budget=1000,
    relaxation_chains=64,
    spans=10,
    regression_chains=8,
    regression_sweeps=40,
    budget=1000,
)
FAMILY = "equicorrelated, ρ = 0.5"


def equicorrelated_precision(n: int, correlation: float) -> np.ndarray:
    return np.linalg.inv((1 - correlation) * np.eye(n) + correlation)


# -- predictions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scan", ["systematic", "reversed"])
def test_two_coordinates_in_turn_are_an_autoregression_with_the_squared_correlation(scan: str) -> None:
    found = predicted_autocorrelations(scan)
    assert found[:4] == pytest.approx([1.0, 0.81, 0.6561, 0.531441])
    assert integrated_time(found) == pytest.approx(9.526, abs=5e-4)


def test_the_order_of_updates_is_that_of_the_sampler() -> None:
    """E[x₃ | start] after updates of 1, 2, 3 by hand, for a chain of dependencies."""
    precision = np.array([[2.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 2.0]])
    x = np.array([0.3, -1.2, 2.0])
    start = x.copy()
    for i in (0, 1, 2):
        x[i] -= precision[i] @ x / precision[i, i]
    space = linear_functions(precision)
    np.testing.assert_allclose(start @ space.sweep("systematic"), x)
    assert not np.allclose(start @ space.sweep("reversed"), x)


def test_updates_are_orthogonal_projections() -> None:
    """Conditional expectations are idempotent and self-adjoint."""
    for space in (linear_functions(equicorrelated_precision(4, 0.3)), regression_functions(46, 7)):
        for update in space.updates:
            np.testing.assert_allclose(update @ update, update, atol=1e-12)
            np.testing.assert_allclose(space.gram @ update, (space.gram @ update).T, atol=1e-12)


def test_the_variance_of_a_regression_is_an_autoregression() -> None:
    """σ² by hand: (RSS + σ² χ²_d) / χ²_{n − 1}."""
    n, d, rss = 30, 5, 4.0
    rng = np.random.default_rng(0)
    variance = rss / rng.chisquare(n - 1 - d, 400_000)
    moved = (rss + variance * rng.chisquare(d, variance.shape)) / rng.chisquare(n - 1, variance.shape)
    assert moved.mean() == pytest.approx(variance.mean(), rel=5e-3)
    space = regression_functions(n, d)
    predicted = space.autocorrelations(space.sweep("systematic"), 0, 2)
    assert predicted[1:] == pytest.approx([d / (n - 3), (d / (n - 3)) ** 2])
    assert np.corrcoef(variance, moved)[0, 1] == pytest.approx(predicted[1], abs=0.01)
    assert space.autocorrelations(space.sweep("random"), 0, 1)[1] == pytest.approx(0.25 + 0.75 * d / (n - 3))
    with pytest.raises(ValueError, match="give more"):
        regression_functions(10, 5)


@pytest.mark.parametrize("n", [2, 5, 12])
def test_relaxation_times_are_those_of_the_operator(n: int) -> None:
    correlation = 0.5
    precision = equicorrelated_precision(n, correlation)
    known = relaxation(precision)
    assert known.updates == pytest.approx(n * (1 + (n - 2) * correlation) / (1 - correlation))
    space = linear_functions(precision)
    sweep = space.sweep("random")
    assert np.max(np.abs(np.linalg.eigvals(sweep))) == pytest.approx(known.correlation(1))
    np.testing.assert_allclose(sweep @ known.slowest, known.correlation(1) * known.slowest, atol=1e-10)
    assert known.slowest @ space.gram @ known.slowest == pytest.approx(1.0)
    assert known.updates <= entropy_bound(known) <= 2 * known.updates
    assert conductance_bound(known) == pytest.approx(known.condition**2 * n**7.5)


def test_scales_of_coordinates_do_not_matter_to_the_relaxation_time() -> None:
    precision, scales = equicorrelated_precision(4, 0.4), np.diag([0.01, 1.0, 30.0, 2.0])
    plain, scaled = relaxation(precision), relaxation(scales @ precision @ scales)
    assert scaled.updates == pytest.approx(plain.updates)
    assert scaled.condition > 100 * plain.condition


def test_the_precision_is_that_of_the_log_density() -> None:
    target = correlated_gaussian(3, 0.5, structure="equicorrelated")
    np.testing.assert_allclose(precision_of(target), equicorrelated_precision(3, 0.5), atol=1e-10)
    assert relaxation(precision_of(ill_conditioned_gaussian(6, 100.0, rotation_seed=0))).condition == (
        pytest.approx(100.0)
    )


# -- estimators ---------------------------------------------------------------------------------------


def test_estimators_of_autocorrelations_agree_with_an_autoregression() -> None:
    rng, a = np.random.default_rng(1), 0.8
    x = np.empty((500, 400))
    x[:, 0] = rng.normal(size=500)
    for t in range(1, 400):
        x[:, t] = a * x[:, t - 1] + (1 - a**2) ** 0.5 * rng.normal(size=500)
    for found in (known_autocorrelations(x, 3), pooled_autocorrelations(3 + 2 * x, 3)):
        assert found.shape == (500, 4)
        error = found.std(axis=0, ddof=1) / 500**0.5
        assert np.all(np.abs(found.mean(axis=0) - a ** np.arange(4)) <= 4 * error + 1e-12)
    jumps, products = jump_correlation(x, 2), known_autocorrelations(x, 2)[:, 2]
    assert jumps.mean() == pytest.approx(a**2, abs=4 * jumps.std() / 500**0.5)
    assert jumps.std() < products.std()
    with pytest.raises(ValueError, match="give more sweeps"):
        known_autocorrelations(x[:, :3], 3)


# -- what is wrong is found out -----------------------------------------------------------------------


def measured(scan: str) -> dict[str, list]:
    stop = threading.Event()
    wanted = [scan_measurement(scan, SMALL, seed) for seed in range(SMALL.seeds)]
    return {scan: [one.compute(one.key, stop) for one in wanted]}


def test_a_wrong_correlation_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured("systematic")
    bound = score_bound(4)
    assert max(map(abs, scan_scores(found))) < bound
    assert {row.verdict for row in scan_rows(found)[:3]} == {REPRODUCED}
    assert wrong_row(found, bound).verdict == REPRODUCED
    monkeypatch.setattr(gibbs_mixing, "WRONG", gibbs_mixing.CORRELATION)
    assert wrong_row(found, bound).verdict == NOT_REPRODUCED
    predict = gibbs_mixing.predicted_autocorrelations
    monkeypatch.setattr(gibbs_mixing, "predicted_autocorrelations", lambda scan: predict(scan, 0.88))
    assert {row.verdict for row in scan_rows(found)[:3]} == {NOT_REPRODUCED}
    assert max(map(abs, scan_scores(found))) > bound


def test_a_wrong_scan_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gibbs_mixing, "SCANS", {"random": Gibbs()})
    found = measured("random")
    monkeypatch.setattr(gibbs_mixing, "SCANS", {"random": Gibbs(scan="random")})
    assert max(map(abs, scan_scores(found))) > score_bound(4)


def test_wrong_conditionals_fail() -> None:
    """Those of another correlation: chains start stationary and drift off."""
    case = case_of(FAMILY, 5)

    def score(tested: gibbs_mixing_relaxation.Case) -> float:
        wanted = [relaxation_measurement(tested, SMALL, seed) for seed in range(SMALL.seeds)]
        results = [one.compute(one.key, threading.Event()) for one in wanted]
        return abs(relaxation_scores([(tested, results)])[0])

    assert score(case) < score_bound(1)
    blocks = Blocks({"x": coordinates_given_others(equicorrelated_precision(5, 0.4))})
    wrong = dataclasses.replace(case.target, blocks=blocks)
    assert score(dataclasses.replace(case, target=wrong)) > score_bound(1)


def test_measurements_stop_when_asked() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        scan_measurement("systematic", SMALL, 0).compute(jax.random.key(0), stop)


# -- all of it ----------------------------------------------------------------------------------------


def test_the_mixing_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTERIORDB_PATH", raising=False)
    # What takes its time is compiling: one scan, one Gaussian, and one model in all roles of eight schools.
    families = {FAMILY: gibbs_mixing_relaxation.FAMILIES[FAMILY]}
    monkeypatch.setattr(gibbs_mixing, "SCANS", {"systematic": Gibbs()})
    monkeypatch.setattr(gibbs_mixing_relaxation, "FAMILIES", families)
    monkeypatch.setattr(gibbs_mixing_relaxation, "DIMENSIONS", (5,))
    monkeypatch.setattr(gibbs_mixing_posteriors, "REGRESSION_SCANS", ("systematic",))
    monkeypatch.setattr(gibbs_mixing_posteriors, "SCHOOLS", ("eight_schools_noncentered",) * 2)
    scans = {"systematic": Gibbs(), "random": Gibbs()}
    monkeypatch.setattr(gibbs_mixing_posteriors, "SCHOOL_SCANS", scans)
    miniature = dataclasses.replace(GIBBS_MIXING, default=SMALL)
    monkeypatch.setitem(registry.REPRODUCTIONS, GIBBS_MIXING.name, miniature)
    rows = check(GIBBS_MIXING.name, tmp_path)["rows"]
    # scans, a run; relaxation times, bounds; the regression; z, the wrong prediction; eight schools
    assert len(rows) == 4 + 1 + 1 + 2 + 3 + 2 + 3
    bounds = [row["measured"]["value"] for row in rows if row["claimed"] == "at least 1"]
    assert min(bounds) > 1
