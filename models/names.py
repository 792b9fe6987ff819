"""Names of parameters: posteriordb's ``theta[1,2]``, BridgeStan's ``theta.1.2``, and arrays.

Everything here is about labels; no statistics and no densities.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

_BRACKETS = re.compile(r"^(?P<name>[^\[\]]+)(\[(?P<index>[\d,]+)\])?$")


def from_dots(name: str) -> str:
    """``"theta.1.2"`` → ``"theta[1,2]"``; names without an index are returned as they are.

    So are those with a part that is no number: ``"z.real"`` of a complex parameter.
    """
    base, *index = name.split(".")
    return f"{base}[{','.join(index)}]" if index and all(i.isdigit() for i in index) else name


def to_dots(name: str) -> str:
    """``"theta[1,2]"`` → ``"theta.1.2"``, the inverse of `from_dots`."""
    return name.replace("[", ".").replace(",", ".").removesuffix("]")


def split_name(name: str) -> tuple[str, tuple[int, ...]]:
    """``"theta[1,2]"`` → ``("theta", (1, 2))``; ``"mu"`` → ``("mu", ())``. Indices count from 1.

    Raises
    ------
    ValueError
        If the name has neither form.
    """
    match = _BRACKETS.match(name)
    if match is None:
        raise ValueError(f"{name!r} is no parameter name: expected 'mu' or 'theta[1,2]'")
    index = match["index"]
    return match["name"], tuple(int(i) for i in index.split(",")) if index else ()


def named_arrays(names: Sequence[str], draws: np.ndarray) -> dict[str, np.ndarray]:
    """Columns gathered into one array a variable, in the order in which the variables first appear.

    Parameters
    ----------
    names : one per column
    draws : ``f[..., len(names)]``

    Returns
    -------
    ``{"theta": f[..., 2, 3], "mu": f[...]}``. Elements that ``names`` does not mention (a reference
    may hold a part of a matrix) are NaN.
    """
    places: dict[str, list[tuple[tuple[int, ...], int]]] = {}
    for column, name in enumerate(names):
        base, index = split_name(name)
        places.setdefault(base, []).append((index, column))
    return {base: _gather(found, draws) for base, found in places.items()}


def _gather(found: list[tuple[tuple[int, ...], int]], draws: np.ndarray) -> np.ndarray:
    shape = tuple(int(n) for n in np.max([index for index, _ in found], axis=0))
    out = np.full((*draws.shape[:-1], *shape), np.nan)
    for index, column in found:
        out[(..., *(i - 1 for i in index))] = draws[..., column]
    return out
