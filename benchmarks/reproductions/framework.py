"""What a reproduction consists of: claims with rules fixed before measuring, rows with verdicts.

A claim says what was published or predicted, where, under which setting, and by which rule a measurement
counts as reproducing it. A row is a claim with what was measured; its verdict follows from the two alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from scipy import stats

from ..estimates import CONFIDENCE, Estimate

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
NOT_CHECKABLE = "published figure not checkable"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, NOT_CHECKABLE)
"""All there are."""


class Rule(Protocol):
    """What counts as reproducing a claim: a frozen dataclass that is part of the claim."""

    @property
    def text(self) -> str:
        """The rule in words, as it stands in the table."""
        ...

    def holds(self, value: float) -> bool | None:
        """Whether a measured value reproduces the claim; None where no value could tell."""
        ...


@dataclass(frozen=True)
class AtLeast:
    """The measured value is not below a bound."""

    bound: float

    @property
    def text(self) -> str:
        return f"≥ {self.bound:g}"

    def holds(self, value: float) -> bool:
        return value >= self.bound


@dataclass(frozen=True)
class AtMost:
    """The measured value is not above a bound."""

    bound: float

    @property
    def text(self) -> str:
        return f"≤ {self.bound:g}"

    def holds(self, value: float) -> bool:
        return value <= self.bound


@dataclass(frozen=True)
class Below:
    """The measured value is below a bound: an order of two samplers, as a ratio below 1."""

    bound: float

    @property
    def text(self) -> str:
        return f"< {self.bound:g}"

    def holds(self, value: float) -> bool:
        return value < self.bound


@dataclass(frozen=True)
class Between:
    """The measured value lies in a closed interval."""

    low: float
    high: float

    @property
    def text(self) -> str:
        return f"{self.low:g} … {self.high:g}"

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class WithinFactor:
    """The measured value agrees with a positive published one up to a factor in either direction."""

    figure: float
    factor: float

    @property
    def text(self) -> str:
        return f"within a factor of {self.factor:g}"

    def holds(self, value: float) -> bool:
        return self.figure / self.factor <= value <= self.figure * self.factor


@dataclass(frozen=True)
class Unchecked:
    """This setting cannot tell, whatever it measures."""

    why: str

    @property
    def text(self) -> str:
        return f"not checked: {self.why}"

    def holds(self, value: float) -> None:
        return None


PREDICTED = "predicted by this project's exploratory runs"
"""The source of claims that no paper makes."""


@dataclass(frozen=True)
class Claim:
    """What was published or predicted, before anything is measured."""

    statement: str
    source: str
    """The paper and its place, or where a prediction comes from."""
    setting: str
    figure: str
    """Published or predicted, as it stands there."""
    rule: Rule
    unit: str = ""


@dataclass(frozen=True)
class Row:
    """A claim and what was measured; an estimate without value says that nothing could be."""

    claim: Claim
    measured: Estimate
    note: str = ""
    floor: float | None = None
    """What the measurement cannot resolve: at or below it a value is only known to be small."""
    decided: str | None = None
    """The verdict where it does not follow from the measured value alone: a sampler that fails its gate."""

    @property
    def at_floor(self) -> bool:
        return (
            self.floor is not None and self.measured.value is not None and self.measured.value <= self.floor
        )

    @property
    def verdict(self) -> str:
        if self.decided is not None:
            return self.decided
        rule = self.claim.rule
        if self.at_floor and not (isinstance(rule, AtMost) and (self.floor or 0.0) <= rule.bound):
            return NOT_CHECKABLE
        return verdict(rule, self.measured)


def verdict(rule: Rule, measured: Estimate) -> str:
    """One of `VERDICTS`. The point estimate decides; the interval stands beside it for the reader."""
    value = measured.value
    if value is None or not math.isfinite(value):
        return NOT_CHECKABLE
    holds = rule.holds(value)
    return NOT_CHECKABLE if holds is None else REPRODUCED if holds else NOT_REPRODUCED


def measured_text(row: Row) -> str:
    """The measured value with its interval; at the floor an upper bound and never a number."""
    estimate = row.measured
    if estimate.value is None:
        return "–"
    if row.at_floor:
        # The bound of the claim where there is one: below it nothing more is being claimed.
        rule = row.claim.rule
        bound = max(rule.bound, row.floor or 0.0) if isinstance(rule, AtMost) else row.floor
        return f"≤ {bound:.3g} (floor)"
    value = f"{estimate.value:.3g}"
    if estimate.low is None:
        return value
    high = "∞" if estimate.high is None else f"{estimate.high:.3g}"
    ends = {row.claim.rule.holds(x) for x in (estimate.low, estimate.high) if x is not None}
    unsure = "; the interval includes the bound" if ends == {True, False} else ""
    return f"{value} ({estimate.low:.3g} – {high}){unsure}"


def median_estimate(values: Iterable[float], confidence: float = CONFIDENCE) -> Estimate:
    """The median of replicates with its distribution-free interval between two order statistics.

    The interval is the narrowest symmetric one of at least the given confidence (binomial with
    p = ½; Conover, Practical Nonparametric Statistics, §3.2): the extremes for 6 to 8 replicates. Fewer
    than 6 have none at 95 %.
    """
    x = np.sort(np.asarray(list(values), float))
    if x.size == 0:
        return Estimate(kind="median")
    replicates = tuple(x.tolist())
    # P(x_(r) ≤ median ≤ x_(n+1−r)) = 1 − 2 P(B ≤ r − 1), B ~ binomial(n, ½)
    ranks = [
        r for r in range(1, x.size // 2 + 1) if 1 - 2 * stats.binom.cdf(r - 1, x.size, 0.5) >= confidence
    ]
    middle = float(np.median(x))
    if not ranks:
        return Estimate(middle, kind="median", values=replicates)
    r = ranks[-1]
    return Estimate(middle, float(x[r - 1]), float(x[x.size - r]), "median", replicates)


@dataclass(frozen=True)
class Outcome:
    """What a reproduction hands back."""

    rows: tuple[Row, ...]
    figure: Any
    """An altair chart."""
    notes: tuple[str, ...] = ()
    """What a reader of the table has to know: definitions, gates, deviations from the source."""


class Plan(Protocol):
    """The size of a reproduction: a frozen dataclass; its fields are written beside the results."""

    @property
    def seeds(self) -> int:
        """Replicates that intervals are made from."""
        ...


@dataclass(frozen=True)
class Reproduction:
    """A published result and how it is measured again."""

    name: str
    title: str
    """One line for the list."""
    sources: tuple[str, ...]
    default: Any
    """The `Plan` of at most five minutes on two cores."""
    full: Any
    run: Callable[[Any, Any], Outcome] = field(repr=False)
    """``(plan, laboratory) -> outcome``"""

    def plan(self, full: bool = False, seeds: int | None = None) -> Any:
        """The default or the long version, with another number of seeds if one is given."""
        plan = self.full if full else self.default
        return plan if seeds is None else dataclasses.replace(plan, seeds=seeds)


def row_to_dict(row: Row) -> dict[str, Any]:
    """Everything about a row, for JSON."""
    claim = row.claim
    return {
        "statement": claim.statement,
        "source": claim.source,
        "setting": claim.setting,
        "claimed": claim.figure,
        "unit": claim.unit,
        "rule": claim.rule.text,
        "measured": dataclasses.asdict(row.measured),
        "shown": measured_text(row),
        "verdict": row.verdict,
        "note": row.note,
    }


def count_verdicts(rows: Iterable[Row]) -> Mapping[str, int]:
    """How many rows have each of `VERDICTS`."""
    found = [row.verdict for row in rows]
    return {kind: found.count(kind) for kind in VERDICTS}
