"""Calls of the program's own functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .analysis import drops_constants
from .errors import NotBatchable, UnsupportedStanError
from .statements import Returned
from .storage import Storage
from .syntax import Function, Return
from .updates import promoted
from .values import Kind, Level, Type, Value

if TYPE_CHECKING:
    from .interpreter import Interpreter

MAX_DEPTH = 200
"""Calls within calls: a recursion that data do not end would not end."""

_DROPPING = {"_lupdf": "_lpdf", "_lupmf": "_lpmf"}


def find_function(run: Interpreter, name: str, arguments: Sequence[Value]) -> Function | None:
    """The program's function of that name whose parameters accept the arguments, if there is one."""
    for suffix, defined in _DROPPING.items():
        if name.endswith(suffix):
            name = name.removesuffix(suffix) + defined
    candidates = [function for function in run.functions.get(name, ()) if function.body is not None]
    if len(candidates) == 1:
        return candidates[0]
    for exactly in (True, False):  # an int is accepted as a real where no function takes ints
        for function in candidates:
            if _accepts(function, arguments, exactly):
                return function
    if candidates:
        raise UnsupportedStanError(f"this overload of the function {name!r}")
    return None


def _accepts(function: Function, arguments: Sequence[Value], exactly: bool) -> bool:
    if len(function.parameters) != len(arguments):
        return False
    for parameter, argument in zip(function.parameters, arguments, strict=True):
        kind = argument.kind
        promoted = kind == "int" and parameter.type.base == "real" and not exactly
        if (kind != parameter.type.base and not promoted) or argument.arrays != parameter.type.array_dims:
            return False
    return True


def call_function(
    run: Interpreter, function: Function, called: str, arguments: Sequence[Value], level: Level | None
) -> Value | None:
    """The function's result for the rows of ``level``, None for a void function.

    ``called`` is the name at the call: ``foo_lupdf`` drops constants, ``foo_lpdf`` keeps them.
    """
    if run.call_depth >= MAX_DEPTH:
        raise UnsupportedStanError(f"{MAX_DEPTH} calls within calls, in {function.name!r}")
    if len(arguments) != len(function.parameters):
        raise UnsupportedStanError(f"a call of {function.name!r} with {len(arguments)} arguments")
    variables = {}
    for parameter, argument in zip(function.parameters, arguments, strict=True):
        value = _as_declared(argument, parameter.type.base, argument.arrays)
        storage = Storage(parameter.name, value.type, value.shape, level, value)
        storage.autodiff = value.kind != "int" and (argument.autodiff or not argument.concrete)
        variables[parameter.name] = storage
    drops = run.drops_constants and (called.endswith(("_lupdf", "_lupmf", "_lp")))
    assert function.body is not None
    if drops and run.scanning and drops_constants(function.body):
        raise NotBatchable(f"constants that {function.name} leaves out")
    with run.memory.only(variables), run.calling(function, drops):
        outcome = run.execute_all((*function.body.statements, Return(None)), level)
    assert isinstance(outcome, Returned)
    if function.returns is None:
        return None
    if outcome.value is None:
        raise UnsupportedStanError(f"the function {function.name!r}, which may end without a return,")
    return _as_declared(outcome.value, function.returns.base, function.returns.array_dims)


def _as_declared(value: Value, base: str, arrays: int) -> Value:
    kinds: dict[str, Kind] = {
        "int": "int",
        "real": "real",
        "vector": "vector",
        "row_vector": "row_vector",
        "matrix": "matrix",
    }
    if base not in kinds:
        raise UnsupportedStanError(f"the type {base!r}")
    return promoted(value, Type(kinds[base], arrays))
