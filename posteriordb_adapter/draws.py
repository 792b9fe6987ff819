"""Reference draws: the published file → arrays, names, a DataTree, and what a target can compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..models.names import named_arrays, split_name
from ..models.target import digest_of
from .errors import CorruptDatabase, UnmappedReference
from .files import read_json, read_object
from .layers import Found, Layers

if TYPE_CHECKING:
    from xarray import DataTree

MAX_SPARSITY = 1000
"""A variable's array may have this many elements for each element that the draws hold."""


@dataclass(frozen=True, eq=False)
class ReferenceDraws:
    """Draws that results are held against."""

    name: str
    names: tuple[str, ...]
    """One per column, as in the file: ``"mu"``, ``"theta[1,2]"``."""
    draws: np.ndarray
    """``f[chain, draw, parameter]``, float64 and read-only."""
    info: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """How the draws were made and checked (`normalized_info`); empty where no layer says."""

    @cached_property
    def digest(self) -> str:
        """Identifies names and draws, whatever file or layer they come from."""
        return digest_of(*self.names, str(self.draws.shape), self.draws.astype("<f8").tobytes())

    def select(self, names: Sequence[str]) -> ReferenceDraws:
        """The same draws with these columns, in this order.

        Raises
        ------
        KeyError
            If a name is not among the reference's.
        """
        places = {name: column for column, name in enumerate(self.names)}
        unknown = [name for name in names if name not in places]
        if unknown:
            raise KeyError(f"reference {self.name!r} has no {', '.join(unknown)}; it has {list(self.names)}")
        columns = [places[name] for name in names]
        return ReferenceDraws(self.name, tuple(names), _frozen(self.draws[..., columns]), self.info)

    def to_datatree(self) -> DataTree:
        """ArviZ's DataTree with the group ``posterior``, one array per variable.

        Elements of a variable that the reference leaves out are NaN.
        """
        from arviz_base import from_dict  # imports plotting backends' registries: not at start-up
        from xarray import DataTree

        tree = from_dict({"posterior": named_arrays(self.names, self.draws)})
        assert isinstance(tree, DataTree)
        return tree


class Comparable(NamedTuple):
    """Which of a target's parameters a reference can be held against."""

    names: tuple[str, ...]
    """In both, in the target's order."""
    columns: np.ndarray
    """``i[len(names)]``: their columns in ``target.constrain``."""
    missing: tuple[str, ...]
    """The target's other parameters."""


def comparable(param_names: Sequence[str], reference: ReferenceDraws) -> Comparable:
    """What of ``param_names`` (a target's) the reference has.

    References hold what their makers thought of interest: for some models transformed parameters
    and not the parameters that these are made from.

    Raises
    ------
    UnmappedReference
        If they have nothing in common.
    """
    known = set(reference.names)
    shared = [(name, column) for column, name in enumerate(param_names) if name in known]
    if not shared:
        raise UnmappedReference(
            f"reference {reference.name!r} ({', '.join(reference.names[:5])}, …) has none of the model's"
            f" parameters ({', '.join(param_names[:5])}, …); it belongs to another model"
        )
    names, columns = zip(*shared, strict=True)
    return Comparable(names, np.array(columns), tuple(name for name in param_names if name not in known))


def read_reference(name: str, found: Found) -> ReferenceDraws:
    """The reference draws in a file of posteriordb's form: one object per chain, name → numbers.

    Raises
    ------
    CorruptDatabase
        If chains differ in names or length, a number is not finite, or the file has another form.
    """
    names, draws = parse_chains(read_json(found.path), found.path)
    # From the same layer: another layer's would describe another layer's draws.
    info = Layers((found.layer,)).find(f"reference_posteriors/draws/info/{name}.info.json")
    return ReferenceDraws(name, names, draws, read_info(info.path) if info else {})


def parse_chains(chains: Any, path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and draws ``f[chain, draw, parameter]`` from the JSON value of a file of draws.

    Raises
    ------
    CorruptDatabase
        As `read_reference`.
    """
    chains = [chains] if isinstance(chains, dict) else chains
    if not isinstance(chains, list) or not chains or not all(isinstance(c, dict) and c for c in chains):
        raise CorruptDatabase(path, "is not a list of chains, each an object of named draws")
    names = tuple(chains[0])
    _check_names(names, path)
    if any(chain.keys() != chains[0].keys() for chain in chains):
        raise CorruptDatabase(path, "has chains with different parameters")
    columns = [[_numbers(chain[name], name, path) for name in names] for chain in chains]
    lengths = {len(column) for chain in columns for column in chain}
    if len(lengths) != 1 or 0 in lengths:
        raise CorruptDatabase(path, f"has ragged draws: columns of {sorted(lengths)} numbers")
    draws = np.array(columns).swapaxes(1, 2)
    bad = ~np.isfinite(draws).all((0, 1))
    if bad.any():
        raise CorruptDatabase(path, f"has draws that are not finite, of {_listed(names, bad)}")
    return names, _frozen(draws)


def _check_names(names: tuple[str, ...], path: Path) -> None:
    indices: dict[str, list[tuple[int, ...]]] = {}
    try:
        for name in names:
            base, index = split_name(name)
            indices.setdefault(base, []).append(index)
    except ValueError as error:
        raise CorruptDatabase(path, str(error)) from error
    for base, found in indices.items():
        if len({len(index) for index in found}) > 1 or len(set(found)) < len(found):
            raise CorruptDatabase(path, f"has elements of {base!r} that do not fit into one array")
        if any(i < 1 for index in found for i in index):
            raise CorruptDatabase(path, f"counts elements of {base!r} from 0, not from 1")
        size = np.prod(np.max(found, axis=0), dtype=float)
        if size > MAX_SPARSITY * len(found):
            raise CorruptDatabase(path, f"has {len(found)} elements of a {base!r} of size {size:.3g}")


def _numbers(values: Any, name: str, path: Path) -> np.ndarray:
    # R writes a vector of one number as the number.
    values = values if isinstance(values, list) else [values]
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise CorruptDatabase(path, f"has draws of {name!r} that are no numbers ({error})") from error
    if numbers.ndim != 1:
        raise CorruptDatabase(path, f"has draws of {name!r} that are not a plain list of numbers")
    return numbers


def _listed(names: Iterable[str], which: np.ndarray) -> str:
    return ", ".join(name for name, chosen in zip(names, which, strict=True) if chosen)


def _frozen(draws: np.ndarray) -> np.ndarray:
    draws = np.ascontiguousarray(draws, dtype=np.float64)
    draws.flags.writeable = False
    return draws


_PER_PARAMETER_OR_CHAIN = (
    "effective_sample_size_bulk",
    "effective_sample_size_tail",
    "r_hat",
    "mean_lag1_ac",
    "divergent_transitions",
    "expected_fraction_of_missing_information",
)


def read_info(path: Path) -> dict[str, Any]:
    """How reference draws were made, in the newer of the two published forms.

    In both forms a vector of one number may be written as the number; here it is a list.

    Raises
    ------
    CorruptDatabase
        If the file does not hold an object with an object ``diagnostics``.
    """
    info = read_object(path)
    diagnostics = info.get("diagnostics")
    if diagnostics is None:
        return info
    if not isinstance(diagnostics, dict):
        raise CorruptDatabase(path, f"'diagnostics' is {diagnostics!r:.80}, not an object")
    diagnostics = dict(diagnostics)
    about = diagnostics.pop("diagnostics_information", None) or diagnostics.pop(
        "diagnostic_information", None
    )
    if isinstance(about, dict) and isinstance(about.get("names"), str):
        about = {**about, "names": [about["names"]]}
    for key in _PER_PARAMETER_OR_CHAIN:
        if isinstance(diagnostics.get(key), int | float):
            diagnostics[key] = [diagnostics[key]]
    return {**info, "diagnostics": {"diagnostic_information": about or {}, **diagnostics}}
