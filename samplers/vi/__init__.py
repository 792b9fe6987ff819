"""Variational inference: one objective, with families and gradient estimators as separate choices."""

from .families import Family as Family
from .families import Problem as Problem
from .families import Space as Space
from .fits import Fit as Fit
from .fits import fit as fit
from .runs import draws_of as draws_of
from .runs import run_variational as run_variational
from .settings import Fitting as Fitting
