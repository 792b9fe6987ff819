"""Intervals and ratios, against hand calculation and scipy."""

import numpy as np
import pytest
from essper.benchmarks.estimates import estimate, ratio
from scipy import stats


def test_estimate_is_a_student_t_interval_on_logs():
    values = [3.0, 5.0, 11.0]
    logs = np.log(values)
    low, high = stats.t.interval(0.95, 2, loc=logs.mean(), scale=stats.sem(logs))
    result = estimate(values)
    assert result.value == pytest.approx((3 * 5 * 11) ** (1 / 3))
    assert (result.low, result.high) == pytest.approx((np.exp(low), np.exp(high)))


def test_one_replicate_has_no_interval_and_undefined_ones_do_not_take_part():
    result = estimate([None, 7.0, None])
    assert (result.value, result.low, result.high) == (pytest.approx(7.0), None, None)
    assert estimate([None, None]).value is None


def test_zero_is_averaged_arithmetically_without_interval():
    result = estimate([0.0, 4.0])
    assert (result.value, result.low, result.kind) == (2.0, None, "arithmetic")
    assert estimate([0.0, 0.0]).value == 0.0


def test_an_interval_beyond_floating_point_is_unbounded_not_infinite():
    result = estimate([1e-300, 1e300])
    assert (result.low, result.high) == (0.0, None)
    assert result.value == pytest.approx(1.0)


def test_ratio_is_welch_on_logs():
    a, b = [2.0, 3.0, 5.0, 4.0], [1.0, 1.5]
    welch = stats.ttest_ind(np.log(a), np.log(b), equal_var=False).confidence_interval(0.95)
    result = ratio(estimate(a), estimate(b))
    assert result.value == pytest.approx(stats.gmean(a) / stats.gmean(b))
    assert (result.low, result.high) == pytest.approx((np.exp(welch.low), np.exp(welch.high)))


def test_ratio_without_replicates_or_with_zero():
    assert ratio(estimate([6.0]), estimate([2.0, 2.0])).value == pytest.approx(3.0)
    assert ratio(estimate([6.0]), estimate([2.0, 2.0])).low is None
    assert ratio(estimate([0.0, 6.0]), estimate([2.0, 2.0])).value is None
    certain = ratio(estimate([6.0, 6.0]), estimate([2.0, 2.0]))
    assert certain.low == certain.high == pytest.approx(3.0)
