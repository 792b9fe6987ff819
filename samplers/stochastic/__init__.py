"""Stochastic-gradient Markov chains: estimates of the gradient, starts, and the engine."""

from .engine import Dynamics as Dynamics
from .engine import Step as Step
from .engine import run_stochastic as run_stochastic
from .plans import Plan as Plan
from .problem import Problem as Problem
from .settings import Gradients as Gradients
from .settings import Schedule as Schedule
