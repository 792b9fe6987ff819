"""Gaussian factors of local parameters that are functions of their data: amortized families.

    q(θ, z) = q(θ) Π_k N(z_k; m_k, diag s_k²),   (m_k, log s_k) = f(x_k)

with θ's factors free (Margossian & Blei 2024, section 2). f is a network of the datum, or of a window of data
about it, or a constant: the degenerate baseline.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from .families import Locals, Space, scatter
from .gaussian import Factors, draw_factors, factors_log_prob

SMALL = 0.01
"""What a network's last layer is multiplied by at first, so that the factors begin as standard normal."""


class LocalMap(Protocol):
    """From data to factors: a frozen configuration."""

    def init(self, key: Array, inputs: int, outputs: int) -> Any: ...
    def __call__(self, params: Any, inputs: Array, outputs: int) -> Array:
        """``f[n, inputs] -> f[n, outputs]``"""
        ...


@dataclass(frozen=True)
class Constant:
    """The same factor for every datum."""

    def init(self, key: Array, inputs: int, outputs: int) -> Array:
        return jnp.zeros(outputs)

    def __call__(self, params: Array, inputs: Array, outputs: int) -> Array:
        return jnp.broadcast_to(params, (len(inputs), outputs))


@dataclass(frozen=True)
class Network:
    """A multilayer perceptron (equinox): ``depth`` hidden layers of ``width``; with none it is linear."""

    width: int
    depth: int

    def init(self, key: Array, inputs: int, outputs: int) -> Any:
        params, _ = self._module(key, inputs, outputs)
        last = params.layers[-1]
        small = jax.tree.map(lambda leaf: SMALL * leaf, last)
        return _replace_last(params, small)

    def __call__(self, params: Any, inputs: Array, outputs: int) -> Array:
        import equinox as eqx

        _, static = self._module(jax.random.key(0), inputs.shape[1], outputs)
        return jax.vmap(eqx.combine(params, static))(inputs)

    def _module(self, key: Array, inputs: int, outputs: int) -> tuple[Any, Any]:
        """Arrays and everything else of a new network; the first is not computed where it is not used."""
        import equinox as eqx  # optax's and this library's imports: only where something is fitted

        network = eqx.nn.MLP(inputs, outputs, self.width, self.depth, key=key)
        return eqx.partition(network, eqx.is_inexact_array)


def _replace_last(params: Any, layer: Any) -> Any:
    import equinox as eqx

    return eqx.tree_at(lambda p: p.layers[-1], params, layer)


class Hierarchical(NamedTuple):
    shared: Factors
    """Of global parameters, free."""
    local_map: Any
    """Parameters of f."""


@dataclass(frozen=True)
class AmortizedGaussian:
    """Free factors of global parameters, and local ones by a map from data."""

    local_map: LocalMap

    def init(self, key: Array, space: Space) -> Hierarchical:
        found = _locals(space)
        zeros = jnp.zeros(len(found.shared))
        outputs = 2 * found.places.shape[1]
        return Hierarchical(Factors(zeros, zeros), self.local_map.init(key, found.inputs.shape[1], outputs))

    def factors(self, params: Hierarchical, space: Space) -> Factors:
        """Of all coordinates, ``f[dim]``."""
        found = _locals(space)
        outputs = 2 * found.places.shape[1]
        loc, log_scale = jnp.split(self.local_map(params.local_map, found.inputs, outputs), 2, axis=1)
        place = functools.partial(scatter, space)
        return Factors(place(params.shared.loc, loc), place(params.shared.log_scale, log_scale))

    def sample(self, params: Hierarchical, key: Array, space: Space) -> tuple[Array, Array]:
        return draw_factors(key, self.factors(params, space))

    def log_prob(self, params: Hierarchical, u: Array, space: Space) -> Array:
        return factors_log_prob(self.factors(params, space), u)


def _locals(space: Space) -> Locals:
    if space.locals is None:
        raise ValueError("this family needs to know which parameters are local to which datum")
    return space.locals
