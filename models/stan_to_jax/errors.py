"""What the lowering says when it cannot lower."""

from __future__ import annotations

from typing import Self

from ..stan_source import StanProgramError
from .syntax import Position


class LoweringError(StanProgramError):
    """Something in a Stan program, with its file, line and column where they are known."""

    hint = ""

    def __init__(self, reason: str, position: Position | None = None) -> None:
        self.reason = reason
        self.position = position
        super().__init__(f"{'' if position is None else f'{position}: '}{reason}{self.hint}")

    def at(self, position: Position) -> Self:
        """The same error with a position, where it has none yet."""
        return self if self.position is not None else type(self)(self.reason, position)


class UnsupportedStanError(LoweringError):
    """A construct of the Stan language that is not lowered to JAX.

    The program may well be valid: ``backend="bridgestan"`` runs it.
    """

    hint = " is not lowered to JAX; backend='bridgestan' runs such a program"


class StanIndexError(LoweringError):
    """An index outside of its array, known from the data: Stan would refuse every evaluation."""


class NotBatchable(Exception):
    """The iterations of a loop cannot be executed at once: run them in order. Never leaves the lowering."""


class Ragged(NotBatchable):
    """A size differs between the rows of ``level``: ``sizes`` has one per row."""

    def __init__(self, level: object, sizes: object) -> None:
        super().__init__("sizes differ between iterations")
        self.level = level
        self.sizes = sizes
