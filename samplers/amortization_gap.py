"""The amortization gap: how far amortized inference stays behind free factors, and whether it has to.

Margossian & Blei, "Amortized variational inference: when and why?", UAI 2024:

    gap = max ELBO over free factors − max ELBO over factors that are functions of the data ≥ 0

Where log p is quadratic the first is known in closed form and the ELBO of every factorized Gaussian exactly
(`vi.gaussian_optimum`); else both are fitted, and compared on common random numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax import Array

from ..models.target import Target
from .base import Budget, Cost, add_cost
from .variational import ConstantFactorVI, MeanFieldVI
from .vi.conditions import Conditions, probe_conditions
from .vi.contenders import Arena, Compared, Contender
from .vi.fits import VariationalSampler
from .vi.gaussian import Factors
from .vi.gaussian_optimum import gaussian_of
from .vi.hierarchical import AmortizedGaussian, Constant, LocalMap
from .vi.partly_amortized import HeldOutSampler

if TYPE_CHECKING:
    from .amortized import AmortizedVI

BUDGET = Budget(50_000)


@dataclass(frozen=True)
class Optimum:
    """The largest ELBO of a family, as far as it was found."""

    elbo: float
    """Nats, with the constant that the target's log density has."""
    error: float
    """0 for a closed form. Else what the best replicate is above the median one, and the Monte Carlo standard
    error of the ELBO where that is not exact, as the root of the sum of squares."""
    analytic: bool
    """Whether it is a closed form."""
    converged: bool
    """True for a closed form; else of the best replicate."""
    replicates: tuple[float, ...]
    """Every fit's ELBO, one for a closed form; where there is Monte Carlo error, on fewer draws, and others
    than those of ``elbo``."""


@dataclass(frozen=True)
class HeldOut:
    """What the map's factors lose for data whose own it was not fitted to, and for the others.

    Nats per datum: the ELBO of F-VI's optimum, minus that of the same with the map's factors for these data
    alone. Means over replicates, with their standard errors (NaN for one replicate).
    """

    data: int
    """How many were held out."""
    held_out: float
    held_out_error: float
    trained: float
    trained_error: float

    @property
    def text(self) -> str:
        return (
            f"Per datum the map loses {self.trained:.3g} ± {self.trained_error:.2g} nats on what it was"
            f" fitted to, and {self.held_out:.3g} ± {self.held_out_error:.2g} on {self.data} data held out."
        )


@dataclass(frozen=True)
class Gap:
    """What amortization costs."""

    gap: float
    """F-VI's optimum minus A-VI's, nats. With a closed form for F-VI the family's own gap is not larger: what
    was found of A-VI's optimum is not above the true one."""
    error: float
    """Both optima's spread between replicates, and the Monte Carlo standard error of the difference on common
    random numbers where it is not exact, as the root of the sum of squares."""
    relative: float
    """The gap over that of one constant factor; NaN where that is not above 0."""
    factorized: Optimum
    amortized: Optimum
    constant: Optimum
    """One and the same factor for the local parameters of every datum."""
    constant_gap: float
    stochastic_gap: float
    """The gap of the best fit by stochastic gradients. Where ELBOs are exact, ``gap`` is what is left when
    every fit has been carried on to a maximum without noise; else it is this."""
    conditions: Conditions
    held_out: HeldOut | None
    cost: Cost
    """Of everything, over all replicates."""
    notes: tuple[str, ...]
    """What is to be known before the gap is believed."""

    @property
    def text(self) -> str:
        """All in sentences."""
        first = (
            f"Amortization costs {self.gap:.4g} ± {self.error:.2g} nats, {self.relative:.3g} of what a"
            " constant factor costs."
        )
        last = [self.held_out.text] if self.held_out else []
        return " ".join([first, self.conditions.text, *last, *self.notes])


def amortization_gap(
    target: Target,
    family: AmortizedVI | ConstantFactorVI | None = None,
    *,
    key: Array | None = None,
    budget: Budget = BUDGET,
    replicates: int = 4,
    held_out: float = 0.0,
) -> Gap:
    """F-VI's optimum minus A-VI's, with its uncertainty and the conditions under which it can be 0.

    Parameters
    ----------
    target : with a `hierarchy`
    family : the amortized family, with the `Fitting` of all that is fitted; by default ``AmortizedVI()``
    key : by default that of seed 0
    budget : gradients per fit
    replicates : fits of every family from different starts; the best of them counts
    held_out : part of the data whose factors are free while the map is fitted, in fits of their own

    Returns
    -------
    Gap
        Negative where F-VI was fitted and its best fit is worse than A-VI's: `Gap.notes` says so.

    Raises
    ------
    HierarchyError
        If the target's local parameters are not known.
    ValueError
        If ``held_out`` leaves nothing on one side, a fit cannot begin, or log p is quadratic but improper.
    TypeError
        If ``family`` has no map from data to factors.

    Examples
    --------
    A series in which a datum depends on the one before it: linear maps of one datum, and of both.

    >>> from essper.models.latent_series import SawTooth
    >>> from essper.samplers import AmortizedVI
    >>> model = SawTooth()
    >>> target = model.target(model.simulate(np.random.default_rng(0), 50))
    >>> one, both = (amortization_gap(target, AmortizedVI(depth=0, before=k)) for k in (0, 1))
    >>> f"{one.gap:.3f} nats, relative {one.relative:.2f} and {both.relative:.6f}"
    '12.732 nats, relative 0.62 and 0.000000'
    >>> one.conditions.locals_independent.holds
    True
    """
    if family is None:
        from .amortized import AmortizedVI  # which hands this function on

        family = AmortizedVI()
    locals, local_map = family.locals_of(target), _local_map(family)
    held = _held(held_out, len(locals.places), local_map)
    keys = jax.random.split(jax.random.key(0) if key is None else key, 8)
    gaussian, probing = gaussian_of(target, keys[0])
    arena = Arena(target, gaussian, budget, replicates)

    if gaussian is None:
        free = arena.fitted(MeanFieldVI(family.fitting), keys[1])
        constant = arena.fitted(ConstantFactorVI(family.fitting, family.hierarchy), keys[2])
    else:
        free = Contender([gaussian.optimum], [True], True, Cost())
        constant = arena.tied(locals, keys[2])
    costs, amortized, begun = [probing, free.cost, constant.cost], constant, constant
    if not isinstance(local_map, Constant):
        begun = arena.fitted(family, keys[3])
        amortized = arena.ascended(family, begun)
        costs += [begun.cost, amortized.cost]
    contenders = free, amortized, constant, begun
    compared = arena.compared(contenders, keys[4])
    optima = [_optimum(compared, contenders, i) for i in range(3)]

    order = np.argsort(-compared.screened[0], kind="stable")
    best_first = [free.factors[i] for i in order]
    conditions, spent = probe_conditions(target, locals, best_first, gaussian is not None, keys[5])
    costs += [compared.cost, spent]
    left_out = None
    if held:
        seed = int(jax.random.key_data(keys[6])[-1])
        sampler = HeldOutSampler(family, local_map, held, seed)
        left_out, spent = _held_out(arena, sampler, best_first[0], keys[7])
        costs.append(spent)

    (gap, noise), (above_constant, _) = compared.final.difference(0, 1), compared.final.difference(0, 2)
    error = float(np.linalg.norm([noise, *(_spread(compared.screened[i]) for i in range(2))]))
    return Gap(
        gap=gap,
        error=error,
        relative=gap / above_constant if above_constant > 0 else float("nan"),
        factorized=optima[0],
        amortized=optima[1],
        constant=optima[2],
        constant_gap=above_constant,
        stochastic_gap=float("nan") if begun.analytic else compared.final.difference(0, 3)[0],
        conditions=conditions,
        held_out=left_out,
        cost=functools.reduce(add_cost, costs),
        notes=_notes(gap, error, optima),
    )


def _local_map(family: VariationalSampler) -> LocalMap:
    found = family.family
    if not isinstance(found, AmortizedGaussian):
        raise TypeError(f"family={family}: give an AmortizedVI or a ConstantFactorVI")
    return found.local_map


def _held(fraction: float, n: int, local_map: LocalMap) -> int:
    """How many data are held out."""
    if not 0 <= fraction < 1:
        raise ValueError(f"held_out={fraction}: give a part of the data, 0 or more and less than 1")
    if not fraction:
        return 0
    held = round(fraction * n)
    if not 0 < held < n:
        raise ValueError(f"held_out={fraction} of {n} data leaves {held} held out and {n - held} to fit")
    if isinstance(local_map, Constant):
        raise ValueError("held_out: a constant factor cannot memorize data; give an AmortizedVI")
    return held


def _held_out(arena: Arena, sampler: HeldOutSampler, optimum: Factors, key: Array) -> tuple[HeldOut, Cost]:
    first, second = jax.random.split(key)
    begun = arena.fitted(sampler, first)
    fitted = arena.ascended(sampler, begun)
    lost, spent = arena.losses(sampler, fitted, optimum, second)
    number = len(lost)
    errors = lost.std(axis=0, ddof=1) / np.sqrt(number) if number > 1 else np.full(2, np.nan)
    means = lost.mean(axis=0)
    found = HeldOut(sampler.held, float(means[0]), float(errors[0]), float(means[1]), float(errors[1]))
    return found, functools.reduce(add_cost, [begun.cost, fitted.cost, spent])


def _optimum(compared: Compared, contenders: Sequence[Contender], which: int) -> Optimum:
    contender, elbos = contenders[which], compared.screened[which]
    return Optimum(
        elbo=float(compared.final.elbos[which]),
        error=float(np.hypot(compared.final.error(which), _spread(elbos))),
        analytic=contender.analytic,
        converged=contender.converged[compared.best[which]],
        replicates=tuple(elbos.tolist()),
    )


def _spread(elbos: np.ndarray) -> float:
    """What the best replicate is above the median one."""
    return float(elbos.max() - np.median(elbos))


def _notes(gap: float, error: float, optima: Sequence[Optimum]) -> tuple[str, ...]:
    free, amortized, constant = optima
    found = []
    below = gap < 0 and not free.analytic  # nothing but rounding is above a closed form
    if below and -gap <= error:
        found.append("The gap is negative by less than its error: it is not told from 0.")
    elif below:
        found.append(
            "The best fit with free factors is worse than the amortized one, a special case of it: it sits in"
            " another optimum, and the gap is not to be read as a gain of amortization."
        )
    for name, optimum in (("free", free), ("amortized", amortized), ("constant", constant)):
        if not optimum.converged:
            found.append(f"The best fit with {name} factors had not converged: its ELBO could be larger.")
    return tuple(found)
