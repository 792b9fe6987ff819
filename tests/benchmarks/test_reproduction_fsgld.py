"""The federated reproduction: its exact values, its shards, and all of it in miniature."""

import json
from pathlib import Path

import numpy as np
import pytest
from essper.benchmarks.estimates import Estimate
from essper.benchmarks.reproductions import fsgld, fsgld_regression
from essper.benchmarks.reproductions.federated_runs import FederatedPlan
from essper.benchmarks.reproductions.framework import (
    NOT_REPRODUCED,
    REPRODUCED,
    VERDICTS,
    WithinFactor,
    verdict,
)
from essper.benchmarks.reproductions.fsgld import FSGLD, observations, predicted
from essper.benchmarks.reproductions.laboratory import Laboratory
from essper.benchmarks.reproductions.publication import publish


def by_moments(name: str, local_steps: int, data: np.ndarray, batch: int, h_lambda: float) -> float:
    """The variance step by step, shard by shard: E[x], E[x²] given the shard, until nothing changes."""
    shards, rows, _ = data.shape
    curvature, a = shards * rows, 1 - h_lambda
    shift = data.mean(axis=1) - data.mean(axis=(0, 1))  # [shard, coordinate]
    if name == "FSGLD":
        shift = np.zeros_like(shift)
    h = h_lambda / curvature
    # Thermal noise, and that of a batch whose mean is multiplied by n = λ
    noise = 2 * h + h**2 * curvature**2 * data.var(axis=1) / batch
    mean, square, average = np.zeros_like(shift), np.zeros_like(shift), 0.0
    for _ in range(2000 // local_steps):
        mean, square = (np.broadcast_to(x.mean(axis=0), shift.shape) for x in (mean, square))
        visited = []
        for _ in range(local_steps):
            square = a**2 * square + 2 * a * (1 - a) * mean * shift + (1 - a) ** 2 * shift**2 + noise
            mean = a * mean + (1 - a) * shift
            visited.append(square.mean())
        average = float(np.mean(visited))
    return curvature * average


@pytest.mark.parametrize("name", ["FSGLD", "DSGLD"])
@pytest.mark.parametrize("local_steps", [1, 7])
def test_the_exact_values_are_those_of_the_moments_step_by_step(name: str, local_steps: int) -> None:
    setting = name, local_steps, observations(), 20, 0.01
    assert predicted(*setting) == pytest.approx(by_moments(*setting), rel=1e-9)


def test_the_exact_values_are_of_the_order_that_was_stated() -> None:
    values = {
        (name, steps): predicted(name, steps, observations(), 20, 0.01)
        for name in ("FSGLD", "DSGLD")
        for steps in (1, 10, 100)
    }
    for steps, order in ((1, 1e2), (10, 1e3), (100, 1e4)):
        # (2 + hV)/(2 − hλ) = 3/1.99 where shards have variance 1; these 200 rows have nearly that.
        assert values["FSGLD", steps] == pytest.approx(3 / 1.99, rel=0.01)
        assert order / 2 < values["DSGLD", steps] < 2 * order


def test_a_sampler_without_conducive_gradients_would_not_pass_for_fsgld() -> None:
    exact, without = (predicted(name, 1, observations(), 20, 0.01) for name in ("FSGLD", "DSGLD"))
    rule = WithinFactor(exact, fsgld.TOLERANCE)
    assert verdict(rule, Estimate(exact)) == REPRODUCED
    assert verdict(rule, Estimate(without)) == NOT_REPRODUCED


def test_all_of_it_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsgld, "PATH_STEPS", 20)
    plan = FederatedPlan(
        local_steps=(4,),
        chains=4,
        gradients=60,
        real_local_steps=(3,),
        real_chains=2,
        real_gradients=120,
        seeds=2,
    )
    laboratory = Laboratory(tmp_path)
    outcome = FSGLD.run(plan, laboratory)
    assert [row.claim.statement.split(",")[0].split(":")[0] for row in outcome.rows] == [
        "FSGLD", "DSGLD", "DSGLD", "FSGLD", "FSGLD", "DSGLD", "T = 3", "FSGLD"
    ]  # fmt: skip
    for row in outcome.rows:
        assert row.verdict in VERDICTS
        assert row.measured.value is not None
    paths = outcome.rows[4:6]
    assert [row.verdict for row in paths] == [REPRODUCED, REPRODUCED]
    ratios = [row.measured.value for row in outcome.rows[:2]]
    assert ratios[0] == pytest.approx(1.5, rel=0.4)
    assert ratios[1] == pytest.approx(predicted("DSGLD", 4, observations(), 20, 0.01), rel=0.4)

    for shards in fsgld_regression.regression().members.values():
        assert sorted(row for shard in shards for row in shard) == list(range(100))
    written = publish(FSGLD, plan, outcome, laboratory)
    assert len(json.loads(written["results.json"].read_text("utf-8"))["rows"]) == len(outcome.rows)
    again = Laboratory(tmp_path)
    assert [row.measured for row in FSGLD.run(plan, again).rows] == [row.measured for row in outcome.rows]
    assert again.kept() == len(laboratory.record) == 2 * 2 + 2 + 3 * 2
