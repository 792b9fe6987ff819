"""How a Bayesian network's draws predict: errors, coverage, spread within chains and between them.

The predictive distribution of an energy is the mixture, over all draws of all chains, of N(f_θ(x), σ²).
Held-out energies have noise too, so that coverage of its central intervals includes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import special

from ...models.neural_potential import (
    DOMAIN,
    Energies,
    Network,
    morse,
    neural_potential,
    simulated_energies,
)
from ...models.target import Target
from ..metrics import efficiency

LEVELS = (0.5, 0.9)
"""Of the central intervals."""
QUANTILES = np.arange(0.025, 1.0, 0.05)
"""Of the curve's distribution, that distances and bands are made from: the middles of twentieths."""
DRAWS = 500
"""Of a chain that predictions are made from, at most."""
REGIONS = ("inside", "outside")


class Simulated(NamedTuple):
    """One replicate: what is fitted, and what is held out where."""

    target: Target
    held_out: dict[str, Energies]
    """By region, x ascending."""


@dataclass(frozen=True)
class Study:
    """What is simulated.

    Parameters
    ----------
    hidden : units of the network's hidden layers
    energies : known, equally spaced in `DOMAIN`
    noise : σ, in units of the well's depth
    held_out : energies in each region, half of those outside on either side
    left, right : where the outside ends
    """

    hidden: tuple[int, ...] = (32,)
    energies: int = 32
    noise: float = 0.1
    held_out: int = 100
    left: float = -0.85
    right: float = 3.5

    @property
    def network(self) -> Network:
        return Network(tuple(self.hidden))

    def simulate(self, replicate: int) -> Simulated:
        """New noise for every replicate, and held-out energies at the same x."""
        rng, half = np.random.default_rng([20, replicate]), self.held_out // 2
        low, high = DOMAIN
        known = simulated_energies(rng, np.linspace(low, high, self.energies), self.noise)
        outside = np.concatenate([middles(self.left, low, half), middles(high, self.right, half)])
        places = {"inside": middles(low, high, self.held_out), "outside": outside}
        held_out = {name: simulated_energies(rng, x, self.noise) for name, x in places.items()}
        return Simulated(neural_potential(known, self.noise, self.network), held_out)


def middles(low: float, high: float, count: int) -> np.ndarray:
    """The middles of ``count`` equal parts of (low, high): ``f[count]``."""
    return low + (high - low) * (np.arange(count) + 0.5) / count


def curves(network: Network, draws: np.ndarray, x: np.ndarray) -> np.ndarray:
    """f_θ(x), ``f[chain, draw, x]``."""
    return np.asarray(_curves(network, jnp.asarray(draws), jnp.asarray(x)))


@jax.jit(static_argnums=0)
def _curves(network: Network, draws: Array, x: Array) -> Array:
    return jax.vmap(jax.vmap(lambda theta: network(theta, x)))(draws)


def prediction(study: Study, simulated: Simulated, draws: np.ndarray) -> dict[str, Any]:
    """Everything measured of ``draws: f[chain, draw, dim]``, as JSON has it; by region."""
    kept = draws[:, np.unique(np.linspace(0, draws.shape[1] - 1, DRAWS).round().astype(int))]
    found: dict[str, Any] = {
        "rhat_weights": _median_rhat(kept),
        "draws": int(draws.shape[1]),
    }
    for region, held_out in simulated.held_out.items():
        values = curves(study.network, kept, held_out.x)
        found[region] = {
            **scores(values, held_out, study.noise),
            "between": between_chains(values),
            "rhat": _median_rhat(values[:, :, :: max(1, values.shape[2] // 20)]),
            "quantiles": _quantiles(values),
        }
    return found


def scores(values: np.ndarray, held_out: Energies, noise: float) -> dict[str, float]:
    """Of the mixture of all draws ``values: f[chain, draw, x]``.

    ``rmse``: of the mean against the curve; ``coverage_50``, ``coverage_90``: of held-out energies;
    ``log_density``: the mean log predictive density of them; ``spread``: the root mean square over x of the
    curve's standard deviation.
    """
    mixture = values.reshape(-1, values.shape[2])
    z = (held_out.energy - mixture) / noise
    tail = special.ndtr(z).mean(axis=0)
    log_densities = special.logsumexp(-0.5 * z**2, axis=0) - np.log(len(z) * noise * np.sqrt(2 * np.pi))
    error = mixture.mean(axis=0) - morse(held_out.x)
    covered = {f"coverage_{100 * p:.0f}": np.mean(np.abs(tail - 0.5) <= p / 2) for p in LEVELS}
    measured = {
        "rmse": np.sqrt(np.mean(error**2)),
        **covered,
        "log_density": np.mean(log_densities),
        "spread": np.sqrt(np.mean(mixture.var(axis=0))),
    }
    return {name: float(value) for name, value in measured.items()}


def between_chains(values: np.ndarray) -> float | None:
    """The standard deviation of chains' means over that within chains, the median over x.

    ``f[chain, draw, x]``; None of one chain, or where nothing varies within chains: a draw each.
    """
    within = np.sqrt(values.var(axis=1).mean(axis=0))
    if len(values) < 2 or not np.all(within > 0):
        return None
    return float(np.median(values.mean(axis=1).std(axis=0, ddof=1) / within))


def _quantiles(values: np.ndarray) -> list[list[float]]:
    """The curve's `QUANTILES`, ``[level][x]``; in digits that files can hold for all replicates."""
    return np.quantile(values.reshape(-1, values.shape[2]), QUANTILES, axis=0).round(6).tolist()


def _median_rhat(draws: np.ndarray) -> float | None:
    """The rank R-hat of a typical coordinate of ``f[chain, draw, coordinate]``; None where it has none."""
    rhat = efficiency(draws).rhat
    return float(np.median(rhat)) if np.all(np.isfinite(rhat)) else None


def distance(one: Mapping[str, Any], other: Mapping[str, Any], region: str) -> float:
    """The Wasserstein-1 distance of the curve's distributions at an x, the mean over the region.

    From their `QUANTILES`: the mean absolute difference.
    """
    a, b = (np.asarray(found[region]["quantiles"]) for found in (one, other))
    return float(np.mean(np.abs(a - b)))
