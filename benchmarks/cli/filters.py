"""``--where``: conditions on posteriors, in words."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    from .facts import Listed

FORMS = "a word, keyword=WORD, dim<20, dim>=5, dim=10, has-reference or no-reference"
_COMPARISON = re.compile(r"dim\s*(?P<how><=|>=|==|!=|=|<|>)\s*(?P<value>\d+)")
_OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}
_REFERENCE = {"has-reference": True, "no-reference": False}


@dataclass(frozen=True)
class Condition:
    """One ``--where``."""

    text: str
    holds: Callable[[Listed], bool]
    of_dimension: bool = False
    """Whether it asks for the dimension, for which models must be built."""


def parse_condition(text: str) -> Condition:
    """The condition that one ``--where`` stands for.

    Raises
    ------
    InputError
        If it has no meaning; the message has the forms that do.
    """
    words = text.strip()
    if comparison := _COMPARISON.fullmatch(words):
        compare, value = _OPERATORS[comparison["how"]], int(comparison["value"])
        return Condition(words, lambda it: it.dim is not None and compare(it.dim, value), of_dimension=True)
    if words in _REFERENCE:
        wanted = _REFERENCE[words]
        return Condition(words, lambda it: it.reference is wanted)
    word = words.removeprefix("keyword=").strip().lower()
    if not word or re.search(r"[<>=!]", word):
        raise InputError(f"--where {text!r} has no meaning: give {FORMS}")
    if near := difflib.get_close_matches(word, _REFERENCE, n=1, cutoff=0.8):
        raise InputError(f"--where {text!r} has no meaning: did you mean {near[0]}?")
    return Condition(words, lambda it: any(word in text.lower() for text in it.words))


def select(posteriors: Sequence[Listed], conditions: Sequence[Condition]) -> list[Listed]:
    """Those for which all conditions hold."""
    return [it for it in posteriors if all(condition.holds(it) for condition in conditions)]
