"""Stationary runs of the Gibbs sampler's kernel, and autocorrelations from many independent chains."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...models.target import Target
from ...samplers.adaptation import Tuning
from ...samplers.base import chain_keys
from ...samplers.gibbs import Gibbs
from ...samplers.metrics import make_metric
from .ensemble import Stopped

CHUNKS = 8
"""Calls of the compiled loop in a run; between them it can be stopped."""

type Observe = Callable[[Array], Array]
"""``f[dim] -> f[statistic]``: a function that is kept, since programs are."""
type Result = Mapping[str, Any]
"""Of one seed: ``mean`` and standard ``error`` of every figure, over its chains."""


def trace(
    sampler: Gibbs,
    target: Target,
    key: Array,
    starts: Array,
    observe: Observe,
    sweeps: int,
    stop: threading.Event,
) -> np.ndarray:
    """What is observed after every sweep of the sampler's own kernel: ``f[chain, sweep, statistic]``.

    Parameters
    ----------
    starts : ``f[chain, dim]``
    sweeps : at least so many; `CHUNKS` divides their number

    Raises
    ------
    Stopped
        When ``stop`` is set.
    """
    start, go = _programs(sampler, target, observe)
    keys, length = chain_keys(key, len(starts)), -(-sweeps // CHUNKS)
    states, seen = start(keys, starts), []
    for chunk in range(CHUNKS):
        if stop.is_set():
            raise Stopped
        states, values = go(keys, states, chunk * length, length)
        seen.append(np.asarray(values))
    return np.swapaxes(np.concatenate(seen), 0, 1)


@functools.lru_cache(maxsize=64)
def _programs(sampler: Gibbs, target: Target, observe: Observe) -> tuple[Callable, Callable]:
    unused = Tuning(jnp.ones(()), make_metric(jnp.ones(target.dim)))  # exact updates have nothing to tune
    kernel = sampler.bound(target).kernel(target.density, unused)
    fold = jax.vmap(jax.random.fold_in, (0, None))

    @jax.jit
    def start(keys: Array, points: Array) -> Any:
        return jax.vmap(kernel.init)(fold(keys, 0), points)[0]

    @functools.partial(jax.jit, static_argnums=3)
    def go(keys: Array, states: Any, first: Array, sweeps: int) -> tuple[Any, Array]:
        def sweep(states: Any, i: Array) -> tuple[Any, Array]:
            states, _ = jax.vmap(kernel.step)(fold(keys, 1 + i), states)
            return states, jax.vmap(lambda state: observe(kernel.position(state)))(states)

        return jax.lax.scan(sweep, states, first + jnp.arange(sweeps))

    return start, go


def known_autocorrelations(values: np.ndarray, lags: int) -> np.ndarray:
    """Of ``f[chain, draw]`` with mean 0 and variance 1, from lag 0 on: ``f[chain, lags + 1]``, unbiased."""
    return _products(values, lags)


def pooled_autocorrelations(values: np.ndarray, lags: int) -> np.ndarray:
    """The same where mean and variance are those of all draws of all chains.

    A chain's figures are such that their mean is the ratio of the pooled covariance to the pooled variance,
    and their spread its error, to first order.
    """
    products = _products(values - values.mean(), lags)
    variance = products[:, 0].mean()
    pooled = products.mean(axis=0) / variance
    return products / variance - pooled * (products[:, :1] / variance - 1)


def _products(values: np.ndarray, lags: int) -> np.ndarray:
    length = values.shape[1]
    if length <= lags:
        raise ValueError(f"{length} draws have no autocorrelation at lag {lags}: give more sweeps")
    means = [np.mean(values[:, : length - k] * values[:, k:], axis=1) for k in range(lags + 1)]
    return np.stack(means, axis=1)


def jump_correlation(values: np.ndarray, lag: int) -> np.ndarray:
    """1 − E(x_{t+lag} − x_t)²/2 of ``f[chain, draw]`` with variance 1: ``f[chain]``.

    The autocorrelation, unbiased in stationarity as products are, and with far less noise where it is near 1.
    """
    return 1 - 0.5 * np.mean((values[:, lag:] - values[:, :-lag]) ** 2, axis=1)


def summary(by_chain: np.ndarray) -> dict[str, list[float]]:
    """Means and their standard errors over chains of ``f[chain, figure]``, in JSON's terms."""
    error = by_chain.std(axis=0, ddof=1) / np.sqrt(len(by_chain))
    return {"mean": by_chain.mean(axis=0).tolist(), "error": error.tolist()}


def times(by_chain: np.ndarray) -> np.ndarray:
    """Integrated autocorrelation times of ``f[chain, lag]``, all lags from 0 on: ``f[chain]``."""
    return 1 + 2 * by_chain[:, 1:].sum(axis=1)


def z_score(results: Sequence[Result], place: int, predicted: float) -> float:
    """What was measured less what is predicted, over all seeds, in standard errors of the chains."""
    mean = np.mean([result["mean"][place] for result in results])
    error = np.sqrt(np.sum([result["error"][place] ** 2 for result in results])) / len(results)
    return float((mean - predicted) / error)


def by_seed(results: Iterable[Result], place: int) -> list[float]:
    """One figure of all seeds."""
    return [result["mean"][place] for result in results]
