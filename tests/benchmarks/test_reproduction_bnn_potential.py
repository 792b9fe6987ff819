"""bnn-potential: what is measured of predictions, what the claims compare, and all of it in miniature."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from essper.benchmarks.reproductions import bnn_potential
from essper.benchmarks.reproductions.bnn_potential import (
    BNN_POTENTIAL,
    PotentialPlan,
    ensemble_members,
    methods,
)
from essper.benchmarks.reproductions.bnn_potential_claims import ENSEMBLE, REFERENCE, mean_estimate, rows_of
from essper.benchmarks.reproductions.framework import NOT_REPRODUCED, REPRODUCED, VERDICTS, Row
from essper.benchmarks.reproductions.laboratory import Laboratory
from essper.benchmarks.reproductions.predictive import (
    QUANTILES,
    Study,
    between_chains,
    distance,
    scores,
)
from essper.benchmarks.reproductions.publication import publish
from essper.benchmarks.reproductions.registry import REPRODUCTIONS
from essper.models.neural_potential import Energies, morse
from essper.samplers.base import Budget
from essper.samplers.sgld import SGLD
from essper.samplers.stochastic import Gradients, Schedule
from jax import random
from scipy import stats

TINY = PotentialPlan(
    chains=2, gradients=2000, batch=4, seeds=2, study=Study(hidden=(3,), energies=12, held_out=10)
)


def test_scores_of_a_gaussian_predictive() -> None:
    rng, x = np.random.default_rng(0), np.linspace(-0.5, 1.5, 1000)
    curve, noise = morse(x), 0.1
    held_out = Energies(x, curve + noise * rng.standard_normal(x.size))
    quantiles = stats.norm.ppf((np.arange(2000) + 0.5) / 2000).reshape(4, 500, 1)
    got = scores(curve + 0.2 + 0.3 * quantiles, held_out, noise)
    predictive = curve + 0.2, np.hypot(0.3, noise)
    assert got["rmse"] == pytest.approx(0.2)
    assert got["spread"] == pytest.approx(0.3, rel=0.005)
    assert got["log_density"] == pytest.approx(
        stats.norm.logpdf(held_out.energy, *predictive).mean(), abs=0.01
    )
    for level in (0.5, 0.9):
        low, high = stats.norm.interval(level, *predictive)
        exact = np.mean((held_out.energy >= low) & (held_out.energy <= high))
        assert got[f"coverage_{100 * level:.0f}"] == pytest.approx(exact, abs=0.005)


def test_a_single_curve_covers_by_its_noise_alone() -> None:
    x = np.array([0.0, 0.3, 0.6])
    off = np.array([0.0, 0.7, 1.7]) * 0.2
    got = scores(morse(x)[None, None], Energies(x, morse(x) + off), 0.2)
    assert (got["coverage_50"], got["coverage_90"]) == pytest.approx((1 / 3, 2 / 3))
    assert (got["rmse"], got["spread"]) == (0, 0)
    assert got["log_density"] == pytest.approx(stats.norm.logpdf(off, 0, 0.2).mean())


def test_chains_apart_are_told_from_chains_together() -> None:
    draws = np.random.default_rng(0).standard_normal((6, 2000, 5))
    together, apart = between_chains(draws), between_chains(draws + 3 * np.arange(6.0)[:, None, None])
    assert together is not None
    assert together < 0.05
    assert apart == pytest.approx(3 * np.arange(6.0).std(ddof=1), rel=0.05)
    assert between_chains(draws[:1]) is None
    assert between_chains(draws[:, :1]) is None


def test_distances_of_gaussians() -> None:
    def result(mean: float, sd: float) -> dict[str, Any]:
        levels = stats.norm.ppf(QUANTILES, mean, sd)
        return {"outside": {"quantiles": np.tile(levels[:, None], 3).tolist()}}

    assert distance(result(0.5, 1), result(-0.2, 1), "outside") == pytest.approx(0.7)
    expected = np.sqrt(2 / np.pi)  # W1 of N(0, 1) and N(0, 2²); a little is lost beyond the outer levels
    assert distance(result(0, 1), result(0, 2), "outside") == pytest.approx(expected, rel=0.05)


def test_the_interval_of_a_mean_is_students() -> None:
    values = [0.1, -0.3, 0.2, 0.4]
    got = mean_estimate(iter(values))
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (got.value, got.low, got.high) == pytest.approx((0.1, low, high))
    assert mean_estimate([2.0]).low is None
    assert mean_estimate([]).value is None


def test_one_chain_may_spend_what_several_do_together() -> None:
    fields = methods(PotentialPlan(chains=4, gradients=1000))
    spent = {method.name: method.chains * method.gradients for method in fields}
    assert spent.pop(REFERENCE) == 20_000
    assert spent.pop(ENSEMBLE) == 0
    assert set(spent.values()) == {4000}
    assert {"SGLD, 4 chains", "SGLD, 1 chain", "SGLD, T = 0.1, 4 chains", "SGHMC, T = 0.1, 1 chain"} < set(
        spent
    )
    for method in fields:
        if method.name.startswith("SG"):
            assert method.sampler.temperature == (0.1 if "T = 0.1" in method.name else 1.0)


def invented(coverage: float, log_density: float, quantile: float) -> list[dict[str, Any]]:
    region = {
        "coverage_50": 0.5,
        "coverage_90": coverage,
        "log_density": log_density,
        "rmse": quantile,
        "spread": 0.1,
        "rhat": 1.1,
        "quantiles": [[quantile]],
    }
    return [{"inside": region, "outside": region, "rhat_weights": 1.2} for _ in range(2)]


def row(rows: tuple[Row, ...], *parts: str) -> Row:
    (found,) = (r for r in rows if all(part in r.claim.statement + r.claim.source for part in parts))
    return found


def test_claims_compare_what_they_say() -> None:
    found = {method.name: invented(0.7, 0.2, 0.4) for method in methods(PotentialPlan())}
    found |= {
        "SGLD, 1 chain": invented(0.8, 0.2, 0.3),
        "SGLD, T = 0.1, 5 chains": invented(0.4, -1.0, 0.5),
        ENSEMBLE: invented(0.5, 0.1, 0.9),
        REFERENCE: invented(0.92, 0.3, 0.1),
    }
    rows = rows_of(found, 5, 1000)
    one = row(rows, "SGLD, 5 chains minus SGLD, 1 chain: coverage")
    assert (one.measured.value, one.verdict) == (pytest.approx(-0.1), NOT_REPRODUCED)
    nearer = row(rows, "SGLD, 5 chains over SGLD, 1 chain: W1")
    assert (nearer.measured.value, nearer.verdict) == (pytest.approx(1.5), NOT_REPRODUCED)
    cold = "SGLD, T = 0.1, 5 chains minus SGLD, 5 chains: log"
    assert row(rows, cold, "Wenzel").verdict == NOT_REPRODUCED
    assert row(rows, cold, "Izmailov").verdict == REPRODUCED
    under = row(rows, f"{ENSEMBLE} minus {REFERENCE}")
    assert (under.measured.value, under.verdict) == (pytest.approx(-0.42), REPRODUCED)
    assert row(rows, f"{REFERENCE} over {ENSEMBLE}: RMSE").measured.value == pytest.approx(1 / 9)
    assert row(rows, "90 % intervals inside").verdict == REPRODUCED
    assert row(rows, "R-hat").measured.value == pytest.approx(-0.1)


def test_members_are_modes_and_their_cost_is_counted() -> None:
    target = TINY.study.simulate(0).target
    members, spent, converged = ensemble_members(target, random.key(0), TINY.chains)
    assert members.shape == (TINY.chains, target.dim)
    assert converged == TINY.chains
    assert spent > 10 * TINY.chains
    for member in members:
        assert np.linalg.norm(target.value_and_grad(member)[1]) < 0.5
        for other in np.random.default_rng(0).standard_normal((20, target.dim)):
            assert target.log_density(member) > target.log_density(member + 0.1 * other)


def test_in_miniature_with_sgld_for_every_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sampler, so that one program is compiled; the others have tests of their own."""
    every = methods(TINY)
    sampler = SGLD(Gradients(batch=4), Schedule(draws=40))
    monkeypatch.setattr(
        bnn_potential,
        "methods",
        lambda plan: tuple(
            dataclasses.replace(m, sampler=m.sampler and sampler, chains=2, gradients=TINY.gradients)
            for m in every
        ),
    )
    laboratory = Laboratory(tmp_path)
    outcome = bnn_potential.run(TINY, laboratory)
    publish(BNN_POTENTIAL, TINY, outcome, laboratory)
    written = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert {r["verdict"] for r in written["rows"]} <= set(VERDICTS)
    assert len(written["measurements"]) == len(every) * TINY.seeds == laboratory.kept()
    budget = TINY.chains * Budget(TINY.gradients).gradients
    for one in written["measurements"]:
        spent = one["result"]["gradients"]
        ensemble = one["setting"]["method"] == ENSEMBLE
        assert 0 < spent <= budget if ensemble else 0.9 * budget < spent <= budget
    assert (tmp_path / "figure.png").stat().st_size > 1000
    again = Laboratory(tmp_path)
    assert bnn_potential.run(TINY, again).rows == outcome.rows


def test_it_is_on_the_list() -> None:
    assert REPRODUCTIONS["bnn-potential"] is BNN_POTENTIAL
    assert BNN_POTENTIAL.plan(seeds=7).seeds == 7
