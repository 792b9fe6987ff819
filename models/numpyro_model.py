"""A numpyro model as functions of one unconstrained vector, on all rows or some of a plate's.

Effect handler (which rows, which sites count) → the model as functions → reading its sites and plates.
Transforms, Jacobians and the log densities of sites are numpyro's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.core import Tracer
from numpyro.distributions import biject_to
from numpyro.handlers import seed, substitute, trace
from numpyro.infer import init_to_uniform
from numpyro.infer.util import constrain_fn, potential_energy
from numpyro.primitives import _PYRO_STACK, Messenger, plate

ONE_AT_A_TIME = threading.RLock()
"""numpyro has one stack of handlers for all threads, and chains may be compiled in several."""

# -- which rows, which sites ----------------------------------------------------------------------


class Plate(NamedTuple):
    size: int
    subsampled: bool
    """Whether it was given a ``subsample_size``."""
    latent: tuple[str, ...] = ()
    """Latent sites inside of it."""
    observed: tuple[str, ...] = ()


class _Rows(Messenger):
    """Runs a model with all rows of every plate, or with the given ones of one plate.

    Parameters
    ----------
    rows, indices : a plate and ``i[m]``, its rows; None for all rows of all plates
    inside : True leaves only the sites inside of that plate in the density, False only the others
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        rows: str | None = None,
        indices: Array | None = None,
        inside: bool | None = None,
    ) -> None:
        super().__init__(fn)
        self.rows, self.indices, self.inside = rows, indices, inside
        self.plates: dict[str, Plate] = {}
        """Those that the model has entered."""

    def process_message(self, msg: Any) -> None:
        if msg["type"] == "plate":
            size, subsample_size = msg["args"]
            self.plates[msg["name"]] = Plate(size, subsample_size is not None)
            indices = self.indices if msg["name"] == self.rows else None
            msg["value"] = all_rows(size) if indices is None else indices
            msg["args"] = (size, len(msg["value"]))
        elif msg["type"] == "sample" and self.inside is not None:
            if _stands_in(msg, self.rows) != self.inside:
                msg["fn"] = msg["fn"].mask(False)
        elif msg["type"] == "prng_key" and msg["value"] is None:
            msg["value"] = jax.random.key(0)

    def postprocess_message(self, msg: Any) -> None:
        """Takes the rows of ``numpyro.subsample`` before the plate, which takes none where m ≥ n."""
        event_dim = msg["kwargs"].get("event_dim") if msg["type"] in ("subsample", "param") else None
        around = [h for h in _PYRO_STACK if isinstance(h, plate) and h.name == self.rows]
        if event_dim is None or self.indices is None or not around:
            return
        axis, shape = around[0].dim - event_dim, jnp.shape(msg["value"])
        if len(shape) >= -axis and shape[axis] == around[0].size:
            msg["value"] = jnp.take(jnp.asarray(msg["value"]), self.indices, axis)
            msg["kwargs"]["event_dim"] = None


def all_rows(size: int) -> Array:
    with jax.ensure_compile_time_eval():  # a traced range could not index data that are numpy arrays
        return jnp.arange(size)


def _stands_in(site: Mapping[str, Any], rows: str | None) -> bool:
    return any(frame.name == rows for frame in site["cond_indep_stack"])


# -- the model as functions of one vector ---------------------------------------------------------


class _Latent(NamedTuple):
    name: str
    shape: tuple[int, ...]
    """Of its value."""
    free: tuple[int, ...]
    """Of its unconstrained value."""
    batch: int
    """Dimensions of a batch: the leading ones of both shapes."""
    plates: dict[str, int]
    """Those it stands in, and which dimension of the batch is theirs: −1 for the last."""


class _Observed(NamedTuple):
    name: str
    shape: tuple[int, ...]
    """Of its distribution."""
    event: int
    """Dimensions of an event: the trailing ones."""
    plates: dict[str, int]
    """As of latent sites."""
    value: Any
    """What is observed; None if the model computes it."""


@dataclass(frozen=True, eq=False, repr=False)
class NumpyroModel:
    """A numpyro model with its arguments, as functions of its unconstrained parameters."""

    model: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    latents: tuple[_Latent, ...]
    observed: tuple[_Observed, ...]
    plates: dict[str, Plate]

    @property
    def dim(self) -> int:
        return sum(int(np.prod(latent.free)) for latent in self.latents)

    @property
    def param_names(self) -> tuple[str, ...]:
        return tuple(name for latent in self.latents for name in _element_names(latent.name, latent.shape))

    def log_density(self, theta: Array) -> Array:
        """Of all rows, Jacobian included: ``f[dim] -> f[]``."""
        return self._evaluate(_Rows(self.model), self.args, self.kwargs, theta)

    def log_density_of(self, theta: Array, rows: str, indices: Array, inside: bool) -> Array:
        """Of the sites inside of a plate, on some of its rows and as scaled by it, or of all others.

        ``(f[dim], i[m]) -> f[]``
        """
        args, kwargs = jax.tree.map(_indexable, (self.args, self.kwargs))
        return self._evaluate(_Rows(self.model, rows, indices, inside), args, kwargs, theta)

    def constrained(self, theta: Array) -> Array:
        """``f[dim] -> f[n_params]``"""
        with ONE_AT_A_TIME:
            values = constrain_fn(_Rows(self.model), self.args, self.kwargs, self.unpacked(theta))
        return jnp.concatenate([jnp.ravel(values[latent.name]) for latent in self.latents])

    def unpacked(self, theta: Array) -> dict[str, Array]:
        """Unconstrained values of sites: ``f[dim] -> {site: f[…]}``."""
        ends = np.cumsum([np.prod(latent.free, dtype=int) for latent in self.latents])
        parts = jnp.split(theta, ends[:-1])
        return {
            latent.name: part.reshape(latent.free) for latent, part in zip(self.latents, parts, strict=True)
        }

    def observed_values(self) -> dict[str, np.ndarray]:
        """What is observed, by site; runs the model if it is computed there."""
        found = {site.name: site.value for site in self.observed}
        if any(value is None for value in found.values()):

            def computed() -> dict[str, Array]:
                fixed = {latent.name: jnp.zeros(latent.shape) for latent in self.latents}
                run = trace(substitute(seed(_Rows(self.model), 0), data=fixed))
                sites = run.get_trace(*self.args, **self.kwargs)
                return {name: sites[name]["value"] for name, value in found.items() if value is None}

            with ONE_AT_A_TIME:
                found |= jax.jit(computed)()
        return {name: np.asarray(value) for name, value in found.items()}

    def _evaluate(self, model: _Rows, args: Any, kwargs: Any, theta: Array) -> Array:
        with ONE_AT_A_TIME:
            return jnp.asarray(-potential_energy(model, args, kwargs, self.unpacked(theta)), theta.dtype)


class _Indexable(np.ndarray):
    """A numpy array that traced indices can index.

    Models compute sizes from data (``int(group.max()) + 1``), so that data given as numpy arrays have to
    stay what they are.
    """

    def __getitem__(self, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, Tracer) for part in parts):
            return jnp.asarray(np.asarray(self))[index]
        return super().__getitem__(index)


def _indexable(leaf: Any) -> Any:
    return leaf.view(_Indexable) if type(leaf) is np.ndarray else leaf


def read_model(model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> NumpyroModel:
    """Traces a model and reads its sites and plates.

    Raises
    ------
    ValueError
        If there is no latent site, or one that has no unconstrained space, or a subsampled plate in control
        flow.
    """
    whole = _Rows(model)
    started = substitute(seed(whole, 0), substitute_fn=init_to_uniform())
    latents: list[_Latent] = []
    observed: list[_Observed] = []
    plates: dict[str, Plate] = {}
    fixed: list[str] = []

    def read() -> None:
        found = trace(started).get_trace(*args, **kwargs)
        sites = {name: site for name, site in found.items() if site["type"] == "sample"}
        for name, site in sites.items():
            _require_whole(name, site, whole.plates)
        latents.extend(_latent(name, site) for name, site in sites.items() if not site["is_observed"])
        observed.extend(_observed(name, site) for name, site in sites.items() if site["is_observed"])
        plates.update((name, _with_sites(name, entered, sites)) for name, entered in whole.plates.items())
        fixed.extend(name for name, site in found.items() if site["type"] in ("param", "mutable"))

    with ONE_AT_A_TIME:
        jax.eval_shape(read)  # shapes and supports are all that is read: nothing need be computed
        if fixed:
            found = trace(started).get_trace(*args, **kwargs)
            model = substitute(model, data={name: found[name]["value"] for name in fixed})
    read_off = NumpyroModel(model, args, kwargs, tuple(latents), tuple(observed), plates)
    if not read_off.dim:
        raise ValueError("the model has no latent site: there is nothing to sample")
    return read_off


def _require_whole(name: str, site: Mapping[str, Any], plates: Mapping[str, Plate]) -> None:
    """Refuse a site in a plate that handlers do not reach and that may be subsampled."""
    unreached = [frame.name for frame in site["cond_indep_stack"] if frame.name not in plates]
    if unreached and site["scale"] is not None:
        raise ValueError(
            f"the site {name!r} stands in the plate {unreached[0]!r} inside of numpyro's control flow and is"
            " scaled: rows cannot be chosen there; leave out subsample_size"
        )


def _with_sites(name: str, found: Plate, sites: Mapping[str, Mapping[str, Any]]) -> Plate:
    inside = {site: msg["is_observed"] for site, msg in sites.items() if _stands_in(msg, name)}
    return found._replace(
        latent=tuple(site for site, observed in inside.items() if not observed),
        observed=tuple(site for site, observed in inside.items() if observed),
    )


def _latent(name: str, site: Mapping[str, Any]) -> _Latent:
    distribution, kind = site["fn"], type(_base(site["fn"])).__name__
    if "[" in name or "]" in name:
        raise ValueError(f"the site {name!r}: brackets name the elements of an array; rename it")
    if isinstance(distribution, dist.Delta):
        raise ValueError(f"the latent site {name!r} is a Delta: use numpyro.deterministic for it")
    if distribution.support is not None and distribution.support.is_discrete:
        raise ValueError(
            f"the latent site {name!r} is discrete ({kind}) and has no unconstrained space: sum it out (as in"
            " numpyro.distributions.MixtureSameFamily), or observe it"
        )
    try:
        free = biject_to(distribution.support).inverse_shape(np.shape(site["value"]))
    except NotImplementedError as error:
        raise ValueError(
            f"the latent site {name!r}: numpyro has no transform for the support of {kind}"
        ) from error
    batch = len(distribution.batch_shape)
    return _Latent(name, np.shape(site["value"]), free, batch, _plates_around(site))


def _observed(name: str, site: Mapping[str, Any]) -> _Observed:
    distribution, value = site["fn"], site["value"]
    return _Observed(
        name,
        tuple(distribution.shape()),
        len(distribution.event_shape),
        _plates_around(site),
        None if isinstance(value, Tracer) else value,
    )


def _plates_around(site: Mapping[str, Any]) -> dict[str, int]:
    return {frame.name: frame.dim for frame in site["cond_indep_stack"]}


def _base(distribution: Any) -> Any:
    """The distribution that has been expanded, masked or declared to be an event."""
    while isinstance(distribution, dist.ExpandedDistribution | dist.MaskedDistribution | dist.Independent):
        distribution = distribution.base_dist
    return distribution


def _element_names(name: str, shape: tuple[int, ...]) -> Iterator[str]:
    for index in np.ndindex(shape):
        yield f"{name}[{','.join(str(i + 1) for i in index)}]" if index else name
