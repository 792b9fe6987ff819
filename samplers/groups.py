"""Groups of chains: what moves in lockstep is vmapped, what runs alone is not."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def over_group(function):
    """``vmap``, except that a group of one runs unbatched.

    Under ``vmap`` a conditional becomes a selection and both of its branches are executed; a chain
    that runs alone must not pay for that.
    """

    def call(*args):
        size = jax.tree.leaves(args)[0].shape[0]
        if size > 1:
            return jax.vmap(function)(*args)
        out = function(*jax.tree.map(lambda leaf: leaf[0], args))
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], out)

    return call
