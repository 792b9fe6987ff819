"""The gates let what is right through and stop what is not."""

import numpy as np
import pytest
from essper.benchmarks import gates, metrics
from scipy import stats
from test_metrics import autoregressive

RUNS = 200


def verdict(draws: np.ndarray, reference: np.ndarray) -> gates.Status:
    """The status of ``f[chain, draw, parameter]``, by the path that records take."""
    figures = metrics.efficiency(draws)
    is_converged = gates.converged(figures.rhat, figures.ess_bulk, draws.shape[0])
    z = metrics.z_scores(metrics.moments(draws), metrics.moments(reference))
    return gates.status(is_converged, gates.bias(z, [f"x[{i + 1}]" for i in range(draws.shape[2])]))


@pytest.fixture(scope="module")
def exact():
    """Runs of 4 chains that leave N(0, 1) invariant, one per column, and exact references."""
    rng = np.random.default_rng(11)
    return autoregressive(rng, 0.5, (4, 1000, RUNS)), rng.normal(size=(10, 1000, RUNS))


def statuses(draws: np.ndarray, reference: np.ndarray) -> list[gates.Status]:
    """One verdict a column, as if each were a run of its own."""
    figures = metrics.efficiency(draws)
    z = metrics.z_scores(metrics.moments(draws), metrics.moments(reference))
    return [
        gates.status(
            gates.converged(figures.rhat[i : i + 1], figures.ess_bulk[i : i + 1], draws.shape[0]),
            gates.bias(z[:, i : i + 1], ["x"]),
        )
        for i in range(draws.shape[2])
    ]


def test_exact_runs_are_hardly_ever_called_biased(exact):
    found = statuses(*exact)
    assert found.count("biased") <= 3  # 0.2 expected
    assert found.count("ok") >= 0.95 * RUNS


def test_a_shift_of_a_fifth_of_a_standard_deviation_is_biased(exact):
    draws, reference = exact
    found = statuses(draws + 0.2, reference)
    assert found.count("ok") <= 0.02 * RUNS
    assert found.count("biased") >= 0.95 * RUNS


def test_a_wrong_spread_with_a_right_mean_is_biased(exact):
    draws, reference = exact
    assert statuses(1.25 * draws[:, :, :20], reference[:, :, :20]).count("biased") >= 18


def test_all_parameters_count_together(exact):
    draws, reference = exact
    several = draws[:, :, :10].copy()
    assert verdict(several, reference[:, :, :10]) == "ok"
    several[:, :, 7] += 0.2
    assert verdict(several, reference[:, :, :10]) == "biased"


def test_one_stuck_chain_among_four_is_not_converged(exact):
    draws, reference = (part[:, :, :3].copy() for part in exact)
    draws[3] = draws[3, :1]
    assert verdict(draws, reference) == "not converged"


def test_constant_chains_are_not_converged(exact):
    _, reference = exact
    assert verdict(np.zeros((4, 1000, 2)), reference[:, :, :2]) == "not converged"


@pytest.mark.parametrize("comparisons", [1, 5, 500])
def test_the_threshold_is_bonferronis(comparisons):
    z = np.full((5, 200), np.nan)
    z.flat[:comparisons] = 0.1
    bias = gates.bias(z, [f"x[{i}]" for i in range(200)])
    assert bias.comparisons == comparisons
    # Two tails, all comparisons together: the probability that a correct cell is called biased.
    assert comparisons * 2 * stats.norm.sf(bias.threshold) == pytest.approx(0.001)


def test_the_worst_comparison_is_named():
    z = np.zeros((5, 3))
    z[1, 2], z[4, 0], z[3, 1] = -9.5, 4.0, np.nan
    bias = gates.bias(z, ["mu", "tau", "theta[1]"])
    assert (bias.max_abs_z, bias.worst, bias.comparisons) == (9.5, "sd of theta[1]", 14)
    assert not bias.passed


def test_the_threshold_itself_is_too_much():
    threshold = gates.bias(np.zeros((5, 1)), ["x"]).threshold
    assert gates.bias(np.full((5, 1), np.nextafter(threshold, 0)), ["x"]).passed
    assert not gates.bias(np.full((5, 1), threshold), ["x"]).passed


def test_nothing_comparable_never_passes():
    assert not gates.bias(np.full((5, 2), np.nan), ["a", "b"]).passed


def test_convergence_by_hand():
    good, enough = np.array([1.0, 1.009]), np.array([400.0, 900.0])
    assert gates.converged(good, enough, 4)
    assert not gates.converged(np.array([1.0, 1.01]), enough, 4)
    assert not gates.converged(np.array([1.0, np.nan]), enough, 4)
    assert not gates.converged(good, np.array([399.9, 900.0]), 4)
    assert not gates.converged(good, enough, 5)


def test_statuses():
    passing, failing = gates.Bias(1.0, "", 4.0, 5), gates.Bias(5.0, "", 4.0, 5)
    assert [gates.status(True, one) for one in (passing, failing, None)] == ["ok", "biased", "unverified"]
    assert [gates.status(False, one) for one in (passing, failing, None)] == ["not converged"] * 3
