"""Calls of Stan's library: its functions, densities and distribution functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .errors import LoweringError, UnsupportedStanError
from .values import Value


def library[Result](
    function: Callable[[str, Sequence[Value]], Result], name: str, arguments: Sequence[Value]
) -> Result:
    """A function of the Stan library; sizes that it cannot take are an error of the program's."""
    try:
        return function(name, arguments)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        if isinstance(error, LoweringError):
            raise
        given = ", ".join(f"{argument.type} of shape {argument.shape}" for argument in arguments)
        raise UnsupportedStanError(f"{name!r} of {given}") from error
