"""How a variational family is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ESTIMATORS = ("path", "total")
STARTS = ("climb", "random")
GRID = (0.003, 0.01, 0.03, 0.1, 0.3)
"""The same learning rates for every family."""


@dataclass(frozen=True)
class Fitting:
    """The estimate of the gradient, the grid of learning rates, and when a fit has converged.

    Rates are Adam's (optax), on a space that is scaled by what `start` finds. Every rate of the grid is first
    run for its share of ``screening``; the one with the best ELBO goes on.

    **Convergence.** Steps come in windows of ``window``. Where the mean ELBO of ``patience`` windows one
    after the other does not exceed the best one so far by ``tolerance`` nats, the rate is halved (optax's
    ``reduce_on_plateau``); once it has been halved ``halvings`` times, the fit has converged and ends. From
    six tenths of the budget on the rate also falls along a cosine, to a hundredth: a fit that spends its
    budget ends with small steps, and is reported as not converged. A window far below the best sends the fit
    back to where it was then, with half the rate.

    Parameters
    ----------
    estimator : of the gradient of the ELBO: ``"path"`` (the density's parameters inside log q are held, whose
        score has mean 0; Roeder, Wu & Duvenaud 2017) or ``"total"``; see `objective`.
    samples : draws of q in an estimate; each costs a gradient.
    learning_rates : the grid.
    screening : part of the budget that the grid shares.
    window, patience, tolerance, halvings : of the rule above.
    start : ``"climb"`` (`start.climbed_start`) or ``"random"``, as Stan's chains start, with unit scales.
    draws : of the fitted distribution, per chain; each costs an evaluation of the density.
    """

    estimator: Literal["path", "total"] = "path"
    samples: int = 8
    learning_rates: tuple[float, ...] = GRID
    screening: float = 0.25
    window: int = 50
    patience: int = 10
    tolerance: float = 0.01
    halvings: int = 6
    start: Literal["climb", "random"] = "climb"
    draws: int = 2000

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"estimator={self.estimator!r}: give one of {', '.join(ESTIMATORS)}")
        if self.start not in STARTS:
            raise ValueError(f"start={self.start!r}: give one of {', '.join(STARTS)}")
        for name in ("samples", "window", "patience", "halvings", "draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: give at least 1")
        if not self.learning_rates or not all(rate > 0 for rate in self.learning_rates):
            raise ValueError(f"learning_rates={self.learning_rates}: give at least one, all positive")
        if not 0 < self.screening < 1:
            raise ValueError(f"screening={self.screening}: give a value between 0 and 1")
        if not self.tolerance > 0:
            raise ValueError(f"tolerance={self.tolerance}: give a positive number of nats")
