"""Variational inference with factorized, full-rank and low-rank Gaussians, flows, and one shared factor.

All maximize one evidence lower bound with one optimizer and grid (`vi`); they differ in the family alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ..models.target import Target
from .vi.families import Family, Locals, hierarchical_locals
from .vi.flow import CouplingFlow
from .vi.gaussian import FullRankGaussian, LowRankGaussian, MeanFieldGaussian
from .vi.hierarchical import AmortizedGaussian, Constant
from .vi.runs import run_variational
from .vi.settings import Fitting


@dataclass(frozen=True)
class VariationalSettings:
    """What all variational methods share; each adds its ``family``.

    Parameters
    ----------
    fitting : the gradient's estimate, the grid of learning rates, the rule of convergence, and the draws.
    """

    fitting: Fitting = field(default_factory=Fitting)

    approximate: ClassVar[bool] = True
    run = run_variational

    def locals_of(self, target: Target) -> Locals | None:
        return None


@dataclass(frozen=True)
class MeanFieldVI(VariationalSettings):
    """F-VI: an independent Gaussian for every unconstrained coordinate (Kucukelbir et al. 2017, section 2.4).

    On a Gaussian its optimum has the right means, and the inverse diagonal of the precision as variances.
    """

    @property
    def family(self) -> Family:
        return MeanFieldGaussian()


@dataclass(frozen=True)
class FullRankVI(VariationalSettings):
    """A Gaussian of any covariance: dim (dim + 1)/2 parameters besides the mean."""

    @property
    def family(self) -> Family:
        return FullRankGaussian()


@dataclass(frozen=True)
class LowRankVI(VariationalSettings):
    """A Gaussian whose covariance is of low rank plus a diagonal (Ong, Nott & Smith 2018).

    Parameters
    ----------
    rank : of the first part.
    """

    rank: int = 5

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(
                f"rank={self.rank}: give at least 1; without a part of low rank it is MeanFieldVI"
            )

    @property
    def family(self) -> Family:
        return LowRankGaussian(self.rank)


@dataclass(frozen=True)
class FlowVI(VariationalSettings):
    """A normalizing flow (Rezende & Mohamed 2015): affine coupling layers (Dinh et al. 2017; flowjax), then a
    full-rank affine map.

    Parameters
    ----------
    layers, width : coupling layers, and units of the hidden layer of each.
    """

    layers: int = 4
    width: int = 32

    def __post_init__(self) -> None:
        for name in ("layers", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: give at least 1")

    @property
    def family(self) -> Family:
        return CouplingFlow(self.layers, self.width)


@dataclass(frozen=True)
class ConstantFactorVI(VariationalSettings):
    """The same Gaussian factor for the local parameters of every datum: what amortization has to beat.

    Parameters
    ----------
    hierarchy : what counts the data, as `essper.models.from_stan` takes it; None for the only size that does.
    """

    hierarchy: str | None = None

    needs_hierarchy: ClassVar[bool] = True

    @property
    def family(self) -> Family:
        return AmortizedGaussian(Constant())

    def locals_of(self, target: Target) -> Locals:
        return hierarchical_locals(target, self.hierarchy)
