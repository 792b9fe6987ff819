"""Figures of merit against arviz's dataset-level functions, hand calculation and brute force."""

import numpy as np
import pytest
from arviz_base import from_dict
from arviz_stats.sampling_diagnostics import ess, mcse, rhat
from essper.benchmarks import metrics
from essper.benchmarks.metrics import Moments

NAMES = ("slow", "fast", "heavy")


def autoregressive(rng: np.random.Generator, correlation: float, shape: tuple[int, int, int]) -> np.ndarray:
    """Stationary AR(1) chains with standard normal margins: ``f[chain, draw, parameter]``."""
    noise = rng.normal(size=shape)
    draws = np.empty(shape)
    draws[:, 0] = noise[:, 0]
    for i in range(1, shape[1]):
        draws[:, i] = correlation * draws[:, i - 1] + np.sqrt(1 - correlation**2) * noise[:, i]
    return draws


@pytest.fixture(scope="module")
def draws():
    rng = np.random.default_rng(0)
    slow = autoregressive(rng, 0.8, (4, 500, 1))
    fast = autoregressive(rng, -0.4, (4, 500, 1))
    heavy = np.sinh(2 * autoregressive(rng, 0.3, (4, 500, 1)))
    return 3 + np.concatenate([slow, fast, heavy], axis=2)


@pytest.fixture(scope="module")
def dataset(draws):
    return from_dict({"posterior": {name: draws[:, :, i] for i, name in enumerate(NAMES)}})


def per_name(result) -> list[float]:
    posterior = result["posterior"] if "posterior" in getattr(result, "children", {}) else result
    return [float(posterior[name]) for name in NAMES]


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("ess_bulk", {"method": "bulk"}),
        ("ess_tail", {"method": "tail", "prob": (0.05, 0.95)}),
        ("ess_mean", {"method": "mean"}),
    ],
)
def test_effective_sample_sizes_are_arviz(draws, dataset, field, options):
    found = getattr(metrics.efficiency(draws), field)
    np.testing.assert_allclose(found, per_name(ess(dataset, **options)), rtol=1e-12)
    assert len(set(found)) == 3


def test_ess_of_the_square_is_that_of_squared_draws(draws, dataset):
    squared = per_name(ess(dataset**2, method="mean"))
    np.testing.assert_allclose(metrics.efficiency(draws).ess_square, squared, rtol=1e-12)


def test_rhat_is_arviz_and_sees_what_is_wrong(draws, dataset):
    expected = per_name(rhat(dataset, method="rank"))
    np.testing.assert_allclose(metrics.efficiency(draws).rhat, expected, rtol=1e-12)
    apart, wide = draws.copy(), draws.copy()
    apart[0] += 2
    wide[0] = 3 + 4 * (wide[0] - 3)
    assert metrics.efficiency(apart).rhat[1] > 1.2
    assert metrics.efficiency(wide).rhat[1] > 1.1  # the folded part: locations agree


def test_moments_and_their_errors_are_arviz(draws, dataset):
    found = metrics.moments(draws)
    assert metrics.STATISTICS == ("mean", "sd", "q05", "q50", "q95")
    errors = [mcse(dataset, method=method) for method in ("mean", "sd")]
    errors += [mcse(dataset, method="quantile", prob=q) for q in (0.05, 0.5, 0.95)]
    np.testing.assert_allclose(found.mcse, [per_name(error) for error in errors], rtol=1e-12)
    flat = draws.reshape(-1, 3)
    expected = [flat.mean(0), flat.std(0, ddof=1), *np.percentile(flat, [5, 50, 95], axis=0)]
    np.testing.assert_allclose(found.estimate, expected)


def test_a_constant_chain_has_no_effective_draws(draws):
    constant = np.full_like(draws, 2.0)
    figures = metrics.efficiency(constant)
    assert np.isnan(figures.rhat).all()
    for sizes in figures[1:]:
        np.testing.assert_array_equal(sizes, 0.0)
    assert metrics.stuck_chains(constant) == 4


def test_one_stuck_chain_among_four_spoils_its_parameter_alone(draws):
    stuck = draws.copy()
    stuck[2, :, 0] = 3.0
    figures, whole = metrics.efficiency(stuck), metrics.efficiency(draws)
    assert np.isnan(figures.rhat[0])
    for sizes, expected in zip(figures[1:], whole[1:], strict=True):
        assert sizes[0] == 0
        np.testing.assert_allclose(sizes[1:], expected[1:])
    assert metrics.stuck_chains(stuck) == 0  # it moves in the other coordinates
    stuck[2] = 3.0
    assert metrics.stuck_chains(stuck) == 1


@pytest.mark.parametrize("n", [0, 1, 3])
def test_too_few_draws_have_no_effective_sample_size(draws, n):
    figures = metrics.efficiency(draws[:, :n])
    assert np.isnan(figures.rhat).all()
    np.testing.assert_array_equal(figures.ess_bulk, 0.0)


def test_draws_that_are_not_finite_flatter_nobody(draws):
    broken = draws.copy()
    broken[1, 7, 0] = np.nan
    broken[1, 7, 1] = np.inf
    figures = metrics.efficiency(broken)
    assert figures.ess_bulk[0] == figures.ess_tail[0] == figures.ess_mean[0] == 0
    assert figures.ess_mean[1] == 0


def test_z_scores_by_hand():
    sample = Moments(np.array([[1.0, 2.0, 5.0]]), np.array([[0.3, 0.0, 0.0]]))
    reference = Moments(np.array([[0.5, 2.5, 4.0]]), np.array([[0.4, 0.25, 0.0]]))
    z = metrics.z_scores(sample, reference)
    np.testing.assert_allclose(z, [[1.0, -2.0, np.nan]])


def test_error_curve_is_brute_force():
    rng = np.random.default_rng(1)
    draws, reference = rng.normal(1, 2, (3, 40, 2)), rng.normal(1, 2, (2, 100, 2))
    warmup, sampling = np.array([10, 20, 60]), rng.integers(1, 9, (3, 40))
    curve = metrics.error_curve(draws, reference, warmup, sampling, checkpoints=8)
    ends = []
    for i, gradients in enumerate(curve.gradients):
        (n,) = [m for m in range(1, 41) if np.isclose(gradients, 30 + sampling[:, :m].sum() / 3)]
        ends.append(n)
        for found, power in ((curve.mean, 1), (curve.square, 2)):
            for j in range(2):
                estimate = np.mean([x**power for chain in draws for x in chain[:n, j]])
                truth = [x**power for x in reference[:, :, j].ravel()]
                assert found[i, j] == pytest.approx((estimate - np.mean(truth)) ** 2 / np.var(truth))
    assert (ends[0], ends[-1]) == (1, 40)
    assert ends == sorted(set(ends))


def test_draws_that_cost_nothing_more_make_a_curve_of_one_point_with_all_of_them():
    rng = np.random.default_rng(2)
    draws, reference = rng.normal(1, 2, (3, 40, 2)), rng.normal(1, 2, (2, 100, 2))
    curve = metrics.error_curve(draws, reference, np.array([10, 20, 60]), np.zeros((3, 40), int))
    assert curve.gradients == pytest.approx([30])
    bias = draws.mean((0, 1)) - reference.mean((0, 1))
    assert curve.mean == pytest.approx(bias[None] ** 2 / reference.var((0, 1)))
    assert curve.square.shape == (1, 2)
    assert metrics.cost_until(curve.gradients, curve.mean.max(axis=1), 1e9) == 30
    # Where some draws cost and others do not, of those at equal cost the last one stays.
    costs = np.zeros((3, 40), int)
    costs[:, 20] = 5
    curve = metrics.error_curve(draws, reference, np.array([10, 20, 60]), costs)
    assert curve.gradients == pytest.approx([30, 35])


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([0.5, 0.2, 0.05, 0.01], 30.0),
        ([0.05, 0.2, 0.05, 0.01], 30.0),  # below once is not below for good
        ([0.05, 0.04, 0.03, 0.02], 10.0),
        ([0.5, 0.2, 0.1, 0.1], None),  # at the threshold is not below it
        ([0.5, 0.05, 0.05, 0.2], None),
        ([0.5, np.nan, 0.05, 0.05], 30.0),
        ([np.nan] * 4, None),
    ],
)
def test_cost_until_the_error_stays_below(errors, expected):
    assert metrics.cost_until(np.array([10.0, 20.0, 30.0, 40.0]), np.array(errors), 0.1) == expected


def test_varying_tells_constants_from_stuck_chains(draws):
    constant_and_stuck = draws.copy()
    constant_and_stuck[:, :, 0] = 1.0
    constant_and_stuck[:, :, 1] = np.arange(4)[:, None]
    np.testing.assert_array_equal(metrics.varying(constant_and_stuck, NAMES), [False, True, True])


def test_one_chain_alone_has_an_rhat_that_sees_a_drift():
    noise = np.random.default_rng(3).normal(size=(1, 1000, 2))
    drifting = noise + np.array([0.0, 2.0]) * np.linspace(0, 1, 1000)[None, :, None]
    steady, moving = metrics.efficiency(drifting).rhat
    assert steady < 1.01
    assert moving > 1.05
