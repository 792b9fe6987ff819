"""Whether an expression is an int, without evaluating it.

``c ? 1 : 2.5`` is a real whichever branch is taken, and an int division of it would be wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .syntax import Binary, Call, Conditional, Expression, Index, Number, Unary, Variable
from .values import Level

if TYPE_CHECKING:
    from .interpreter import Interpreter

_ALWAYS_INT = {
    "size",
    "rows",
    "cols",
    "num_elements",
    "dims",
    "int_step",
    "to_int",
    "rank",
    "is_nan",
    "is_inf",
    "logical_negation",
    "sort_indices_asc",
    "sort_indices_desc",
}
_INT_OF_INTS = {
    "abs",
    "min",
    "max",
    "sum",
    "prod",
    "choose",
    "head",
    "tail",
    "segment",
    "reverse",
    "rep_array",
    "sort_asc",
    "sort_desc",
    "append_array",
    "to_array_1d",
}


def is_int(run: Interpreter, node: Expression, level: Level | None) -> bool:
    """Whether the expression is an int, or an array of ints."""
    match node:
        case Number(value):
            return isinstance(value, int)
        case Variable(name):
            return run.memory.storage(name, level).type.kind == "int"
        case Index(base):
            return is_int(run, base, level)
        case Unary(operator, operand):
            return operator == "!" or is_int(run, operand, level)
        case Binary(operator, left, right):
            if operator in ("==", "!=", "<", ">", "<=", ">=", "&&", "||"):
                return True
            return operator not in ("^", ".^") and is_int(run, left, level) and is_int(run, right, level)
        case Conditional(_, yes, no):
            return is_int(run, yes, level) and is_int(run, no, level)
        case Call(name, arguments):
            own = run.functions.get(name, ())
            if own:
                return all(f.returns is not None and f.returns.base == "int" for f in own)
            of_ints = name in _INT_OF_INTS and all(is_int(run, a, level) for a in arguments)
            return name in _ALWAYS_INT or of_ints
    return False
