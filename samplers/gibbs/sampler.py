"""Gibbs sampling of any target."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import jax
import numpy as np
from jax import Array

from ...models.conditional import nothing
from ...models.target import Density, Target
from ..adaptation import Tuning, WindowedAdaptation
from ..base import Budget, Kernel, Progress, Run
from ..driver import run_bound
from ..layouts import Execution
from .hamiltonian import HMCUpdate
from .kernel import Start, gibbs_kernel
from .metropolis import MetropolisUpdate
from .scans import SCANS, Scan
from .slice import SliceUpdate
from .updates import Exact, Update

GENERIC = ("slice", "metropolis", "hmc")


@dataclass(frozen=True)
class Gibbs:
    """Blocks in turn, each given all the rest: exactly where the target knows how, else by a generic update.

    A budget counts gradients, evaluations of the density and conditional draws as one each.

    Parameters
    ----------
    scan : the order of blocks: ``"systematic"``, ``"reversed"``, ``"random"`` (with replacement),
        ``"random-permutation"`` or ``"weighted"``. A draw is a sweep: as many updates as there are blocks.
    generic : what updates coordinates without an exact conditional: ``"slice"`` (one after the other),
        ``"metropolis"`` or ``"hmc"`` (all of them together).
    exact : whether exact conditionals are used where the target has them.
    warmup : part of the budget in which updates adapt.
    updates : one's own, in place of all that; they decide what is updated.
    weights : of every block, for ``"weighted"``.
    execution : how the chains run together; see `layouts`.
    """

    scan: Scan = "systematic"
    generic: Literal["slice", "metropolis", "hmc"] = "slice"
    exact: bool = True
    warmup: float = 0.2
    updates: tuple[Update, ...] | None = None
    weights: tuple[float, ...] | None = None
    execution: Execution = "auto"

    @property
    def uses_blocks(self) -> bool:
        """Whether exact conditionals of the target are asked for."""
        return self.exact and self.updates is None

    def __post_init__(self) -> None:
        if self.scan not in SCANS:
            raise ValueError(f"scan={self.scan!r}: give one of {', '.join(SCANS)}")
        if self.generic not in GENERIC:
            raise ValueError(f"generic={self.generic!r}: give one of {', '.join(GENERIC)}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup={self.warmup}: give a value from 0 to below 1")
        if (self.scan == "weighted") != (self.weights is not None):
            raise ValueError(
                "weights are needed by scan='weighted', one a block, and by no other scan: of three blocks"
                " scan=weighted,weights=1/2/1"
            )
        if self.weights is not None and not all(0 < weight < math.inf for weight in self.weights):
            raise ValueError(f"weights={self.weights}: give positive numbers, or a block is never updated")
        if self.updates is None:
            return
        if not isinstance(self.updates, tuple) or not self.updates:
            raise ValueError(f"updates={self.updates!r}: give a tuple of one or more updates")
        if self.generic != "slice" or not self.exact:
            raise ValueError("updates are given: generic and exact, which choose updates, mean nothing then")

    def run(
        self,
        key: Array,
        target: Target,
        budget: Budget,
        *,
        chains: int = 4,
        progress: Progress | None = None,
    ) -> Run:
        """As `driver.run_kernel`; budget in evaluations of any kind."""
        run = run_bound(self, key, target, budget, chains=chains, progress=progress)
        return replace(run, warnings=(*run.warnings, *_warnings(run)))

    def bound(self, target: Target) -> BoundGibbs:
        """The kernel sampler for one target.

        Raises
        ------
        ValueError
            If there are not as many weights as blocks, or an update names coordinates that are not there.
        """
        updates, start = self._updates(target)
        for update in updates:
            _check_coordinates(update, target)
        blocks = sum(update.size for update in updates)
        if self.weights is not None and len(self.weights) != blocks:
            raise ValueError(
                f"{len(self.weights)} weights for {blocks} blocks of {target.name}: give as many"
            )
        adaptation = WindowedAdaptation(
            metric="identity", step_size=1.0, budget_fraction=max(self.warmup, 1e-9), num_warmup=0
        )
        return BoundGibbs(updates, self.scan, self.weights, start, adaptation, _execution(self.execution))

    def _updates(self, target: Target) -> tuple[tuple[Update, ...], Start]:
        if self.updates is not None:
            return self.updates, nothing if target.blocks is None else target.blocks.start
        if self.exact and target.blocks is not None:
            target.blocks.check(target.name, target.dim)
            exact = tuple(Exact(found) for found in target.blocks.conditionals.values())
            left = target.blocks.left
            return (*exact, *([self._generic(left)] if left else [])), target.blocks.start
        return (self._generic(tuple(range(target.dim))),), nothing

    def _generic(self, coordinates: tuple[int, ...]) -> Update:
        if self.generic == "slice":
            return SliceUpdate(coordinates)
        return (MetropolisUpdate if self.generic == "metropolis" else HMCUpdate)(coordinates)


@dataclass(frozen=True)
class BoundGibbs:
    """A Gibbs sampler of one target, as the driver takes it."""

    updates: tuple[Update, ...]
    scan: Scan
    weights: tuple[float, ...] | None
    start: Start
    adaptation: WindowedAdaptation
    execution: Execution

    equal_steps: ClassVar[bool] = False
    warms_itself: ClassVar[bool] = True

    def kernel(self, density: Density, tuning: Tuning) -> Kernel:
        """A sweep a step."""
        return gibbs_kernel(density, self.updates, self.scan, self.weights, self.start)


def _check_coordinates(update: Update, target: Target) -> None:
    chosen = getattr(update, "coordinates", None)
    if chosen is None:
        return
    name, dim = type(update).__name__, target.dim
    if not isinstance(chosen, tuple) or not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"{name}(coordinates={chosen}): give a tuple of one or more coordinates, each once")
    if outside := [coordinate for coordinate in chosen if not 0 <= coordinate < dim]:
        raise ValueError(
            f"{name}(coordinates={chosen}): {target.name} has the unconstrained coordinates 0 … {dim - 1},"
            f" not {', '.join(map(str, outside))}"
        )


def _warnings(run: Run) -> tuple[str, ...]:
    """Of coordinates that no update has changed, in any chain, and of draws that are no numbers."""
    moved = (run.draws != run.draws[:, :1]).any(axis=(0, 1)) | (run.draws.shape[1] < 2)
    bad = ~np.isfinite(run.draws).all(axis=(0, 1))
    texts = {
        "never moved: does an update draw them?": ~moved & ~bad,
        "have draws that are not finite: what does their conditional return?": bad,
    }
    return tuple(
        f"the coordinates {', '.join(map(str, np.flatnonzero(which)))} {text}"
        for text, which in texts.items()
        if which.any()
    )


def _execution(asked: Execution) -> Execution:
    """On a CPU every chain alone: evaluations of the density alone cannot be masked, and steps differ."""
    return "independent" if asked == "auto" and jax.default_backend() == "cpu" else asked
