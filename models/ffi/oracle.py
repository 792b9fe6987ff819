"""What both ways of calling Stan from a compiled program share: shapes, precision, differentiation."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Function = Callable[[Array, Array], Array]
Fused = Callable[[Array, Array], tuple[Array, Array]]

VALUE = jax.ShapeDtypeStruct((), np.float64)


def value_and_gradient_shapes(x: Array) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Of one lane; `jax.vmap` adds the others."""
    return VALUE, jax.ShapeDtypeStruct(x.shape, np.float64)


def require_x64() -> None:
    """Raises `RuntimeError` where JAX's float64 mode has been turned off."""
    if not jax.config.read("jax_enable_x64"):
        raise RuntimeError(
            "Stan computes in float64, but JAX's float64 mode is off: remove "
            'jax.config.update("jax_enable_x64", False), or use a target written in JAX'
        )


def stan_point(x: Array) -> Array:
    """One point in float64, checked: ``[dim] -> f64[dim]``."""
    require_x64()
    if jnp.ndim(x) != 1:
        raise ValueError(f"a point has shape [dim], got {jnp.shape(x)}: use jax.vmap for several points")
    return jnp.asarray(x, jnp.float64)


def with_gradient(value: Function, fused: Fused) -> Function:
    """``value``, differentiable by ONE call of ``fused`` in place of the call of ``value``."""

    @jax.custom_vjp
    def differentiable(model_id: Array, x: Array) -> Array:
        return value(model_id, x)

    def forward(model_id: Array, x: Array) -> tuple[Array, Array]:
        return fused(model_id, x)

    def backward(gradient: Array, cotangent: Array) -> tuple[None, Array]:
        return None, cotangent * gradient

    differentiable.defvjp(forward, backward)
    return differentiable
