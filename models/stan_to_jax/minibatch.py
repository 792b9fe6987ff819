"""The rows of a Stan program's data, so that its density can be evaluated on some of them.

With lp_m the program on m sliced rows and lp₀ on none, the density of a program whose statements are a
sum over rows is lp₀ + Σ_i (lp_i − lp₀), and its minibatch estimate lp₀ + (n/m)(lp_m − lp₀). Which data
are rows is read from the declarations; that the density is such a sum is tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..factorization import (
    FLOAT32_TOLERANCES,
    TOLERANCES,
    Factorization,
    FactorizationError,
    finite_points,
    partition_errors,
)
from . import syntax
from .values import Value

SQUARE = ("cov_matrix", "corr_matrix", "cholesky_factor_cov", "cholesky_factor_corr")
"""Types of one size that is the size of both dimensions."""


class LoweredProgram(Protocol):
    """What is needed of a lowered program."""

    @property
    def program(self) -> syntax.Program: ...
    @property
    def data(self) -> Mapping[str, Value]:
        """Data and transformed data, concrete."""
        ...

    @property
    def dim(self) -> int: ...
    @property
    def precision(self) -> str: ...
    def log_density(self, theta: Array) -> Array: ...
    def log_density_with(self, theta: Array, replaced: Mapping[str, Any]) -> Array:
        """The density with some of the data replaced, sizes included; arrays may be traced."""
        ...


@dataclass(frozen=True)
class Rows:
    """A size variable and the data whose leading size it is."""

    size: str
    variables: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.size} (rows of {', '.join(self.variables)})"


def row_candidates(program: syntax.Program) -> tuple[Rows, ...]:
    """Sizes that may count rows: see `why_no_rows`."""
    sizes = [d.name for d in _data(program) if d.type.base == "int" and not d.type.array]
    return tuple(Rows(size, _variables(program, size)) for size in sizes if not why_no_rows(program, size))


def why_no_rows(program: syntax.Program, size: str) -> str:
    """Why data cannot be sliced along a size, ``""`` if they may be.

    Rows are counted by an int among the data that is the leading size of some data or transformed data,
    of no parameter, and no other size of any data.
    """
    if not any(d.name == size and d.type.base == "int" and not d.type.array for d in _data(program)):
        return f"{size} is no int among the data"
    for declared in syntax.declarations(program.parameters):
        if size in syntax.variables(declared.type.sizes):
            return f"{size} sizes the parameter {declared.name}"
    for declared in _data(program):
        if size in syntax.variables(_other_sizes(declared.type)):
            return f"{size} sizes a dimension of {declared.name} that is not its first"
    if not _variables(program, size):
        return f"{size} is the leading size of no data"
    return ""


def factorize(lowered: LoweredProgram, rows: str | None = None) -> Factorization:
    """The prior and the sum over rows that a lowered program is, tested by a partition of the rows.

    Transformed data are those of the whole data, then sliced. The test compares the sum over disjoint
    batches with the density itself: values to 1e-9, gradients to 1e-8, relative (in float32, to
    `FLOAT32_TOLERANCES`).

    Parameters
    ----------
    rows : the name of the size that counts the rows; None for the only one that passes the test

    Raises
    ------
    FactorizationError
        If the named size does not pass, none does, or several do: a size that passes need not be the one
        that is meant.
    """
    if rows is not None:
        if reason := why_no_rows(lowered.program, rows):
            raise FactorizationError(f"rows={rows!r}: {reason}{_choices(lowered.program)}")
        return _tested(lowered, Rows(rows, _variables(lowered.program, rows)))
    passed: list[Factorization] = []
    refused: list[str] = []
    candidates = row_candidates(lowered.program)
    for candidate in candidates:
        try:
            passed.append(_tested(lowered, candidate))
        except FactorizationError as error:
            refused.append(str(error))
    if len(passed) == 1:
        return passed[0]
    if passed:
        names = " or ".join(f"rows={f.rows!r}" for f in passed)
        raise FactorizationError(f"the density is a sum over rows in several ways: give {names}")
    if refused:
        raise FactorizationError("; ".join(refused))
    raise FactorizationError(
        "no data have rows: no int among the data is the leading size of data and sizes no parameter"
    )


def _choices(program: syntax.Program) -> str:
    names = [repr(candidate.size) for candidate in row_candidates(program)]
    return f"; candidates are {', '.join(names)}" if names else "; no size of this program counts rows"


def _tested(lowered: LoweredProgram, rows: Rows) -> Factorization:
    n = int(np.asarray(lowered.data[rows.size].data))
    if n < 2:
        raise FactorizationError(f"{rows} has {n} of them: there is nothing to divide")
    data = {name: lowered.data[name].data for name in rows.variables}
    empty = tuple((name, np.shape(array)[1:], np.asarray(array).dtype) for name, array in data.items())
    with jax.enable_x64(lowered.precision != "float32"):
        operand = {name: jnp.asarray(array) for name, array in data.items()}
    factorization = Factorization(
        prior=_Prior(lowered, rows, empty),
        likelihood=_Likelihood(lowered, rows, empty),
        operand=operand,
        n=n,
        rows=rows.size,
    )
    points = finite_points(lowered.log_density, lowered.dim)
    try:
        errors = partition_errors(factorization, lowered.log_density, points)
    except Exception as error:  # whatever a program does that has other rows than it was written for
        raise FactorizationError(
            f"{rows}: the density cannot be evaluated on some of them: {error}"
        ) from error
    if not np.isfinite(errors).all():
        raise FactorizationError(f"{rows}: the density is not finite on some of them")
    tolerances = FLOAT32_TOLERANCES if lowered.precision == "float32" else TOLERANCES
    if errors.value > tolerances.value or errors.gradient > tolerances.gradient:
        raise FactorizationError(
            f"{rows}: the density is not a sum over them: disjoint batches add up to it with relative errors "
            f"{errors.value:.1e} in value and {errors.gradient:.1e} in gradient"
        )
    return factorization


Empty = tuple[tuple[str, tuple[int, ...], np.dtype], ...]
"""Name, shape without rows, and type of every row variable."""


@dataclass(frozen=True)
class _Prior:
    """lp₀: the program without rows. Equal for the same program, or jit would take it for another."""

    lowered: LoweredProgram
    rows: Rows
    empty: Empty

    def __call__(self, operand: Any, theta: Array) -> Array:
        nothing = {name: np.zeros((0, *shape), dtype) for name, shape, dtype in self.empty}
        return self.lowered.log_density_with(theta, {self.rows.size: np.int64(0), **nothing})


@dataclass(frozen=True)
class _Likelihood:
    """lp_m − lp₀ of the rows named by indices; equal as `_Prior` is."""

    lowered: LoweredProgram
    rows: Rows
    empty: Empty

    def __call__(self, operand: Mapping[str, Array], theta: Array, indices: Array) -> Array:
        taken = {name: array[indices] for name, array in operand.items()}
        some = self.lowered.log_density_with(theta, {self.rows.size: np.int64(len(indices)), **taken})
        return some - _Prior(self.lowered, self.rows, self.empty)(operand, theta)


# -- declarations ---------------------------------------------------------------------------------


def _data(program: syntax.Program) -> list[syntax.Declaration]:
    return syntax.declarations(program.data) + syntax.declarations(program.transformed_data)


def _variables(program: syntax.Program, size: str) -> tuple[str, ...]:
    return tuple(d.name for d in _data(program) if d.type.sizes[:1] == (syntax.Variable(size),))


def _other_sizes(declared: syntax.SizedType) -> tuple[syntax.Expression, ...]:
    square = declared.dims if declared.base in SQUARE else ()
    return (*declared.sizes[1:], *square)
