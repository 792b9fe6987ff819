"""Loops whose iterations depend on each other, as one compiled ``lax.scan``.

A step gets the elements it reads by name (`windows`); variables that are assigned otherwise are carried
whole. All rows of the level around take each step together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from .analysis import drops_constants, effects, exits, names_in, statements_in
from .errors import LoweringError, NotBatchable
from .indexing import unassigned
from .rows import take_rows
from .statements import execute
from .storage import Storage, is_checked
from .syntax import Expression, For, If
from .values import INT, ROW_VECTOR, Level, Type, Value, branch_where, depth_of, with_rows
from .windows import Lagged, Stream, lagged_name, rewrite

if TYPE_CHECKING:
    from .interpreter import Interpreter
    from .loops import Iterations


def scan(run: Interpreter, iterations: Iterations) -> None:
    """Executes the loop as a scan; rows with fewer iterations than others sit out the last ones.

    Raises
    ------
    UnsupportedStanError, NotBatchable
        If the body cannot be executed with a traced loop variable.
    """
    run.memory.compute()
    node, level = iterations.node, iterations.level
    if (iterations.first != iterations.first[0]).any():
        raise NotBatchable("rows begin at different iterations")
    counts = iterations.counts
    count = int(counts.max())
    numbers = np.arange(iterations.first[0], iterations.first[0] + count)
    found = effects(node.body)
    names = (found.read | found.assigned) & set(run.memory.variables)
    if any(is_checked(run.memory.storage(name, level), level) for name in names):
        _rehearse(run, iterations)  # which may give rows copies of their own
    storages = {name: run.memory.storage(name, level) for name in names}
    if run.drops_constants:
        _require_known_conditions(iterations, storages)
    changed = {name: storages[name] for name in found.assigned & names}
    rewritten = rewrite(
        node.body,
        frozenset(name for name, storage in storages.items() if name not in changed and storage.shape),
        frozenset(name for name, storage in changed.items() if storage.shape),
        lambda index: _positions(run, iterations, numbers, index),
    )
    for name, found_lagged in rewritten.lagged.items():
        if not _inside(found_lagged.positions, storages[name]).all():
            raise NotBatchable(f"an index of {name} is out of range in some iteration")
    run.kept.append(rewritten.body)
    plain = {name: storage for name, storage in changed.items() if name not in rewritten.lagged}
    lagged = {name: changed[name] for name in rewritten.lagged}

    def step(carry: Any, inputs: Any) -> Any:
        whole, windows = carry
        number, elements, before = inputs
        with run.memory.scope(), run.collecting() as (target, conditions), _scanning(run):
            for name, storage in storages.items():
                _stand_in(run, name, storage, whole.get(name), level)
            for key, stream in rewritten.streams.items():
                _declare_element(run, key, storages[stream.array], elements[key], level)
            for name, storage in lagged.items():
                for lag, data in enumerate((before[name], *windows[name])):
                    _declare_element(run, lagged_name(name, lag), storage, data, level)
            going = level
            if not iterations.aligned:
                going = branch_where(level, jnp.asarray(iterations.last) >= number)
            iterations.bind(run, Value(INT, number), going)
            execute(run, rewritten.body, going)
            variables = run.memory.variables
            now = {name: _data(variables[lagged_name(name, 0)]) for name in lagged}
            after = {name: _data(variables[name]) for name in plain}
            added = jnp.asarray(sum(target, 0.0), float)
            met = jnp.stack([jnp.asarray(True), *(jnp.asarray(c, bool) for c in conditions)]).all()
        moved = {name: (now[name], *windows[name])[: len(windows[name])] for name in lagged}
        return (after, moved), (now, added, met)

    start = (
        {name: _data(storage) for name, storage in plain.items()},
        {name: _window(storage, rewritten.lagged[name]) for name, storage in lagged.items()},
    )
    inputs = (
        numbers,
        {key: _streamed(storages[stream.array], stream) for key, stream in rewritten.streams.items()},
        {
            name: _moved(_data(storage), storage, rewritten.lagged[name].positions)
            for name, storage in lagged.items()
        },
    )
    (after, _), (filled, added, met) = lax.scan(step, start, inputs)
    for name, storage in plain.items():
        _hold(storage, after[name])
    for name, storage in lagged.items():
        _hold(storage, _refilled(storage, rewritten.lagged[name].positions, filled[name]))
    run.target.append(jnp.sum(added))
    run.conditions.append(jnp.all(met))


@contextmanager
def _scanning(run: Interpreter) -> Iterator[None]:
    before, run.scanning = run.scanning, True
    try:
        yield
    finally:
        run.scanning = before


# -- before the scan ------------------------------------------------------------------------------


def _require_known_conditions(iterations: Iterations, storages: Mapping[str, Storage]) -> None:
    """What ``~`` leaves out below a condition on parameters must be what Stan leaves out there.

    Within a scan data are traced, and a constant cannot be told from what is none. That shifts the
    density by a constant, unless it depends on parameters whether the statement is executed.
    """
    body, level = iterations.node.body, iterations.level
    reason = "constants that ~ leaves out below a condition on parameters"
    if level is not None and level.mask is not None and drops_constants(body):
        raise NotBatchable(reason)
    known = {
        name
        for name, storage in storages.items()
        if not storage.autodiff and storage.content().concrete and name not in effects(body).assigned
    }
    known.add(iterations.node.variable)
    known.update(inner.variable for inner in statements_in(body) if isinstance(inner, For))
    branches = [inner for inner in statements_in(body) if isinstance(inner, If)]
    for branch in branches:
        dropping = drops_constants((branch.then, branch.otherwise or ()))
        dropping |= exits(branch) and drops_constants(body)  # what follows stands below the condition too
        if dropping and not known.issuperset(names_in(branch.condition)):
            raise NotBatchable(reason)


def _rehearse(run: Interpreter, iterations: Iterations) -> None:
    """Executes all iterations at once for the notes that loops around take; the values are thrown away."""
    level = iterations.level
    rows, numbers = iterations.numbers()
    together = Level(level, len(rows), rows)
    storages = {
        id(storage): (storage, storage.value)
        for name in run.memory.variables
        if (storage := run.memory.storage(name, level))
    }
    reports = list(run.reports)
    with run.memory.scope(), run.collecting():
        iterations.bind(run, Value(INT, numbers, together), together)
        execute(run, iterations.node.body, together)
    run.reports[:] = reports
    for storage, value in storages.values():
        storage.value = value


def _positions(
    run: Interpreter, iterations: Iterations, numbers: np.ndarray, index: Expression
) -> np.ndarray | None:
    """The 0-based positions of an index in all iterations, if data alone decide them."""
    variable = iterations.node.variable
    names = set(names_in(index)) - {variable}
    assigned = effects(iterations.node.body).assigned
    for name in names:
        storage = run.memory.variables.get(name)
        if storage is None or name in assigned or storage.level is not None:
            return None
        if storage.value is None or not storage.value.concrete or storage.value.level is not None:
            return None
    if iterations.sequence is not None and variable in names_in(index):
        return None
    at_once = Level(None, len(numbers), np.zeros(len(numbers), int))
    with run.memory.scope(), run.collecting():
        run.memory.declare(variable, INT, (), at_once, Value(INT, numbers, at_once))
        try:
            value = run.evaluate(index, at_once)
        except (LoweringError, NotBatchable):
            return None
    if not value.concrete or value.rank:
        return None
    return np.broadcast_to(np.asarray(value.data) - 1, len(numbers)).copy()


# -- arrays and their elements --------------------------------------------------------------------


def _data(storage: Storage) -> Any:
    """The whole content, with the storage's rows if it has a level."""
    value = storage.content()
    data = value.data if storage.level is None else with_rows(value, storage.level)
    return jnp.asarray(data, int if storage.type.kind == "int" else float)


def _hold(storage: Storage, data: Any) -> None:
    storage.value = Value(storage.type, data, storage.level)


def _axis(storage: Storage) -> int:
    return 0 if storage.level is None else 1


def _moved(data: Any, storage: Storage, positions: np.ndarray) -> Any:
    """The elements at the positions, along a new leading axis."""
    return take_rows(jnp.moveaxis(data, _axis(storage), 0), positions)


def _inside(positions: np.ndarray, storage: Storage) -> np.ndarray:
    return (positions >= 0) & (positions < storage.shape[0])


def _streamed(storage: Storage, stream: Stream) -> Any:
    """The elements, and NaN where a position is out of range: an iteration whose branch does not read it."""
    inside = _inside(stream.positions, storage)
    elements = _moved(_data(storage), storage, np.where(inside, stream.positions, 0))
    if inside.all():
        return elements
    missing = unassigned(storage.type.kind, ())
    return jnp.where(inside.reshape((-1,) + (1,) * (elements.ndim - 1)), elements, missing)


def _window(storage: Storage, lagged: Lagged) -> tuple[Any, ...]:
    """The elements before the first iteration's, the nearest first; NaN where there is none."""
    data = jnp.moveaxis(_data(storage), _axis(storage), 0)
    first, step = int(lagged.positions[0]), int(lagged.positions[1] - lagged.positions[0])
    window = []
    for lag in range(1, lagged.lags + 1):
        position = first - step * lag
        inside = 0 <= position < data.shape[0]
        window.append(data[position] if inside else jnp.full_like(data[0], jnp.nan))
    return tuple(window)


def _refilled(storage: Storage, positions: np.ndarray, filled: Any) -> Any:
    """The array with its elements at the positions, which are consecutive, replaced."""
    data = jnp.moveaxis(_data(storage), _axis(storage), 0)
    if positions[0] > positions[-1]:
        filled = filled[::-1]
    low = int(positions.min())
    parts = [data[:low], filled, data[low + len(positions) :]]
    return jnp.moveaxis(jnp.concatenate(parts), 0, _axis(storage))


def _element_type(type: Type) -> Type:
    if type.arrays:
        return Type(type.kind, type.arrays - 1)
    return ROW_VECTOR if type.kind == "matrix" else Type("real")


def _declare_element(run: Interpreter, name: str, storage: Storage, data: Any, level: Level | None) -> None:
    """One element of an array, as a variable within the step."""
    type = _element_type(storage.type)
    value = Value(type, data, storage.level)
    element = run.memory.declare(name, type, storage.shape[1:], storage.level, value)
    element.unchecked_depth = depth_of(level)


def _stand_in(run: Interpreter, name: str, storage: Storage, data: Any | None, level: Level | None) -> None:
    """A variable within the step; what loops around must know of it, the rehearsal has told them."""
    value = storage.value if data is None else Value(storage.type, data, storage.level)
    inner = run.memory.declare(name, storage.type, storage.shape, storage.level, value)
    inner.unchecked_depth = depth_of(level)
