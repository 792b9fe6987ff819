"""What is known of a Stan model besides its program: its log density again, and exact conditionals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jax import Array

from ..conditional import Blocks


@dataclass(frozen=True)
class KnownModel:
    """Derived by hand for one data set."""

    blocks: Blocks
    log_density: Callable[[Array], Array]
    """``f[dim] -> f[]`` on Stan's unconstrained space, up to a constant, Jacobian included: the model that
    the conditionals were derived for. It is compared with the target's before they are used."""


type Extra = dict[str, Array]

type Derive = Callable[[dict[str, Any]], KnownModel]
"""From the data of the program."""
