"""avi-time-series and avi-hmm: their closed forms, maps on other series, and both in miniature."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from essper.benchmarks.reproductions import avi_hmm, avi_series_runs, avi_time_series
from essper.benchmarks.reproductions.avi_hmm import HmmPlan
from essper.benchmarks.reproductions.avi_series_runs import (
    Case,
    Series,
    carry_on,
    factors_on,
    mean_gap,
    series,
)
from essper.benchmarks.reproductions.avi_time_series import TimeSeriesPlan
from essper.benchmarks.reproductions.framework import REPRODUCED
from essper.benchmarks.reproductions.laboratory import Laboratory, Measurement
from essper.models.latent_series import HiddenMarkov, SawTooth, best_linear
from essper.samplers.amortized import AmortizedVI
from essper.samplers.base import Budget
from essper.samplers.vi import Fitting, fit
from test_cli_reproduce import check, in_miniature

QUICK = Fitting(start="random", samples=2, learning_rates=(0.03,), window=10, tolerance=1e-9, halvings=20)
N = 12


def test_a_window_on_one_series_and_on_others() -> None:
    """What is measured, of a linear map of two data on a series whose x_0 is not the window's 0."""
    sampler, stop = AmortizedVI(depth=0, before=1, fitting=QUICK), threading.Event()
    case = avi_time_series.cases(N)[2]
    here = case.series(0)
    found = avi_series_runs.gap_measurement(replace(case, family=sampler), 2000, 0)
    result = found.compute(found.key, stop)
    assert result["gap"] == pytest.approx(case.closed(0), rel=1e-8)
    assert case.closed(0) > 0.1
    assert result["stochastic"] == pytest.approx(case.closed(0), rel=0.05)
    assert result["stochastic"] > result["gap"]
    assert result["factorized"] == pytest.approx(here.best_elbo, rel=1e-10)
    assert result["independent"] is True

    # Fitted where it is exact, a map is exact on every series, with what its own inputs were standardized by.
    here = series(avi_time_series.MODEL, N, 0)
    (fitted,) = fit(sampler, jax.random.key(0), here.target, Budget(2000))
    end = carry_on(sampler, fitted, here)
    elsewhere = Series(here.model, 3.0 + 5.0 * series(here.model, N, 1).x)
    factors = factors_on(sampler, end, here, elsewhere)
    np.testing.assert_allclose(factors.mean, elsewhere.posterior.mean, atol=1e-6)
    np.testing.assert_allclose(factors.variance, elsewhere.posterior.best.variance, rtol=1e-6)
    assert mean_gap(sampler, end, here, [here, elsewhere]) < 1e-9


def test_a_map_that_says_anything_is_charged_a_finite_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    here = series(avi_hmm.MODEL, 5, 0)
    wild = here.posterior.best._replace(variance=np.full(5, np.inf))
    monkeypatch.setattr(avi_series_runs, "factors_on", lambda *_: wild)
    # The map is replaced above, so that nothing reads the fit.
    assert mean_gap(AmortizedVI(), None, here, [here]) == avi_series_runs.LARGEST  # type: ignore[arg-type]


def test_second_differences_are_the_hessian() -> None:
    one = series(HiddenMarkov(rho=0.7), 6, 0)
    found = avi_hmm.second_differences(one.target.density, jax.random.key(0), 6)
    np.testing.assert_allclose(-found, one.posterior.precision, atol=1e-11)


def test_the_linear_gap_of_the_series_is_near_its_expectation() -> None:
    gaps = [avi_time_series.one_gap(100, seed) for seed in range(20)]
    assert np.mean(gaps) == pytest.approx(avi_time_series.MODEL.unexplained(100), rel=0.1)


def test_a_wrong_closed_form_is_not_reproduced() -> None:
    """The series of another α has another gap."""
    case = avi_time_series.cases(20)[0]
    one = case.series(0)
    results = [{"gap": case.closed(0), "stochastic": case.closed(0)}]
    assert {row.verdict for row in avi_series_runs.case_rows(case, results, "", 0.01)} == {REPRODUCED}
    other = SawTooth(alpha=0.79)
    wrong = replace(case, series=lambda seed: Series(other, one.x))
    assert wrong.closed(0) != pytest.approx(case.closed(0), rel=0.01)
    rows = avi_series_runs.case_rows(wrong, results, "", 0.01)
    assert REPRODUCED not in {row.verdict for row in rows}


# -- both, with ideal fits in place of fits -----------------------------------------------------------


def ideal(monkeypatch: pytest.MonkeyPatch, module: Any, worse: float = 0.0) -> None:
    """Measurements as closed forms have them, with gaps that are larger by a factor 1 + ``worse``."""

    def gaps(case: Case, gradients: int, seed: int) -> Measurement:
        here, inputs = case.series(seed), case.series(seed).windows(case.family)
        best = here.posterior.best
        groups = [np.all(inputs == row, axis=1) for row in np.unique(inputs, axis=0)]
        deviations = np.sqrt(best.variance)
        means = [np.ptp(best.mean[g]) / np.exp(np.log(deviations[g]).mean()) for g in groups]
        result = {
            "gap": case.closed(seed) * (1 + worse),
            "stochastic": case.closed(seed) * (1 + worse + 1e-4),
            "factorized": here.best_elbo,
            "independent": isinstance(here.model, SawTooth),
            "interaction": 1.0,
            "same_models": False,
            "same_factors": False,
            "mean_difference": float(max(means)),
            "log_sd_difference": float(max(np.ptp(np.log(deviations[g])) for g in groups)),
        }
        return kept("gap", case.name, seed, result)

    def fitted(
        label: str, sampler: Any, here: Series, gradients: int, seed: int, *_: Any, **__: Any
    ) -> Measurement:
        inputs = here.windows(sampler) if isinstance(sampler, AmortizedVI) else np.eye(len(here.x))
        noise = 1e-3 if sampler.fitting.estimator == "total" else 1e-9
        gap = here.posterior.gap(best_linear(here.posterior, inputs)) * (1 + worse)
        unexplained = here.model.unexplained(len(here.x)) if gap > 1e-6 else 0.0
        result = {
            "gap": gap * 0.9 + noise,
            "mean_error": noise,
            "log_sd_error": noise,
            "new": 1.1 * unexplained,
        }
        return kept(
            "fit", label, seed, {**result, "gap_after": 0.1 * gap + worse, "new_after": 2.0 * unexplained}
        )

    def kept(kind: str, label: str, seed: int, result: dict[str, Any]) -> Measurement:
        return Measurement(label, {"kind": kind, "label": label}, seed, lambda key, stop: result)

    def race(
        label: str, sampler: Any, target: Any, steps: int, every: int, seed: int, elbo: Any
    ) -> Measurement:
        values = [elbo(np.zeros(target.dim), np.full(target.dim, sd)) for sd in (2.0, 1.0)]
        return kept("race", label, seed, {"start": 5, "gradients": [0, 10], "elbo": [values]})

    monkeypatch.setattr(avi_series_runs, "gap_measurement", gaps)
    monkeypatch.setattr(avi_series_runs, "fitted_gap", fitted)
    monkeypatch.setattr(module, "fitted_gap", fitted)
    if module is avi_time_series:
        monkeypatch.setattr(module, "race_measurement", race)


def test_the_time_series_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ideal(monkeypatch, avi_time_series)
    in_miniature(monkeypatch, "avi-time-series", TimeSeriesPlan(seeds=6, n=40, short=20, new_series=2))
    rows = check("avi-time-series", tmp_path)["rows"]
    assert len(rows) == 2 * 3 + 1 + 4 + 3 + 3
    assert {row["verdict"] for row in rows} == {REPRODUCED}, [r for r in rows if r["verdict"] != REPRODUCED]


def test_the_hidden_markov_model_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ideal(monkeypatch, avi_hmm)
    in_miniature(monkeypatch, "avi-hmm", HmmPlan(seeds=6, n=60, short=20, new_series=2))
    rows = check("avi-hmm", tmp_path)["rows"]
    assert len(rows) == 2 + 3 + 2 * 7 + 3 + 3 + 5
    assert {row["verdict"] for row in rows} == {REPRODUCED}, [r for r in rows if r["verdict"] != REPRODUCED]


@pytest.mark.parametrize("module", [avi_time_series, avi_hmm])
def test_gaps_that_are_not_the_closed_forms_are_not_reproduced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    ideal(monkeypatch, module, worse=0.5)
    plan = {avi_time_series: TimeSeriesPlan, avi_hmm: HmmPlan}[module](seeds=2, n=40, short=20, new_series=2)
    outcome = module.run(plan, Laboratory(tmp_path))
    wrong = [row.claim.statement for row in outcome.rows if row.verdict != REPRODUCED]
    assert all(
        any("closed form" in s and how in s for s in wrong) for how in ("amortization_gap", "stochastic")
    )
    assert any("carried on" in s for s in wrong)
