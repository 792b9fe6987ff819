"""What stochastic-gradient methods sample from: a prior times a likelihood of rows, perhaps tempered."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from ...models.factorization import Factorization
from ...models.target import Target


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Problem:
    """log prior(θ) + Σ_i log p(row_i | θ) / T on the unconstrained space; a pytree."""

    factorization: Factorization
    likelihood_temperature: Array
    """T of the likelihood alone; the prior stays as it is."""

    @property
    def n(self) -> int:
        """The number of rows."""
        return self.factorization.n

    def log_density(self, theta: Array) -> Array:
        """Of all rows, up to a constant: ``f[dim] -> f[]``; costs n datum-gradients with its gradient."""
        return self.log_prior(theta) + self.log_likelihood(theta, jnp.arange(self.n))

    def log_prior(self, theta: Array) -> Array:
        return self.factorization.log_prior(theta)

    def log_likelihood(self, theta: Array, indices: Array) -> Array:
        """The tempered sum over the rows ``indices``, not scaled: ``(f[dim], i[m]) -> f[]``."""
        return self.factorization.log_likelihood(theta, indices) / self.likelihood_temperature


def problem_of(target: Target, likelihood_temperature: float) -> Problem:
    """The target as a problem.

    Raises
    ------
    ValueError
        If the target is not known as a sum over rows.
    """
    if target.likelihood is None:
        raise ValueError(
            f"{target.name} is not known as a sum over rows of data, which minibatches need: make it by "
            "from_stan(…, backend='jax', rows='N'), from_numpyro or factorized_target"
        )
    return Problem(target.likelihood, jnp.asarray(likelihood_temperature, float))
