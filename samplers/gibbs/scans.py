"""In which order blocks are updated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Scan = Literal["systematic", "reversed", "random", "random-permutation", "weighted"]
SCANS = ("systematic", "reversed", "random", "random-permutation", "weighted")


def is_fixed(scan: Scan) -> bool:
    """Whether every sweep goes through all blocks in one order."""
    return scan in ("systematic", "reversed")


def order_of(scan: Scan, key: Array, blocks: int, weights: Sequence[float] | None) -> Array:
    """The blocks of one sweep, as many as there are: ``i[blocks]``.

    ``"random"`` draws each of them uniformly and ``"weighted"`` in proportion to ``weights``, with
    replacement; ``"random-permutation"`` takes all in a random order.
    """
    if scan == "systematic":
        return jnp.arange(blocks)
    if scan == "reversed":
        return jnp.arange(blocks)[::-1]
    if scan == "random":
        return jax.random.randint(key, (blocks,), 0, blocks)
    if scan == "random-permutation":
        return jax.random.permutation(key, blocks)
    shares = np.asarray(weights, float)
    return jax.random.choice(key, blocks, (blocks,), p=jnp.asarray(shares / shares.sum()))
