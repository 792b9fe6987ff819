"""Evaluating a density of the Stan language on values: vectorisation, rows, multiplicity, constants."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from ..errors import UnsupportedStanError
from ..numeric import is_concrete, namespace, where
from ..values import REAL, Level, Value, aligned, at_level, deepest
from .base import DENSITIES, DISTRIBUTION_FUNCTIONS, Density, Scaled, Terms
from .glm import REWRITTEN, rewritten
from .least_squares import sum_of_squares
from .multivariate import of_the_matrix


class Shared(NamedTuple):
    """A term with rows times a factor that they share: the factor multiplies the rows' sum."""

    factor: Any
    rows: Value
    total: Any | None = None
    """The sum over all rows, if it is known apart from them."""

    @property
    def concrete(self) -> bool:
        return is_concrete(self.factor) and self.rows.concrete

    def product(self) -> Value:
        return Value(REAL, self.factor * self.rows.data, self.rows.level)


class Evaluation(NamedTuple):
    """A log density: every value is a scalar (summed over elements), per row of its own level if it has one.

    Terms whose value is concrete are constants. The density is 0 (−inf, no exception) unless all of
    ``support`` is True; Stan throws unless all of ``valid`` is. Conditions known to hold are left out.
    """

    terms: tuple[Value | Shared, ...] = ()
    support: tuple[Value, ...] = ()
    valid: tuple[Value, ...] = ()

    def value(self, constants: bool = True) -> Value:
        """The sum of the terms as one real, −inf outside of the support; ``valid`` is not part of it."""
        terms = self.values(constants)
        level, _, arrays = aligned([*terms, *self.support])
        sums = reduce(operator.add, arrays[: len(terms)]) if terms else np.float64(0.0)
        for inside in arrays[len(terms) :]:
            sums = where(inside, sums, -np.inf)
        return Value(REAL, sums, level)

    def values(self, constants: bool = True) -> list[Value]:
        """The terms, multiplied out."""
        kept = [term for term in self.terms if constants or not term.concrete]
        return [term.product() if isinstance(term, Shared) else term for term in kept]


def evaluate(name: str, arguments: Sequence[Value]) -> Evaluation:
    """The log density ``name`` (without ``_lpdf`` or ``_lpmf``) at the arguments, vectorised as Stan does.

    Raises
    ------
    UnsupportedStanError
        For an unknown density, arguments it does not take, and sizes that do not agree.
    """
    name, arguments = rewritten(name, arguments) or of_the_matrix(name, arguments) or (name, arguments)
    if name not in DENSITIES:
        raise UnsupportedStanError(f"the distribution '{name}'")
    squares = sum_of_squares(name, arguments)  # while the location is still a predictor
    terms, frame = _terms(DENSITIES[name], arguments)
    if frame.elements == 0:
        return Evaluation()
    return Evaluation(
        tuple(frame.summed_term(term, squares) for term in _merged(terms.terms)),
        frame.conditions(terms.support),
        frame.conditions(terms.valid),
    )


def evaluate_distribution_function(name: str, arguments: Sequence[Value]) -> Evaluation:
    """``normal_lccdf``, ``normal_cdf``, …: one term, the sum over the elements (the product for ``_cdf``).

    Where a probability is 0, the term is −inf (0 for ``_cdf``) with a gradient of 0, as in Stan.

    Raises
    ------
    UnsupportedStanError
        For an unknown function, arguments it does not take, sizes that do not agree, and where the
        derivative by an argument that depends on parameters is not known.
    """
    if name not in DISTRIBUTION_FUNCTIONS:
        raise UnsupportedStanError(f"the function '{name}'")
    product = name.endswith("_cdf")
    terms, frame = _terms(DISTRIBUTION_FUNCTIONS[name], arguments)
    if frame.elements == 0:
        return Evaluation((Value(REAL, np.float64(1.0 if product else 0.0)),))
    (term,) = terms.terms
    combined = frame.multiplied(term) if product else frame.summed(term)
    return Evaluation((combined,), (), frame.conditions(terms.valid))


def known(name: str) -> bool:
    """Whether ``evaluate`` (by name without suffix) or ``evaluate_distribution_function`` knows it."""
    return name in DENSITIES or name in DISTRIBUTION_FUNCTIONS or name in REWRITTEN


def is_mass_function(name: str) -> bool:
    """Whether it is a mass function: ``_lpmf`` and ``_lupmf`` instead of ``_lpdf`` and ``_lupdf``."""
    if name in REWRITTEN:
        return name != "normal_id_glm"
    return name in DENSITIES and DENSITIES[name].discrete


class _Frame(NamedTuple):
    """How a density was vectorised: the level of its rows and its batch axes."""

    level: Level | None
    rank: int
    elements: int
    """Their number, per row."""

    def has_rows(self, array: Any) -> bool:
        # An array with rows has all batch axes, one without never more than those.
        return self.level is not None and np.ndim(array) > self.rank

    def axes(self, array: Any) -> tuple[int, ...]:
        return tuple(range(int(self.has_rows(array)), np.ndim(array)))

    def scalar(self, array: Any, reduced: Any) -> Value:
        return Value(REAL, reduced, self.level if self.has_rows(array) else None)

    def repeats(self, array: Any) -> int:
        """How many times each entry occurs among the elements."""
        return self.elements // math.prod(np.shape(array)[int(self.has_rows(array)) :])

    def summed_term(self, term: Any, total: Any | None) -> Value | Shared:
        """``total`` is the sum of a scaled term's array over all elements and rows, if it is known."""
        if not isinstance(term, Scaled):
            return self.summed(term)
        if np.ndim(term.factor):
            return self.summed(term.factor * term.array)
        rows = self.summed(term.array)
        if rows.level is not None:
            return Shared(term.factor, rows, total)
        return Value(REAL, term.factor * (rows.data if total is None else total))

    def summed(self, array: Any) -> Value:
        axes, repeats = self.axes(array), self.repeats(array)
        reduced = namespace(array).sum(array, axis=axes) if axes else array
        return self.scalar(array, reduced if repeats == 1 else reduced * float(repeats))

    def multiplied(self, array: Any) -> Value:
        axes, repeats = self.axes(array), self.repeats(array)
        reduced = namespace(array).prod(array, axis=axes) if axes else array
        return self.scalar(array, reduced if repeats == 1 else reduced**repeats)

    def conditions(self, conditions: Sequence[Any]) -> tuple[Value, ...]:
        """Whether each holds for all elements; those that certainly hold are left out."""
        values = []
        for condition in conditions:
            if is_concrete(condition) and np.all(condition):
                continue
            axes = self.axes(condition)
            reduced = namespace(condition).all(condition, axis=axes) if axes else condition
            values.append(self.scalar(condition, reduced))
        return tuple(values)


def _terms(density: Density, arguments: Sequence[Value]) -> tuple[Terms, _Frame]:
    name, ranks = density.name, density.ranks
    if len(arguments) != len(ranks):
        raise UnsupportedStanError(f"'{name}' with {len(arguments)} arguments (it takes {len(ranks)})")
    level = deepest(arguments)
    shapes = []
    for value, element_rank in zip(arguments, ranks, strict=True):
        if value.rank < element_rank:
            types = ", ".join(str(argument.type) for argument in arguments)
            raise UnsupportedStanError(f"'{name}' of ({types})")
        shapes.append(value.shape[: value.rank - element_rank])
    batches = {shape for shape in shapes if shape}
    if len(batches) > 1:
        sizes = ", ".join(str(shape) for shape in shapes)
        raise UnsupportedStanError(f"'{name}' of arguments whose sizes do not agree: {sizes}")
    batch = batches.pop() if batches else ()
    frame = _Frame(level, len(batch), math.prod(batch))
    if frame.elements == 0:
        return Terms(()), frame
    arrays = [
        _with_batch_axes(value, level, frame.rank, shape)
        for value, shape in zip(arguments, shapes, strict=True)
    ]
    # Of concrete arguments outside of the support, numpy would warn.
    with np.errstate(all="ignore"):
        return density.function(*arrays), frame


def _with_batch_axes(value: Value, level: Level | None, rank: int, batch: tuple[int, ...]) -> Any:
    """The data, where they have rows with an axis for each batch dimension: ``(rows, 1, …, elements)``."""
    data = at_level(value, level)
    if value.level is None or len(batch) == rank:
        return data
    shape = np.shape(data)
    return data.reshape(shape[:1] + (1,) * rank + shape[1:])


def _merged(terms: Sequence[Any]) -> list[Any]:
    """Terms of one shape added up, constants and others apart: each needs one reduction."""
    groups: dict[tuple[bool, tuple[int, ...]], Any] = {}
    scaled = [term for term in terms if isinstance(term, Scaled)]
    for term in terms:
        if isinstance(term, Scaled):
            continue
        key = is_concrete(term), np.shape(term)
        groups[key] = groups[key] + term if key in groups else term
    return [*scaled, *groups.values()]
