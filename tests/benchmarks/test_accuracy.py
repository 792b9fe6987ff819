"""Errors of estimates against a reference: exact draws, known shifts and spreads, weights as copies."""

from typing import Any

import numpy as np
import pytest
from essper.benchmarks import accuracy, metrics

NAMES = ["a", "b", "c"]


def normal(seed: int, shape: tuple[int, int], location: Any = 0.0, scale: Any = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(location, scale, (*shape, 3))


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    return normal(0, (10, 1000), [0, 5, -3], [1, 10, 0.1])


def test_exact_draws_have_errors_of_noise_and_right_coverage(reference):
    draws = normal(1, (4, 1000), [0, 5, -3], [1, 10, 0.1])
    found = accuracy.errors(draws, reference, reference)
    noise = np.sqrt(1 / 4000 + 1 / 10000)
    assert np.abs(found.mean).max() < 4 * noise
    assert np.abs(found.log_sd_ratio).max() < 4 * noise / np.sqrt(2)
    assert np.abs(found.quantile).max() < 4 * noise * 2.2  # √(p (1 − p)) / φ at 5 %
    for share, level in zip(found.coverage, accuracy.LEVELS, strict=True):
        # Both ends of the interval, and the share itself, have their noise.
        assert np.abs(share - level).max() < 4 * np.sqrt(level * (1 - level)) * noise


def test_known_errors_are_found_with_their_sign(reference):
    """Normal draws, 0.5 sd to the right and half as wide: quantiles, coverage by the normal distribution."""
    sd, mean = reference.std((0, 1)), reference.mean((0, 1))
    draws = mean + 0.5 * sd + 0.5 * (reference - mean)
    found = accuracy.errors(draws, reference, reference)
    assert found.mean == pytest.approx([0.5] * 3)
    assert found.log_sd_ratio == pytest.approx([np.log(0.5)] * 3)
    # At the p quantile z the error is 0.5 − 0.5 z.
    expected = 0.5 - 0.5 * np.repeat([[-1.645], [0], [1.645]], 3, axis=1)
    assert found.quantile == pytest.approx(expected, abs=0.05)
    # The central 90 % are from 0.5 − 0.822 to 0.5 + 0.822: Φ(1.322) − Φ(−0.322).
    assert found.coverage[1] == pytest.approx([0.9069 - 0.3737] * 3, abs=0.02)
    assert found.coverage[0] == pytest.approx([0.7988 - 0.5647] * 3, abs=0.02)


def test_a_summary_names_the_worst_and_stands_beside_its_floor(reference):
    draws = normal(2, (2, 500), [0, 25, -3], [1, 10, 0.3])
    errors = accuracy.errors(draws, reference, reference)
    floor = accuracy.errors(reference[:5], reference[5:], reference)
    found = accuracy.summary(errors, NAMES, floor)
    assert (found["mean"]["worst"], found["sd"]["worst"]) == ("b", "c")
    assert found["mean"]["maximum"] == pytest.approx(2, abs=0.2)
    assert found["mean"]["average"] == pytest.approx(np.abs(errors.mean).mean())
    assert found["mean"]["floor"]["maximum"] == np.abs(floor.mean).max() < 0.1
    assert found["sd"]["maximum"] == pytest.approx(np.log(3), abs=0.1)
    assert found["sd"]["ratio"] == pytest.approx(3 ** (1 / 3), rel=0.05)
    assert found["quantiles"]["worst"] in {"q05 of c", "q95 of c", "q05 of b", "q95 of b"}
    assert found["coverage"]["90"]["minimum"] < 0.5 < 0.99 < found["coverage"]["90"]["maximum"]
    assert found["coverage"]["50"]["floor"]["average"] == pytest.approx(0.5, abs=0.03)
    assert "floor" not in accuracy.summary(errors, NAMES)["mean"]


def test_weights_are_copies():
    draws = normal(3, (3, 20))
    times = np.random.default_rng(4).integers(0, 4, 60)
    times[0] += 1 - times.sum() % 2  # so that no quantile is just between two draws
    copies = np.repeat(draws.reshape(60, 3), times, axis=0)[None]
    weighted = accuracy.estimates(draws, times / times.sum())
    for found, expected in zip(weighted, accuracy.estimates(copies), strict=True):
        np.testing.assert_allclose(found, expected)
    assert not np.allclose(weighted.mean, accuracy.estimates(draws).mean)


def test_estimates_are_those_of_the_z_scores_but_for_one_order_statistic(reference):
    found, moments = accuracy.estimates(reference), metrics.moments(reference)
    np.testing.assert_allclose(found.mean, moments.estimate[0])
    np.testing.assert_allclose(found.sd, moments.estimate[1], rtol=1e-4)
    np.testing.assert_allclose(found.quantile, moments.estimate[2:], atol=1e-2 * reference.std((0, 1)).max())


def test_what_cannot_be_computed_is_nan_or_infinite_and_the_worst(reference):
    broken, still = normal(5, (2, 100)), np.zeros((2, 100, 3))
    broken[1, 3, 1] = np.nan
    found = accuracy.errors(broken, reference, reference)
    assert np.isnan(
        [found.mean[1], found.log_sd_ratio[1], *found.quantile[:, 1], *found.coverage[:, 1]]
    ).all()
    assert np.isfinite(found.mean[[0, 2]]).all()
    shown = accuracy.summary(found, NAMES)
    assert (shown["mean"]["worst"], shown["sd"]["worst"]) == ("b", "b")
    assert np.isnan(shown["coverage"]["50"]["minimum"])
    stuck = accuracy.errors(still, reference, reference)
    assert np.isneginf(stuck.log_sd_ratio).all()
    np.testing.assert_array_equal(stuck.coverage, 0)
