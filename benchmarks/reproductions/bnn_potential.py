"""A Bayesian neural network on a potential's energies: SG-MCMC, a deep ensemble and NUTS.

What the literature says of Bayesian neural networks (mostly of image classifiers) is held against a
network so small that NUTS can sample its posterior: whether many chains cover what one does not, whether a
cold posterior predicts better, and what a deep ensemble's spread is worth outside of the training domain.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax import Array

from ...models.neural_potential import DOMAIN
from ...models.target import Target
from ...samplers import NUTS, Budget, WindowedAdaptation
from ...samplers.mode_search import Started
from ...samplers.sghmc import SGHMC
from ...samplers.sgld import SGLD
from ...samplers.stochastic import Gradients, Problem, Schedule
from ...samplers.stochastic.problem import problem_of
from ...samplers.stochastic.start import mode_start
from .bnn_potential_claims import (
    COLD,
    ENSEMBLE,
    INTEGRATORS,
    REFERENCE,
    REFERENCE_COST,
    counted,
    mean_estimate,
    named,
    rows_of,
)
from .bnn_potential_figure import potential_figure
from .ensemble import Stopped
from .framework import Outcome, Reproduction
from .laboratory import Compute, Laboratory, Measurement, sampler_setting
from .predictive import LEVELS, REGIONS, Study, prediction

SGMCMC = dict(zip(INTEGRATORS, (SGLD, SGHMC), strict=True))
WARMUP = 500
"""Steps that NUTS adapts in, at most half of its budget."""


@dataclass(frozen=True)
class PotentialPlan:
    """The size of the reproduction."""

    chains: int = 5
    """Also the members of the ensemble: as many as both Lakshminarayanan et al. and Izmailov et al. have."""
    gradients: int = 20_000
    """For each of the chains; one chain alone may spend those of all."""
    batch: int = 8
    inflation: float = 0.5
    """What SG-MCMC's step size allows in the stiffest direction; see `Schedule`."""
    seeds: int = 8
    study: Study = field(default_factory=Study)


@dataclass(frozen=True)
class Method:
    """A sampler with its number of chains and what they may spend together; the ensemble has none."""

    name: str
    sampler: Any
    chains: int
    gradients: int
    """Of a chain."""


def methods(plan: PotentialPlan) -> tuple[Method, ...]:
    """All of them; one chain alone spends what the several do together."""
    gradients = Gradients(batch=plan.batch)
    schedule = Schedule(inflation=plan.inflation, draws=500)
    samplers: dict[str, Any] = {
        named(name, temperature): sampler(gradients=gradients, schedule=schedule, temperature=temperature)
        for name, sampler in SGMCMC.items()
        for temperature in (1.0, COLD)
    }
    samplers["NUTS"] = NUTS(adaptation=WindowedAdaptation(num_warmup=WARMUP))
    several, total = plan.chains, plan.chains * plan.gradients
    found = [
        Method(counted(name, chains), sampler, chains, total // chains)
        for name, sampler in samplers.items()
        for chains in (several, 1)
    ]
    found.append(Method(REFERENCE, samplers["NUTS"], several, REFERENCE_COST * plan.gradients))
    found.append(Method(ENSEMBLE, None, several, 0))
    return tuple(found)


# -- measuring ------------------------------------------------------------------------------------


def measurement(method: Method, plan: PotentialPlan, seed: int) -> Measurement:
    """One method on one replicate."""
    setting = {
        "method": method.name,
        "sampler": None if method.sampler is None else sampler_setting(method.sampler),
        "warmup": WARMUP,
        "chains": method.chains,
        "gradients": method.gradients,
        "study": dataclasses.asdict(plan.study),
    }
    return Measurement(f"{method.name}, seed {seed}", setting, seed, _compute(method, plan.study, seed))


def _compute(method: Method, study: Study, seed: int) -> Compute:
    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        simulated = study.simulate(seed)
        if method.sampler is None:
            modes, spent, converged = ensemble_members(simulated.target, key, method.chains)
            found = {"gradients": spent, "not_converged": method.chains - converged}
            return {**found, **prediction(study, simulated, modes[:, None])}

        def progress(phase: str, gradients: int, draws: int) -> None:
            if stop.is_set():
                raise Stopped

        run = method.sampler.run(
            key, simulated.target, Budget(method.gradients), chains=method.chains, progress=progress
        )
        spent = run.equivalents(run.warmup) + run.equivalents(run.sampling)
        return {
            "gradients": float(spent.sum()),
            "step_size": float(run.tuning["step_size"]),
            "divergent": int(np.sum(run.info.divergent)),
            "warnings": list(run.warnings),
            **prediction(study, simulated, run.draws),
        }

    return compute


def ensemble_members(target: Target, key: Array, members: int) -> tuple[np.ndarray, float, int]:
    """Modes by L-BFGS from as many random points.

    Returns
    -------
    positions : ``f[member, dim]``
    gradients : that all searches have spent
    converged : how many of them ended at a mode
    """
    keys = jax.random.split(key, members)
    found = _modes(problem_of(target, 1.0), keys, target.dim)
    return np.asarray(found.position), float(np.sum(found.gradients)), int(np.sum(found.found))


@jax.jit(static_argnums=2)
def _modes(problem: Problem, keys: Array, dim: int) -> Started:
    return jax.lax.map(lambda key: mode_start(problem, key, dim), keys)


# -- the outcome ----------------------------------------------------------------------------------


def run(plan: PotentialPlan, laboratory: Laboratory) -> Outcome:
    """All methods on all replicates, the claims, and what each method comes to."""
    fields, seeds = methods(plan), range(plan.seeds)
    wanted = [measurement(method, plan, seed) for seed in seeds for method in fields]
    results = laboratory.measure("networks", wanted)
    found = {method.name: results[i :: len(fields)] for i, method in enumerate(fields)}
    study = plan.study
    low, high = DOMAIN
    notes = (
        f"{study.energies} energies of a Morse potential at x from {low:g} to {high:g}, noise {study.noise:g}"
        f" of the well's depth, known; network 1–{'–'.join(map(str, study.hidden))}–1 with tanh units,"
        f" {study.network.dim} parameters. Held out: {study.held_out} energies with the same noise inside, as"
        f" many outside, half from {study.left:g} to {low:g}, half from {high:g} to {study.right:g}.",
        f"{plan.seeds} replicates, each with new energies and new chains. Coverage is that of held-out"
        " energies by central intervals of the mixture of N(f, σ²) over the draws of all chains; RMSE is that"
        " of its mean against the curve. Differences and ratios are taken within replicates; intervals are"
        " Student's t.",
        f"SG-MCMC: minibatches of {plan.batch}, chains from modes by L-BFGS, h by the rule of"
        f" {plan.inflation:g} inflation at the largest curvature. Gradients are of all {study.energies}"
        " energies, or as many of single ones, starts and warmup included, over all chains.",
        "The deep ensemble's members are such modes; its sd of the curve says how far they differ as curves."
        " Where that is far below the posterior's, the basins of the chains are one in functions, however far"
        " apart in weights, and there is little that several could cover and one could not.",
        *(_summary(name, results) for name, results in found.items()),
    )
    return Outcome(rows_of(found, plan.chains, plan.gradients), potential_figure(study, found), notes)


def _summary(name: str, results: Sequence[Mapping[str, Any]]) -> str:
    """What a method comes to, its intervals over replicates."""
    parts = [f"{np.mean([one['gradients'] for one in results]):,.0f} gradients"]
    for region in REGIONS:
        figures = [
            ("RMSE", "rmse"),
            *((f"{100 * level:.0f} % coverage", f"coverage_{100 * level:.0f}") for level in LEVELS),
            ("log density", "log_density"),
            ("sd of the curve", "spread"),
        ]
        shown = [f"{title} {_shown(one[region][key] for one in results)}" for title, key in figures]
        between = [one[region]["between"] for one in results]
        if None not in between:
            shown.append(f"sd between chains over within {_shown(between)}")
        parts.append(f"{region}: {', '.join(shown)}")
    if rhats := [one["rhat_weights"] for one in results if one["rhat_weights"] is not None]:
        parts.append(f"median R-hat of weights {np.mean(rhats):.2f}")
    if missed := sum(one.get("not_converged", 0) for one in results):
        parts.append(f"{missed} searches ended before a mode")
    if divergent := sum(one.get("divergent", 0) for one in results):
        parts.append(f"{divergent} divergent draws")
    told = Counter(warning for one in results for warning in one.get("warnings", ()))
    parts += [f"{count} of {len(results)} runs: {warning}" for warning, count in told.items()]
    return f"{name}. {'; '.join(parts)}."


def _shown(values: Iterable[float]) -> str:
    one = mean_estimate(values)
    return f"{one.value:.3g}" if one.low is None else f"{one.value:.3g} ({one.low:.3g} – {one.high:.3g})"


BNN_POTENTIAL = Reproduction(
    name="bnn-potential",
    title="Bayesian neural network on a potential curve: chains, temperatures and ensembles against NUTS",
    sources=(
        "Izmailov, Vikram, Hoffman & Wilson (2021), What are Bayesian neural network posteriors really like?,"
        " ICML; arXiv 2104.14421",
        "Wilson & Izmailov (2020), Bayesian deep learning and a probabilistic perspective of generalization,"
        " NeurIPS; arXiv 2002.08791",
        "Wenzel et al. (2020), How good is the Bayes posterior in deep neural networks really?, ICML; arXiv"
        " 2002.02405",
        "Lakshminarayanan, Pritzel & Blundell (2017), Simple and scalable predictive uncertainty estimation"
        " using deep ensembles, NeurIPS; arXiv 1612.01474",
    ),
    default=PotentialPlan(),
    full=PotentialPlan(gradients=100_000, seeds=16),
    run=run,
)
