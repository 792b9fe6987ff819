"""The reproductions of amortized VI: exact ELBOs, the search for F-VI's optimum, the race, in miniature."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.benchmarks.estimates import Estimate
from essper.benchmarks.reproductions import avi_linear, avi_nonlinear
from essper.benchmarks.reproductions import avi_quadrature as quadrature
from essper.benchmarks.reproductions.avi_linear import AVI_LINEAR, LinearPlan
from essper.benchmarks.reproductions.avi_nonlinear import AVI_NONLINEAR, NonlinearPlan
from essper.benchmarks.reproductions.avi_quadrature import Factorized
from essper.benchmarks.reproductions.avi_races import Race, RaceSubject
from essper.benchmarks.reproductions.avi_runs import gradients_to
from essper.benchmarks.reproductions.framework import (
    NOT_CHECKABLE,
    NOT_REPRODUCED,
    REPRODUCED,
    VERDICTS,
    verdict,
)
from essper.benchmarks.reproductions.laboratory import Laboratory
from essper.benchmarks.reproductions.publication import publish
from essper.models.latent_nonlinear import latent_nonlinear, simulate_latent_nonlinear
from essper.samplers.vi.settings import Fitting
from scipy import integrate, optimize, stats

X = simulate_latent_nonlinear(12, 5).x
QUICK = Fitting(samples=1, window=10, learning_rates=(0.03, 0.1), start="random")


def test_the_exact_elbo_of_a_gaussian_posterior_is_minus_its_divergence() -> None:
    model, exact = avi_linear.posterior(6, 0)
    tau, variance, n = model.tau, model.sigma**2, 6
    precision = np.diag(model.curvature)
    precision[0, 1:] = precision[1:, 0] = tau / variance
    loc, scale = model.mode + 0.3, np.linspace(0.2, 1.1, 7)
    # KL(q, p) between Gaussians, and log of the integral of the density from its value at the mode
    away = loc - model.mode
    divergence = 0.5 * (
        np.trace(precision @ np.diag(scale**2))
        + away @ precision @ away
        - 1
        - n
        - np.linalg.slogdet(precision)[1]
        - 2 * np.log(scale).sum()
    )
    height = float(exact.target.log_density(jnp.asarray(model.mode)))
    evidence = height + 0.5 * (1 + n) * math.log(2 * math.pi) - 0.5 * np.linalg.slogdet(precision)[1]
    assert exact.elbo(loc, scale) == pytest.approx(evidence - divergence, rel=1e-10)
    assert exact.optimum > exact.elbo(model.mode, model.curvature**-0.5 * 1.01)


def test_moments_are_integrals() -> None:
    def integral(function) -> float:
        return integrate.quad(lambda z: function(z) * stats.norm.pdf(z, 0.7, 0.9), -12, 12, limit=400)[0]

    found = quadrature.moments(jnp.asarray(0.7), jnp.asarray(0.9))
    functions = (
        lambda z: -0.5 * z**2 - np.cos(z),
        lambda z: np.exp(-2 * np.cos(z)),
        lambda z: np.exp(-2 * np.cos(z)) * (z + z * np.sin(z)),
        lambda z: np.exp(-2 * np.cos(z)) * (z + z * np.sin(z)) ** 2,
    )
    for value, function in zip(found, functions, strict=True):
        assert float(value) == pytest.approx(integral(function), rel=1e-8)


def test_the_elbo_by_quadrature_is_the_mean_over_draws() -> None:
    q = quadrature.factorized_optimum(X)
    loc, scale = np.array([q.theta, *q.loc]), np.array([q.theta_scale, *q.scale])
    noise = np.random.default_rng(0).standard_normal((20_000, len(loc)))
    log_p = np.asarray(jax.vmap(latent_nonlinear(X).log_density)(jnp.asarray(loc + scale * noise)))
    draws = log_p - stats.norm.logpdf(noise).sum(1) + np.log(scale).sum()
    assert abs(draws.mean() - quadrature.elbo(X, q)) < 4 * draws.std() / math.sqrt(len(noise))


def test_no_search_from_anywhere_finds_a_better_approximation() -> None:
    best = quadrature.elbo(X, quadrature.factorized_optimum(X))
    shared = quadrature.elbo(X, quadrature.constant_optimum(X))
    rng = np.random.default_rng(1)

    def constant(p: np.ndarray) -> float:
        factors = np.full(len(X), p[2]), np.full(len(X), np.exp(p[3]))
        return -quadrature.elbo(X, Factorized(p[0], float(np.exp(p[1])), *factors))

    found = [
        -optimize.minimize(constant, rng.normal(size=4), method="Nelder-Mead", options={"maxiter": 500}).fun
        for _ in range(3)
    ]
    assert max(found) == pytest.approx(shared, abs=1e-4)
    assert max(found) <= shared + 1e-7
    assert shared < best


def test_every_datum_has_the_best_factor_of_all() -> None:
    residual, spread = np.array([-4.0, 0.3, 3.3, 9.0]), np.full(4, 0.02)
    best = quadrature.best_factors(residual, spread)
    own = quadrature.local_elbos(residual, Factorized(0.0, spread[0] ** 0.5, best[:, 0], np.exp(best[:, 1])))
    locs, scales = (a.ravel() for a in np.meshgrid(np.linspace(-6, 6, 61), np.geomspace(0.05, 2, 30)))
    every = Factorized(0.0, spread[0] ** 0.5, locs, scales)
    for one, best_elbo in zip(residual, own, strict=True):
        assert np.all(quadrature.local_elbos(np.full(locs.shape, one), every) <= best_elbo + 1e-9)


def test_arrival_counts_the_start() -> None:
    result = {"start": 7, "gradients": [0, 10, 20], "elbo": [[-5.0, -1.0, 0.0], [-5.0, None, -4.0]]}
    assert gradients_to(result, -1.0) == [17.0, math.inf]


def made_up(free: list[float], amortized: list[float]) -> Race:
    """Two rates, of which the second never arrives; the first one after so many gradients."""

    def result(at: float) -> dict:
        arrived = [0.0 if 10.0 * i >= at else -9.0 for i in range(5)]
        return {"start": 100, "gradients": [10 * i for i in range(5)], "elbo": [arrived, [-9.0] * 5]}

    subject = RaceSubject(latent_nonlinear(X), lambda loc, scale: 0.0, optimum=0.5, reach=1.0)
    found = {"F-VI": [result(at) for at in free], "A-VI": [result(at) for at in amortized]}
    return Race("from here", (0.1, 0.3), [subject] * len(free), found)


def test_the_race_counts_every_rate_until_the_best_one_arrives() -> None:
    race = made_up([20.0, 20.0], [10.0, 10.0])
    row = race.row("setting")
    assert row.measured.value == pytest.approx((100 + 2 * 10) / (100 + 2 * 20))
    assert row.verdict == REPRODUCED
    assert made_up([10.0, 10.0], [30.0, 20.0]).row("setting").verdict == NOT_REPRODUCED


def test_what_has_not_arrived_is_a_bound_and_decides_on_one_side_only() -> None:
    late_free = made_up([20.0, 99.0], [10.0, 10.0]).row("setting")
    given = np.sqrt((100 + 2 * 20) * (100 + 2 * 40))
    assert late_free.measured.value == pytest.approx((100 + 2 * 10) / given)
    assert late_free.verdict == REPRODUCED
    assert "F-VI on 1, A-VI on 0 of 2" in late_free.note
    assert made_up([10.0, 10.0], [20.0, 99.0]).row("setting").verdict == NOT_REPRODUCED
    assert made_up([30.0, 99.0], [40.0, 40.0]).row("setting").verdict == NOT_CHECKABLE
    assert made_up([99.0, 99.0], [99.0, 99.0]).row("setting").verdict == NOT_CHECKABLE


def test_a_fit_that_flies_away_stays_in_the_figure() -> None:
    race = made_up([20.0, 20.0], [20.0, 20.0])
    race.found["A-VI"][0]["elbo"][1][-1] = None
    race.found["A-VI"][1]["elbo"][1][-1] = -1e99
    drawn = [p for p in race.curves() if p.panel == "A-VI, from here" and p.name == "rate 0.3"]
    assert drawn[-1].estimate.value == 1e4
    assert drawn[0].estimate.value == pytest.approx(9.5)


def test_the_linear_model_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avi_linear, "FITTING", QUICK)
    monkeypatch.setattr(avi_linear, "STARTS", {"random": "from random points"})
    plan = LinearPlan(n=50, gradients=1500, widths=(), race_steps=60, seeds=2)
    laboratory = Laboratory(tmp_path)
    outcome = AVI_LINEAR.run(plan, laboratory)
    assert len(outcome.rows) == 7
    assert {row.verdict for row in outcome.rows} <= set(VERDICTS)
    constant, linear = outcome.rows[1:3]
    for row in (constant, linear):
        assert row.measured.value is not None
        assert row.measured.value < 0.05
    expected = outcome.rows[0].claim.rule
    assert verdict(expected, Estimate(1.0)) == REPRODUCED
    assert verdict(expected, Estimate(2.0)) == NOT_REPRODUCED
    written = publish(AVI_LINEAR, plan, outcome, laboratory)
    assert len(json.loads(written["results.json"].read_text("utf-8"))["rows"]) == 7
    again = Laboratory(tmp_path)
    assert [row.measured for row in AVI_LINEAR.run(plan, again).rows] == [r.measured for r in outcome.rows]
    assert again.kept() == len(laboratory.record) == 3 * 2 + 2 * 2


def test_the_nonlinear_model_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avi_nonlinear, "FITTING", QUICK)
    monkeypatch.setattr(avi_nonlinear, "WIDE", 2)
    monkeypatch.setattr(avi_nonlinear, "FRESH", 40)
    plan = NonlinearPlan(n=40, few=40, gradients=800, widths=(2,), race_steps=40, seeds=2)
    laboratory = Laboratory(tmp_path)
    outcome = AVI_NONLINEAR.run(plan, laboratory)
    assert len(outcome.rows) == 7
    assert {row.verdict for row in outcome.rows} <= set(VERDICTS)
    for row in outcome.rows:
        assert row.measured.value is not None
        assert row.measured.value > 0
    assert len(outcome.figure.to_dict()["vconcat"]) == 2


def test_the_default_plans_are_of_the_size_that_is_claimed() -> None:
    assert AVI_LINEAR.default.n == 10_000
    assert set(AVI_NONLINEAR.default.widths) >= {1, 2, 4, 8, 16}
    for reproduction in (AVI_LINEAR, AVI_NONLINEAR):
        assert reproduction.default.seeds >= 8
        assert dataclasses.asdict(reproduction.full) != dataclasses.asdict(reproduction.default)
