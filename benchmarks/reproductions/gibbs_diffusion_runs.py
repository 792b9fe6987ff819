"""Gibbs diffusion on many data sets at once: denoisers that are right, and some that are made wrong.

The wrong ones are the errors that a blind denoiser is prone to, each alone, on top of the exact denoiser: a
noise level that does not follow the chain, one that is rounded to a table, an image that is rescaled by
another noise level than the current one. They are nothing that a sampler should offer, so they are made here.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.stats import logistic

from ...models.gaussian_field import GaussianField, Simulation
from ...samplers.diffusion import ConditionalMean, Denoiser, ExactMean, ReverseDiffusion, WienerDenoiser
from ...samplers.gibbs_diffusion import GibbsDiffusion
from . import gibbs_diffusion_grid as grid
from .ensemble import Stopped
from .gibbs_diffusion_calibration import autocorrelation_time, ranks_of
from .gibbs_diffusion_network import Trained
from .laboratory import Measurement

FIELD = GaussianField()
FINE, COARSE = 10, 4
"""Steps of the reverse diffusion."""
CHUNK = 10
"""Kept draws per call of a compiled program; between calls a run can be stopped."""
MASSES = {"coverage_50": 0.5, "coverage_90": 0.9}
"""Of the central intervals of pixels, by name."""
PIXEL = 0, 0
"""Whose value is ranked too."""
QUANTITIES = ("phi", "sigma", "log_likelihood", "pixel")
"""What is ranked."""

type Variant = Literal[
    "exact",
    "fine",
    "coarse",
    "network",
    "told the true σ",
    "y rescaled by the first σ",
    "rounded to 1000 times",
    "rounded to 100 times",
]


@dataclass(frozen=True)
class Length:
    """Of a chain, in sweeps."""

    warmup: int = 400
    thin: int = 20
    """Sweeps per draw that is ranked."""
    draws: int = 79
    """Ranked: one less than a multiple of `CHUNK`, of `calibration.BINS`, and for the intervals."""

    def __post_init__(self) -> None:
        if (self.draws + 1) % CHUNK:
            raise ValueError(f"draws={self.draws}: give one less than a multiple of {CHUNK}")


class Observed(NamedTuple):
    """Of a number of draws, leaves ``[draw, …]``."""

    parameters: Array
    """φ and σ after every sweep, ``f[draw, thin, 2]``"""
    log_likelihood: Array
    """log p(y | φ, σ), of the last sweep"""
    x: Array
    """Of the last sweep, ``f[draw, side, side]``"""
    sum_x: Array
    """Over all sweeps, ``f[draw, side, side]``"""


# -- denoisers that are wrong ----------------------------------------------------------------------------

type Change = Callable[[Array], tuple[Array, Array]]
"""``σ -> (factor, level)``: the denoiser is given factor · y, and this noise level in place of σ."""


@dataclass(frozen=True)
class Altered:
    """A denoiser that is not told the truth about y and σ."""

    denoiser: Denoiser
    change: Change

    @property
    def evaluations(self) -> int:
        return self.denoiser.evaluations

    def draw(self, key: Array, y: Array, phi: Array, sigma: Array) -> Array:
        factor, level = self.change(sigma)
        return self.denoiser.draw(key, factor * y, phi, level)


def changes(true: Array, first: Array) -> dict[Variant, Change]:
    """By name; the first is none.

    Where y is rescaled by the first σ of the chain, the reverse process starts at the right time t, but from
    √ᾱ(t₀) y in place of √ᾱ(t) y, ᾱ = 1/(1 + σ²): as if y were √(ᾱ(t₀)/ᾱ(t)) times what it is.
    """

    def unchanged(sigma: Array) -> tuple[Array, Array]:
        return jnp.ones(()), sigma

    def told(sigma: Array) -> tuple[Array, Array]:
        return jnp.ones(()), true

    def rescaled(sigma: Array) -> tuple[Array, Array]:
        return jnp.sqrt((1 + sigma**2) / (1 + first**2)), sigma

    def rounded(steps: int) -> Change:
        levels = jnp.asarray(table_levels(steps))
        return lambda sigma: (jnp.ones(()), levels[jnp.argmin(jnp.abs(levels - sigma))])

    return {
        "exact": unchanged,
        "told the true σ": told,
        "y rescaled by the first σ": rescaled,
        "rounded to 1000 times": rounded(1000),
        "rounded to 100 times": rounded(100),
    }


@functools.lru_cache(maxsize=8)
def table_levels(steps: int) -> np.ndarray:
    """Noise levels √((1 − ᾱ_t)/ᾱ_t) of a discrete process: β_t rises linearly from 0.1/steps to 20/steps.

    With 1000 steps these are Ho, Jain & Abbeel's 10⁻⁴ and 0.02 (2020, section 4).
    """
    alpha_bar = np.cumprod(1 - np.linspace(0.1, 20, steps) / steps)
    return np.sqrt((1 - alpha_bar) / alpha_bar)


def diffusions(mean: Any) -> dict[Variant, Denoiser]:
    """Reverse diffusions; ``mean`` is a trained E[x | x_t]."""
    return {
        "fine": ReverseDiffusion(FIELD, ExactMean(FIELD), FINE),
        "coarse": ReverseDiffusion(FIELD, ExactMean(FIELD), COARSE, method="ancestral"),
        "network": ReverseDiffusion(FIELD, mean, FINE),
    }


CHANGED: tuple[Variant, ...] = tuple(changes(*jnp.zeros(2)))
"""What one compiled program serves, by number."""


# -- chains ----------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=32)
def programs(
    program: Variant, mean: ConditionalMean | None, warmup: int, thin: int
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Compiled, for a batch of chains: start and warm them; and ``CHUNK`` draws of each."""

    def kernel(data: Simulation, first: Array, which: Array) -> Any:
        if program == "exact":
            every = tuple(changes(data.sigma, first).values())
            denoiser: Denoiser = Altered(
                WienerDenoiser(FIELD), lambda sigma: jax.lax.switch(which, every, sigma)
            )
        else:
            denoiser = diffusions(mean)[program]
        return GibbsDiffusion(denoiser).kernel(FIELD, data.y)

    def start(key: Array, data: Simulation, which: Array) -> tuple[Any, Array]:
        of_start, of_init, of_warmup = jax.random.split(key, 3)
        phi, sigma = FIELD.draw_parameters(of_start)
        chain = kernel(data, sigma, which)
        state, _ = chain.init(of_init, FIELD.unconstrain(phi, sigma))
        keys = jax.random.split(of_warmup, warmup)
        return jax.lax.scan(lambda state, key: (chain.warm(key, state)[0], None), state, keys)[0], sigma

    def advance(key: Array, state: Any, data: Simulation, first: Array, which: Array) -> tuple[Any, Observed]:
        chain = kernel(data, first, which)

        def sweep(carry: tuple[Any, Array], key: Array) -> tuple[tuple[Any, Array], Array]:
            state, total = carry
            state, info = chain.step(key, state)
            return (state, total + info.extra["x"]), jnp.stack(FIELD.constrain(chain.position(state)))

        def draw(state: Any, key: Array) -> tuple[Any, Observed]:
            zeros = jnp.zeros_like(data.y)
            (state, total), parameters = jax.lax.scan(sweep, (state, zeros), jax.random.split(key, thin))
            u = chain.position(state)
            likelihood = _log_likelihood(data.y, *FIELD.constrain(u))
            return state, Observed(parameters, likelihood, state.point.extra["x"], total)

        return jax.lax.scan(draw, state, jax.random.split(key, CHUNK))

    return (
        jax.jit(jax.vmap(start, in_axes=(0, 0, None))),
        jax.jit(jax.vmap(advance, in_axes=(0, 0, 0, 0, None))),
    )


@jax.jit
def _log_likelihood(y: Array, phi: Array, sigma: Array) -> Array:
    u = FIELD.unconstrain(phi, sigma)
    return FIELD.density_given_data(y).log_density(u) - logistic.logpdf(u).sum()


def run_chains(
    variant: Variant, key: Array, data: Simulation, length: Length, stop: threading.Event, mean: Any = None
) -> Observed:
    """One chain a data set, leaves of ``data`` with a leading axis; leaves ``[chain, draw, …]`` on the host.

    Raises
    ------
    Stopped
        When ``stop`` is set.
    """
    program, number = ("exact", CHANGED.index(variant)) if variant in CHANGED else (variant, 0)
    start, advance = programs(program, mean, length.warmup, length.thin)
    which = jnp.asarray(number)
    keys = jax.random.split(key, len(data.phi))
    fold = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    _check(stop)
    state, first = start(fold(keys, 0), data, which)
    parts = []
    for i in range((length.draws + 1) // CHUNK):
        _check(stop)
        state, observed = advance(fold(keys, i + 1), state, data, first, which)
        parts.append(jax.tree.map(np.asarray, observed))
    whole = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *parts)
    return jax.tree.map(lambda leaf: leaf[:, 1:], whole)  # the number of ranks is one more than of draws


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise Stopped


# -- measurements ----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=128)
def data_sets(purpose: int, seed: int, number: int) -> Simulation:
    """The same for all denoisers; leaves ``[number, …]`` on the host."""
    key = jax.random.fold_in(jax.random.key(seed), purpose)
    return jax.tree.map(np.asarray, _simulate(jax.random.split(key, number)))


_simulate = jax.jit(jax.vmap(FIELD.simulate))


def calibration_measurement(
    variant: Variant,
    seed: int,
    number: int,
    length: Length,
    pictures: int = 0,
    network: Trained | None = None,
) -> Measurement:
    """A chain on each of ``number`` data sets whose parameters are draws of the prior.

    Parameters
    ----------
    pictures : of so many data sets the field, the data and draws are kept, for the figure
    network : which ``"network"`` needs
    """

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        data = data_sets(0, seed, number)
        observed = run_chains(variant, key, data, length, stop, _mean(network))
        chains = [_of_chain(data, observed, i) for i in range(number)]
        return {
            "chains": chains,
            "pictures": [_picture(data, observed, i) for i in range(min(pictures, number))],
        }

    setting = _setting(variant, network) | {"data sets": number, "length": vars(length), "pictures": pictures}
    return Measurement(f"{variant}, {number} data sets", setting, seed, compute)


def accuracy_measurement(
    variant: Variant, seed: int, chains: int, length: Length, network: Trained | None = None
) -> Measurement:
    """Many chains on one data set, together against its grid."""

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        data = data_sets(1, seed, 1)
        repeated = jax.tree.map(lambda leaf: np.repeat(leaf, chains, axis=0), data)
        observed = run_chains(variant, key, repeated, length, stop, _mean(network))
        parameters = np.asarray(observed.parameters).reshape(chains, -1, 2)
        flat = parameters.reshape(-1, 2)
        return {
            "truth": [float(data.phi[0]), float(data.sigma[0])],
            "mean": flat.mean(0).tolist(),
            "sd": flat.std(0, ddof=1).tolist(),
            "autocorrelation": _finite(autocorrelation_time(parameters[:, :, j]) for j in (0, 1)),
            **_exact(np.asarray(data.y[0])),
        }

    setting = _setting(variant, network) | {"chains": chains, "length": vars(length)}
    return Measurement(f"{variant}, {chains} chains on one data set", setting, seed, compute)


def _mean(network: Trained | None) -> Any:
    return None if network is None else network.mean


def _setting(variant: Variant, network: Trained | None) -> dict[str, Any]:
    digest = None if network is None else network.digest
    sampler = repr(GibbsDiffusion(WienerDenoiser(FIELD)))
    denoiser = WienerDenoiser(FIELD) if variant in CHANGED else diffusions(digest)[variant]
    return {"variant": variant, "denoiser": repr(denoiser), "sampler": sampler}


def _of_chain(data: Simulation, observed: Observed, i: int) -> dict[str, Any]:
    """What is kept of the chain on data set i."""
    truth = np.array([data.phi[i], data.sigma[i]], float)
    x, y = np.asarray(data.x[i]), np.asarray(data.y[i])
    parameters = np.asarray(observed.parameters[i])
    draws = {
        "phi": parameters[:, -1, 0],
        "sigma": parameters[:, -1, 1],
        "log_likelihood": np.asarray(observed.log_likelihood[i]),
        "pixel": np.asarray(observed.x[i])[:, *PIXEL],
    }
    at_truth = float(_log_likelihood(jnp.asarray(y), *truth))
    truths = {"phi": truth[0], "sigma": truth[1], "log_likelihood": at_truth, "pixel": x[PIXEL]}
    flat = parameters.reshape(-1, 2)
    pixels = ranks_of(x, np.moveaxis(np.asarray(observed.x[i]), 0, -1))
    mean = np.asarray(observed.sum_x[i]).sum(0) / len(flat)
    return {
        "truth": truth.tolist(),
        "ranks": {name: int(ranks_of(truths[name], draws[name])) for name in QUANTITIES},
        "mean": flat.mean(0).tolist(),
        "sd": flat.std(0, ddof=1).tolist(),
        "autocorrelation": _finite(autocorrelation_time(flat[:, j]) for j in (0, 1)),
        **{name: _covered(pixels, parameters.shape[0], mass) for name, mass in MASSES.items()},
        "psnr": {
            "y": grid.psnr(x, y),
            "blind": grid.psnr(x, mean),
            "wiener": grid.psnr(x, grid.wiener_mean(FIELD, y, *truth)),
            "exact": grid.psnr(x, grid.blind_mean(FIELD, y, grid.posterior(FIELD, y))),
        },
        **_exact(y),
    }


def _exact(y: np.ndarray) -> dict[str, Any]:
    known = grid.posterior(FIELD, y)
    return {"exact_mean": known.mean.tolist(), "exact_sd": known.sd.tolist()}


def _covered(ranks: np.ndarray, draws: int, mass: float) -> float:
    """The part of true values within the central interval, made of whole ranks, of the draws."""
    tail = round((draws + 1) * (1 - mass) / 2)
    return float(np.mean((ranks >= tail) & (ranks < draws + 1 - tail)))


def _picture(data: Simulation, observed: Observed, i: int) -> dict[str, Any]:
    parameters = np.asarray(observed.parameters[i])
    return {
        "truth": [float(data.phi[i]), float(data.sigma[i])],
        "x": np.asarray(data.x[i]).tolist(),
        "y": np.asarray(data.y[i]).tolist(),
        "mean": (np.asarray(observed.sum_x[i]).sum(0) / parameters[..., 0].size).tolist(),
        "draw": np.asarray(observed.x[i, -1]).tolist(),
        "draws": parameters[:, -1].tolist(),
    }


def _finite(values: Any) -> list[float | None]:
    """JSON has no infinity: None."""
    return [float(v) if np.isfinite(v) else None for v in values]


def chains_of(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The chains of all seeds."""
    return [chain for result in results for chain in result["chains"]]
