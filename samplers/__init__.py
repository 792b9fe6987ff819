"""Samplers under one interface."""

from .. import models as _models  # noqa: F401  (turns float64 on before any array is made)
from .abandoning_delayed_rejection import AbandoningDelayedRejectionHMC as AbandoningDelayedRejectionHMC
from .adaptation import WindowedAdaptation as WindowedAdaptation
from .base import Budget as Budget
from .base import Cost as Cost
from .base import Info as Info
from .base import Kernel as Kernel
from .base import Run as Run
from .base import Sampler as Sampler
from .delayed_rejection import DelayedRejectionHMC as DelayedRejectionHMC
from .generalized_delayed_rejection import DelayedRejectionGeneralizedHMC as DelayedRejectionGeneralizedHMC
from .hmc import HMC as HMC
from .integrators import TrajectoryLength as TrajectoryLength
from .peers.blackjax import NUTS as NUTS
