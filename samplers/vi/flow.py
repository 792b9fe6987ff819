"""Normalizing flows: coupling layers (flowjax), then an affine map, so that no Gaussian is out of reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular

from .families import Space
from .gaussian import FullRankGaussian, Triangular

LARGEST = 2.0
"""Of |log scale| in a coupling layer: it can neither overflow nor lose the digits of an inverse."""


class Flow(NamedTuple):
    layers: Any
    """Of flowjax's coupling flow from the standard normal."""
    affine: Triangular
    """What follows them: u = m + L v."""


@dataclass(frozen=True)
class CouplingFlow:
    """Affine coupling layers (Dinh et al. 2017) with bounded scales, then a full-rank affine map.

    Parameters
    ----------
    layers, width : coupling layers, and units of the hidden layer in each
    """

    layers: int
    width: int

    def init(self, key: Array, space: Space) -> Flow:
        return Flow(self._module(key, space)[0], FullRankGaussian().init(key, space))

    def sample(self, params: Flow, key: Array, space: Space) -> tuple[Array, Array]:
        v, log_q = self._distribution(params, space).sample_and_log_prob(key)
        return params.affine.loc + params.affine.factor @ v, log_q - params.affine.log_diagonal.sum()

    def log_prob(self, params: Flow, u: Array, space: Space) -> Array:
        v = solve_triangular(params.affine.factor, u - params.affine.loc, lower=True)
        return self._distribution(params, space).log_prob(v) - params.affine.log_diagonal.sum()

    def _distribution(self, params: Flow, space: Space) -> Any:
        import equinox as eqx
        import paramax

        return paramax.unwrap(eqx.combine(params.layers, self._module(jax.random.key(0), space)[1]))

    def _module(self, key: Array, space: Space) -> tuple[Any, Any]:
        """Arrays and everything else of new layers; the first are not computed where they are not used."""
        import equinox as eqx
        import paramax
        from flowjax.bijections import Affine
        from flowjax.distributions import Normal
        from flowjax.flows import coupling_flow

        if space.dim < 2:
            raise ValueError("a coupling flow needs two coordinates or more: take another family")
        bounded = paramax.Parameterize(_bounded, jnp.zeros(()))
        flow = coupling_flow(
            key,
            base_dist=paramax.non_trainable(Normal(jnp.zeros(space.dim))),
            transformer=eqx.tree_at(lambda a: a.scale, Affine(), bounded),
            flow_layers=self.layers,
            nn_width=self.width,
        )
        return eqx.partition(
            flow, eqx.is_inexact_array, is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable)
        )


def _bounded(free: Array) -> Array:
    """A scale from any number: e⁰ at 0, between e^(−`LARGEST`) and e^`LARGEST`."""
    return jnp.exp(LARGEST * jnp.tanh(free / LARGEST))
