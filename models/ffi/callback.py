"""Stan models called from compiled programs through Python: where no C++ compiler is present."""

from __future__ import annotations

import itertools
import threading
import weakref
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..target import Counts
from .native import constrain_points
from .oracle import VALUE, stan_point, value_and_gradient_shapes, with_gradient


def callback_value_and_grad(model_id: Array, x: Array) -> tuple[Array, Array]:
    """As `native.stan_value_and_grad`, by ``jax.pure_callback``."""
    x = stan_point(x)
    shapes = value_and_gradient_shapes(x)
    return jax.pure_callback(_host_value_and_grad, shapes, model_id, x, vmap_method="expand_dims")


def callback_masked_value_and_grad(model_id: Array, x: Array, active: Array) -> tuple[Array, Array]:
    """As `native.stan_masked_value_and_grad`, by ``jax.pure_callback``."""
    x = stan_point(x)
    shapes = value_and_gradient_shapes(x)
    return jax.pure_callback(_host_value_and_grad, shapes, model_id, x, active, vmap_method="expand_dims")


def _value(model_id: Array, x: Array) -> Array:
    return jax.pure_callback(_host_value, VALUE, model_id, x, vmap_method="expand_dims")


_differentiable = with_gradient(_value, callback_value_and_grad)


def callback_value(model_id: Array, x: Array) -> Array:
    """As `native.stan_value`, by ``jax.pure_callback``."""
    return _differentiable(model_id, stan_point(x))


_ORACLES: weakref.WeakValueDictionary[int, CallbackOracle] = weakref.WeakValueDictionary()
_NEXT_ID = itertools.count()
_ONE_AT_A_TIME = threading.Lock()
"""For models that are not thread-safe: such builds may share one autodiff stack."""


class CallbackOracle:
    """The same as `native.NativeOracle`, through Python."""

    value_and_grad = staticmethod(callback_value_and_grad)
    masked = staticmethod(callback_masked_value_and_grad)
    value = staticmethod(callback_value)

    def __init__(self, model: Any, *, thread_safe: bool) -> None:
        self.model = model
        self.dim = model.param_unc_num()
        self._width = model.param_num(include_tp=True)
        self.last_error = ""
        self._turn = nullcontext() if thread_safe else _ONE_AT_A_TIME
        self._counting = threading.Lock()
        self._counts = Counts(0, 0, 0)
        number = next(_NEXT_ID)
        self.operand = jnp.asarray(number, jnp.int64)
        _ORACLES[number] = self

    def read(self) -> Counts:
        """Evaluations executed since the last `reset`."""
        return self._counts

    def reset(self) -> None:
        """Begins a new count."""
        with self._counting:
            self._counts = Counts(0, 0, 0)

    def constrain(self, x: Any) -> np.ndarray:
        """As `native.NativeOracle.constrain`."""
        points = constrain_points(x, self.dim)
        out = np.empty((*points.shape[:-1], self._width))
        with self._turn:
            for lane in np.ndindex(points.shape[:-1]):
                try:
                    out[lane] = self.model.param_constrain(points[lane], include_tp=True)
                except RuntimeError as error:
                    self.last_error = str(error)
                    out[lane] = np.nan
        return out

    def evaluate_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """One counted evaluation; (−inf, 0) where it fails."""
        try:
            with self._turn:
                value, gradient = self.model.log_density_gradient(x)
            if np.isfinite(value) and np.isfinite(gradient).all():
                self._count(gradients=1)
                return value, gradient
            what = "gradient" if np.isfinite(value) else "log density"
            self.last_error = f"the {what} is not finite"
        except RuntimeError as error:
            self.last_error = str(error)
        self._count(gradients=1, failed=1)
        return -np.inf, np.zeros(self.dim)

    def evaluate_density(self, x: np.ndarray) -> float:
        """One counted evaluation of the value alone; −inf where it fails."""
        try:
            with self._turn:
                value = self.model.log_density(x)
            if np.isfinite(value):
                self._count(densities=1)
                return value
            self.last_error = "the log density is not finite"
        except RuntimeError as error:
            self.last_error = str(error)
        self._count(densities=1, failed=1)
        return -np.inf

    def _count(self, *, gradients: int = 0, densities: int = 0, failed: int = 0) -> None:
        with self._counting:
            old = self._counts
            self._counts = Counts(old.gradients + gradients, old.densities + densities, old.failed + failed)


def _lanes(model_id: Any, x: Any, active: Any = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Operands of size 1 along an axis are shared by the lanes of that axis.
    ids, points, flags = np.asarray(model_id), np.asarray(x), np.asarray(active)
    shape = np.broadcast_shapes(ids.shape, points.shape[:-1], flags.shape)
    points = np.broadcast_to(points, (*shape, points.shape[-1]))
    return np.broadcast_to(ids, shape), points, np.broadcast_to(flags, shape)


def _oracle(model_id: int, dim: int) -> CallbackOracle:
    oracle = _ORACLES.get(model_id)
    if oracle is None:
        raise ValueError(
            f"essper: there is no Stan model with id {model_id}, or it has been freed: keep its Target "
            "for as long as its density is used"
        )
    if oracle.dim != dim:
        raise ValueError(
            f"essper: a point has {dim} coordinates, but model {model_id} has dimension {oracle.dim}"
        )
    return oracle


def _host_value_and_grad(model_id: Any, x: Any, active: Any = True) -> tuple[np.ndarray, np.ndarray]:
    ids, points, flags = _lanes(model_id, x, active)
    value, gradient = np.full(ids.shape, -np.inf), np.zeros(points.shape)
    for lane in np.ndindex(ids.shape):
        point = np.ascontiguousarray(points[lane])
        oracle = _oracle(int(ids[lane]), point.size)
        if flags[lane]:
            value[lane], gradient[lane] = oracle.evaluate_gradient(point)
    return value, gradient


def _host_value(model_id: Any, x: Any) -> np.ndarray:
    ids, points, _ = _lanes(model_id, x)
    value = np.empty(ids.shape)
    for lane in np.ndindex(ids.shape):
        point = np.ascontiguousarray(points[lane])
        value[lane] = _oracle(int(ids[lane]), point.size).evaluate_density(point)
    return value
