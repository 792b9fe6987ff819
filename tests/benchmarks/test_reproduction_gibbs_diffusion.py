"""The Gibbs diffusion reproduction: its grid, its test of calibration, its denoisers; in miniature."""

import dataclasses
import json
import math
import threading
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.benchmarks.reproductions import gibbs_diffusion, gibbs_diffusion_network, gibbs_diffusion_runs
from essper.benchmarks.reproductions import gibbs_diffusion_calibration as calibration
from essper.benchmarks.reproductions import gibbs_diffusion_grid as grid
from essper.benchmarks.reproductions.ensemble import Stopped
from essper.benchmarks.reproductions.framework import NOT_REPRODUCED, REPRODUCED, VERDICTS
from essper.benchmarks.reproductions.gibbs_diffusion import (
    GIBBS_DIFFUSION,
    NAMES,
    GibbsDiffusionPlan,
    accuracy_rows,
    calibration_rows,
)
from essper.benchmarks.reproductions.gibbs_diffusion_network import (
    Trained,
    training_measurement,
    training_note,
)
from essper.benchmarks.reproductions.gibbs_diffusion_runs import (
    FIELD,
    QUANTITIES,
    Length,
    changes,
    data_sets,
    run_chains,
    table_levels,
)
from essper.benchmarks.reproductions.laboratory import Laboratory, Measurement
from essper.benchmarks.reproductions.publication import publish
from essper.models.gaussian_field import GaussianField
from essper.samplers.diffusion import Training, train
from jax.scipy.stats import logistic
from scipy import stats

DRAWS = 79
DATA = jax.tree.map(np.asarray, data_sets(0, 5, 4))


# -- the grid ------------------------------------------------------------------------------------------


def test_twice_the_nodes_move_nothing() -> None:
    for y in DATA.y:
        coarse, fine = grid.posterior(FIELD, y), grid.posterior(FIELD, y, 2 * grid.NODES)
        assert np.all(np.abs(coarse.mean - fine.mean) < 1e-3 * fine.sd)
        np.testing.assert_allclose(coarse.sd, fine.sd, rtol=1e-3)


def test_the_grid_is_the_models_density_without_its_jacobian() -> None:
    phi, sigma = np.array([-0.7, 0.4, 0.9]), np.array([0.05, 0.28])
    y = DATA.y[0]
    pairs = jnp.asarray([(p, s) for p in phi for s in sigma])
    u = FIELD.unconstrain(pairs[:, 0], pairs[:, 1])
    density = FIELD.density_given_data(jnp.asarray(y))
    expected = jax.jit(jax.vmap(density.log_density))(u) - logistic.logpdf(u).sum(-1)
    found = grid.log_likelihood(FIELD, y, phi, sigma).ravel()
    np.testing.assert_allclose(found - found[0], expected - expected[0], rtol=1e-9, atol=1e-8)


def test_filters_are_the_models_and_their_average() -> None:
    y = DATA.y[0]
    np.testing.assert_allclose(
        grid.wiener_mean(FIELD, y, 0.3, 0.1),
        FIELD.wiener_mean(jnp.asarray(y), jnp.asarray(0.3), jnp.asarray(0.1)),
        atol=1e-12,
    )
    known = grid.posterior(FIELD, y, 6)
    average = sum(
        known.probability[i, j] * grid.wiener_mean(FIELD, y, phi, sigma)
        for i, phi in enumerate(known.phi)
        for j, sigma in enumerate(known.sigma)
    )
    np.testing.assert_allclose(grid.blind_mean(FIELD, y, known), average, atol=1e-12)
    assert grid.psnr(np.array([[0.0, 1.0]]), np.array([[0.1, 0.9]])) == pytest.approx(20.0)


# -- calibration ---------------------------------------------------------------------------------------


def ranks(spread: float, shift: float = 0.0, truths: int = 128) -> np.ndarray:
    """Of truths from N(0, 1) among draws of N(shift, spread²)."""
    rng = np.random.default_rng(7)
    draws = shift + spread * rng.normal(size=(truths, DRAWS))
    return calibration.ranks_of(rng.normal(size=truths), draws)


def test_uniform_ranks_pass_and_others_do_not() -> None:
    assert calibration.log10_p(ranks(1.0), DRAWS) > -2
    for wrong in (ranks(0.5), ranks(2.0), ranks(1.0, shift=1.0)):
        assert calibration.log10_p(wrong, DRAWS) < -6
    both = {"right": ranks(1.0), "wrong": ranks(0.5)}
    one = calibration.log10_p(both["wrong"], DRAWS)
    assert calibration.all_log10_p(both, DRAWS) == pytest.approx(one + math.log10(2))
    assert calibration.all_log10_p({"a": np.arange(80), "b": np.arange(80)}, DRAWS) == 0.0


def test_the_p_value_is_the_chi_squared_tests_and_has_a_logarithm_where_it_is_zero() -> None:
    values = ranks(0.8)
    expected = stats.chisquare(calibration.counts_of(values, DRAWS)).pvalue
    assert calibration.log10_p(values, DRAWS) == pytest.approx(math.log10(expected), rel=1e-9)
    assert -20_000 < calibration.log10_p(np.zeros(4000, int), DRAWS) < -10_000
    with pytest.raises(ValueError, match="equal bins"):
        calibration.counts_of(values, DRAWS + 1)


def test_the_band_holds_uniform_ecdfs_everywhere_at_once() -> None:
    low, high = calibration.ecdf_band(100, DRAWS)
    rng, inside = np.random.default_rng(1), 0
    for _ in range(600):
        difference = calibration.ecdf_difference(rng.integers(0, DRAWS + 1, 100), DRAWS)
        inside += bool(np.all((low - 1e-9 <= difference) & (difference <= high + 1e-9)))
    assert abs(inside / 600 - calibration.BAND) < 4 * math.sqrt(0.05 * 0.95 / 600)
    wrong = calibration.ecdf_difference(ranks(0.5, truths=100), DRAWS)
    assert np.any((wrong < low) | (wrong > high))


def test_the_autocorrelation_time_is_that_of_an_autoregression() -> None:
    rng = np.random.default_rng(3)
    x, noise = np.zeros(40_000), rng.normal(size=40_000)
    for i in range(1, len(x)):
        x[i] = 0.9 * x[i - 1] + noise[i]
    assert calibration.autocorrelation_time(x) == pytest.approx(19, rel=0.15)
    assert calibration.autocorrelation_time(np.ones(100)) == math.inf


# -- denoisers -----------------------------------------------------------------------------------------


def test_wrong_denoisers_are_wrong_in_what_they_say() -> None:
    true, first, sigma = jnp.asarray(0.2), jnp.asarray(0.1), jnp.asarray(0.25)
    found = {name: change(sigma) for name, change in changes(true, first).items()}
    assert found["exact"] == (1.0, 0.25)
    assert found["told the true σ"] == (1.0, 0.2)
    factor, level = found["y rescaled by the first σ"]
    alpha_bar = 1 / (1 + jnp.asarray([0.1, 0.25]) ** 2)
    assert float(level) == 0.25
    assert float(factor) == pytest.approx(math.sqrt(alpha_bar[0] / alpha_bar[1]))
    for steps in (100, 1000):
        factor, level = found[f"rounded to {steps} times"]  # pyright: ignore[reportArgumentType]
        assert float(factor) == 1.0
        assert np.abs(table_levels(steps) - 0.25).min() == pytest.approx(abs(float(level) - 0.25))
    alpha_bar = 1 / (1 + table_levels(1000)[[0, -1]] ** 2)
    np.testing.assert_allclose(alpha_bar, [0.9999, 4.036e-5], rtol=1e-3)  # of Ho, Jain & Abbeel


# -- rows ----------------------------------------------------------------------------------------------


def test_rows_tell_right_from_wrong() -> None:
    def chains(wrong: bool) -> list[dict]:
        found = ranks(0.4 if wrong else 1.0)
        return [{"chains": [{"ranks": dict.fromkeys(QUANTITIES, int(rank))} for rank in found]}]

    for wrong, expected in ((False, REPRODUCED), (True, NOT_REPRODUCED)):
        (row,) = calibration_rows("exact", chains(wrong), "here", DRAWS)
        assert row.verdict == expected
        (row,) = calibration_rows("told the true σ", chains(wrong), "here", DRAWS)
        assert row.verdict != expected

    for mean, small, large in ((0.1, REPRODUCED, NOT_REPRODUCED), (0.4, NOT_REPRODUCED, REPRODUCED)):
        found = chains(False)
        for chain in found[0]["chains"]:
            chain |= {"mean": [mean, 0.2], "exact_mean": [0.1, 0.2], "exact_sd": [0.5, 0.02]}
        (row,) = calibration_rows("rounded to 1000 times", found, "here", DRAWS)
        assert row.verdict == small
        (row,) = calibration_rows("rounded to 100 times", found, "here", DRAWS)
        assert row.verdict == large

    exact = {"exact_mean": [0.1, 0.2], "exact_sd": [0.5, 0.02]}
    near = [exact | {"mean": [0.15, 0.198], "sd": [0.52, 0.0195]}] * 3
    far = [exact | {"mean": [0.3, 0.198], "sd": [0.52, 0.016]}] * 3
    assert [row.verdict for row in accuracy_rows("exact", near, "here")] == [REPRODUCED] * 3
    verdicts = [row.verdict for row in accuracy_rows("exact", far, "here")]
    assert verdicts == [NOT_REPRODUCED, REPRODUCED, NOT_REPRODUCED]


# -- all of it -----------------------------------------------------------------------------------------


def test_a_run_stops_when_asked() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        run_chains("exact", jax.random.key(0), DATA, Length(), stop)
    with pytest.raises(ValueError, match="multiple of 10"):
        Length(draws=80)


def test_a_trained_network_is_kept_as_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        gibbs_diffusion_network, "excess_loss", lambda *_: jnp.asarray(0.5)
    )  # slow to compile
    field, training = GaussianField(side=4), Training(channels=1, hidden=4, steps=2, batch=2)
    one = training_measurement(field, training)
    result = json.loads(json.dumps(one.compute(one.key, threading.Event())))
    trained = Trained.of(field, training, result)
    weights = jax.tree.leaves(train(field, training).network)
    for kept, weight in zip(jax.tree.leaves(trained.mean.network), weights, strict=True):
        if eqx.is_array(weight):  # others are functions
            np.testing.assert_array_equal(np.asarray(kept), np.asarray(weight))
    assert result["excess"] == [0.5] * 9
    assert "2 × 2 simulations" in training_note(training, result)


def test_all_of_it_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The network is the exact denoiser here: its own program would take longer than all the rest to compile.
    def changes_with_network(true: jax.Array, first: jax.Array) -> dict:
        every = changes(true, first)
        return every | {"network": every["exact"]}

    def no_training(field: GaussianField, training: Training) -> Measurement:
        return Measurement("none", {"none": 0}, 0, lambda key, stop: {"parameters": "", "excess": [0.0] * 9})

    chosen = ("exact", "network", "told the true σ")
    monkeypatch.setattr(gibbs_diffusion, "NAMES", {name: NAMES[name] for name in chosen})
    monkeypatch.setattr(gibbs_diffusion, "RIGHT", ("exact", "network"))
    monkeypatch.setattr(gibbs_diffusion, "training_measurement", no_training)
    monkeypatch.setattr(Trained, "of", lambda field, training, result: None)
    monkeypatch.setattr(gibbs_diffusion_runs, "changes", changes_with_network)
    monkeypatch.setattr(gibbs_diffusion_runs, "CHANGED", (*gibbs_diffusion_runs.CHANGED, "network"))
    plan = GibbsDiffusionPlan(
        seeds=2, data_sets=4, chains=4, warmup=40, thin=2,
        network_lanes=4, network_chains=4, network_warmup=40, network_thin=2,
    )  # fmt: skip
    laboratory = Laboratory(tmp_path)
    outcome = GIBBS_DIFFUSION.run(plan, laboratory)
    gibbs_diffusion_runs.programs.cache_clear()
    assert len(outcome.rows) == 2 * 3 + 3 + 2 * 4
    for row in outcome.rows:
        assert row.verdict in VERDICTS
        assert row.measured.value is not None
    written = publish(GIBBS_DIFFUSION, plan, outcome, laboratory)
    assert len(json.loads(written["results.json"].read_text("utf-8"))["rows"]) == len(outcome.rows)
    assert len(outcome.figure.to_dict()["vconcat"]) == 3
    again = Laboratory(tmp_path)
    assert [row.measured for row in GIBBS_DIFFUSION.run(plan, again).rows] == [
        r.measured for r in outcome.rows
    ]
    assert again.kept() == len(laboratory.record) == 1 + 2 * (2 + 2) + 1


def test_the_default_plan_is_of_the_size_that_is_claimed() -> None:
    default = GIBBS_DIFFUSION.default
    assert default.seeds >= 8
    assert default.seeds * default.data_sets >= 100
    assert dataclasses.asdict(GIBBS_DIFFUSION.full) != dataclasses.asdict(default)
