"""Amortized variational inference: the factors of local parameters are a network's output on their data.

Margossian & Blei, "Amortized variational inference: when and why?", UAI 2024. A-VI cannot be better than
F-VI; `amortization_gap` says by how much it is worse, and whether any map from a datum to its factor could
close that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..models.target import Target
from .amortization_gap import amortization_gap as amortization_gap
from .variational import VariationalSettings
from .vi.families import Family, Locals, hierarchical_locals
from .vi.hierarchical import AmortizedGaussian, Network


@dataclass(frozen=True)
class AmortizedVI(VariationalSettings):
    """Free Gaussian factors of global parameters, and local ones by a multilayer perceptron of the data.

    Parameters
    ----------
    width, depth : units of a hidden layer, and hidden layers; with none the map is linear.
    before, after : data about a datum that the network is given besides it, in the order of the data: the
        expanded domain of section 3.3; zeros stand beyond either end.
    hierarchy : what counts the data, as `essper.models.from_stan` takes it; None for the only size that does.
    """

    width: int = 16
    depth: int = 2
    before: int = 0
    after: int = 0
    hierarchy: str | None = None

    needs_hierarchy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width={self.width}: give at least 1")
        for name in ("depth", "before", "after"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: give 0 or more")

    @property
    def family(self) -> Family:
        return AmortizedGaussian(Network(self.width, self.depth))

    def locals_of(self, target: Target) -> Locals:
        return hierarchical_locals(target, self.hierarchy, self.before, self.after)
