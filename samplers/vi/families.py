"""What a variational family is, and the space that it is fitted on.

Families live on a space that is shifted and scaled, coordinate by coordinate: x = center + scale u. There the
posterior is near the origin and of unit size, as far as the start could tell, so that one grid of learning
rates serves every posterior. A family knows nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from ...models.hierarchy import HierarchyError
from ...models.target import Density, Target


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Locals:
    """Where local and global parameters are, and what a network is given of every datum; a pytree."""

    places: Array
    """``i[n, d]``"""
    shared: Array
    """``i[g]``: the coordinates of global parameters"""
    inputs: Array
    """``f[n, p]``, standardized; p is 0 where nothing is given"""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Space:
    """What a family is a distribution on: R^dim, in which some coordinates may belong to a datum each."""

    dim: int = field(metadata={"static": True})
    locals: Locals | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Problem:
    """A log density on the space of u; a pytree."""

    density: Density
    center: Array
    scale: Array
    space: Space

    def position(self, u: Array) -> Array:
        """``f[..., dim] -> f[..., dim]``, on the target's space."""
        return self.center + self.scale * u

    def log_density(self, u: Array) -> Array:
        """Of u, the Jacobian included: log q and log p may be compared. One evaluation of the density."""
        return self.density.log_density(self.position(u)) + self.log_jacobian

    def value_and_grad(self, u: Array) -> tuple[Array, Array]:
        """One evaluation of the oracle."""
        value, gradient = self.density.value_and_grad(self.position(u))
        return value + self.log_jacobian, self.scale * gradient

    @property
    def log_jacobian(self) -> Array:
        return jnp.sum(jnp.log(self.scale))


class Family(Protocol):
    """Distributions on R^dim by their parameters: a frozen configuration of pure functions.

    Parameters are a pytree of floating-point arrays.
    """

    def init(self, key: Array, space: Space) -> Any:
        """Near the standard normal distribution."""
        ...

    def sample(self, params: Any, key: Array, space: Space) -> tuple[Array, Array]:
        """A draw ``f[dim]`` and the log density there, differentiable in the parameters (reparameterized).

        The density follows the draw forward: it is right even where a point has lost the digits from which
        `log_prob` would have to invert it.
        """
        ...

    def log_prob(self, params: Any, u: Array, space: Space) -> Array:
        """The normalized log density ``f[dim] -> f[]``, differentiable in both."""
        ...


def hierarchical_locals(target: Target, named: str | None = None, before: int = 0, after: int = 0) -> Locals:
    """Places, and the standardized inputs: every datum with its neighbours in the order of the data.

    Parameters
    ----------
    named : what the data of the hierarchy must be called; None or ``"auto"`` for anything

    Raises
    ------
    HierarchyError
        If the target's local parameters are not known, or are those of other data.
    """
    found = target.hierarchy
    if found is None:
        raise HierarchyError(
            f"{target.name} is not known to have parameters that belong to a datum each: make it by"
            " from_stan(…, hierarchy='auto'), from_numpyro with a plate, or set its `hierarchy`"
        )
    if named not in (None, "auto", found.data):
        raise HierarchyError(
            f"{target.name} has the hierarchy of {found.data!r}, and the sampler asks for {named!r}:"
            " make the target with that one, or leave the sampler's out"
        )
    windows = jnp.asarray(found.windows(before, after))
    spread = windows.std(axis=0)
    inputs = (windows - windows.mean(axis=0)) / jnp.where(spread > 0, spread, 1.0)
    return Locals(jnp.asarray(found.local), jnp.asarray(found.shared), inputs)


def scatter(space: Space, shared: Array, local: Array) -> Array:
    """A point from its global part ``f[g]`` and its local part ``f[n, d]``: ``f[dim]``."""
    assert space.locals is not None
    point = jnp.zeros(space.dim, shared.dtype)
    return point.at[space.locals.shared].set(shared).at[space.locals.places].set(local)
