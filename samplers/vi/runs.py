"""A run of a variational method: fits, then draws of what was fitted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...models.target import Target
from ..base import Budget, Cost, Info, Progress, Run, Timing, chain_keys
from ..timing import Clock, worker_threads
from .fits import Fit, VariationalSampler, fit
from .fitting import programs_for

CHUNK = 250
"""Draws that are made together."""


def run_variational(
    sampler: VariationalSampler,
    key: Array,
    target: Target,
    budget: Budget,
    *,
    chains: int = 4,
    progress: Progress | None = None,
) -> Run:
    """Fit, every chain from a start of its own, and draw from what was fitted.

    Fits are the warmup. Draws are independent; they cost no gradient but an evaluation of the density each:
    ``info.extra["log_weight"]``, log p − log q, is what importance sampling and its diagnostics need.

    Parameters
    ----------
    budget : gradients per chain; fits that converge leave some of it

    Raises
    ------
    ValueError
        As `fits.fit`.
    """
    before = target.counter.read() if target.counter else None
    clock = Clock()
    fits = fit(sampler, key, target, budget, chains=chains, clock=clock, progress=progress)
    fitted = clock.lap()
    count = sampler.fitting.draws
    keys = [jax.random.fold_in(own, 2) for own in chain_keys(key, chains)]
    with ThreadPoolExecutor(min(chains, worker_threads())) as pool:
        drawn = list(pool.map(lambda f, k: draws_of(sampler, f, k, count, clock), fits, keys))
    draws, log_weight = (np.stack(parts) for parts in zip(*drawn, strict=True))
    zeros = np.zeros((chains, count), np.int64)
    each = Cost(*(zeros for _ in Cost._fields))._replace(densities=zeros + 1)
    nothing = jnp.full(zeros.shape, jnp.nan), jnp.zeros(zeros.shape, bool)
    return Run(
        target=target,
        sampler=sampler,
        draws=draws,
        info=Info(each, *nothing, {"log_weight": jnp.asarray(log_weight)}),
        warmup=Cost(*(np.array(leaf, np.int64) for leaf in zip(*(f.cost for f in fits), strict=True))),
        sampling=Cost(*(np.sum(leaf, axis=1) for leaf in each)),
        executed=target.counter.read().since(before) if before and target.counter else None,
        timing=Timing(clock.compile_seconds, fitted, clock.lap()),
        layout="independent",
        tuning=_tuning(sampler, fits, log_weight),
        warnings=_warnings(sampler, fits, log_weight),
    )


def draws_of(
    sampler: VariationalSampler, fit: Fit, key: Array, count: int, clock: Clock | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draws of a fit on the target's space and log p − log q there, ``f[count, dim], f[count]``.

    Each costs an evaluation of the density.
    """
    draw, clock = programs_for(sampler.family, sampler.fitting).draw, clock or Clock()
    keys = jax.random.split(key, count)
    parts = [draw(clock, fit.problem, fit.params, keys[i : i + CHUNK]) for i in range(0, count, CHUNK)]
    draws, weights = (np.concatenate([np.asarray(x) for x in leaf]) for leaf in zip(*parts, strict=True))
    return draws, weights


def _tuning(
    sampler: VariationalSampler, fits: tuple[Fit, ...], log_weight: np.ndarray
) -> dict[str, np.ndarray]:
    """By chain: the chosen ``learning_rate``, ``grid_elbo`` and ``steps`` of all ``learning_rates``, whether
    the fit has ``converged``, and its ``elbo`` from its draws with the Monte Carlo ``elbo_error``."""
    with np.errstate(invalid="ignore"):  # −inf where the density is 0
        spread = log_weight.std(axis=1, ddof=1) if log_weight.shape[1] > 1 else np.full(len(fits), np.nan)
    return {
        "learning_rate": np.array([f.learning_rate for f in fits]),
        "learning_rates": np.array(sampler.fitting.learning_rates),
        "grid_elbo": np.array([f.grid_elbo for f in fits]),
        "steps": np.array([f.steps for f in fits]),
        "converged": np.array([f.converged for f in fits]),
        "elbo": log_weight.mean(axis=1),
        "elbo_error": spread / np.sqrt(log_weight.shape[1]),
    }


def _warnings(sampler: VariationalSampler, fits: tuple[Fit, ...], log_weight: np.ndarray) -> tuple[str, ...]:
    found = []
    if unfinished := sum(not f.converged for f in fits):
        found.append(f"{unfinished} of {len(fits)} fits had not converged when the budget was spent")
    if failed := sum(f.failed for f in fits):
        total = sampler.fitting.samples * sum(int(f.steps.sum()) for f in fits)
        found.append(
            f"{failed} of {total} draws of q had density 0 or failed, and were left out of gradients"
        )
    if outside := int(np.sum(~np.isfinite(log_weight))):
        found.append(f"{outside} draws lie where the density is 0: their weight is 0, and the ELBO −∞")
    return tuple(found)
