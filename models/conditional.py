"""Exact conditional distributions of blocks of a target, for Gibbs sampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jax import Array


def nothing(key: Array, position: Array) -> dict[str, Array]:
    """No variables besides the target's parameters."""
    return {}


@dataclass(frozen=True)
class Conditional:
    """Exact draws of one or several blocks that are alike, each given all else.

    Parameters
    ----------
    draw : ``(key, block i[], position f[dim], extra) -> (position, extra)``, pure; from the conditional
        distribution of block number ``block``
    size : how many blocks
    draws : what one costs, in conditional draws
    """

    draw: Callable[[Array, Array, Array, dict[str, Array]], tuple[Array, dict[str, Array]]]
    size: int = 1
    draws: int = 1


@dataclass(frozen=True)
class Blocks:
    """The exact conditionals of a target, and what is sampled besides its parameters.

    Coordinates that no conditional draws are left to generic updates.
    """

    conditionals: Mapping[str, Conditional]
    """By name, in the order of a systematic scan."""
    left: tuple[int, ...] = ()
    """Coordinates that have no exact conditional."""
    start: Callable[[Array, Array], dict[str, Array]] = field(default=nothing)
    """``(key, position f[dim]) -> extra``: labels, hidden states, by name."""
