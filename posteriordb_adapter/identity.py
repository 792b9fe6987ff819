"""The score identity: do data, program and reference draws belong together?

For draws u of the density p on the unconstrained scale, integration by parts gives

    E[∂ᵢ log p(u)] = 0   and   E[(uᵢ − cᵢ) ∂ᵢ log p(u)] = −1   for any constants cᵢ.

A wrong prior, other data or draws of another distribution break one of them. This is the first
order of Stein's identity (Gorham and Mackey, 2015, "Measuring sample quality with Stein's method").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri

from ..models.target import Density, Target
from .draws import ReferenceDraws
from .unconstrain import to_unconstrained

FAMILYWISE_ERROR = 1e-3
"""Probability that draws of the right distribution fail somewhere."""
CHUNK = 1000
"""Draws evaluated at a time: bounds the memory that wide data sets need under ``vmap``."""


@dataclass(frozen=True, eq=False)
class IdentityCheck:
    """What the score identity says about draws; ``passed`` sums it up."""

    name: str
    """The target's."""
    coordinates: tuple[str, ...]
    """One per unconstrained coordinate."""
    z_score: np.ndarray
    """``f[dim]``: the mean of ∂ᵢ log p in its Monte Carlo standard errors."""
    z_product: np.ndarray
    """``f[dim]``: the mean of (uᵢ − cᵢ) ∂ᵢ log p, plus one, in its Monte Carlo standard errors."""
    n_draws: int
    failed: np.ndarray = field(repr=False)
    """``i[k, 2]``: (chain, draw) of those outside of the model's support, or where it fails."""
    reason: str = ""
    """What the model said about the first of the failed draws."""

    @property
    def comparisons(self) -> int:
        return self.z_score.size + self.z_product.size

    @cached_property
    def threshold(self) -> float:
        """Largest |z| that passes: Šidák's, for a familywise error of `FAMILYWISE_ERROR`."""
        each = -np.expm1(np.log1p(-FAMILYWISE_ERROR) / max(self.comparisons, 1))
        return float(-ndtri(each / 2))

    @property
    def max_abs_z(self) -> float:
        """The largest |z| of all; NaN if one could not be computed (too few draws, or constant ones)."""
        return float(np.max(np.abs([self.z_score, self.z_product]), initial=0.0))

    @property
    def worst(self) -> str:
        """The coordinate with the largest |z|."""
        return self.coordinates[int(np.argmax(np.max(np.abs([self.z_score, self.z_product]), axis=0)))]

    @property
    def passed(self) -> bool:
        """Whether every draw was evaluated and every |z| is within the threshold."""
        return len(self.failed) == 0 and self.max_abs_z <= self.threshold

    def summary(self) -> str:
        """One line for people."""
        verdict = "holds" if self.passed else "DOES NOT HOLD"
        failures = f"; {len(self.failed)} draws failed ({self.reason})" if len(self.failed) else ""
        return (
            f"{self.name}: score identity {verdict}: max |z| = {self.max_abs_z:.2f} at {self.worst},"
            f" {self.threshold:.2f} allowed in {self.comparisons} comparisons over {self.n_draws} draws"
            f"{failures}"
        )


def check_reference(target: Target, reference: ReferenceDraws) -> IdentityCheck:
    """The score identity of a Stan target over reference draws.

    Raises
    ------
    UnmappedReference
        If the draws cannot be brought to the target's unconstrained scale.
    """
    x, mapped, reason = to_unconstrained(target, reference)
    coordinates = tuple(target.model.param_unc_names()) if target.model is not None else ()
    return check_draws(target, x, mapped=mapped, reason=reason, coordinates=coordinates)


def check_draws(
    target: Target,
    draws: np.ndarray,
    *,
    mapped: np.ndarray | None = None,
    reason: str = "",
    coordinates: tuple[str, ...] = (),
) -> IdentityCheck:
    """The score identity of any target over draws on its unconstrained scale.

    z-scores are the mean over its Monte Carlo standard error, chains respected. The product is taken
    with uᵢ centered at its mean, which changes no expectation and takes variance out. Draws that
    fail are a failure of the check; in the z-scores they count as if they were as expected.

    Parameters
    ----------
    draws : ``f[chain, draw, dim]``
    mapped : ``bool[chain, draw]``, False for draws known to be outside of the support
    """
    chains, n, dim = draws.shape
    flat = draws.reshape(-1, dim)
    good = np.isfinite(flat).all(-1) if mapped is None else mapped.reshape(-1)
    values, gradients = evaluate(target.density, np.where(good[:, None], flat, 0.0))
    evaluated = good & np.isfinite(values)
    if not reason and not evaluated.all():
        reason = "the log density could not be evaluated"
    keep = evaluated[:, None]
    center = flat[evaluated].mean(0) if evaluated.any() else 0.0
    score = np.where(keep, gradients, 0.0)
    product = np.where(keep, (flat - center) * gradients + 1.0, 0.0)
    z = _z_scores(np.stack([score, product], 1).reshape(chains, n, 2, dim))
    return IdentityCheck(
        name=target.name,
        coordinates=coordinates or tuple(f"x[{i + 1}]" for i in range(dim)),
        z_score=z[0],
        z_product=z[1],
        n_draws=chains * n,
        failed=np.argwhere(~evaluated.reshape(chains, n)),
        reason=reason,
    )


def evaluate(density: Density, x: np.ndarray, *, chunk: int = CHUNK) -> tuple[np.ndarray, np.ndarray]:
    """Log density and gradient at many points: ``f[n, dim] -> (f[n], f[n, dim])``."""
    chunk = min(chunk, len(x))
    padded = np.concatenate(
        [x, np.broadcast_to(x[-1], (-len(x) % chunk, x.shape[1]))]
    )  # one shape to compile
    parts = [_fused(density, jnp.asarray(part)) for part in padded.reshape(-1, chunk, x.shape[1])]
    values, gradients = (np.concatenate([np.asarray(p[i]) for p in parts]) for i in range(2))
    return values[: len(x)], gradients[: len(x)]


@jax.jit
def _fused(density: Density, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vmap(density.value_and_grad)(x)


def _z_scores(values: np.ndarray) -> np.ndarray:
    """Mean over its standard error of ``f[chain, draw, ...]``, elementwise."""
    from arviz_stats.base.array import array_stats  # slow to import: not at start-up

    error: Any = array_stats.mcse(values, chain_axis=0, draw_axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return values.mean((0, 1)) / np.asarray(error)
