"""What NumPyro's two Gibbs samplers have in common as kernels: tuning, keys, and what a step has executed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import solve_triangular
from numpyro.infer import HMC, NUTS
from numpyro.infer.gibbs import Gibbs, any_changed
from numpyro.infer.hmc import HMCState

from ...models.numpyro_model import ONE_AT_A_TIME
from ..adaptation import Tuning
from ..base import Info
from ..metrics import make_metric
from .numpyro import Trajectories


def inner_kernel(model: Any, settings: Trajectories) -> HMC:
    """NumPyro's NUTS or HMC, which adapts nothing."""
    fixed: dict[str, Any] = {
        "adapt_step_size": False,
        "adapt_mass_matrix": False,
        "dense_mass": settings.dense,
    }
    if settings.inner == "nuts":
        return NUTS(model, max_tree_depth=settings.max_num_doublings, **fixed)
    fixed |= {"num_steps": settings.num_integration_steps, "trajectory_length": None}
    return HMC(model, **fixed)


def tuned(state: HMCState, tuning: Tuning, columns: np.ndarray) -> HMCState:
    """The state with a step size and with a metric's part.

    Parameters
    ----------
    columns : ``i[k]``, the coordinates that NumPyro moves, in the order of its mass matrix
    """
    inverse = tuning.metric.inverse_mass_matrix
    dense = inverse.ndim == 2
    metric = make_metric(inverse[columns][:, columns] if dense else inverse[columns])
    # NumPyro draws a momentum as a root of the mass matrix times standard normals; any root will do.
    root = solve_triangular(metric.factor.T, jnp.eye(len(columns))) if dense else 1 / metric.factor
    (sites,) = state.adapt_state.inverse_mass_matrix
    adapted = state.adapt_state._replace(
        step_size=tuning.step_size,
        inverse_mass_matrix={sites: metric.inverse_mass_matrix},
        mass_matrix_sqrt={sites: root},
        mass_matrix_sqrt_inv={sites: metric.factor.T},
    )
    return state._replace(adapt_state=adapted)


def step(
    peer: Gibbs, key: Array, state: Any, tuning: Tuning, columns: np.ndarray, args: tuple, kwargs: dict
) -> tuple[Any, Array, Array]:
    """One step of a Gibbs sampler of two blocks, the second of which is HMC.

    Returns
    -------
    the next state; whether the first block has changed anything, and whether the second has: ``b[]``, by
    the test by which NumPyro decides what it evaluates again
    """
    first, hmc = state.block_states
    own, inner = jax.random.split(key)
    blocks = (first._replace(rng_key=own), tuned(hmc, tuning, columns)._replace(rng_key=inner))
    with ONE_AT_A_TIME:
        after = peer.sample(state._replace(block_states=blocks), args, kwargs)
    drawn, moved = (any_changed(old.z, new.z) for old, new in zip(blocks, after.block_states, strict=True))
    return after, drawn, moved


def said(state: Any, cost: Any, extra: dict[str, Array]) -> Info:
    """What a step did, its cost apart from NumPyro's own words on the trajectory."""
    hmc = state.hmc_state
    return Info(
        cost=cost,
        acceptance=hmc.accept_prob,
        divergent=hmc.diverging,
        extra={"energy": hmc.energy, "num_integration_steps": jnp.asarray(hmc.num_steps), **extra},
    )
