"""Gibbs sampling: exact conditionals, generic updates, scans."""

from .elliptical import EllipticalSliceUpdate as EllipticalSliceUpdate
from .elliptical import GaussianPrior as GaussianPrior
from .hamiltonian import HMCUpdate as HMCUpdate
from .kernel import GibbsState as GibbsState
from .kernel import gibbs_kernel as gibbs_kernel
from .metropolis import MetropolisUpdate as MetropolisUpdate
from .sampler import Gibbs as Gibbs
from .scans import SCANS as SCANS
from .slice import SliceUpdate as SliceUpdate
from .updates import Exact as Exact
from .updates import Outcome as Outcome
from .updates import Point as Point
from .updates import Update as Update
