"""An amortized family in which some data are held out: their factors are free while the map is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from ...models.target import Target
from .families import Locals, Space
from .fits import VariationalSampler
from .gaussian import Factors
from .hierarchical import AmortizedGaussian, LocalMap
from .settings import Fitting


class Partly(NamedTuple):
    amortized: Any
    """Of `AmortizedGaussian`."""
    free: Factors
    """Of what is held out, ``f[held, d]``."""


@dataclass(frozen=True)
class PartlyAmortized(AmortizedGaussian):
    """Local factors by a map from data, but free ones for a random part of the data.

    Parameters
    ----------
    held : how many data are held out.
    seed : of which they are.
    """

    held: int
    seed: int

    def held_out(self, n: int) -> np.ndarray:
        """``i[held]``: numbers of data."""
        return np.random.default_rng(self.seed).permutation(n)[: self.held]

    def init(self, key: Array, space: Space) -> Any:
        amortized = super().init(key, space)
        assert space.locals is not None
        zeros = jnp.zeros((self.held, space.locals.places.shape[1]))
        return Partly(amortized, Factors(zeros, zeros))

    def factors(self, params: Any, space: Space) -> Factors:
        """Of all coordinates, ``f[dim]``."""
        mapped = self.mapped(params, space)
        assert space.locals is not None
        places = space.locals.places[self.held_out(len(space.locals.places))]
        return Factors(*(all.at[places].set(own) for all, own in zip(mapped, params.free, strict=True)))

    def mapped(self, params: Any, space: Space) -> Factors:
        """The same, with the map's output for what is held out."""
        return super().factors(params.amortized, space)


@dataclass(frozen=True)
class HeldOutSampler:
    """A variational method whose map is fitted to a part of the data."""

    whole: VariationalSampler
    local_map: LocalMap
    held: int
    seed: int

    @property
    def fitting(self) -> Fitting:
        return self.whole.fitting

    @property
    def family(self) -> PartlyAmortized:
        return PartlyAmortized(self.local_map, self.held, self.seed)

    def locals_of(self, target: Target) -> Locals | None:
        return self.whole.locals_of(target)
