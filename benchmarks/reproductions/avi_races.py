"""A-VI against F-VI on one grid of learning rates: who arrives first, with the cost of the grid counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...models.target import Target
from ...samplers.vi.fits import VariationalSampler
from ..estimates import Estimate, estimate, ratio
from .avi_runs import PAPER, gradients_to, race_measurement
from .figures import CurvePoint
from .framework import NOT_CHECKABLE, Below, Claim, Row, median_estimate
from .laboratory import Laboratory

STARTS = {"random": "from random points", "climb": "from a climb to the mode (the default start)"}
"""In the words of the table."""
MARKS = 10
"""Points of a curve in the figure."""
TOP = 1e4
"""Distances that count as arrived: a rate at which a fit flies away is drawn no farther than this."""


@dataclass(frozen=True, eq=False)
class RaceSubject:
    """A data set that a race is run on."""

    target: Target
    elbo: Callable[[np.ndarray, np.ndarray], float]
    """Of a factorized Gaussian with these means and standard deviations."""
    optimum: float
    """F-VI's."""
    reach: float
    """A fit has arrived when its ELBO is within so many nats of it."""


@dataclass(frozen=True, eq=False)
class Race:
    """What became of it."""

    words: str
    rates: tuple[float, ...]
    subjects: Sequence[RaceSubject]
    found: Mapping[str, Sequence[dict[str, Any]]]
    """Every contender's results, F-VI's first: a `race_measurement` for every data set."""

    def arrivals(self, name: str) -> np.ndarray:
        """Gradients of every rate, the start's among them: ``f[subject, rate]``; inf where it did not."""
        pairs = zip(self.found[name], self.subjects, strict=True)
        return np.array([gradients_to(result, one.optimum - one.reach) for result, one in pairs])

    def cost(self, name: str) -> tuple[Estimate, int]:
        """Gradients of the start and of all rates until the best one arrives; data sets on which it does not.

        The best is the rate with the smallest median over data sets. Where it does not arrive, all that it
        was given stands for what it needs, which is more.
        """
        arrivals, results = self.arrivals(name), self.found[name]
        best = arrivals[:, int(np.argmin(np.median(arrivals, axis=0)))]
        starts = np.array([result["start"] for result in results])
        given = np.array([result["gradients"][-1] for result in results])
        own = np.minimum(best - starts, given)
        return estimate(starts + len(self.rates) * own), int(np.sum(np.isinf(best)))

    def row(self, setting: str) -> Row:
        """A-VI over F-VI; what the paper says of it is the claim.

        Where F-VI does not arrive the ratio is an upper bound, where A-VI does not a lower one; each decides
        on its own side only.
        """
        (free, free_late), (amortized, amortized_late) = (self.cost(name) for name in self.found)
        claim = Claim(
            f"gradients to arrive, A-VI over F-VI, {self.words}",
            f"{PAPER}: A-VI often converges faster",
            setting,
            "below 1",
            Below(1.0),
        )
        measured = ratio(amortized, free)
        note = f"{amortized.value:,.0f} against {free.value:,.0f} gradients"
        if free_late or amortized_late:
            number = len(self.subjects)
            note += f"; not arrived: F-VI on {free_late}, A-VI on {amortized_late} of {number} data sets"
        below = measured.value is not None and measured.value < 1
        undecided = (amortized_late and below) or (free_late and not below)
        return Row(claim, measured, note, decided=NOT_CHECKABLE if undecided else None)

    def notes(self) -> list[str]:
        """The median over data sets at every rate."""
        return [
            f"{name}, {self.words}, gradients of a single rate to arrive, median: "
            + ", ".join(
                f"{rate:g}: {median:,.0f}" if math.isfinite(median) else f"{rate:g}: not in the steps given"
                for rate, median in zip(self.rates, np.median(self.arrivals(name), axis=0), strict=True)
            )
            + "."
            for name in self.found
        ]

    def curves(self) -> list[CurvePoint]:
        """Distances from F-VI's optimum, a panel for every contender, a curve for every rate."""
        return [
            CurvePoint(f"{name}, {self.words}", f"rate {rate:g}", spent, distance)
            for name in self.found
            for i, rate in enumerate(self.rates)
            for spent, distance in self._distances(name, i)
        ]

    def _distances(self, name: str, rate: int) -> list[tuple[float, Estimate]]:
        """Gradients and medians over data sets; what is farther away than `TOP` is drawn there."""
        results = self.found[name]
        gradients = results[0]["gradients"]
        start = float(np.mean([result["start"] for result in results]))
        shown = np.unique(np.round(np.geomspace(1, len(gradients), min(MARKS, len(gradients)))).astype(int))
        points = []
        for mark in (shown - 1).tolist():
            pairs = zip(self.subjects, (result["elbo"][rate][mark] for result in results), strict=True)
            values = [_distance(one, elbo) for one, elbo in pairs]
            if start + gradients[mark] > 0:  # a logarithmic axis has no place for what has cost nothing
                points.append((start + gradients[mark], median_estimate(values)))
        return points


def race_of(
    laboratory: Laboratory,
    contenders: Mapping[str, VariationalSampler],
    subjects: Sequence[RaceSubject],
    words: str,
    *,
    start: str,
    steps: int,
    every: int,
) -> Race:
    """Every contender on every data set, from a start of the same kind.

    Parameters
    ----------
    contenders : by name, F-VI first and A-VI second, with one grid of rates
    words : of the start, as the table has it
    """
    wanted = [
        race_measurement(f"{name}, {words}", sampler, one.target, steps, every, seed, one.elbo, start)
        for name, sampler in contenders.items()
        for seed, one in enumerate(subjects)
    ]
    results = iter(laboratory.measure("race", wanted))
    found = {name: [next(results) for _ in subjects] for name in contenders}
    grids = {sampler.fitting.learning_rates for sampler in contenders.values()}
    (rates,) = grids  # one grid for all
    return Race(words, rates, subjects, found)


def _distance(subject: RaceSubject, elbo: float | None) -> float:
    top = TOP * subject.reach
    return top if elbo is None else min(top, subject.optimum - elbo)
