"""Federated SGLD on a regression whose rows are sorted into shards, against reference draws."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from ...models.target import Target
from ...posteriordb_adapter import PosteriorDatabase
from ...samplers.stochastic import Gradients
from ..distances import halves, wasserstein_distances
from ..estimates import Estimate, estimate, ratio
from ..records import Reference, reference_of
from .federated_runs import PAPER, SAMPLERS, SHARDS, FederatedPlan, by_setting, spending
from .framework import NOT_REPRODUCED, AtMost, Below, Claim, Row
from .laboratory import Laboratory, Measurement, sampler_setting
from .stochastic_runs import mean_estimate, stoppable_run

POSTERIOR = "simulated_regression-blr"
"""Well conditioned, so that a short chain's error is its bias and not its Monte Carlo error."""
COVARIATE, OUTCOME = "the first covariate", "the outcome"
"""What rows are sorted by into shards."""
REAL_BATCH = 5
FAR = 100.0
"""A chain that is once so many standard deviations of the reference from its mean has run away."""


class Regression(NamedTuple):
    """A posterior with reference draws whose rows are sorted into shards."""

    target: Target
    reference: Reference
    members: dict[str, tuple[tuple[int, ...], ...]]
    """By what they are sorted by."""


@functools.cache
def regression() -> Regression:
    """Rows go to shards in order, so that no two shards are alike."""
    posterior = PosteriorDatabase().posterior(POSTERIOR)
    target = posterior.target("jax", rows="N")
    reference = reference_of(posterior, target.param_names)
    assert reference is not None
    data = json.loads(posterior.data_text())
    keys = {COVARIATE: np.asarray(data["X"])[:, 0], OUTCOME: np.asarray(data["y"])}
    orders = {name: np.array_split(np.argsort(key, kind="stable"), SHARDS) for name, key in keys.items()}
    members = {name: tuple(tuple(map(int, shard)) for shard in order) for name, order in orders.items()}
    return Regression(target, reference, members)


class RealSetting(NamedTuple):
    name: str
    local_steps: int
    order: str


def real_measurement(setting: RealSetting, *, chains: int, gradients: int, seed: int) -> Measurement:
    """The mean Wasserstein-1 distance of the marginals to the reference's, in its standard deviations.

    None where a draw is not finite.
    """
    here = regression()
    sampler = SAMPLERS[setting.name](
        Gradients(REAL_BATCH), members=here.members[setting.order], local_steps=setting.local_steps
    )

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        run = stoppable_run(sampler, key, here.target, gradients, chains, stop)
        with np.errstate(over="ignore"):  # chains that run away
            draws = run.constrained()[:, :, here.reference.columns]
        reference = here.reference.draws
        near = np.abs(draws - reference.mean(axis=(0, 1))) <= FAR * reference.std(axis=(0, 1))
        found = {"ran_away": float(np.sum(~near.all(axis=(1, 2)))), **spending(run)}
        if not np.all(np.isfinite(draws)):
            return {"distance": None, "widest": None, **found}
        distance = wasserstein_distances(draws, reference, reference).marginal
        deviations = draws.std(axis=(0, 1)) / reference.std(axis=(0, 1))
        return {"distance": float(distance.mean()), "widest": float(deviations.max()), **found}

    content = {
        "target": here.target.digest,
        "reference": here.reference.digest,
        "chains": chains,
        "gradients": gradients,
        "sampler": sampler_setting(sampler),
    }
    label = f"{setting.name}, T = {setting.local_steps}, {POSTERIOR} by {setting.order}"
    return Measurement(label, content, seed, compute)


def real_rows(plan: FederatedPlan, laboratory: Laboratory) -> tuple[list[Row], str]:
    """The error of both at equal cost, the rounds it took, and whether chains stay where the posterior is."""
    longest = RealSetting("FSGLD", max(plan.real_local_steps), OUTCOME)
    settings = [RealSetting(name, steps, COVARIATE) for name in SAMPLERS for steps in plan.real_local_steps]
    size = {"chains": plan.real_chains, "gradients": plan.real_gradients}
    wanted = [
        real_measurement(setting, seed=seed, **size)
        for setting in (*settings, longest)
        for seed in range(plan.seeds)
    ]
    measured = by_setting((*settings, longest), laboratory.measure(POSTERIOR, wanted), plan.seeds)
    errors = {setting: _error(measured[setting]) for setting in settings}
    where = f"m = {REAL_BATCH}, {plan.real_chains} chains × {plan.real_gradients} gradients"
    rows = []
    for steps in plan.real_local_steps:
        ours, theirs = (RealSetting(name, steps, COVARIATE) for name in ("FSGLD", "DSGLD"))
        claim = Claim(
            f"T = {steps}: error of FSGLD over that of DSGLD (mean W₁ of the marginals)",
            PAPER,
            f"{POSTERIOR}, {SHARDS} shards by {COVARIATE}, {where}",
            "FSGLD outperforms DSGLD on non-IID shards",
            Below(1.0),
        )
        note = "; ".join(f"{s.name} {_said(errors[s].value, measured[s])}" for s in (ours, theirs))
        # A sampler whose chains leave for infinity has not outperformed anything.
        decided = NOT_REPRODUCED if errors[ours].value is None else None
        rows.append(Row(claim, ratio(errors[ours], errors[theirs]), note, decided=decided))
    claim = Claim(
        f"FSGLD, T = {longest.local_steps}: share of the chains that run away",
        PAPER,
        f"{POSTERIOR}, {SHARDS} shards by {OUTCOME}, {where}",
        "0: it converges with delayed communication",
        AtMost(0.0),
    )
    share = mean_estimate(r["ran_away"] / plan.real_chains for r in measured[longest])
    rows.append(Row(claim, replace(share, low=None if share.low is None else max(0.0, share.low))))
    draws = regression().reference.draws
    floor = wasserstein_distances(*halves(draws), draws).marginal.mean()
    note = (
        f"{POSTERIOR}: h by the rule (variance inflation of minibatches 0.1 in the stiffest direction), the"
        f" same for both. W₁ in standard deviations of the reference; its two halves are {floor:.3g} apart. A"
        f" chain has run away when it is ever {FAR:g} of them from the mean: a conducive gradient grows with"
        " the distance as a Gaussian's does, and the likelihood of a scale does not make up for it."
    )
    return rows, note


def _error(results: Sequence[Mapping[str, Any]]) -> Estimate:
    """Undefined where it is so in any seed: the others alone would be too good."""
    distances = [r["distance"] for r in results]
    return Estimate() if None in distances else estimate(distances)


def _said(error: float | None, results: Sequence[Mapping[str, float]]) -> str:
    rounds = float(np.mean([r["rounds"] for r in results]))
    ran_away, stayed = (sum(r[name] for r in results) for name in ("ran_away", "not_taken"))
    text = f"{rounds:,.0f} rounds"
    if error is not None:
        widest = float(np.mean([r["widest"] for r in results]))
        text = f"{error:.3g} sd, widest marginal {widest:.3g} × its sd, {text}"
    text += f", {ran_away:.0f} chains ran away" if ran_away else ""
    return text + (f", {stayed:,.0f} steps not taken" if stayed else "")
