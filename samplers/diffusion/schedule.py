"""The variance-preserving forward process, its continuous time, and the times a reverse chain visits.

    x_t = √ᾱ(t) x + √(1 − ᾱ(t)) ε,   ε ~ N(0, S_φ)
    −log ᾱ(t) = β_min t + (β_max − β_min) t²/2,   0 ≤ t ≤ 1

(Song et al. 2021, equation 33; Ho, Jain & Abbeel 2020). Data y = x + σ ε are x_t/√ᾱ(t) at the time where
(1 − ᾱ)/ᾱ = σ²: √ᾱ y has exactly the law of x_t there, and the time is a smooth function of σ.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array


@dataclass(frozen=True)
class Schedule:
    """Noise as a function of time.

    Parameters
    ----------
    beta_min, beta_max : the rate of noise at t = 0 and at t = 1.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min < self.beta_max:
            raise ValueError(
                f"beta_min={self.beta_min}, beta_max={self.beta_max}: give 0 < beta_min < beta_max"
            )

    def level(self, t: Array) -> Array:
        """√((1 − ᾱ)/ᾱ): the standard deviation of the noise in x_t/√ᾱ."""
        return jnp.sqrt(jnp.expm1(self._exponent(t)))

    def alpha_bar(self, t: Array) -> Array:
        """ᾱ(t), 1 at t = 0."""
        return jnp.exp(-self._exponent(t))

    def time_of(self, sigma: Array) -> Array:
        """t* with ᾱ(t*) = 1/(1 + σ²), for a σ of any value."""
        exponent, rise = jnp.log1p(sigma**2), self.beta_max - self.beta_min
        return 2 * exponent / (self.beta_min + jnp.sqrt(self.beta_min**2 + 2 * rise * exponent))

    def times(self, sigma: Array, steps: int) -> Array:
        """From t*(σ) down to 0, ``f[steps + 1]``: those of the noise levels σ (1 − i/steps).

        Steps must shrink with the noise that is left; equal ones in t leave the smallest noise to the last.
        """
        return self.time_of(sigma * (1 - jnp.arange(steps + 1) / steps))

    def _exponent(self, t: Array) -> Array:
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2
