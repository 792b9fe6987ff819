"""Exact conditional distributions of blocks of a target, for Gibbs sampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def nothing(key: Array, position: Array) -> dict[str, Array]:
    """No variables besides the target's parameters."""
    return {}


def _described(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}"


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

    def __post_init__(self) -> None:
        if self.size < 1 or self.draws < 1:
            raise ValueError(f"size={self.size}, draws={self.draws}: give 1 or more")


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

    def check(self, name: str, dim: int) -> None:
        """Refuse conditionals that do not return what they are given, of the same shapes and types.

        Raises
        ------
        ValueError
            Naming the conditional of the target ``name``.
        """
        key, position = jax.random.key(0), jnp.zeros(dim)
        given = position, self.start(key, position)
        wanted = jax.tree.map(_described, jax.eval_shape(lambda: given))
        for which, conditional in self.conditionals.items():
            returned = jax.eval_shape(conditional.draw, key, jnp.int32(0), *given)
            found = jax.tree.map(_described, returned)
            if found != wanted:
                raise ValueError(
                    f"the conditional {which!r} of {name} has to return (position, extra) as it is given"
                    f" them, {wanted}, but returns {found}; what is in extra is made by Blocks(start=…)"
                )
