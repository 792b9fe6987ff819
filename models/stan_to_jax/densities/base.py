"""What a density is to the lowering: its terms, where it is positive, and where Stan refuses to evaluate it.

A density is a function of arrays that broadcast against each other over leading *batch* axes; an
argument whose elements are vectors or matrices has one or two more axes at the end (its *element rank*).
It returns `Terms` of the batch shape, or of any shape that broadcasts to it: a term that depends on
sigma alone has sigma's shape, the evaluator counts how many times it occurs.

    @density(0, 0, 0)
    def normal(y, mu, sigma): ...

    @density(1, 1, 2)
    def multi_normal(y, mu, sigma): ...     # y: f[…, k], sigma: f[…, k, k], terms: f[…]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..numeric import is_concrete, where


class Scaled(NamedTuple):
    """A term ``factor × array``. A factor that all elements share multiplies their sum, not each of them."""

    factor: Any
    array: Any


class Terms(NamedTuple):
    """The summands of a log density and its two kinds of failure, each of a shape that broadcasts.

    A term whose array is concrete (numpy) is a constant, which ``~`` drops: so a term holds together
    only what Stan keeps or drops together. Terms are finite, with finite gradients, wherever ``support``
    and ``valid`` hold; no gradient is NaN where ``support`` does not.
    """

    terms: tuple[Any, ...]
    support: tuple[Any, ...] = ()
    """Where one is False the density is 0: −inf, no exception."""
    valid: tuple[Any, ...] = ()
    """Where one is False Stan throws: the evaluation fails as a whole."""


@dataclass(frozen=True)
class Density:
    """A density, mass function or distribution function by its Stan name without suffix."""

    name: str
    function: Callable[..., Terms]
    ranks: tuple[int, ...]
    """Element rank of each argument: 0 scalars, 1 vectors, 2 matrices."""
    discrete: bool = False
    """A probability mass function (``_lpmf``)."""


DENSITIES: dict[str, Density] = {}
DISTRIBUTION_FUNCTIONS: dict[str, Density] = {}
"""By full name, as ``normal_lccdf``. One term each, which has an infinite value where Stan's has."""

Register = Callable[[Callable[..., Terms]], Callable[..., Terms]]


def density(*ranks: int, discrete: bool = False) -> Register:
    """Registers a function under its own name; ``ranks`` are the element ranks of its arguments."""

    def register(function: Callable[..., Terms]) -> Callable[..., Terms]:
        DENSITIES[function.__name__] = Density(function.__name__, function, ranks, discrete)
        return function

    return register


def guarded(condition: Any, argument: Any, instead: float) -> Any:
    """The argument where the condition holds, else a constant at which everything is finite.

    The first half of a double ``where``: what is computed from the result has no NaN gradient.
    """
    if is_concrete(condition) and np.all(condition):
        return argument
    return where(condition, argument, instead)


def positive_finite(argument: Any) -> Any:
    """Stan's check of most scales and shapes.

    Of a traced argument only the sign is looked at: where it is infinite, the log density is −inf or NaN
    anyway, which fails the evaluation no less. A concrete one may be all that a dropped constant has.
    """
    return (argument > 0) & np.isfinite(argument) if is_concrete(argument) else argument > 0


def finite(argument: Any) -> Any:
    """Stan's check of most locations; see `positive_finite` on traced arguments."""
    return np.isfinite(argument) if is_concrete(argument) else True
