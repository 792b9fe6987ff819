"""A small Bayesian neural network on noisy energies of a simulated potential.

The curve is that of Morse (1929, Physical Review 34, 57) in reduced units: x = a (r − r_e) and energies in
units of the well's depth,

    V(x) = (1 − e^(−x))² − 1,

with its minimum −1 at x = 0, a steep wall to the left and 0 at dissociation. Energies are known at
equally spaced x of a training domain, with Gaussian noise of known standard deviation:

    y_i ~ N(f_θ(x_i), σ²),   θ_j ~ N(0, 1)

f_θ is a network with tanh units. A coordinate θ_j is a weight in units of its prior standard deviation,
which is `SCALE`/√(units that feed in) for weights, so that every layer's outputs have the size of its inputs
whatever its width (Neal 1996, Bayesian Learning for Neural Networks, §2.1), and `SCALE` for biases.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from .factorization import factorized_target
from .target import Target

DOMAIN = (-0.7, 1.8)
"""Of x, in which energies are known; the network's input is x, linearly taken from here to (−1, 1)."""
SCALE = 2.0
"""Prior standard deviation of biases, and of weights times the root of the number of inputs."""


def morse(x: np.ndarray) -> np.ndarray:
    """V(x), of any shape; x in units of 1/a, V in units of the well's depth."""
    return (1 - np.exp(-x)) ** 2 - 1


class Energies(NamedTuple):
    """Points on the curve, ``f[n]`` each."""

    x: Any
    energy: Any
    """With noise."""


def simulated_energies(rng: np.random.Generator, x: np.ndarray, noise: float) -> Energies:
    """V(x) + N(0, noise²)."""
    return Energies(x, morse(x) + noise * rng.standard_normal(len(x)))


@dataclass(frozen=True)
class Network:
    """A fully connected network of one input and one output with tanh units between them.

    Parameters
    ----------
    hidden : units of each hidden layer.
    """

    hidden: tuple[int, ...] = (32,)

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden={self.hidden}: give at least one layer of at least one unit")

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of each layer."""
        widths = (1, *self.hidden, 1)
        return tuple(itertools.pairwise(widths))

    @property
    def dim(self) -> int:
        return sum(outputs * (inputs + 1) for inputs, outputs in self.layers)

    @property
    def param_names(self) -> tuple[str, ...]:
        """``w1[i,j]`` from input j to unit i of layer 1, ``b1[i]``, ``w2[…]``, … as the coordinates come."""
        return tuple(
            name
            for number, (inputs, outputs) in enumerate(self.layers, 1)
            for name in (
                *(f"w{number}[{i},{j}]" for i in range(1, outputs + 1) for j in range(1, inputs + 1)),
                *(f"b{number}[{i}]" for i in range(1, outputs + 1)),
            )
        )

    def __call__(self, theta: Array, x: Array) -> Array:
        """Energies ``f[...]`` at ``x: f[...]``."""
        low, high = DOMAIN
        values, at = ((2 * x - low - high) / (high - low))[..., None], 0
        for number, (inputs, outputs) in enumerate(self.layers):
            weights = theta[at : at + outputs * inputs].reshape(outputs, inputs)
            at += outputs * inputs
            biases = theta[at : at + outputs]
            at += outputs
            values = jnp.tanh(values) if number else values
            values = SCALE * (values @ weights.T / inputs**0.5 + biases)
        return values[..., 0]


def log_prior(theta: Array) -> Array:
    """Of independent standard Gaussians, up to a constant: ``f[dim] -> f[]``."""
    return -0.5 * theta @ theta


@dataclass(frozen=True)
class _Row:
    """The log likelihood of one energy, up to a constant; equal for equal networks."""

    network: Network
    noise: float

    def __call__(self, theta: Array, row: Energies) -> Array:
        return -0.5 * ((row.energy - self.network(theta, row.x)) / self.noise) ** 2


def neural_potential(energies: Energies, noise: float, network: Network | None = None) -> Target:
    """The posterior of the network's parameters.

    Parameters
    ----------
    energies : what the network is fitted to
    noise : σ, in units of the well's depth
    network : by default 1–32–1, of 97 parameters

    Raises
    ------
    ValueError
        If the noise is not positive.
    FactorizationError
        If there are no energies, or not one for each x.
    """
    if not noise > 0:
        raise ValueError(f"noise={noise}: give a positive standard deviation")
    network = network or Network()
    shape = "-".join(map(str, (1, *network.hidden, 1)))
    return factorized_target(
        f"neural potential {shape}, noise {noise:g}",
        network.dim,
        log_prior,
        _Row(network, noise),
        Energies(*map(np.asarray, energies)),
        rows="energies",
        param_names=network.param_names,
    )
