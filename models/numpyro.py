"""numpyro models as targets, and what is observed in a subsampled plate as rows for minibatches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import Literal

from .chunks import LogDensity, chunked, default_chunk
from .factorization import (
    FLOAT32_TOLERANCES,
    TOLERANCES,
    Factorization,
    FactorizationError,
    finite_points,
    partition_errors,
)
from .target import Target, digest_of

if TYPE_CHECKING:
    from .numpyro_model import NumpyroModel


def from_numpyro(
    model: Callable[..., Any],
    *args: Any,
    rows: str | None = None,
    name: str | None = None,
    hierarchy: str | None = None,
    **kwargs: Any,
) -> Target:
    """The posterior of a numpyro model given its arguments, on its unconstrained space.

    The latent sites are its parameters, in the order in which the model samples them, each unconstrained
    by numpyro's transform for its support, elements in C order. Deterministic sites are no parameters.
    Plates are whole, whatever their ``subsample_size``; ``param`` and ``mutable`` sites keep the values
    that they are made with, as in `numpyro.infer.MCMC`. An evaluation that is not finite is (−inf, 0).

    If observed sites stand in a plate with a ``subsample_size``, ``likelihood`` is the log density as a
    sum over that plate's rows, for minibatches of any size: the model takes its data by the plate's
    indices, or by ``numpyro.subsample``. What stands outside of the plate is the prior.

    If latent sites stand in a plate with observed ones, ``hierarchy`` says so: these are local to the plate's
    rows, all others global, and row k shows its part of what is observed in the plate and of those arrays
    among ``args`` and ``kwargs`` that have the plate's leading size.

    Parameters
    ----------
    model : a function with numpyro's primitives, or a handler around one
    args, kwargs : its arguments. To pass one that is called as an option here, use `functools.partial`
    rows : the plate whose rows are meant. None for the only plate with a ``subsample_size``, if there is
        one, observed sites stand in it and no latent ones; ``likelihood`` is None if there is not
    name : of the target; by default the function's
    hierarchy : the plate whose latent sites are local; ``"auto"`` for the only one with latent and observed
        sites. By default the same, and `Target.hierarchy` is None where there is not exactly one or it will
        not do

    Returns
    -------
    a `Target`. Its digest is made from the traced density, its constants, and the parameters' names: it
    follows every change of the model or the data that the density depends on, and may change with the
    versions of JAX and numpyro.

    Raises
    ------
    ValueError
        If a latent site is discrete, or has a support that cannot be unconstrained or a name with brackets;
        there is no latent site, or there is a subsampled plate inside of numpyro's control flow.
    FactorizationError
        If the density is not a sum over the rows of the named plate, or of the only one that has a
        ``subsample_size``; the message says why.
    HierarchyError
        If ``hierarchy`` is given and there is none by that plate; the message says why.

    Examples
    --------
    >>> def regression(x, y):
    ...     beta = numpyro.sample("beta", dist.Normal(0, 1).expand([x.shape[1]]).to_event(1))
    ...     sigma = numpyro.sample("sigma", dist.Exponential(1))
    ...     with numpyro.plate("rows", len(y), subsample_size=64) as i:
    ...         numpyro.sample("y", dist.Normal(x[i] @ beta, sigma), obs=y[i])
    >>> target = from_numpyro(regression, x, y)
    >>> target.param_names
    ('beta[1]', 'beta[2]', 'sigma')
    >>> target.likelihood.value_and_grad_batch(theta, indices)
    """
    from .numpyro_hierarchy import plate_hierarchy  # numpyro takes half a second: only where it is used
    from .numpyro_model import read_model

    found = read_model(model, args, kwargs)
    log_density = jax.jit(found.log_density)  # the model is run once for all the programs it is part of
    return Target(
        name=name or getattr(model, "__name__", type(model).__name__),
        dim=found.dim,
        density=chunked(log_density, default_chunk(log_density, found.dim)),
        param_names=found.param_names,
        constrain=_Constrain(found.dim, jax.jit(jax.vmap(found.constrained))),
        digest=_digest(found),
        backend="jax (numpyro)",
        likelihood=_factorize(found, log_density, rows),
        hierarchy=plate_hierarchy(found, hierarchy),
    )


@dataclass(frozen=True)
class _Constrain:
    """``f[..., dim] -> f[..., n_params]``, on the host."""

    dim: int
    batch: Callable[[Array], Array]

    def __call__(self, x: Any) -> np.ndarray:
        points = np.asarray(x, float)
        flat = np.asarray(self.batch(jnp.asarray(points.reshape(-1, self.dim))), float)
        return flat.reshape(*points.shape[:-1], flat.shape[-1])


# -- rows of a plate ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Prior:
    """What stands outside of the plate. Equal for the same model, or jit would take it for another."""

    model: NumpyroModel
    rows: str

    def __call__(self, operand: Any, theta: Array) -> Array:
        return self.model.log_density_of(theta, self.rows, jnp.arange(1), inside=False)


@dataclass(frozen=True)
class _Likelihood:
    """What stands inside of the plate, of some rows; equal as `_Prior` is."""

    model: NumpyroModel
    rows: str

    def __call__(self, operand: Any, theta: Array, indices: Array) -> Array:
        scaled = self.model.log_density_of(theta, self.rows, jnp.asarray(indices), inside=True)
        return len(indices) / self.model.plates[self.rows].size * scaled


def _factorize(model: NumpyroModel, log_density: LogDensity, rows: str | None) -> Factorization | None:
    if rows is None:
        subsampled = [name for name, found in model.plates.items() if found.subsampled]
        if len(subsampled) != 1 or _why_no_rows(model, subsampled[0]):
            return None
        rows = subsampled[0]
    elif reason := _why_no_rows(model, rows):
        raise FactorizationError(f"rows={rows!r}: {reason}")
    factorization = Factorization(
        _Prior(model, rows), _Likelihood(model, rows), operand=(), n=model.plates[rows].size, rows=rows
    )
    _confirm(factorization, log_density, model.dim)
    return factorization


def _why_no_rows(model: NumpyroModel, rows: str) -> str:
    """Why a plate cannot be sliced, ``""`` if it may be."""
    if rows not in model.plates:
        return f"the model has no such plate; it has {', '.join(map(repr, model.plates)) or 'none'}"
    found = model.plates[rows]
    if not found.subsampled:
        return (
            f"the plate has no subsample_size and so cannot be sliced: write numpyro.plate({rows!r}, n,"
            " subsample_size=m), any m, and take the data by its indices or by numpyro.subsample"
        )
    if found.latent:
        return (
            f"the latent site {found.latent[0]!r} stands in the plate {rows!r} and has an element for every"
            " row: a batch would leave the others out"
        )
    if not found.observed:
        return "no observed site stands in the plate"
    if found.size < 2:
        return "the plate has one row: there is nothing to divide"
    return ""


def _confirm(factorization: Factorization, log_density: LogDensity, dim: int) -> None:
    """Compares prior + disjoint batches with the density of all rows, at a few points.

    Raises
    ------
    FactorizationError
        If the two are not the same, to the tolerances of `essper.models.factorization`, or cannot be
        compared.
    """
    where = f"the plate {factorization.rows!r}"
    remedy = (
        "take every array of data by the plate's indices or by numpyro.subsample (arrays that are not"
        " arguments have to be JAX's), or leave out subsample_size"
    )
    try:
        points = finite_points(log_density, dim)
    except FactorizationError as error:
        raise FactorizationError(f"{where}: {error}") from error
    try:
        errors = partition_errors(factorization, log_density, points)
    except Exception as error:  # whatever a model does that has other rows than it was written for
        raise FactorizationError(
            f"{where}: the model cannot be run on some of its rows: {remedy}."
            f" {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        ) from error
    if not np.isfinite(errors).all():
        raise FactorizationError(f"{where}: the density is not finite on some of its rows")
    tolerances = TOLERANCES if jax.config.read("jax_enable_x64") else FLOAT32_TOLERANCES
    if errors.value > tolerances.value or errors.gradient > tolerances.gradient:
        raise FactorizationError(
            f"{where}: the density is not a sum over its rows: disjoint batches add up to it with relative"
            f" errors {errors.value:.1e} in value and {errors.gradient:.1e} in gradient; {remedy}"
        )


# -- digest ---------------------------------------------------------------------------------------


def _digest(model: NumpyroModel) -> str:
    """Of the traced density and transforms, their constants, and the names of parameters."""

    def everything(theta: Array) -> tuple[Array, Array]:
        return model.log_density(theta), model.constrained(theta)

    program = jax.make_jaxpr(everything)(jnp.zeros(model.dim))
    text = re.sub(r"0x[0-9a-f]+", "", str(program))  # addresses of functions
    arrays = [np.asarray(constant) for constant in _constants(program)]
    parts = (part for array in arrays for part in (f"{array.dtype} {array.shape}", array.tobytes()))
    return digest_of("numpyro", *model.param_names, text, *parts)


def _constants(node: Any) -> Iterator[Any]:
    """Those of a program and of all programs inside of it; its text shows their shapes only."""
    if hasattr(node, "eqns"):
        yield from getattr(node, "consts", ())
        for equation in node.eqns:
            yield from (v.val for v in equation.invars if isinstance(v, Literal) and np.ndim(v.val))
            yield from _constants(tuple(equation.params.values()))
    elif isinstance(node, tuple | list):
        for part in node:
            yield from _constants(part)
