"""Building reference draws: long NUTS runs, thinned, accepted by posteriordb's rules or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..models.target import Target
from ..posteriordb_adapter import Posterior, acceptance_checks, names_to_keep, write_reference
from ..posteriordb_adapter.files import read_object, write_atomically
from ..posteriordb_adapter.unconstrain import in_support
from ..samplers import NUTS, Budget, Run, WindowedAdaptation
from .records import surroundings

CHAINS = 10
DRAWS_PER_CHAIN = 1000
FIRST_BUDGET = 400_000
TARGET_ACCEPTANCES = (0.95, 0.99, 0.999)
"""Tried in this order while there are divergences."""


class NotAccepted(Exception):
    """No run within the largest budget passed the acceptance rules."""


@dataclass(frozen=True)
class Attempt:
    """One long run and what the rules say of its draws."""

    target_acceptance: float
    budget: int
    """Gradients per chain."""
    thin: int
    checks: dict[str, bool]
    """Rule → passed."""
    diagnostics: dict[str, Any]
    draws: np.ndarray
    """``f[chain, draw, parameter]``, thinned, constrained."""

    @property
    def accepted(self) -> bool:
        return all(self.checks.values())


def build_reference(
    posterior: Posterior,
    layer: Path,
    *,
    seed: int = 0,
    max_budget: int = 20_000_000,
    bridgestan: str = "auto",
    report: Callable[[Attempt], None] = lambda attempt: None,
) -> Path:
    """Draw a posterior's reference and write it into a layer, if it passes posteriordb's rules.

    10 chains of 1000 draws each. Where the posterior names no reference yet, its description is
    written into the layer too, naming this one. A run with divergences is followed by one with a
    higher target acceptance, one whose draws are too few or too dependent by one of twice the budget.

    Parameters
    ----------
    layer : the ``posterior_database`` folder to write into
    max_budget : gradients per chain that a run may cost
    report : told of every attempt

    Returns
    -------
    the file of the draws

    Raises
    ------
    NotAccepted
        If no run passed; nothing is written.
    """
    layer.mkdir(parents=True, exist_ok=True)  # fails now rather than after an hour of drawing
    target = posterior.target(bridgestan=bridgestan)
    names = names_to_keep(target, posterior.dimensions)
    failed: list[str] = []
    for attempt in _attempts(target, names, seed, max_budget):
        report(attempt)
        if attempt.accepted:
            info = _info(attempt, seed)
            accepts = in_support(target, names)
            reference = posterior.reference_name or posterior.name
            path = write_reference(layer, reference, names, attempt.draws, info, accepts=accepts)
            if posterior.reference_name is None:
                _name_reference(posterior, layer)
            return path
        failed = [rule for rule, passed in attempt.checks.items() if not passed]
    raise NotAccepted(
        f"{posterior.name}: no run of up to {max_budget:,} gradients per chain passed the acceptance "
        f"rules; the last one failed {', '.join(failed)}. Reparameterize the model, or allow more with "
        "--max-budget"
    )


def _name_reference(posterior: Posterior, layer: Path) -> None:
    description = read_object(posterior.found.path) | {"reference_posterior_name": posterior.name}
    path = layer / "posteriors" / f"{posterior.name}.json"
    write_atomically(path, (json.dumps(description, indent=2, ensure_ascii=False) + "\n").encode())


def _attempts(target: Target, names: tuple[str, ...], seed: int, max_budget: int) -> Iterator[Attempt]:
    budget, acceptances = min(FIRST_BUDGET, max_budget), list(TARGET_ACCEPTANCES)
    while budget <= max_budget and acceptances:
        sampler = NUTS(adaptation=WindowedAdaptation(target_acceptance=acceptances[0]))
        run = sampler.run(jax.random.key(seed), target, Budget(budget), chains=CHAINS)
        attempt = _judge(run, names, acceptances[0], budget)
        yield attempt
        if not attempt.checks["no_divergent_transitions"]:
            acceptances.pop(0)
        else:
            budget *= 2


def _judge(run: Run, names: tuple[str, ...], target_acceptance: float, budget: int) -> Attempt:
    columns = [run.target.param_names.index(name) for name in names]
    thin = max(1, run.draws.shape[1] // DRAWS_PER_CHAIN)
    thinned = run.draws[:, ::-thin][:, :DRAWS_PER_CHAIN][:, ::-1]  # the last ones
    draws = run.target.constrain(thinned)[:, :, columns]
    # Divergences are counted over all transitions, those left out by thinning too.
    result = acceptance_checks(draws, names, np.asarray(run.info.divergent))
    return Attempt(target_acceptance, budget, thin, result["checks_made"], result["diagnostics"], draws)


def _info(attempt: Attempt, seed: int) -> dict[str, Any]:
    """As in posteriordb's ``reference_posteriors/draws/info``."""
    return {
        "inference": {
            "method": "essper: blackjax NUTS, metric by Fisher divergence in overlapping windows",
            "method_arguments": {
                "chains": CHAINS,
                "gradients_per_chain": attempt.budget,
                "thin": attempt.thin,
                "seed": seed,
                "target_acceptance": attempt.target_acceptance,
            },
        },
        "diagnostics": attempt.diagnostics,
        "checks_made": attempt.checks,
        "comments": None,
        "added_by": "essper",
        "added_date": surroundings()["created"][:10],
        "versions": surroundings()["versions"],
    }
