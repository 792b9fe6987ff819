"""Families of factorized Gaussians on one target: their best members, in closed form or fitted, and ELBOs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...models.target import Target
from ..base import Budget, Cost, add_cost
from .factorized import Bounds, exact_bounds, sampled_bounds
from .families import Family, Locals, Problem
from .fits import Fit, VariationalSampler, fit
from .gaussian import Factors, MeanFieldGaussian
from .gaussian_optimum import Gaussian, ascended, factors_of, tied_optimum
from .hierarchical import AmortizedGaussian
from .partly_amortized import PartlyAmortized

SCREENING, PAIRS = 512, 4096
"""Pairs of draws by which the best replicate is chosen, and others by which the best are compared."""


class Contender(NamedTuple):
    """Members of one family, one for every replicate."""

    factors: list[Factors]
    """On the target's space."""
    converged: list[bool]
    analytic: bool
    cost: Cost
    fits: tuple[Fit, ...] = ()
    """Empty for a closed form."""


class Compared(NamedTuple):
    screened: list[np.ndarray]
    """ELBOs of every contender's replicates."""
    best: list[int]
    """Of every contender's replicates."""
    final: Bounds
    """Of the best of every contender."""
    cost: Cost


@dataclass(frozen=True)
class Arena:
    """What fits and comparisons have in common.

    Parameters
    ----------
    gaussian : the target's closed forms; None where log p is not quadratic
    budget : gradients per fit
    replicates : fits of every family
    """

    target: Target
    gaussian: Gaussian | None
    budget: Budget
    replicates: int

    def fitted(self, sampler: VariationalSampler, key: Array) -> Contender:
        """By stochastic gradients."""
        fits = fit(sampler, key, self.target, self.budget, chains=self.replicates)
        cost = functools.reduce(add_cost, (one.cost for one in fits))
        return Contender(_factors(sampler, fits), [one.converged for one in fits], False, cost, fits)

    def ascended(self, sampler: VariationalSampler, begun: Contender) -> Contender:
        """Every fit carried on to a maximum of its exact ELBO; as it is where that is not known.

        The cost is what this adds.
        """
        if self.gaussian is None:
            return begun._replace(cost=Cost())
        family = sampler.family
        assert isinstance(family, AmortizedGaussian)
        ends = [ascended(family, one.problem, self.gaussian, one.params) for one in begun.fits]
        fits = tuple(one._replace(params=end.params) for one, end in zip(begun.fits, ends, strict=True))
        cost = functools.reduce(add_cost, (end.cost for end in ends))
        return Contender(_factors(sampler, fits), [end.converged for end in ends], False, cost, fits)

    def tied(self, locals: Locals, key: Array) -> Contender:
        """One factor for the local parameters of every datum, in closed form."""
        assert self.gaussian is not None
        groups = np.zeros(self.target.dim, int)
        free, places = np.asarray(locals.shared), np.asarray(locals.places)
        groups[free] = np.arange(len(free))
        groups[places] = len(free) + np.arange(places.shape[1])
        factors, cost = tied_optimum(self.target, self.gaussian, groups, key)
        return Contender([factors], [True], True, cost)

    def bounds(self, candidates: Sequence[Factors], key: Array, pairs: int) -> Bounds:
        if self.gaussian is not None:
            return exact_bounds(self.gaussian, candidates)
        return sampled_bounds(self.target.density, candidates, key, pairs)

    def compared(self, contenders: Sequence[Contender], key: Array) -> Compared:
        """The best replicates by some draws, compared on others: choosing does not bias what is reported."""
        first, second = jax.random.split(key)
        screened = self.bounds([f for c in contenders for f in c.factors], first, SCREENING)
        ends = np.cumsum([len(c.factors) for c in contenders])[:-1]
        elbos = np.split(screened.elbos, ends)
        best = [int(np.argmax(found)) for found in elbos]
        final = self.bounds([c.factors[b] for c, b in zip(contenders, best, strict=True)], second, PAIRS)
        return Compared(elbos, best, final, add_cost(screened.cost, final.cost))

    def losses(
        self, sampler: VariationalSampler, fitted: Contender, optimum: Factors, key: Array
    ) -> tuple[np.ndarray, Cost]:
        """What the map's factors lose, put into the best free ones for the data held out, and for the others.

        Returns
        -------
        tuple
            Nats per datum, ``f[replicate, 2]``, and the cost of comparing.
        """
        family = sampler.family
        assert isinstance(family, PartlyAmortized)
        candidates, sizes = [optimum], []
        for one in fitted.fits:
            locals = one.problem.space.locals
            assert locals is not None
            places = np.asarray(locals.places)
            mapped = _mapped(family, one.problem, one.params)
            held = family.held_out(len(places))
            for data in (held, np.setdiff1d(np.arange(len(places)), held)):
                candidates.append(_with(optimum, mapped, places[data]))
                sizes.append(len(data))
        found = self.bounds(candidates, key, PAIRS)
        lost = [found.difference(0, 1 + i)[0] / size for i, size in enumerate(sizes)]
        return np.reshape(lost, (-1, 2)), found.cost


def _factors(sampler: VariationalSampler, fits: Sequence[Fit]) -> list[Factors]:
    return [on_target(sampler.family, one.problem, one.params) for one in fits]


@functools.partial(jax.jit, static_argnums=0)
def on_target(family: Family, problem: Problem, params: Any) -> Factors:
    if isinstance(family, MeanFieldGaussian):
        return factors_of(problem, params)
    assert isinstance(family, AmortizedGaussian)
    return factors_of(problem, family.factors(params, problem.space))


@functools.partial(jax.jit, static_argnums=0)
def _mapped(family: PartlyAmortized, problem: Problem, params: Any) -> Factors:
    return factors_of(problem, family.mapped(params, problem.space))


def _with(factors: Factors, others: Factors, places: np.ndarray) -> Factors:
    """Factors, but at some coordinates others."""
    mixed = [np.array(own) for own in factors]
    for own, other in zip(mixed, others, strict=True):
        own[places] = np.asarray(other)[places]
    return Factors(*map(jnp.asarray, mixed))
