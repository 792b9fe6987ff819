"""The hierarchy of a Stan program: which parameters come one per datum, and what every datum shows.

Read from the declarations and the data; the density is neither lowered nor evaluated, so that it may be
anyone's. What of it depends on what is not asked here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import stan_source
from ..hierarchy import Hierarchy, HierarchyError, columns
from . import syntax
from .errors import UnsupportedStanError
from .model import ParameterBlock, parameter_blocks
from .parser import parse_program

BY_ELEMENT = ("vector", "row_vector", "matrix", "row_stochastic_matrix")
"""Types other than arrays whose unconstrained values belong to one leading index each."""
_NOT_LEADING = "the leading size of no parameter"


@dataclass(frozen=True)
class _Read:
    """A program and its data, as far as a hierarchy depends on them."""

    tree: syntax.Program
    blocks: tuple[ParameterBlock, ...]
    data: Mapping[str, np.ndarray]

    @property
    def counts(self) -> list[str]:
        """The ints among the data, in their order."""
        declared = syntax.declarations(self.tree.data)
        return [d.name for d in declared if d.type.base == "int" and not d.type.array]

    @property
    def dim(self) -> int:
        return sum(block.size for block in self.blocks)


def find_hierarchy(
    program: stan_source.Program, data: Mapping[str, Any], size: str | None = None
) -> Hierarchy:
    """The hierarchy of a program by one of its sizes, an int J among the data.

    Local are all parameters whose leading size is J and whose unconstrained values belong to one leading
    index each: vectors, matrices (by rows) and arrays of anything, but no ``ordered[J]`` or ``simplex[J]``.
    All others are global.

    What datum k shows are the k-th rows of all data whose leading size is J, as in ``y[k]`` and
    ``sigma[k]``. Where one array of ints ``g`` among the data says for each of N rows which of the J groups
    it belongs to (it is declared with ``upper=J``, or a dimension of size J is indexed by it), group k also
    shows a summary of its rows: how many there are (``"count"``) and the mean of every column of
    data of leading size N (``"mean of y"``), where a group without rows has the mean of all.

    Parameters
    ----------
    data : as of `read_data`: plain values by name
    size : None for the only one that fits

    Raises
    ------
    HierarchyError
        If the named size does not fit, none does, or several do, with the reason for each.
    StanProgramError, StanDataError
        If the program cannot be read, or data are missing or of another shape.
    """
    try:
        tree = parse_program(program)
        read = _Read(tree, *parameter_blocks(tree, data, program.name))
    except UnsupportedStanError as error:
        where = "" if error.position is None else f"{error.position}: "
        raise HierarchyError(
            f"no hierarchy can be read from the program {program.name!r}: {where}{error.reason}"
        ) from error
    verdicts = {name: _hierarchy_by(read, name) for name in read.counts}
    fitting = {name: found for name, found in verdicts.items() if isinstance(found, Hierarchy)}
    chosen = fitting if size is None else {name: fitting[name] for name in fitting if name == size}
    if len(chosen) == 1:
        return next(iter(chosen.values()))
    choices = f"; set hierarchy to {' or '.join(fitting)}" if fitting else ""
    if size is not None and size not in verdicts:
        raise HierarchyError(f"{size} is no int among the data of {program.name!r}{choices}")
    if size is None and fitting:
        raise HierarchyError(f"{program.name!r} has local parameters for data of several kinds{choices}")
    asked = verdicts if size is None else {size: verdicts[size]}
    raise HierarchyError(
        f"no parameters of {program.name!r} belong to one datum each ({_reasons(asked)}){choices}"
    )


def _reasons(verdicts: Mapping[str, Hierarchy | str]) -> str:
    said = [f"{name}: {reason}" for name, reason in verdicts.items() if reason != _NOT_LEADING]
    if names := [name for name, reason in verdicts.items() if reason == _NOT_LEADING]:
        said.append(f"{', '.join(names)}: {_NOT_LEADING}")
    return "; ".join(said) or "no int is among its data"


def _hierarchy_by(read: _Read, size: str) -> Hierarchy | str:
    """The hierarchy by a size, or why there is none."""
    n = int(read.data[size])
    leading = _with_leading(read.tree.parameters, size)
    if not leading:
        return _NOT_LEADING
    if n < 2:
        return f"there are {n} of them"
    parts = [_by_leading_index(block, n) for block in read.blocks if block.name in leading]
    if not any(part is not None and part.size for part in parts):
        return f"no element of {' or '.join(leading)} belongs to one of them alone"
    inputs = _inputs(read, size, n)
    if isinstance(inputs, str):
        return inputs
    local = np.concatenate([part for part in parts if part is not None], axis=1)
    try:
        return Hierarchy(read.dim, local, np.stack(list(inputs.values()), axis=1), tuple(inputs), size)
    except HierarchyError as error:
        return str(error)


def _by_leading_index(block: ParameterBlock, n: int) -> np.ndarray | None:
    """``i[n, …]``: the places of a parameter's unconstrained values by its first index; None: there are none.

    Arrays go through their elements one after the other, matrices column by column.
    """
    places = np.arange(block.start, block.start + block.size)
    if block.declared.arrays:
        return places.reshape(n, -1)
    return places.reshape(-1, n).T if block.declared.base in BY_ELEMENT else None


def _with_leading(block: Sequence[syntax.Statement], size: str) -> list[str]:
    """What is declared with that leading size."""
    return [d.name for d in syntax.declarations(block) if d.type.sizes[:1] == (syntax.Variable(size),)]


# -- what every datum shows -----------------------------------------------------------------------


def _inputs(read: _Read, size: str, n: int) -> dict[str, np.ndarray] | str:
    """Columns ``f[n]`` by name, or why there are none."""
    own = {name: read.data[name] for name in _with_leading(read.tree.data, size)}
    pointers = _pointers(read, size, n)
    if not own and not pointers:
        return "the leading size of no data, and no array of ints points to it"
    if not own and len(pointers) > 1:
        return f"{' and '.join(pointers)} point to it, so that a row belongs to {len(pointers)} of them"
    found = columns(own)
    if len(pointers) == 1:
        found |= _summaries(read, pointers[0], n)
    return found or f"{' and '.join(own)} have no columns"


def _summaries(read: _Read, pointer: str, n: int) -> dict[str, np.ndarray]:
    """The number of rows of every group, and its means of the data that are as long as ``pointer``."""
    group = read.data[pointer] - 1
    (declared,) = (d for d in syntax.declarations(read.tree.data) if d.name == pointer)
    long = [
        d.name
        for d in syntax.declarations(read.tree.data)
        if d.type.sizes[:1] == declared.type.sizes and d.name != pointer
    ]
    count = np.bincount(group, minlength=n)
    found = {"count": count.astype(float)}
    for name, column in columns({name: read.data[name] for name in long}).items():
        total = np.bincount(group, column, n)
        found[f"mean of {name}"] = np.where(count > 0, total / np.maximum(count, 1), column.mean())
    return found


def _pointers(read: _Read, size: str, n: int) -> list[str]:
    """Arrays of ints among the data that name one of ``n`` groups each."""
    indices = _indices_of(read.tree, syntax.Variable(size))
    return [
        d.name
        for d in syntax.declarations(read.tree.data)
        if d.type.base == "int"
        and len(d.type.array) == 1
        and (d.name in indices or d.type.constraint("upper") == syntax.Variable(size))
        and read.data[d.name].size
        and read.data[d.name].min() >= 1
        and read.data[d.name].max() <= n
    ]


def _indices_of(tree: syntax.Program, size: syntax.Variable) -> set[str]:
    """The variables ``g`` by which a dimension of that size is indexed, as in ``a[g]`` or ``a[g[i]]``.

    A variable that one of them, or an element, is assigned to stands for it: ``int k = g[i]; a[k]``.
    """
    executed = (tree.transformed_data, tree.transformed_parameters, tree.model)
    found = list(syntax.nodes((tree.data, tree.parameters, *executed)))
    sizes = {node.name: node.type.sizes for node in found if isinstance(node, syntax.Declaration)}
    indices = {
        name
        for node in found
        if isinstance(node, syntax.Index) and isinstance(node.base, syntax.Variable)
        for index, along in zip(node.indices, sizes.get(node.base.name, ()), strict=False)
        if along == size and isinstance(index, syntax.Single)
        for name in _named(index.expression)
    }
    for node in found:
        if isinstance(node, syntax.Declaration) and node.name in indices:
            indices |= _named(node.initial)
        elif isinstance(node, syntax.Assignment) and node.name in indices:
            indices |= _named(node.value)
    return indices


def _named(node: syntax.Expression | None) -> set[str]:
    """``{"g"}`` of ``g`` and of ``g[i]``, else nothing."""
    if isinstance(node, syntax.Index):
        node = node.base
    return {node.name} if isinstance(node, syntax.Variable) else set()
