"""Measurements are kept by their settings, found again, and survive an interruption."""

import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from essper.benchmarks.reproductions.contest import Gate, best, drghmc, hmc, pooled
from essper.benchmarks.reproductions.laboratory import Laboratory, Measurement, sampler_setting


def counted(calls: list[int], setting: int = 1, seed: int = 0) -> Measurement:
    def compute(key, stop: threading.Event):
        calls.append(seed)
        return {"value": 10 * setting + seed}

    return Measurement("a measurement", {"number": setting}, seed, compute)


def test_results_come_in_order_and_are_computed_once(tmp_path: Path) -> None:
    calls: list[int] = []
    laboratory = Laboratory(tmp_path, jobs=2)
    wanted = [counted(calls, 1, 3), counted(calls, 2, 0), counted(calls, 1, 3)]
    assert [r["value"] for r in laboratory.measure("phase", wanted)] == [13, 20, 13]
    assert sorted(calls) == [0, 3]
    assert laboratory.kept() == 2


def test_what_is_kept_is_not_computed_again_unless_asked_to(tmp_path: Path) -> None:
    calls: list[int] = []
    Laboratory(tmp_path).measure("phase", [counted(calls)])
    assert Laboratory(tmp_path).measure("phase", [counted(calls)]) == [{"value": 10}]
    assert len(calls) == 1
    fresh = Laboratory(tmp_path, fresh=True)
    fresh.measure("phase", [counted(calls)])
    fresh.measure("phase", [counted(calls)])
    assert len(calls) == 2


def test_an_interruption_keeps_what_is_finished(tmp_path: Path) -> None:
    calls: list[int] = []

    def interrupt(phase: str, done: int, total: int, label: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    wanted = [counted(calls, seed=seed) for seed in range(5)]
    interrupted = Laboratory(tmp_path, listener=interrupt)
    with pytest.raises(KeyboardInterrupt):
        interrupted.measure("phase", wanted)
    kept = interrupted.kept()
    assert 2 <= kept < 5
    calls.clear()
    assert len(Laboratory(tmp_path).measure("phase", wanted)) == 5
    assert len(calls) == 5 - kept


def test_an_error_of_a_measurement_is_raised(tmp_path: Path) -> None:
    def fail(key, stop):
        raise RuntimeError("of its own")

    with pytest.raises(RuntimeError, match="of its own"):
        Laboratory(tmp_path).measure("phase", [Measurement("broken", {}, 0, fail)])


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    one = counted([])
    Laboratory(tmp_path).measure("phase", [one])
    path = tmp_path / "measurements" / f"{one.digest}.json"
    path.write_text("{", "utf-8")
    with pytest.raises(ValueError, match="delete it to measure again"):
        Laboratory(tmp_path).measure("phase", [one])


def test_settings_and_seeds_have_streams_of_their_own() -> None:
    keys = [counted([], setting, seed).key for setting in (1, 2) for seed in (0, 1)]
    assert len({tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys}) == 4


def test_a_samplers_setting_is_all_of_it_but_its_adaptation() -> None:
    setting = sampler_setting(drghmc(0.3, 0.15).sampler)
    assert setting["class"] == "DelayedRejectionGeneralizedHMC"
    assert (setting["damping"], setting["trajectory"]["num_integration_steps"]) == (0.15, 1)
    assert "adaptation" not in setting
    assert sampler_setting(drghmc(0.3, 0.08).sampler) != setting


def result(mean: float, ess: float, draws: int = 1) -> dict:
    return {"means": {"f": mean}, "ess": {"min": ess}, "draws": draws}


def test_the_best_is_chosen_among_those_that_pass() -> None:
    fast, right = hmc(0.2, 1), hmc(0.1, 2)
    gate = Gate("G", {"f": (1.0, 0.1)})
    results = {fast.label: [result(1.5, 9.0)], right.label: [result(1.3, 2.0), result(0.9, 2.0, draws=3)]}
    assert pooled(results[right.label], "f") == pytest.approx(1.0)
    assert best((fast, right), results, gate, "min") == right
    assert best((fast, right), results, None, "min") == fast
    assert best((fast,), results, gate, "min") is None
