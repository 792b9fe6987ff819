"""The sampler interface: what a kernel is, what a run returns, how cost is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax import Array
from xarray import DataTree

from ..models.names import named_arrays
from ..models.target import Counts, Target


class Cost(NamedTuple):
    """Work done, counted and never estimated; per chain."""

    gradients: Any = 0
    """Fused evaluations of the log density and its gradient."""
    densities: Any = 0
    """Evaluations of the log density alone."""
    datum_gradients: Any = 0
    """Gradients of single data rows; n of them cost as much as one gradient over n rows."""
    conditional_draws: Any = 0
    """Exact draws from a conditional distribution."""
    communications: Any = 0
    """Rounds in which a part of the data, held elsewhere, receives parameters and returns them."""


def add_cost(a: Cost, b: Cost) -> Cost:
    """The two costs together, field by field."""
    return Cost(*(x + y for x, y in zip(a, b, strict=True)))


class Info(NamedTuple):
    """What one step of a kernel did."""

    cost: Cost
    acceptance: Array
    """The acceptance probability that step-size adaptation aims at, in [0, 1]."""
    divergent: Array
    """Whether the integrator left the region where energy is conserved."""
    extra: dict[str, Array]
    """What this kernel alone has to say: ``energy``, ``num_integration_steps``, ``stage``, …"""


class Kernel(NamedTuple):
    """One chain's transition: pure functions that work under ``jit`` and ``vmap``."""

    init: Callable[[Array, Array], tuple[Any, Cost]]
    """``(key, position f[dim]) -> (state, cost)``"""
    step: Callable[[Array, Any], tuple[Any, Info]]
    """``(key, state) -> (state, info)``, leaving the target invariant"""
    position: Callable[[Any], Array]
    """``state -> f[dim]``"""
    gradient: Callable[[Any], Array] | None = None
    """``state -> f[dim]``: the gradient of the log density at the position, evaluated already; None
    where the state does not hold it."""
    warm: Callable[[Array, Any], tuple[Any, Info]] | None = None
    """``(key, state) -> (state, info)``: a step of warmup, in which the kernel adapts what is in its state;
    None of kernels whose tuning is adapted for them (`adaptation`)."""


@dataclass(frozen=True)
class Budget:
    """What each chain may spend, warmup and sampling together.

    A step begins only while something is left, so that a chain can exceed its budget by at most
    the cost of one step.
    """

    gradients: int

    def __post_init__(self) -> None:
        if self.gradients < 1:
            raise ValueError(f"a budget of {self.gradients} gradients allows no step; give at least 1")


class Progress(Protocol):
    """Told from time to time how far a run has come; called from the thread that called ``run``."""

    def __call__(self, phase: str, gradients: int, draws: int) -> None:
        """``phase`` is "warmup" or "sampling"; gradients over all chains, draws per chain so far."""


class Timing(NamedTuple):
    """Wall-clock seconds, for all chains together."""

    compile: float
    warmup: float
    sampling: float


_OTHERS = ("densities", "conditional_draws")


@dataclass(frozen=True)
class Run:
    """Everything that a report needs about one run of a sampler on a target."""

    target: Target
    sampler: Any
    draws: np.ndarray
    """``f[chain, draw, dim]``, unconstrained; the same number of draws for every chain."""
    info: Info
    """Leaves ``[chain, draw]``."""
    warmup: Cost
    """Leaves ``i[chain]``: everything before the first draw, initialisation included."""
    sampling: Cost
    """Leaves ``i[chain]``."""
    executed: Counts | None
    """The oracle's own count over all chains and both phases; None where it keeps none."""
    timing: Timing
    layout: str
    """How the chains ran together: ``"lockstep"``, ``"masked"`` or ``"independent"`` (`layouts`)."""
    tuning: dict[str, np.ndarray]
    """What all chains sampled with: ``step_size`` ``f[]``; of samplers with a warmup ``inverse_mass_matrix``,
    and the ``integration_time`` ``f[]`` where warmup looked for one. Of variational methods what the fits of
    all chains found, see `essper.samplers.vi.runs`."""
    warnings: tuple[str, ...] = ()
    rows: int | None = None
    """Data rows, for methods that count gradients of single rows: n of them cost as much as one gradient."""

    def equivalents(self, cost: Cost) -> np.ndarray:
        """What a cost of this run comes to in gradients: gradients of rows count for their share."""
        gradients = np.asarray(cost.gradients)
        return gradients if self.rows is None else gradients + np.asarray(cost.datum_gradients) / self.rows

    def evaluations(self, cost: Cost) -> np.ndarray:
        """What a cost of this run comes to: a gradient, a density, a conditional draw count as one each."""
        return self.equivalents(cost) + np.asarray(cost.densities) + np.asarray(cost.conditional_draws)

    def spent(self, cost: Cost) -> np.ndarray:
        """What a cost of this run takes from its budget: all evaluations, but of methods that are approximate
        gradients alone (densities of their draws stand beside)."""
        return (self.equivalents if getattr(self.sampler, "approximate", False) else self.evaluations)(cost)

    @property
    def chains(self) -> int:
        return self.draws.shape[0]

    def constrained(self) -> np.ndarray:
        """``f[chain, draw, n_params]``, columns as in ``target.param_names``."""
        return self.target.constrain(self.draws)

    def to_datatree(self) -> DataTree:
        """ArviZ's DataTree: ``posterior`` (constrained, named) and ``sample_stats``."""
        from arviz_base import from_dict  # imports plotting backends' registries: not at start-up

        stats = {
            "acceptance_rate": self.info.acceptance,
            "diverging": self.info.divergent,
            "n_gradients": self.info.cost.gradients,
            **{f"n_{kind}": found for kind in _OTHERS if np.any(found := getattr(self.info.cost, kind))},
            **self.info.extra,
        }
        tree = from_dict(
            {
                "posterior": named_arrays(self.target.param_names, self.constrained()),
                "sample_stats": {k: np.asarray(v) for k, v in stats.items()},
            }
        )
        assert isinstance(tree, DataTree)
        return tree


class Sampler(Protocol):
    """A frozen configuration that can run; kernels and whole-run methods both fit."""

    def run(self, key: Array, target: Target, budget: Budget, *, chains: int = 4) -> Run: ...


def chain_keys(key: Array, chains: int) -> Array:
    """One key a chain; a chain's stream does not depend on how many others there are."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(np.arange(chains, dtype=np.uint32))
