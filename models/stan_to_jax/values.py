"""Values with Stan's types, and the rows that a batched loop gives them.

The iterations of a loop that are executed together are the *rows* of a `Level`. A value that differs
between the rows has one leading axis for them; a value that does not has none, whatever the level it
is used at. Data and integers are concrete numpy arrays, what depends on parameters is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from .errors import Ragged, UnsupportedStanError
from .linear_predictor import LinearPredictor
from .numeric import is_concrete, namespace
from .rows import take_rows

Kind = Literal["int", "real", "vector", "row_vector", "matrix"]
ELEMENT_RANK: dict[Kind, int] = {"int": 0, "real": 0, "vector": 1, "row_vector": 1, "matrix": 2}


@dataclass(frozen=True)
class Type:
    """``array[…] kind`` with ``arrays`` array dimensions."""

    kind: Kind
    arrays: int = 0

    @property
    def rank(self) -> int:
        """Dimensions of the array that holds such a value, rows not counted."""
        return self.arrays + ELEMENT_RANK[self.kind]

    def __str__(self) -> str:
        return f"array[{',' * (self.arrays - 1)}] {self.kind}" if self.arrays else self.kind


INT, REAL, VECTOR, ROW_VECTOR, MATRIX = (
    Type("int"),
    Type("real"),
    Type("vector"),
    Type("row_vector"),
    Type("matrix"),
)


@dataclass(eq=False)
class Level:
    """Iterations of a loop, or those of them that take a branch, executed together: one row each."""

    parent: Level | None
    size: int
    parent_row: np.ndarray
    """``i[size]``: the parent's row that each row lies within (0 where there is no parent)."""
    loop: bool = False
    """Rows differ in time (iterations of one loop), so that dependences between them matter."""
    condition: Any = None
    """``bool[size]``, traced: the rows that really take this branch, which depends on parameters."""
    depth: int = field(init=False)
    mask: Any = field(init=False, default=None)
    """``bool[size]``, traced: this condition and those of the levels around it; None if there is none."""
    mask_depth: int = field(init=False, default=0)
    """The depth of the innermost level with a condition, 0 if there is none."""

    def __post_init__(self) -> None:
        self.depth = depth_of(self.parent) + 1
        if self.parent is not None and self.parent.mask is not None:
            self.mask = take_rows(self.parent.mask, self.parent_row)
            self.mask_depth = self.parent.mask_depth
        if self.condition is not None:
            self.mask = self.condition if self.mask is None else self.mask & self.condition
            self.mask_depth = self.depth


def branch_rows(parent: Level, rows: np.ndarray) -> Level:
    """The level of those rows of ``parent`` that take a branch known at trace time."""
    return Level(parent, len(rows), rows)


def branch_where(parent: Level | None, condition: Any) -> Level:
    """The level of all rows of ``parent`` (one at the top), which count where the traced condition holds."""
    if parent is None:
        return Level(None, 1, np.zeros(1, int), condition=jnp.reshape(condition, 1))
    return Level(parent, parent.size, np.arange(parent.size), condition=condition)


def depth_of(level: Level | None) -> int:
    return 0 if level is None else level.depth


def rows_within(level: Level, outer: Level | None) -> np.ndarray:
    """``i[level.size]``: the row of ``outer`` that each row of ``level`` lies within.

    ``outer`` is ``level`` or one of its ancestors; None is the top, which has the one row 0.
    """
    rows = np.arange(level.size)
    current: Level | None = level
    while current is not outer:
        assert current is not None, "outer is no ancestor of level"
        rows = current.parent_row[rows]
        current = current.parent
    return rows


class Value:
    """A value of the Stan language: ``data`` has axes (rows if ``level``, array dims, element dims).

    A matrix is stored ``[row, column]``. Ints and truth values are int64, concrete unless they depend on
    a loop variable inside of a scan or on a comparison of parameters. A linear predictor is computed
    when its data are asked for: until then more terms may join it.
    """

    __slots__ = ("_data", "autodiff", "factored", "level", "type")

    def __init__(self, type: Type, data: Any, level: Level | None = None) -> None:
        self.type = type
        self.level = level
        self._data = data
        self.autodiff = False
        """As an argument: Stan takes it for a parameter even if it is concrete."""
        self.factored: Any = None
        """Of a Cholesky factor that the program has computed: the data of the matrix whose factor it is."""

    @property
    def data(self) -> Any:
        if isinstance(self._data, LinearPredictor):
            self._data = self._data.array()
        return self._data

    @property
    def predictor(self) -> LinearPredictor | None:
        """What the value is made of, as long as it is not computed."""
        return self._data if isinstance(self._data, LinearPredictor) else None

    def retyped(self, type: Type) -> Value:
        """The same data under another type; a predictor stays one."""
        held = Value(type, self._data, self.level)
        held.factored = self.factored
        return held

    @property
    def kind(self) -> Kind:
        return self.type.kind

    @property
    def arrays(self) -> int:
        return self.type.arrays

    @property
    def rank(self) -> int:
        return self.type.rank

    @property
    def shape(self) -> tuple[int, ...]:
        """Without the axis of rows."""
        shape = (self._data.size,) if isinstance(self._data, LinearPredictor) else np.shape(self._data)
        return shape if self.level is None else shape[1:]

    @property
    def concrete(self) -> bool:
        return is_concrete(self._data)

    def __repr__(self) -> str:
        rows = "" if self.level is None else f", rows={self.level.size}"
        return f"Value({self.type}, shape={self.shape}, concrete={self.concrete}{rows})"


def integer(value: int) -> Value:
    return Value(INT, np.int64(value))


def real(value: float) -> Value:
    return Value(REAL, np.float64(value))


def deepest(values: Sequence[Value]) -> Level | None:
    """The innermost level among values whose levels lie on one path."""
    found: Level | None = None
    for value in values:
        if depth_of(value.level) > depth_of(found):
            found = value.level
    return found


def at_level(value: Value, level: Level | None) -> Any:
    """The data with the rows of ``level``, or without an axis of rows if the value has none."""
    if value.level is None or value.level is level:
        return value.data
    assert level is not None
    return take_rows(value.data, rows_within(level, value.level))


def with_rows(value: Value, level: Level) -> Any:
    """The data with the rows of ``level`` as its leading axis, repeated where they are all the same."""
    if value.level is None:
        return namespace(value.data).broadcast_to(value.data, (level.size, *np.shape(value.data)))
    return at_level(value, level)


def aligned(values: Sequence[Value]) -> tuple[Level | None, int, list[Any]]:
    """Data that broadcast against each other: ``(level, rank, arrays)``.

    ``rank`` is the largest rank among the values. An array with rows has exactly ``1 + rank`` axes,
    rows first; one without has its own rank, so that it broadcasts from the right.
    """
    level = deepest(values)
    rank = max((value.rank for value in values), default=0)
    arrays = []
    for value in values:
        data = at_level(value, level)
        if value.level is not None and value.rank < rank:
            shape = np.shape(data)
            data = data.reshape(shape[:1] + (1,) * (rank - value.rank) + shape[1:])
        arrays.append(data)
    return level, rank, arrays


def per_row(function: Callable[..., Any], values: Sequence[Value]) -> tuple[Any, Level | None]:
    """``function`` of the values' own arrays, row by row (by ``vmap``); its result and its level.

    A function of concrete arrays without rows gets numpy arrays.
    """
    level = deepest(values)
    arrays = [at_level(value, level) for value in values]
    if level is None:
        return function(*arrays), None
    axes = [None if value.level is None else 0 for value in values]
    return jax.vmap(function, in_axes=axes)(*[jnp.asarray(array) for array in arrays]), level


def uniform_int(value: Value, what: str) -> int:
    """A concrete int that is the same in all rows.

    Raises
    ------
    UnsupportedStanError
        If it depends on parameters.
    Ragged
        If it differs between rows.
    """
    if not value.concrete:
        raise UnsupportedStanError(f"{what} that depends on parameters or on a scan's variable")
    numbers = np.asarray(value.data)
    if value.level is None:
        return int(numbers)
    if numbers.size and (numbers == numbers.flat[0]).all():
        return int(numbers.flat[0])
    raise Ragged(value.level, numbers)
