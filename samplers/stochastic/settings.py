"""How gradients are estimated, and the schedule of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ESTIMATORS = ("minibatch", "control-variates", "svrg")
STARTS = ("mode", "random")


@dataclass(frozen=True)
class Gradients:
    """An estimate of the gradient from a minibatch, which is drawn with replacement at every step.

    Parameters
    ----------
    batch : rows in a minibatch, m.
    estimator : ``"minibatch"``, ``"control-variates"`` (about where the chain starts, which is worth its cost
        at a mode) or ``"svrg"``; see `estimators`.
    epoch : steps between two snapshots of SVRG; None for n/m, a pass over the data.
    likelihood_temperature : T of the likelihood alone: samples prior × likelihood^(1/T).
    rows : what counts the rows of a Stan program's data, as ``"N"``; None for the only size that does.
    """

    batch: int = 64
    estimator: Literal["minibatch", "control-variates", "svrg"] = "minibatch"
    epoch: int | None = None
    likelihood_temperature: float = 1.0
    rows: str | None = None

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch={self.batch}: give at least one row")
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"estimator={self.estimator!r}: give one of {', '.join(ESTIMATORS)}")
        if self.epoch is not None and self.epoch < 1:
            raise ValueError(f"epoch={self.epoch}: give at least one step")
        if not self.likelihood_temperature > 0:
            raise ValueError(f"likelihood_temperature={self.likelihood_temperature}: give a positive value")


@dataclass(frozen=True)
class Schedule:
    """Step sizes, where chains start, and which iterates are kept.

    Parameters
    ----------
    step_size : h of θ ← θ + h ĝ + √(2hT) ξ, which is ε/2 of Welling & Teh (2011). None: by the rule of
        `start.step_size_for`, from the largest curvature at the mode.
    inflation : what the rule allows: the variance in the stiffest direction is this much too large.
    decay : of h_t = h (1 + t/τ)^(−decay), τ a tenth of all steps; 0 keeps h. Welling & Teh need more than
        1/2 and at most 1; draws are not weighted by h.
    burn_in : part of the steps whose iterates are thrown away; counted as warmup.
    draws : kept of each chain, at most, evenly spaced.
    start : ``"mode"`` (each chain finds one by L-BFGS from a random point, which is counted) or ``"random"``,
        as Stan's chains start.
    """

    step_size: float | None = None
    inflation: float = 0.1
    decay: float = 0.0
    burn_in: float = 0.2
    draws: int = 1000
    start: Literal["mode", "random"] = "mode"

    def __post_init__(self) -> None:
        if self.step_size is not None and not self.step_size > 0:
            raise ValueError(f"step_size={self.step_size}: give a positive value")
        if not self.inflation > 0:
            raise ValueError(f"inflation={self.inflation}: give a positive value")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay={self.decay}: give a value from 0 to 1")
        if not 0 <= self.burn_in < 1:
            raise ValueError(f"burn_in={self.burn_in}: give a value from 0 to below 1")
        if self.draws < 1:
            raise ValueError(f"draws={self.draws}: give at least 1")
        if self.start not in STARTS:
            raise ValueError(f"start={self.start!r}: give 'mode' or 'random'")
