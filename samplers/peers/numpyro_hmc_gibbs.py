"""NumPyro's HMCGibbs as a kernel: a target with exact conditionals as a numpyro model.

Two sites hold the target's coordinates, those that conditionals draw and those that HMC moves, one more each
of what is drawn besides; all are improper, and one factor is the target's log density.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array, lax
from numpyro.distributions import ImproperUniform, constraints
from numpyro.infer import HMCGibbs
from numpyro.infer.gibbs import with_conditioning

from ...models.conditional import Blocks
from ...models.target import Density, jax_density
from ..adaptation import Tuning
from ..base import Cost, Kernel
from .blackjax import differentiable
from .numpyro import Trajectories
from .numpyro_kernels import ONE_AT_A_TIME, inner_kernel, said, step, tuned

DRAWN, LEFT = "drawn coordinates", "coordinates left"
"""Sites; with a blank, so that no variable has such a name."""


class HMCGibbsPeer:
    """Makes kernels: NumPyro's sampler of some blocks in ``dim`` dimensions.

    The density is an argument of the model, so that NumPyro is prepared on one that costs nothing.
    """

    def __init__(self, settings: Trajectories, blocks: Blocks, dim: int) -> None:
        self.blocks = blocks
        self.left = np.asarray(blocks.left)
        self.drawn = np.setdiff1d(np.arange(dim), self.left)
        self.dim = dim
        position = jnp.zeros(dim)
        start = blocks.start(jax.random.key(0), position)
        self.shapes = {name: jnp.shape(value) for name, value in start.items()}
        own = [*([DRAWN] if len(self.drawn) else []), *start]
        self.peer = HMCGibbs(inner_kernel(self._model, settings), self._draw, own)
        flat = jax_density(lambda _, x: jnp.zeros_like(x, shape=()), ())
        sites = {**self._sites(position, start), LEFT: position[self.left]}
        with ONE_AT_A_TIME:
            self.template = self.peer.init(jax.random.key(0), 0, sites, (flat,), {})

    def __call__(self, density: Density, tuning: Tuning) -> Kernel:
        inner, blocks = self.peer.inner_kernel, self.blocks
        draws = sum(found.size * found.draws for found in blocks.conditionals.values())

        def init(key: Array, position: Array) -> tuple:
            sites = self._sites(position, blocks.start(key, position))
            first, hmc = self.template.block_states
            hmc = tuned(hmc, tuning, self.left)._replace(z={LEFT: position[self.left]})
            with ONE_AT_A_TIME:
                hmc = inner.refresh(hmc, (density,), with_conditioning({}, sites))
            state = self.template._replace(z={**sites, **hmc.z}, block_states=(first._replace(z=sites), hmc))
            return state, Cost(gradients=1)

        def take(key: Array, state) -> tuple:
            after, drawn, _ = step(self.peer, key, state, tuning, self.left, (density,), {})
            gradients = drawn.astype(int) + after.hmc_state.num_steps
            extra = {name: after.z[name] for name in self.shapes}
            return after, said(after, Cost(gradients=gradients, conditional_draws=draws), extra)

        return Kernel(init, take, position=lambda state: self._position(state.z))

    def _model(self, density: Density) -> None:
        sizes = {DRAWN: (len(self.drawn),)} if len(self.drawn) else {}
        shapes = {**sizes, **self.shapes, LEFT: (len(self.left),)}
        sites = {
            name: numpyro.sample(name, ImproperUniform(constraints.real, (), shape))
            for name, shape in shapes.items()
        }
        numpyro.factor("log density", differentiable(density)(self._position(sites)))

    def _position(self, sites: dict) -> Array:
        position = jnp.zeros(self.dim, sites[LEFT].dtype).at[self.left].set(sites[LEFT])
        return position.at[self.drawn].set(sites[DRAWN]) if len(self.drawn) else position

    def _sites(self, position: Array, extra: dict[str, Array]) -> dict[str, Array]:
        """Those that conditionals draw."""
        own = {name: jnp.asarray(extra[name]) for name in extra}
        return {DRAWN: position[self.drawn], **own} if len(self.drawn) else own

    def _draw(self, *, rng_key: Array, gibbs_sites: dict, hmc_sites: dict) -> dict[str, Array]:
        """All conditionals in turn: NumPyro's ``gibbs_fn``."""
        position = self._position({**gibbs_sites, **hmc_sites})
        extra = {name: gibbs_sites[name] for name in self.shapes}
        for number, conditional in enumerate(self.blocks.conditionals.values()):
            own = jax.random.fold_in(rng_key, number)

            def one(block: Array, carry: tuple, own: Array = own, draw=conditional.draw) -> tuple:
                return draw(jax.random.fold_in(own, block), block, *carry)

            carry = (position, extra)
            many = conditional.size > 1
            position, extra = (
                lax.fori_loop(0, conditional.size, one, carry) if many else one(jnp.int32(0), carry)
            )
        return self._sites(position, extra)
