"""When warmup does what: Stan's windows, and windows that overlap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SETTLING = 0.15
"""Last part of warmup in which only the step size adapts: of a scarce budget and of overlapping
windows' steps. Stan's last phase has 50 steps."""
FIRST_WINDOW = 10
"""Steps in the shortest of the overlapping windows, at least."""
GROWTH = 1.5
"""Ratio of the ends of overlapping windows."""


class Windows(NamedTuple):
    """Phases of warmup, in steps."""

    slow_start: int
    """First step whose position is used for the metric."""
    ends: np.ndarray
    """``i[window]``: where each window ends; after the last one only the step size adapts."""
    overlapping: bool
    """Whether the next window has begun where the last one ended, or begins where this one ends."""

    @property
    def final_start(self) -> int:
        """First step of the last phase."""
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def last_start(self) -> int:
        """First step of the last window: before it chains may still be on their way to the typical set."""
        before = 3 if self.overlapping else 2
        return int(self.ends[-before]) if len(self.ends) >= before else self.slow_start


def stan_windows(num_warmup: int) -> Windows:
    """75 steps, then windows of 25, 50, 100, … with the last stretched, then 50 steps.

    Fewer than 150 steps are divided as 15 %, 75 %, 10 %; fewer than 20 adapt only the step size.
    """
    if num_warmup < 20:
        return Windows(num_warmup, np.zeros(0, int), False)
    if num_warmup >= 150:
        start, size, last = 75, 25, num_warmup - 50
    else:
        start, last = int(0.15 * num_warmup), num_warmup - int(0.1 * num_warmup)
        size = last - start
    ends = [start + size]
    while ends[-1] < last:
        # A window that leaves no room for a next one of twice its size takes all that is left.
        size *= 2
        ends.append(ends[-1] + size if ends[-1] + 3 * size <= last else last)
    return Windows(start, np.array(ends), False)


def overlapping_windows(num_warmup: int) -> Windows:
    """Ends at `GROWTH`ᵏ up to the last phase; a window reaches from the end before the last to its own.

    So the metric rests at every step on between a third and just over half of the steps so far, the
    latest: old enough to be many, young enough to have forgotten the start (the foreground and
    background windows of nutpie, with lengths that grow). Fewer than 20 steps adapt only the step size.
    """
    if num_warmup < 20:
        return Windows(num_warmup, np.zeros(0, int), True)
    ends = [num_warmup - round(SETTLING * num_warmup)]
    while ends[-1] >= FIRST_WINDOW * GROWTH:
        ends.append(int(ends[-1] / GROWTH))
    return Windows(0, np.array(ends[::-1]), True)
