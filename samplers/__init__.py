"""Samplers under one interface."""

from .. import models as _models  # noqa: F401  (turns float64 on before any array is made)
from .abandoning_delayed_rejection import AbandoningDelayedRejectionHMC as AbandoningDelayedRejectionHMC
from .adaptation import WindowedAdaptation as WindowedAdaptation
from .amortized import AmortizedVI as AmortizedVI
from .base import Budget as Budget
from .base import Cost as Cost
from .base import Info as Info
from .base import Kernel as Kernel
from .base import Run as Run
from .base import Sampler as Sampler
from .cyclical_sgld import CyclicalSGLD as CyclicalSGLD
from .delayed_rejection import DelayedRejectionHMC as DelayedRejectionHMC
from .federated import DistributedSGLD as DistributedSGLD
from .federated import FederatedSGLD as FederatedSGLD
from .generalized_delayed_rejection import DelayedRejectionGeneralizedHMC as DelayedRejectionGeneralizedHMC
from .hmc import HMC as HMC
from .integrators import TrajectoryLength as TrajectoryLength
from .mala import MALA as MALA
from .peers.blackjax import NUTS as NUTS
from .preconditioned_sgld import PreconditionedSGLD as PreconditionedSGLD
from .sghmc import SGHMC as SGHMC
from .sgld import SGLD as SGLD
from .sgld import ControlVariateSGLD as ControlVariateSGLD
from .sgnht import SGNHT as SGNHT
from .stochastic import Gradients as Gradients
from .stochastic import Schedule as Schedule
from .variational import ConstantFactorVI as ConstantFactorVI
from .variational import FlowVI as FlowVI
from .variational import FullRankVI as FullRankVI
from .variational import LowRankVI as LowRankVI
from .variational import MeanFieldVI as MeanFieldVI
from .vi import Fitting as Fitting
