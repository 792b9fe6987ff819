"""Rules, verdicts, what is shown of a measurement, and the interval of a median."""

import json

import numpy as np
import pytest
from essper.benchmarks.estimates import Estimate, estimate
from essper.benchmarks.reproductions.framework import (
    NOT_CHECKABLE,
    NOT_REPRODUCED,
    REPRODUCED,
    VERDICTS,
    AtLeast,
    AtMost,
    Below,
    Between,
    Claim,
    Row,
    Rule,
    Unchecked,
    WithinFactor,
    count_verdicts,
    measured_text,
    median_estimate,
    row_to_dict,
    verdict,
)
from scipy import stats


def row(rule: Rule, measured: Estimate, floor: float | None = None) -> Row:
    return Row(Claim("statement", "source", "setting", "figure", rule), measured, floor=floor)


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        (AtLeast(1.4), 1.4, REPRODUCED),
        (AtLeast(1.4), 1.399, NOT_REPRODUCED),
        (AtMost(0.05), 0.05, REPRODUCED),
        (AtMost(0.05), 0.0501, NOT_REPRODUCED),
        (Below(1.0), 0.999, REPRODUCED),
        (Below(1.0), 1.0, NOT_REPRODUCED),
        (Between(0.4, 0.8), 0.4, REPRODUCED),
        (Between(0.4, 0.8), 0.81, NOT_REPRODUCED),
        (WithinFactor(0.2, 1.5), 0.29, REPRODUCED),
        (WithinFactor(0.2, 1.5), 0.134, REPRODUCED),
        (WithinFactor(0.2, 1.5), 0.31, NOT_REPRODUCED),
        (WithinFactor(0.2, 1.5), 0.13, NOT_REPRODUCED),
        (Unchecked("too short"), 0.2, NOT_CHECKABLE),
    ],
)
def test_the_point_estimate_decides(rule: Rule, value: float, expected: str) -> None:
    assert verdict(rule, Estimate(value, value / 10, value * 10)) == expected


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_could_not_be_measured_is_not_checkable(value: float | None) -> None:
    assert verdict(AtLeast(0.0), Estimate(value)) == NOT_CHECKABLE


def test_verdicts_are_a_closed_set_and_counted() -> None:
    rows = [row(AtLeast(1), Estimate(v)) for v in (2.0, 0.5, None, 3.0)]
    assert {r.verdict for r in rows} == set(VERDICTS)
    assert count_verdicts(rows) == {REPRODUCED: 2, NOT_REPRODUCED: 1, NOT_CHECKABLE: 1}


def test_at_the_floor_an_upper_bound_is_shown_and_no_ratio() -> None:
    low = row(AtMost(0.05), Estimate(0.0116, 0.0115, 0.0117), floor=0.012)
    assert measured_text(low) == "≤ 0.05 (floor)"
    assert low.verdict == REPRODUCED
    above = row(AtMost(0.05), Estimate(0.03, 0.02, 0.04), floor=0.012)
    assert measured_text(above) == "0.03 (0.02 – 0.04)"


def test_what_is_shown_without_interval_and_without_value() -> None:
    assert measured_text(row(AtLeast(1), Estimate(2.0))) == "2"
    assert measured_text(row(AtLeast(1), Estimate())) == "–"
    assert measured_text(row(AtLeast(1), Estimate(2.0, 1.0, None))) == "2 (1 – ∞)"


def test_a_row_is_json_with_its_raw_values() -> None:
    shown = json.loads(json.dumps(row_to_dict(row(AtLeast(1), estimate([2.0, 8.0]))), allow_nan=False))
    assert shown["measured"]["values"] == [2.0, 8.0]
    assert (shown["rule"], shown["verdict"]) == ("≥ 1", REPRODUCED)


@pytest.mark.parametrize(("n", "ranks"), [(6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (20, (6, 15))])
def test_the_interval_of_a_median_lies_between_order_statistics(n: int, ranks: tuple[int, int]) -> None:
    values = np.random.default_rng(n).permutation(np.arange(1, n + 1)) * 1.0
    found = median_estimate(values)
    assert found.value == np.median(values)
    assert (found.low, found.high) == ranks
    coverage = 1 - 2 * stats.binom.cdf(ranks[0] - 1, n, 0.5)
    narrower = 1 - 2 * stats.binom.cdf(ranks[0], n, 0.5)
    assert coverage >= 0.95 > narrower


def test_a_median_of_few_has_no_interval() -> None:
    assert median_estimate([3.0, 1.0, 2.0, 5.0, 4.0]).low is None
    assert median_estimate([]).value is None


def test_a_floor_above_the_bound_decides_nothing() -> None:
    unresolved = row(AtMost(0.05), Estimate(0.06, 0.05, 0.07), floor=0.08)
    assert measured_text(unresolved) == "≤ 0.08 (floor)"
    assert unresolved.verdict == NOT_CHECKABLE


def test_an_interval_that_includes_the_bound_says_so() -> None:
    assert "includes the bound" in measured_text(row(AtLeast(1.0), Estimate(1.02, 0.7, 1.5)))
    assert "includes the bound" not in measured_text(row(AtLeast(1.0), Estimate(1.2, 1.1, 1.5)))


def test_a_gate_can_decide() -> None:
    claim = Claim("statement", "source", "setting", "figure", AtLeast(1.0))
    assert Row(claim, Estimate(2.0, 1.5, 2.5), decided=NOT_REPRODUCED).verdict == NOT_REPRODUCED
