"""Exact conditionals of known Stan models, checked against the program that is run."""

from .known import KNOWN as KNOWN
from .known import ConditionalsMismatch as ConditionalsMismatch
from .known import blocks_for as blocks_for
from .known import confirmed as confirmed
