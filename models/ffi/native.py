"""Stan models called from compiled programs through the XLA FFI: no Python in the loop."""

from __future__ import annotations

import ctypes
import threading
import weakref
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..target import Counts
from .build import Handler, HandlerBuildError, handler
from .oracle import VALUE, stan_point, value_and_gradient_shapes, with_gradient

_VALUE_AND_GRAD = "essper_stan_value_and_grad"
_MASKED = "essper_stan_masked_value_and_grad"
_VALUE = "essper_stan_value"


def stan_value_and_grad(model_id: Array, x: Array) -> tuple[Array, Array]:
    """Log density and gradient of a registered model: ``(i64[], f[dim]) -> (f64[], f64[dim])``.

    One evaluation by Stan. An evaluation that fails is (−inf, 0). An id that was never given out, a
    model that has been freed, and a wrong dimension raise when the program runs.
    """
    x = stan_point(x)
    call = jax.ffi.ffi_call(_VALUE_AND_GRAD, value_and_gradient_shapes(x), vmap_method="expand_dims")
    value, gradient = call(model_id, x)
    return value, gradient


def stan_masked_value_and_grad(model_id: Array, x: Array, active: Array) -> tuple[Array, Array]:
    """As `stan_value_and_grad` where ``active`` (``bool[]``) is True; elsewhere (−inf, 0), not evaluated."""
    x = stan_point(x)
    call = jax.ffi.ffi_call(_MASKED, value_and_gradient_shapes(x), vmap_method="expand_dims")
    value, gradient = call(model_id, x, active)
    return value, gradient


def _value(model_id: Array, x: Array) -> Array:
    value = jax.ffi.ffi_call(_VALUE, VALUE, vmap_method="expand_dims")(model_id, x)
    assert not isinstance(value, (list, tuple))
    return value


_differentiable = with_gradient(_value, stan_value_and_grad)


def stan_value(model_id: Array, x: Array) -> Array:
    """Log density of a registered model: ``(i64[], f[dim]) -> f64[]``.

    One evaluation of the density alone or, under `jax.grad` and its kin, one fused evaluation.
    """
    return _differentiable(model_id, stan_point(x))


class Loaded(NamedTuple):
    """The handler's library in this process, its custom calls registered."""

    library: ctypes.CDLL
    handler: Handler


_LOADING = threading.Lock()


def load() -> Loaded:
    """Loads and registers the handler, once per process.

    Raises
    ------
    HandlerBuildError
        If it cannot be compiled or loaded here; a process tries once.
    """
    with _LOADING:
        loaded = _load()
    if isinstance(loaded, HandlerBuildError):
        raise loaded
    return loaded


@cache
def _load() -> Loaded | HandlerBuildError:
    try:
        found = handler()
    except HandlerBuildError as error:
        return error
    try:
        library = ctypes.CDLL(str(found.path))
        _declare(library)
    except (OSError, AttributeError) as error:
        return HandlerBuildError(f"{found.path} cannot be loaded ({error}): delete it")
    for name in (_VALUE_AND_GRAD, _MASKED, _VALUE):
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
    return Loaded(library, found)


def _declare(library: ctypes.CDLL) -> None:
    integer, flag, real, pointer = ctypes.c_int64, ctypes.c_bool, ctypes.c_double, ctypes.c_void_p
    signatures = {
        "register": (integer, [pointer] * 5 + [integer, flag, flag]),
        "readers": (integer, [integer]),
        "retire": (None, [integer]),
        "counts": (None, [integer, pointer]),
        "last_error": (None, [integer, ctypes.c_char_p, integer]),
        "constrain": (flag, [integer, pointer, integer, pointer, integer]),
        "time_gradients": (real, [integer, pointer, integer, integer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"essper_{name}")
        function.restype, function.argtypes = result, arguments


class NativeOracle:
    """A BridgeStan model in the handler's registry, for as long as this object lives.

    Counters count what has been executed; JAX runs ahead of Python, so wait for results
    (``jax.block_until_ready``) before reading them.

    Parameters
    ----------
    model : ``bridgestan.StanModel``
    thread_safe : whether several threads may evaluate it at once (BridgeStan: ``STAN_THREADS``)
    parallel : whether large batches may use several threads, where ``thread_safe``

    Raises
    ------
    HandlerBuildError
        If the handler is not available.
    """

    value_and_grad = staticmethod(stan_value_and_grad)
    masked = staticmethod(stan_masked_value_and_grad)
    value = staticmethod(stan_value)

    def __init__(self, model: Any, *, thread_safe: bool, parallel: bool) -> None:
        self._library = load().library
        self.model = model
        self._width = model.param_num(include_tp=True)
        functions = ("log_density_gradient", "log_density", "param_constrain", "free_error_msg")
        addresses = (ctypes.cast(getattr(model.stanlib, f"bs_{f}"), ctypes.c_void_p) for f in functions)
        self.dim = model.param_unc_num()
        self._id = self._library.essper_register(model.model, *addresses, self.dim, thread_safe, parallel)
        if self._id < 0:
            raise MemoryError("no room for another Stan model: this process has registered 65536 of them")
        self.operand = jnp.asarray(self._id, jnp.int64)
        self._zero = Counts(0, 0, 0)
        weakref.finalize(self, _retire, self._library, self._id, model)

    def _total(self) -> Counts:
        out = np.zeros(3, np.int64)
        self._library.essper_counts(self._id, out.ctypes.data)
        return Counts(*out.tolist())

    def read(self) -> Counts:
        """Evaluations executed since the last `reset`."""
        return Counts(*(now - then for now, then in zip(self._total(), self._zero, strict=True)))

    def reset(self) -> None:
        """Begins a new count. Evaluations in flight fall on one side or the other, never on none."""
        self._zero = self._total()

    @property
    def last_error(self) -> str:
        """What Stan said about the last evaluation that failed, ``""`` if none has."""
        text = ctypes.create_string_buffer(1 << 14)
        self._library.essper_last_error(self._id, text, len(text))
        return text.value.decode(errors="replace")

    def constrain(self, x: Any) -> np.ndarray:
        """Parameters and transformed parameters, rows NaN where Stan throws: ``f[..., dim] -> f[..., n]``."""
        points = constrain_points(x, self.dim)
        out = np.empty((*points.shape[:-1], self._width))
        n = int(np.prod(points.shape[:-1]))
        self._library.essper_constrain(self._id, points.ctypes.data, n, out.ctypes.data, self._width)
        return out

    def time_gradients(self, points: np.ndarray, repeats: int) -> float:
        """CPU seconds a gradient by Stan alone, in a tight loop over ``f[n, dim]``; not counted."""
        points = constrain_points(points, self.dim)
        n = len(points)
        return self._library.essper_time_gradients(self._id, points.ctypes.data, n, repeats) / (n * repeats)


def constrain_points(x: Any, dim: int) -> np.ndarray:
    """``x`` as contiguous float64, its last axis checked."""
    points = np.ascontiguousarray(x, np.float64)
    if points.shape[-1:] != (dim,):
        raise ValueError(f"points have shape [..., {dim}], got {points.shape}")
    return points


_LINGERING: dict[int, Any] = {}


def _retire(library: ctypes.CDLL, model_id: int, model: Any) -> None:
    # Never waits: this may run in the garbage collector of a thread that is itself inside Stan. A
    # model with executions in flight is kept until the next one is retired and finds it idle.
    library.essper_retire(model_id)
    _LINGERING[model_id] = model
    for kept_id in list(_LINGERING):
        if library.essper_readers(kept_id) == 0:
            _LINGERING.pop(kept_id, None)
