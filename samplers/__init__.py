"""Samplers under one interface."""

from .. import models as _models  # noqa: F401  (sets float64 before any array is made)
from .base import Budget as Budget
from .base import Cost as Cost
from .base import Info as Info
from .base import Kernel as Kernel
from .base import Run as Run
from .base import Sampler as Sampler
