"""essper reproduce: the list, errors, and each reproduction from end to end in miniature."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from essper.benchmarks.cli.app import app
from essper.benchmarks.reproductions import drhmc_funnel, losing_targets, registry, step_misspecification
from essper.benchmarks.reproductions.contest import drghmc, drhmc, hmc
from essper.benchmarks.reproductions.drghmc_multiscale import CASES, MultiscalePlan, chain_errors
from essper.benchmarks.reproductions.drhmc_funnel import FunnelPlan
from essper.benchmarks.reproductions.framework import VERDICTS
from essper.benchmarks.reproductions.step_misspecification import MisspecificationPlan
from typer.testing import CliRunner


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["reproduce", *arguments])


def in_miniature(monkeypatch: pytest.MonkeyPatch, name: str, plan: Any) -> None:
    small = dataclasses.replace(registry.REPRODUCTIONS[name], default=plan)
    monkeypatch.setitem(registry.REPRODUCTIONS, name, small)


def check(name: str, directory: Path) -> dict[str, Any]:
    """Run twice; the second time everything is kept. Returns what was written."""
    first = run(name, "--output", str(directory), "--jobs", "2", "--json")
    assert first.exit_code == 0, first.output
    for file in ("table.md", "results.json", "figure.svg", "figure.png"):
        assert (directory / file).stat().st_size > 100
    written = json.loads((directory / "results.json").read_text("utf-8"))
    kept = {path: path.stat().st_mtime_ns for path in (directory / "measurements").iterdir()}
    second = run(name, "--output", str(directory))
    assert second.exit_code == 0, second.output
    assert {path: path.stat().st_mtime_ns for path in (directory / "measurements").iterdir()} == kept
    assert str(directory / "table.md") in second.output.replace("\n", "")
    assert json.loads((directory / "results.json").read_text("utf-8")) == written
    assert len(written["measurements"]) == len(kept)
    assert {row["verdict"] for row in written["rows"]} <= set(VERDICTS)
    table = (directory / "table.md").read_text("utf-8")
    assert table.count("\n| ") == len(written["rows"]) + 2  # headings and the rule below them
    return written


def test_without_a_name_all_are_listed() -> None:
    result = run()
    assert result.exit_code == 0
    lines = result.output.splitlines()
    for name in ("drhmc-funnel", "step-misspecification", "drghmc-multiscale"):
        assert sum(line.startswith(name) for line in lines) == 1


def test_an_unknown_name_is_named_with_those_there_are() -> None:
    result = run("drhmc-tunnel")
    assert result.exit_code == 2
    assert "drhmc-funnel" in result.output + result.stderr


def test_the_long_version_is_longer_and_seeds_can_be_given() -> None:
    for reproduction in registry.REPRODUCTIONS.values():
        assert reproduction.default.seeds >= 8
        assert reproduction.plan(seeds=11).seeds == 11
        assert reproduction.plan(full=True) == reproduction.full != reproduction.default


def test_the_funnel_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, general = hmc(0.3, 3), drghmc(0.5, 0.15, thin=1)
    monkeypatch.setattr(drhmc_funnel, "HMC_GRID", (plain,))
    monkeypatch.setattr(drhmc_funnel, "MODEST", plain)
    monkeypatch.setattr(drhmc_funnel, "COARSE", plain)
    monkeypatch.setattr(drhmc_funnel, "CONTENDERS", {"DR-G-HMC": (general,)})
    steps = drhmc(0.35, 3, length="steps")
    fixed = {"DR-HMC, constant steps": (steps, 1.4), "DR-G-HMC": (general, 1.8)}
    monkeypatch.setattr(drhmc_funnel, "FIXED", fixed)
    target = losing_targets.LosingTarget(
        "Gaussian", losing_targets.gaussian_arena(3), (plain,), {"DR-G-HMC": (general,)}
    )
    monkeypatch.setattr(losing_targets, "losing_targets", lambda: (target,))
    plan = FunnelPlan(
        chains=4,
        gradients=300,
        hmc_search_seeds=2,
        search_seeds=1,
        seeds=2,
        neck_chains=4,
        neck_gradients=200,
        losing_chains=2,
        losing_gradients=200,
    )
    in_miniature(monkeypatch, "drhmc-funnel", plan)
    written = check("drhmc-funnel", tmp_path)
    # the neck, fixed settings by statistic, gates by statistic, a losing target
    assert len(written["rows"]) == 2 + 4 + 4 + 1
    assert {m["seed"] for m in written["measurements"]} == {0, 1, 1000, 1001}


def test_the_misspecification_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_misspecification, "gaussian_arena", lambda: losing_targets.gaussian_arena(4))
    plan = MisspecificationPlan(factors=(1.0,), chains=3, gradients=600, seeds=2)
    in_miniature(monkeypatch, "step-misspecification", plan)
    rows = check("step-misspecification", tmp_path)["rows"]
    assert len(rows) == len(step_misspecification.CLAIMS)
    stuck = [row for row in rows if row["statement"].startswith("HMC")]
    assert all(row["shown"] == "≤ 0.05 (floor)" or "(floor)" not in row["shown"] for row in stuck)


def test_the_multiscale_table_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = MultiscalePlan(
        cases=("Rosenbrock, d = 2",), gradients=400, seeds=2, tuning_gradients=2000, tuning_chains=2
    )
    in_miniature(monkeypatch, "drghmc-multiscale", plan)
    rows = check("drghmc-multiscale", tmp_path)["rows"]
    assert len(rows) == 2 * (3 + 3) + 3
    figures = [row for row in rows if "over" not in row["statement"]]
    assert {row["verdict"] for row in figures} == {"published figure not checkable"}  # far too short


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exact_moments_and_uniforms_agree_with_exact_draws(case) -> None:
    import jax

    assert case.target.exact is not None
    draws = case.target.exact(jax.random.key(3), 40_000)
    means = np.asarray(jax.vmap(case.observe)(draws)).mean(axis=0)
    errors = chain_errors(case, means[None])
    n = len(draws) ** 0.5
    assert errors["error"][0] * n < 5
    assert errors["bounded"][0] * n < 5
    dim = case.target.dim
    z = np.abs(means[dim : 2 * dim] - case.moments[2]) / case.moments[3] * n
    assert z[0] < 5  # of the first coordinate; the others' squares have no mean to speak of on a funnel


def test_the_spread_of_the_funnels_squares_is_the_exact_one() -> None:
    # E θ⁴ = 3 E exp(2v) = 3 exp(18), E θ² = exp(9/2)
    assert CASES[0].moments[3, 1] == pytest.approx(14034.66, abs=0.01)


def test_the_gaussian_in_units_of_its_largest_sd_has_the_stated_stability_limit() -> None:
    arena = losing_targets.gaussian_arena()
    unit = float(arena.inverse_mass_matrix[0]) ** 0.5
    import jax

    curvature = -np.diagonal(jax.hessian(arena.target.log_density)(np.zeros(50)))
    sd = 1 / np.sqrt(curvature) / unit
    assert (sd.min(), sd.max()) == (pytest.approx(1000**-0.5), pytest.approx(1.0))
    assert losing_targets.gaussian_steps(losing_targets.TUNED_STEP) == 21
