"""Coordinates of a target that belong to one datum each, and what every datum shows: for amortized inference.

p(θ, z, x) with global parameters θ and for every datum k = 0 … n − 1 local ones z_k. Nothing is said here of
what depends on what: whether a map from x_k alone can give the best factor of z_k is a question to the
density (`essper.samplers.amortized.amortization_gap`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


class HierarchyError(ValueError):
    """A target has no local parameters that belong to a datum each, or not those that were named."""


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """The places of global and local parameters on the unconstrained space, and the data of every local one.

    Raises
    ------
    HierarchyError
        If the places are not those of a vector, each once, or the inputs are not finite numbers of as many
        data as there are local parameters.
    """

    dim: int
    """Of the target."""
    local: np.ndarray
    """``i[n, d]``: row k are the coordinates of what belongs to datum k; the others are global."""
    inputs: np.ndarray
    """``f[n, p]``: row k is datum k, as a network is given it."""
    input_names: tuple[str, ...]
    """One per column of ``inputs``: ``"y"``, ``"x[2]"``."""
    data: str = "data"
    """What the data are, in the user's words: a plate, or the size that counts them."""

    def __post_init__(self) -> None:
        places, inputs = np.asarray(self.local), np.asarray(self.inputs, float)
        if places.ndim != 2 or inputs.ndim != 2 or not places.size:
            raise HierarchyError(
                f"local needs the shape [n, d] and inputs [n, p], with n, d ≥ 1: got {places.shape} and"
                f" {inputs.shape}"
            )
        if len(places) != len(inputs):
            raise HierarchyError(f"{len(places)} local parameters and {len(inputs)} data: give one row each")
        flat = places.ravel()
        if flat.dtype.kind not in "iu" or len(set(flat.tolist())) != flat.size:
            raise HierarchyError("a coordinate is local to one datum: local needs different integers")
        if flat.min() < 0 or flat.max() >= self.dim:
            raise HierarchyError(f"local names coordinates outside of 0 … {self.dim - 1}")
        if len(self.input_names) != inputs.shape[1]:
            raise HierarchyError(
                f"{inputs.shape[1]} columns of inputs and {len(self.input_names)} names: give as many"
            )
        good = np.isfinite(inputs).all(0)
        if strange := [name for name, fine in zip(self.input_names, good, strict=True) if not fine]:
            raise HierarchyError(f"inputs are to be finite numbers: {', '.join(strange)} are not everywhere")
        object.__setattr__(self, "local", places.astype(np.int64))
        object.__setattr__(self, "inputs", inputs)

    @property
    def n(self) -> int:
        """The number of data."""
        return len(self.local)

    @property
    def shared(self) -> np.ndarray:
        """The coordinates of global parameters, ``i[dim − n d]``, ascending."""
        return np.setdiff1d(np.arange(self.dim), self.local)

    def windows(self, before: int = 0, after: int = 0) -> np.ndarray:
        """Every datum with its neighbours in the order of the data: ``f[n, (before + 1 + after) p]``.

        Row k is x_(k − before), …, x_k, …, x_(k + after); beyond either end stand zeros.
        """
        n, p = self.inputs.shape
        padded = np.concatenate([np.zeros((before, p)), self.inputs, np.zeros((after, p))])
        return np.concatenate([padded[i : i + n] for i in range(before + 1 + after)], axis=1)


def columns(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays ``[n, …]`` as columns ``f[n]`` named by the rest: ``x[1,2]``, counted from 1; ``y`` itself."""
    found: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        for index in np.ndindex(array.shape[1:]):
            label = f"{name}[{','.join(str(i + 1) for i in index)}]" if index else name
            found[label] = np.asarray(array[:, *index], float)
    return found
