"""The one description of a distribution that samplers, databases and benchmarks share.

The density (a pytree of pure functions) → the target (density, names, constraints, what some
families need besides) → constructors for densities written in JAX.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

if TYPE_CHECKING:
    from .conditional import Blocks
    from .factorization import Factorization
    from .hierarchy import Hierarchy


class Counts(NamedTuple):
    """What an oracle has really executed since its counter was last reset."""

    gradients: int
    """Fused value-and-gradient evaluations, failed ones included."""
    densities: int
    """Evaluations of the value alone, failed ones included."""
    failed: int
    """Evaluations of either kind that came out as (−inf, 0)."""

    def since(self, before: Counts) -> Counts:
        """What was executed between an earlier reading and this one."""
        return Counts(*(now - then for now, then in zip(self, before, strict=True)))


class Counter(Protocol):
    """An oracle's own counter, independent of what a sampler reports."""

    def read(self) -> Counts: ...
    def reset(self) -> None: ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Density:
    """An unconstrained log density as pure functions of ``(operand, x)``.

    It is a pytree: ``operand`` (what distinguishes densities of one kind: a Stan model's id, a
    covariance factor) is traced and the functions are static, so that a program compiled for one
    density serves every other one with the same functions and shapes.

    Neither function ever raises inside a compiled program: where an evaluation fails, the value is
    −inf and the gradient 0.
    """

    fused: Callable[[Any, Array], tuple[Array, Array]] = field(metadata={"static": True})
    """``(operand, f[dim]) -> (f[], f[dim])``, ONE evaluation of the oracle."""
    value: Callable[[Any, Array], Array] = field(metadata={"static": True})
    """``(operand, f[dim]) -> f[]``; works under ``jax.grad`` and ``jax.vmap``."""
    operand: Any
    masked: Callable[[Any, Array, Array], tuple[Array, Array]] | None = field(
        default=None, metadata={"static": True}
    )
    """``(operand, f[dim], bool[]) -> (f[], f[dim])``: `fused`, but not evaluated (nor counted) in a
    lane whose flag is False. None where evaluations cannot be left out."""

    def log_density(self, x: Array) -> Array:
        """log p(x) up to a constant, Jacobian included: ``f[dim] -> f[]``."""
        return self.value(self.operand, x)

    def value_and_grad(self, x: Array, active: Array | bool | None = None) -> tuple[Array, Array]:
        """log p(x) and its gradient in one evaluation: ``f[dim] -> (f[], f[dim])``.

        Parameters
        ----------
        active : ``bool[]``, whether the result is wanted. Under ``jax.vmap`` a loop runs until its
            longest lane is done and a conditional executes both of its branches; where ``active`` is
            False a density that can be masked evaluates nothing, and the result means nothing.
        """
        if active is None or self.masked is None:
            return self.fused(self.operand, x)
        return self.masked(self.operand, x, jnp.asarray(active, bool))


@dataclass(frozen=True, eq=False)
class Target:
    """A distribution on the unconstrained space R^dim, and how to read its draws."""

    name: str
    dim: int
    density: Density
    param_names: tuple[str, ...]
    """One per column of ``constrain``: ``"mu"``, ``"theta[1,2]"`` (posteriordb's spelling)."""
    constrain: Callable[[Any], np.ndarray]
    """``f[..., dim] -> f[..., n_params]``, on the host."""
    digest: str
    """Identifies program and data; two targets with one digest are the same distribution."""
    backend: str = "jax"
    """What evaluates the density: ``"jax"`` or ``"bridgestan"`` with its details."""
    counter: Counter | None = None
    """None where the oracle has no counter of its own (densities written in JAX)."""
    exact: Callable[[Array, int], Array] | None = None
    """``(key, n) -> f[n, dim]``: independent exact draws, where they exist."""
    likelihood: Factorization | None = None
    """log prior + sum over data rows, for methods that use minibatches."""
    blocks: Blocks | None = None
    """Exact or generic conditionals, for Gibbs sampling."""
    hierarchy: Hierarchy | None = None
    """Global parameters and those that belong to a datum each, for amortized inference."""
    model: Any = None
    """What the density is evaluated by (a ``bridgestan.StanModel``), kept alive with the target."""

    def log_density(self, x: Array) -> Array:
        """log p(x) up to a constant, Jacobian included: ``f[dim] -> f[]``."""
        return self.density.log_density(x)

    def value_and_grad(self, x: Array) -> tuple[Array, Array]:
        """log p(x) and its gradient in one evaluation: ``f[dim] -> (f[], f[dim])``."""
        return self.density.value_and_grad(x)

    def __repr__(self) -> str:
        return f"Target({self.name!r}, dim={self.dim}, backend={self.backend!r})"


def guarded(value: Array, gradient: Array) -> tuple[Array, Array]:
    """(−inf, 0) where the value or any element of the gradient is not finite, else unchanged."""
    good = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
    return jnp.where(good, value, -jnp.inf), jnp.where(good, gradient, 0.0)


def jax_density(log_density: Callable[[Any, Array], Array], operand: Any) -> Density:
    """The `Density` of a function written in JAX, failures turned into (−inf, 0).

    Parameters
    ----------
    log_density : ``(operand, f[dim]) -> f[]``, differentiable. To share compiled programs between
        targets, pass one module-level function and put what differs into ``operand``.
    operand : pytree of arrays
    """
    return Density(_Fused(log_density), _Value(log_density), operand)


@dataclass(frozen=True)
class _Fused:
    """Value and gradient of a log density, guarded.

    Equal for equal log densities, or jit would take every target for a new program; nothing is kept
    that outlives its targets and their programs.
    """

    log_density: Callable[[Any, Array], Array]

    def __call__(self, operand: Any, x: Array) -> tuple[Array, Array]:
        return guarded(*jax.value_and_grad(self.log_density, argnums=1)(operand, x))


@dataclass(frozen=True)
class _Value:
    """The value alone, guarded; equal as `_Fused` is."""

    log_density: Callable[[Any, Array], Array]

    def __call__(self, operand: Any, x: Array) -> Array:
        out = self.log_density(operand, x)
        return jnp.where(jnp.isfinite(out), out, -jnp.inf)


def from_log_density(
    name: str,
    dim: int,
    log_density: Callable[[Array], Array],
    *,
    param_names: tuple[str, ...] | None = None,
    exact: Callable[[Array, int], Array] | None = None,
) -> Target:
    """A target from any JAX function ``f[dim] -> f[]`` on an unconstrained space.

    The digest is made from ``name`` and ``dim``: give different densities different names.
    """
    density = jax_density(lambda _, x: log_density(x), ())
    return unconstrained_target(name, dim, density, param_names=param_names, exact=exact)


def unconstrained_target(
    name: str,
    dim: int,
    density: Density,
    *,
    param_names: tuple[str, ...] | None = None,
    exact: Callable[[Array, int], Array] | None = None,
    settings: str = "",
) -> Target:
    """A target whose parameters are its unconstrained coordinates (``x[1]``, … by default).

    The digest is made from ``name``, ``dim`` and ``settings``: whatever else the density depends on.
    """
    return Target(
        name=name,
        dim=dim,
        density=density,
        param_names=param_names or tuple(f"x[{i + 1}]" for i in range(dim)),
        constrain=np.asarray,
        digest=digest_of(name, str(dim), settings),
        exact=exact,
    )


def digest_of(*parts: str | bytes) -> str:
    """sha256 over length-prefixed parts, 16 hexadecimal digits."""
    h = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        h.update(len(data).to_bytes(8, "little"))
        h.update(data)
    return h.hexdigest()[:16]
