"""NumPyro's DiscreteHMCGibbs as a kernel on a numpyro model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpyro.handlers import condition, seed, substitute, trace
from numpyro.infer import DiscreteHMCGibbs
from numpyro.infer.gibbs import (
    discrete_latent_sites,
    discrete_support_sizes,
    latent_sample_sites,
    prototype_trace,
    with_conditioning,
)

from ...models.numpyro_model import read_model
from ...models.target import Density, jax_density
from ..adaptation import Tuning
from ..base import Cost, Kernel
from ..mode_search import RADIUS, TRIES
from .numpyro import BoundPeer, alone
from .numpyro_kernels import ONE_AT_A_TIME, inner_kernel, said, step, tuned

if TYPE_CHECKING:
    from .numpyro import NumPyroDiscreteHMCGibbs


ATTEMPTS = 20
"""Draws of the discrete sites from which a first state is sought."""


class DiscretePeer:
    """NumPyro's sampler of one model with its arguments, and what the driver needs of it.

    Raises
    ------
    ValueError
        If a discrete site has other values than 0, 1, …, there is no discrete or no continuous one, or no
        state of finite density is found.
    """

    def __init__(self, settings: NumPyroDiscreteHMCGibbs) -> None:
        self.args, self.kwargs, self.model = settings.args, dict(settings.kwargs), settings.model
        with ONE_AT_A_TIME:
            found = prototype_trace(settings.model, jax.random.key(0), self.args, self.kwargs)
            self.sites = _discrete(found)
            sizes = np.concatenate([np.ravel(s) for s in discrete_support_sizes(found, self.sites).values()])
            self.peer = DiscreteHMCGibbs(
                inner_kernel(settings.model, settings),
                random_walk=settings.random_walk,
                modified=settings.modified,
            )
            self.template = self._prepared()
        self.sweep = len(sizes) if settings.random_walk else int(np.sum(sizes - 1))
        """Densities that one costs."""
        start = self.template.block_states[0].z
        self.parameters = read_model(condition(settings.model, data=start), self.args, self.kwargs)
        self.columns = self._columns()
        self.examples = self._examples()
        self.density = jax_density(self._log_joint, start)
        self.bound = BoundPeer(self._kernel, settings.adaptation, alone(settings.execution))

    def _kernel(self, density: Density, tuning: Tuning) -> Kernel:
        """All discrete variables in a random order, then a trajectory of the others."""
        discrete, inner = self.peer.blocks[0][0], self.peer.inner_kernel
        constrain = inner.get_constrain_fn(self.args, self.kwargs)

        def init(key: Array, position: Array) -> tuple:
            z = self.parameters.unpacked(position)
            first, hmc = self.template.block_states
            first, tries = self._start(discrete, key, first, constrain(z))
            hmc = tuned(hmc, tuning, self.columns)._replace(z=z)
            with ONE_AT_A_TIME:
                hmc = inner.refresh(hmc, self.args, with_conditioning(self.kwargs, first.z))
            state = self.template._replace(z={**first.z, **z}, block_states=(first, hmc))
            return state, Cost(gradients=1, densities=tries)

        def take(key: Array, state: Any) -> tuple:
            after, drawn, moved = step(self.peer, key, state, tuning, self.columns, self.args, self.kwargs)
            cost = Cost(
                gradients=drawn.astype(int) + after.hmc_state.num_steps,
                densities=self.sweep + moved.astype(int),
            )
            return after, said(after, cost, {name: after.z[name] for name in self.sites})

        return Kernel(init, take, position=self._position)

    def _start(self, discrete: Any, key: Array, state: Any, constrained: dict) -> tuple:
        """Discrete values from the prior until their joint density with the others is finite.

        If it never is, those that the driver's density has: with them it is finite.
        """
        kwargs = with_conditioning(self.kwargs, constrained)

        def tried(values: dict) -> Any:
            with ONE_AT_A_TIME:
                return discrete.refresh(state._replace(z=values), self.args, kwargs)

        def prior(key: Array) -> dict:
            with ONE_AT_A_TIME:
                run = trace(substitute(seed(self.model, key), data=constrained))
                found = run.get_trace(*self.args, **self.kwargs)
            return {name: jnp.asarray(found[name]["value"], state.z[name].dtype) for name in self.sites}

        def again(carry: tuple) -> Array:
            state, tries = carry
            return ~jnp.isfinite(state.potential_energy) & (tries <= TRIES)

        def body(carry: tuple) -> tuple:
            _, tries = carry
            drawn = prior(jax.random.fold_in(key, tries))
            values = {name: jnp.where(tries < TRIES, drawn[name], state.z[name]) for name in self.sites}
            return tried(values), tries + 1

        nowhere = state._replace(potential_energy=jnp.full_like(state.potential_energy, jnp.inf))
        return lax.while_loop(again, body, (nowhere, jnp.int32(0)))

    def _log_joint(self, discrete: dict, position: Array) -> Array:
        """Of continuous sites with some discrete values, Jacobian included: ``f[dim] -> f[]``."""
        with ONE_AT_A_TIME:
            potential = self.peer.inner_kernel.get_potential_fn(
                self.args, with_conditioning(self.kwargs, discrete)
            )
            return -jnp.asarray(potential(self.parameters.unpacked(position)))

    def _position(self, state: Any) -> Array:
        return jnp.concatenate([jnp.ravel(state.z[site.name]) for site in self.parameters.latents])

    def _prepared(self) -> Any:
        """A first state, on discrete values from the prior with which NumPyro finds a finite density."""
        reason = None
        for attempt in range(ATTEMPTS):
            try:
                return self.peer.init(jax.random.key(attempt), 0, None, self.args, self.kwargs)
            except RuntimeError as error:
                reason = error
        raise ValueError(
            f"NumPyro finds no first state of the model, with {ATTEMPTS} draws of the discrete sites from"
            f" their prior: {reason}"
        ) from reason

    def _examples(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and what they are in the model's own parameters: ``f[3, dim]``, ``f[3, n_params]``."""
        points = np.random.default_rng(0).uniform(-RADIUS, RADIUS, (3, self.parameters.dim))
        constrained = jax.jit(self.parameters.constrained)
        return points, np.stack([np.asarray(constrained(jnp.asarray(x))) for x in points])

    def _columns(self) -> np.ndarray:
        """NumPyro's mass matrix has the sites by their names, a position in the model's order."""
        numbered = self.parameters.unpacked(jnp.arange(self.parameters.dim))
        return np.concatenate([np.ravel(numbered[name]) for name in sorted(numbered)])


def _discrete(found: Any) -> tuple[str, ...]:
    """The names of discrete sites."""
    sites = discrete_latent_sites(found)
    if not sites:
        raise ValueError("the model has no discrete latent site to draw: run nuts on from_numpyro(model)")
    if len(sites) == len(latent_sample_sites(found)):
        raise ValueError("the model has no continuous latent site: there is nothing to move by gradients")
    for name in sites:
        values = np.ravel(found[name]["fn"].enumerate_support(expand=False))
        if not np.array_equal(values, np.arange(len(values))):
            raise ValueError(
                f"the discrete site {name!r} has the values {values[0]} … {values[-1]}: NumPyro's"
                " DiscreteHMCGibbs takes 0, 1, … for them; shift the site"
            )
    return sites
