"""Stan's solvers of ordinary differential equations, as one explicit method with forward sensitivities.

Every solver of the language (``ode_rk45``, ``ode_bdf``, ``integrate_ode_adams``, …) becomes the
Dormand–Prince method of order 8(5, 3) (Hairer, Nørsett & Wanner 1993, *Solving Ordinary Differential
Equations I*, II.5 and II.10), at tolerances that are much tighter than Stan's defaults: the lowered
density is the accurate one, and Stan's approaches it as its tolerances are tightened.

A stiff system is solved too, but its steps are bounded by stability: `MAX_STEPS` between two output
times are the most that is tried. Beyond, and wherever the solution is not finite, the result is NaN, so
that the density is rejected, as it is where Stan's solver gives up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.integrate import DOP853

from .errors import NotBatchable, UnsupportedStanError
from .values import Type, Value

RELATIVE_TOLERANCE = 1e-10
ABSOLUTE_TOLERANCE = 1e-12
"""The largest tolerances used, of the state and its sensitivities. A program that asks for smaller ones
gets them. At order 8, ten times less error is a third more steps."""
MAX_STEPS = 10_000
"""Between two output times."""

RightHandSide = Callable[[Sequence[Value]], Value]
System = Callable[[Any, jax.Array], jax.Array]
"""From the time and the state to the state's derivative, of the state's shape."""

_METHODS = ("rk45", "bdf", "adams", "ckrk")
_ARRAY_NAMES = ("integrate_ode", *(f"integrate_ode_{method}" for method in _METHODS))
_VECTOR_NAMES = tuple(f"ode_{method}{suffix}" for method in _METHODS for suffix in ("", "_tol"))


def known(name: str) -> bool:
    """Whether it is a solver that `integrate` takes."""
    return name in _ARRAY_NAMES or name in _VECTOR_NAMES


def integrate(name: str, right_hand_side: RightHandSide, arguments: Sequence[Value]) -> Value:
    """The solution at the output times.

    Parameters
    ----------
    name : one that is `known`
    right_hand_side : the program's function, of the time, the state and the further arguments
    arguments : of the call, without the function: initial state, initial time, output times, then the
        function's own arguments and the tolerances, in the order of that solver. Tolerances are used
        where they are smaller than `RELATIVE_TOLERANCE` and `ABSOLUTE_TOLERANCE`, the number of steps not
        at all. What is traced gets sensitivities.

    Returns
    -------
    Value
        ``array[N, n] real`` of ``integrate_ode_…``, else ``array[N] vector[n]``; NaN where it fails.
    """
    if any(argument.level is not None for argument in arguments):
        raise NotBatchable("a differential equation is solved in every iteration")
    problem = _read(name, arguments)
    free = tuple(jnp.asarray(problem.values[i].data, float) for i in problem.traced)

    def system(time: Any, state: jax.Array, free: tuple[jax.Array, ...]) -> jax.Array:
        values = problem.filled(free)
        time_value = Value(Type("real"), time)
        result = right_hand_side([time_value, Value(problem.state_type, state), *values[3:]])
        return jnp.asarray(result.data, state.dtype)

    # Compiled as a function of its own: the program's function is interpreted once, not at every stage.
    solve = _solver(problem, jax.jit(system))
    if free:
        return Value(problem.result_type, solve(free))
    with jax.ensure_compile_time_eval():
        return Value(problem.result_type, np.asarray(jax.jit(solve)(free)))


@dataclass(frozen=True)
class _Problem:
    """An initial value problem. ``values`` are the initial state, initial time, output times, arguments."""

    values: tuple[Value, ...]
    state_type: Type
    result_type: Type
    relative: float
    absolute: float

    @property
    def traced(self) -> list[int]:
        """Positions of the values that depend on parameters."""
        return [i for i, value in enumerate(self.values) if not value.concrete]

    def filled(self, free: Sequence[jax.Array]) -> list[Value]:
        """The values with others in place of those that are traced."""
        values = list(self.values)
        for i, array in zip(self.traced, free, strict=True):
            values[i] = Value(values[i].type, array)
        return values


def _read(name: str, arguments: Sequence[Value]) -> _Problem:
    given, tolerances = list(arguments), []
    if name in _ARRAY_NAMES:
        given, tolerances = given[:6], given[6:8]
        state, result = Type("real", 1), Type("real", 2)
    else:
        if name.endswith("_tol"):
            given, tolerances = [*given[:3], *given[6:]], given[3:5]
        state, result = Type("vector"), Type("vector", 1)
    if any(value.kind == "int" and not value.concrete for value in given):
        raise UnsupportedStanError(f"an int that depends on parameters as an argument of {name!r}")
    limits = [RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE]
    for i, value in enumerate(tolerances):
        if not value.concrete:
            raise UnsupportedStanError(f"a tolerance of {name!r} that depends on parameters")
        limits[i] = min(limits[i], float(value.data))
    return _Problem(tuple(given), state, result, *limits)


# -- sensitivities --------------------------------------------------------------------------------

_INITIAL_STATE, _INITIAL_TIME, _TIMES = 0, 1, 2
"""Positions in ``_Problem.values``."""


def _solver(problem: _Problem, system: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The states ``f[N, n]`` as a function of the traced values, with derivatives by sensitivities."""

    def start(free: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        state, time, times = (value.data for value in problem.filled(free)[:3])
        return jnp.asarray(state, float), jnp.asarray(time, float), jnp.asarray(times, float)

    def states_at(coupled: System, initial: jax.Array, time: jax.Array, times: jax.Array) -> jax.Array:
        return _trajectory(coupled, initial, time, times, problem.relative, problem.absolute)

    @jax.custom_jvp
    def solve(free: tuple[jax.Array, ...]) -> jax.Array:
        initial, time, times = start(free)
        return states_at(lambda t, y: system(t, y, free), initial, time, times)

    # The solution does not depend on the directions: reverse mode transposes only what follows it.
    @solve.defjvp
    def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        (free,), (directions,) = primals, tangents
        initial, time, times = start(free)
        inside = [k for k, position in enumerate(problem.traced) if position != _TIMES]
        seeds = _unit_directions(free, inside)
        sensitivities = jnp.zeros((sum(free[k].size for k in inside), initial.size), initial.dtype)
        for k in inside:
            if problem.traced[k] == _INITIAL_STATE:
                sensitivities += seeds[k]
            elif problem.traced[k] == _INITIAL_TIME:
                # To start later from the same state is to be further back on the way.
                sensitivities -= seeds[k][:, None] * system(time, initial, free)

        def coupled(t: Any, rows: jax.Array) -> jax.Array:
            """Row 0 is the state, the others are its derivatives along the unit directions."""

            def along(row: jax.Array, *seed: jax.Array) -> tuple[jax.Array, jax.Array]:
                return jax.jvp(lambda y, q: system(t, y, q), (rows[0], free), (row, seed))

            if len(rows) == 1:
                return system(t, rows[0], free)[None]
            rate, rates = jax.vmap(along, out_axes=(None, 0))(rows[1:], *seeds)
            return jnp.concatenate([rate[None], rates])

        solution = states_at(coupled, jnp.concatenate([initial[None], sensitivities]), time, times)
        states = solution[:, 0]
        change = jnp.zeros_like(states)
        if inside:
            direction = jnp.concatenate([jnp.ravel(directions[k]) for k in inside])
            change += jnp.einsum("tmn,m->tn", solution[:, 1:], direction)
        if _TIMES in problem.traced:
            moved = directions[problem.traced.index(_TIMES)]
            change += moved[:, None] * jax.vmap(lambda t, y: system(t, y, free))(times, states)
        return states, change

    return solve


def _unit_directions(free: Sequence[jax.Array], inside: Sequence[int]) -> list[jax.Array]:
    """One direction for each number in the arrays ``inside``, as arrays ``f[directions, *shape]``."""
    count = sum(free[k].size for k in inside)
    directions = [np.zeros((count, *array.shape)) for array in free]
    row = 0
    for k in inside:
        size = free[k].size
        directions[k][row : row + size] = np.eye(size).reshape(size, *free[k].shape)
        row += size
    return [jnp.asarray(unit, array.dtype) for unit, array in zip(directions, free, strict=True)]


# -- the method -----------------------------------------------------------------------------------


class _Walk(NamedTuple):
    """Where the integration is."""

    time: jax.Array
    state: jax.Array
    rate: jax.Array
    """The derivative here, the next step's first stage."""
    step: jax.Array
    """The size that error control proposes for the next step."""
    steps: jax.Array
    """Tried since the last output time."""


def _trajectory(
    system: System, initial: jax.Array, time: Any, times: jax.Array, relative: float, absolute: float
) -> jax.Array:
    """The solution at ``times`` by steps that end there; NaN where it fails, or times do not increase.

    Each output time is approached by a loop of its own: of solutions that are computed together (by
    ``vmap``), each has its own steps, and all wait for the slowest at every output time.
    """
    dtype = initial.dtype
    precision = 10 * float(jnp.finfo(dtype).eps)
    relative, absolute = max(relative, precision), max(absolute, precision * 1e-3)
    tiny = 0.1 * precision

    def advance(walk: _Walk, until: jax.Array) -> tuple[_Walk, jax.Array]:
        def unfinished(walk: _Walk) -> jax.Array:
            return (walk.time < until) & (walk.steps < MAX_STEPS) & (walk.step > tiny * jnp.abs(walk.time))

        def attempt(walk: _Walk) -> _Walk:
            remaining = until - walk.time
            last = walk.step >= remaining
            step = jnp.where(last, remaining, walk.step)
            state, rate, error = _dormand_prince(system, walk, step, relative, absolute)
            accepted = error < 1
            factor = jnp.clip(_SAFETY * jnp.maximum(error, 1e-10) ** (-1 / 8), _SHRINK, _GROW)
            factor = jnp.where(jnp.isnan(error), _SHRINK, factor)
            # A step that was cut short to end at the output time says nothing against the longer one.
            proposed = jnp.where(accepted & last, jnp.maximum(walk.step, step * factor), step * factor)
            return _Walk(
                jnp.where(accepted, jnp.where(last, until, walk.time + step), walk.time),
                jnp.where(accepted, state, walk.state),
                jnp.where(accepted, rate, walk.rate),
                proposed,
                walk.steps + 1,
            )

        walk = lax.while_loop(unfinished, attempt, walk._replace(steps=jnp.zeros_like(walk.steps)))
        return walk, jnp.where(walk.time >= until, walk.state, jnp.nan)

    time = jnp.asarray(time, dtype)
    rate = system(time, initial)
    step = _first_step(system, time, initial, rate, relative, absolute)
    start = _Walk(time, initial, rate, step, jnp.zeros((), jnp.int32))
    _, states = lax.scan(advance, start, times)
    increasing = (times[:1] > time).all() & (times[1:] >= times[:-1]).all()
    return jnp.where(increasing, states, jnp.nan)


_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 10.0
_A, _B, _C = DOP853.A, DOP853.B, DOP853.C
_E3, _E5 = DOP853.E3[:-1], DOP853.E5[:-1]


def _combination(weights: np.ndarray, rates: Sequence[jax.Array]) -> jax.Array:
    terms = [float(weight) * rate for weight, rate in zip(weights, rates, strict=True) if weight != 0]
    return sum(terms[1:], terms[0])


def _dormand_prince(
    system: System, walk: _Walk, step: jax.Array, relative: float, absolute: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One step: the new state, its derivative, and the error in units of the tolerance (accepted if < 1)."""
    rates = [walk.rate]
    for stage in range(1, len(_B)):
        state = walk.state + step * _combination(_A[stage, :stage], rates)
        rate = system(walk.time + float(_C[stage]) * step, state)
        # Else XLA computes the stages again wherever they are used, which is slow under vmap.
        rates.append(lax.optimization_barrier(rate))
    state = walk.state + step * _combination(_B, rates)
    scale = absolute + relative * jnp.maximum(jnp.abs(walk.state), jnp.abs(state))
    fifth = jnp.sum((_combination(_E5, rates) / scale) ** 2)
    third = jnp.sum((_combination(_E3, rates) / scale) ** 2)
    # Hairer, Nørsett & Wanner, eq. (10.17).
    denominator = jnp.sqrt((fifth + 0.01 * third) * state.size)
    error = jnp.where(denominator == 0, 0.0, step * fifth / jnp.where(denominator == 0, 1.0, denominator))
    return state, system(walk.time + step, state), error


def _first_step(
    system: System, time: jax.Array, state: jax.Array, rate: jax.Array, relative: float, absolute: float
) -> jax.Array:
    """The size of the first step (Hairer, Nørsett & Wanner, II.4, "Starting step size")."""
    scale = absolute + relative * jnp.abs(state)

    def norm(array: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum((array / scale) ** 2)) / math.sqrt(state.size)

    size, speed = norm(state), norm(rate)
    small = (size < 1e-5) | (speed < 1e-5)
    guess = jnp.where(small, 1e-6, 0.01 * size / jnp.where(small, 1.0, speed))
    change = norm(system(time + guess, state + guess * rate) - rate) / guess
    largest = jnp.maximum(speed, change)
    flat = largest <= 1e-15
    better = jnp.where(
        flat, jnp.maximum(1e-6, 1e-3 * guess), (0.01 / jnp.where(flat, 1.0, largest)) ** (1 / 8)
    )
    return jnp.minimum(100 * guess, better)
