"""What a database says about its posteriors, as plain values; how it is shown is not known here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .dimensions import dimension, stan_model
from .errors import one_line

if TYPE_CHECKING:
    from ...posteriordb_adapter import Posterior, PosteriorDatabase, ReferenceDraws
    from ...posteriordb_adapter.posterior import Description

BUILTIN = "built-in"
PARTS = ("posterior", "model", "program", "data", "reference")
"""Of a posterior; each may come from a layer of its own."""
QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Layer:
    """One database of several, under a short name."""

    label: str
    path: Path


@dataclass(frozen=True)
class Listed:
    """A posterior, in a line."""

    name: str
    title: str
    keywords: tuple[str, ...]
    """Of the posterior, its model and its data."""
    model: str
    data: str
    dim: int | None
    """Unconstrained; None where it has not been asked for, or where the model cannot be built."""
    reason: str
    """Why the model cannot be built, or the posterior not be read; empty where they can."""
    reference: bool
    sources: Mapping[str, str | None]
    """Part → label of its layer, None where no layer has it."""

    @property
    def words(self) -> tuple[str, ...]:
        """What a search looks through."""
        return (self.name, self.title, *self.keywords)


@dataclass(frozen=True)
class Variable:
    """A variable of the data: its shape, its value if it is a single number, and the type of its numbers.

    A real variable that holds whole numbers counts as ``int``: data do not say how they are declared.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    value: float | int | None = None


@dataclass(frozen=True)
class Parameter:
    """A variable of the model, with all its elements."""

    name: str
    kind: str
    """``"parameter"`` or ``"transformed"``."""
    shape: tuple[int, ...]
    elements: int
    unconstrained: int
    """Coordinates that it adds to the unconstrained dimension."""
    in_reference: int | None = None
    """Elements that the reference has, and results can be held against; None without a reference."""


@dataclass(frozen=True)
class ParameterSummary:
    """A parameter's reference draws in a few numbers."""

    name: str
    mean: float
    sd: float
    q05: float
    q50: float
    q95: float
    ess_bulk: float
    in_model: bool | None
    """Whether the model has it, so that results can be compared; None where it cannot be built."""


@dataclass(frozen=True)
class Reference:
    """Reference draws, summed up."""

    name: str
    chains: int
    draws: int
    """Per chain."""
    parameters: tuple[ParameterSummary, ...]


@dataclass(frozen=True)
class Shown:
    """All that there is to say about one posterior."""

    name: str
    aliases: tuple[str, ...]
    keywords: tuple[str, ...]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    program: Path | None
    dim: int | None
    reason: str
    """Why the model cannot be built, empty where it can."""
    variables: tuple[Variable, ...]
    parameters: tuple[Parameter, ...]
    conditionals: tuple[str, ...]
    """Blocks that Gibbs samplers draw exactly for the model of that name."""
    reference: Reference | None
    no_reference: str
    """Why there is no reference, empty where there is one."""
    references: tuple[str, ...]
    """Keys in posteriordb's bibliography."""
    urls: tuple[str, ...]
    sources: Mapping[str, str | None]
    layers: tuple[Layer, ...] = field(repr=False)


def layers_of(database: PosteriorDatabase) -> tuple[Layer, ...]:
    """The database's layers with labels: ``built-in``, else the folder's name, or its path if need be."""
    from ...posteriordb_adapter.builtin import DATABASE

    roots = database.layers.roots
    short = [BUILTIN if root == DATABASE else _folder(root).name for root in roots]
    return tuple(
        Layer(label if label and short.count(label) == 1 else str(_folder(root)), root)
        for label, root in zip(short, roots, strict=True)
    )


def _folder(root: Path) -> Path:
    return root.parent if root.name == "posterior_database" else root


def sources_of(posterior: Posterior, layers: Sequence[Layer]) -> dict[str, str | None]:
    """Part → label of the layer that it comes from, None where none has it."""
    labels = {layer.path: layer.label for layer in layers}
    return {part: labels[root] if root else None for part, root in posterior.sources().items()}


def listed(database: PosteriorDatabase, name: str, layers: Sequence[Layer]) -> Listed:
    """A posterior without its dimension. One that cannot be read is listed with the reason."""
    from ...posteriordb_adapter import DatabaseError

    try:
        posterior = database.posterior(name)
        return Listed(
            name=posterior.name,
            title=posterior.model.title,
            keywords=_keywords(posterior),
            model=posterior.model.name,
            data=posterior.data_info.name,
            dim=None,
            reason="",
            reference=posterior.has_reference,
            sources=sources_of(posterior, layers),
        )
    except DatabaseError as error:
        return Listed(name, "", (), "", "", None, one_line(str(error)), False, dict.fromkeys(PARTS))


def dimension_or_reason(posterior: Posterior, bridgestan: str) -> tuple[int | None, str]:
    """The unconstrained dimension, or None and why the model cannot be built."""
    from ...models import StanDataError, StanProgramError
    from ...posteriordb_adapter import DatabaseError

    try:
        return dimension(posterior, bridgestan), ""
    except (DatabaseError, StanDataError, StanProgramError) as error:
        return None, one_line(str(error))


def shown(database: PosteriorDatabase, posterior: Posterior, bridgestan: str) -> Shown:
    """Everything about a posterior. What cannot be read or built is given with the reason."""
    from ...models import StanDataError, StanProgramError
    from ...posteriordb_adapter import DatabaseError

    layers = layers_of(database)
    reference, no_reference, model, reason = None, "", None, ""
    try:
        reference = posterior.reference()
    except DatabaseError as error:
        no_reference = one_line(str(error))
    try:
        model = stan_model(posterior, bridgestan)
    except (DatabaseError, StanDataError, StanProgramError) as error:
        reason = one_line(str(error))
    try:
        data = posterior.data()
        variables, conditionals = data_variables(data), exact_blocks(posterior.model.name, data)
    except DatabaseError:
        variables, conditionals = (), ()  # `reason` says so, for the model needs them too
    sources = sources_of(posterior, layers)
    return Shown(
        name=posterior.name,
        aliases=tuple(sorted(a for a, name in database.aliases().items() if name == posterior.name)),
        keywords=_keywords(posterior),
        model=_described(posterior.model),
        data=_described(posterior.data_info),
        program=posterior.program_path() if sources["program"] else None,
        dim=None if model is None else int(model.param_unc_num()),
        reason=reason,
        variables=variables,
        parameters=() if model is None else parameters_of(model, reference),
        conditionals=conditionals,
        reference=None if reference is None else summarize(reference, model),
        no_reference=no_reference,
        references=_unique(posterior.references, posterior.model.references, posterior.data_info.references),
        urls=_unique(posterior.urls, posterior.model.urls, posterior.data_info.urls),
        sources=sources,
        layers=layers,
    )


def exact_blocks(model: str, data: Mapping[str, Any]) -> tuple[str, ...]:
    """The blocks with exact conditionals of the model known under a name.

    Whether the program is that model is tested where it is run.
    """
    from ...models.conditionals import KNOWN

    try:
        return tuple(KNOWN[model](dict(data)).blocks.conditionals)
    except KeyError:  # another model, or the same name with other data
        return ()


def data_variables(data: Mapping[str, Any]) -> tuple[Variable, ...]:
    """The variables of a data set with their types and shapes."""
    return tuple(_variable(name, value) for name, value in data.items())


def _variable(name: str, value: Any) -> Variable:
    import numpy as np

    if isinstance(value, dict):
        return Variable(name, "tuple", ())
    try:
        array = np.array(value)
        if array.dtype.kind not in "biu":
            array = array.astype(np.float64)  # Stan spells NaN and infinities as strings
    except (TypeError, ValueError):
        return Variable(name, "ragged or mixed", ())
    kind = "real" if array.dtype.kind == "f" else "int"
    return Variable(name, kind, array.shape, array.item() if array.ndim == 0 else None)


def parameters_of(model: Any, reference: ReferenceDraws | None) -> tuple[Parameter, ...]:
    """A model's parameters and transformed parameters, elements gathered by variable."""
    from ...models.names import from_dots, split_name

    def gathered(names: Iterable[str]) -> dict[str, list[tuple[int, ...]]]:
        found: dict[str, list[tuple[int, ...]]] = {}
        for name in names:
            base, index = split_name(from_dots(name))
            found.setdefault(base, []).append(index)
        return found

    own, unconstrained = gathered(model.param_names()), gathered(model.param_unc_names())
    held = gathered(reference.names) if reference else None
    return tuple(
        Parameter(
            name=name,
            kind="parameter" if name in own else "transformed",
            shape=tuple(map(max, zip(*indices, strict=True))),
            elements=len(indices),
            unconstrained=len(unconstrained.get(name, ())),
            in_reference=None if held is None else len(set(indices) & set(held.get(name, ()))),
        )
        for name, indices in gathered(model.param_names(include_tp=True)).items()
    )


def summarize(reference: ReferenceDraws, model: Any) -> Reference:
    """Mean, sd, quantiles and bulk ESS of every parameter; ``model`` may be None."""
    import numpy as np
    from arviz_stats.base.array import array_stats  # slow to import: not at start-up

    from ...models.names import from_dots

    known = None if model is None else {from_dots(name) for name in model.param_names(include_tp=True)}
    draws = reference.draws
    chains, n, _ = draws.shape
    flat = draws.reshape(chains * n, -1)
    ess: Any = array_stats.ess(draws, chain_axis=0, draw_axis=1, method="bulk")
    quantiles = np.quantile(flat, QUANTILES, axis=0)
    columns = (flat.mean(0), flat.std(0, ddof=1), *quantiles, np.asarray(ess))
    figures = [column.tolist() for column in columns]
    return Reference(
        name=reference.name,
        chains=chains,
        draws=n,
        parameters=tuple(
            ParameterSummary(
                name, mean, sd, q05, q50, q95, ess_bulk, None if known is None else name in known
            )
            for name, mean, sd, q05, q50, q95, ess_bulk in zip(reference.names, *figures, strict=True)
        ),
    )


def _described(about: Description) -> dict[str, str]:
    return {"name": about.name, "title": about.title, "description": about.description}


def _keywords(posterior: Posterior) -> tuple[str, ...]:
    return _unique(posterior.keywords, posterior.model.keywords, posterior.data_info.keywords)


def _unique(*groups: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for group in groups for item in group))
