"""From a program and its data to a log density on the unconstrained space."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..stan_source import Program, StanDataError
from . import statements, syntax
from .constraints import Declared, constrain, free_size, satisfied
from .errors import NotBatchable, UnsupportedStanError
from .interpreter import Interpreter, LoopReport
from .memory import Memory
from .parser import parse_program
from .storage import Storage
from .values import INT, Value

Precision = Literal["float64", "float32"]


@dataclass(frozen=True)
class ParameterBlock:
    """A declared parameter and its place among the unconstrained numbers."""

    name: str
    declared: Declared
    """Sizes; bounds are evaluated anew at each evaluation, for they may depend on parameters."""
    start: int
    size: int


@dataclass(frozen=True)
class Explanation:
    """What a program has been compiled to."""

    loops: tuple[LoopReport, ...]
    """Of one evaluation of the density, in the order of execution."""
    equations: int
    """Of the jaxpr, those within its loops counted once."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Lowered:
    """A Stan program given data, as a log density in JAX."""

    name: str
    program: syntax.Program
    parameters: tuple[ParameterBlock, ...]
    data: Mapping[str, Value]
    """Data and transformed data, concrete."""
    precision: Precision

    @property
    def dim(self) -> int:
        return sum(block.size for block in self.parameters)

    def log_density(self, theta: Array) -> Array:
        """log p(θ) with the Jacobian of Stan's transforms: ``f[dim] -> f[]``.

        It is what BridgeStan computes with ``propto=True, jacobian=True``, constants left out as there;
        −inf where Stan rejects. A value that is not finite otherwise means that Stan would throw.
        """
        return self.log_density_with(theta, {})

    def log_density_with(self, theta: Array, replaced: Mapping[str, Any]) -> Array:
        """`log_density` with other values for some data or transformed data, of any sizes.

        Parameters
        ----------
        replaced : name → array, concrete or traced; sizes and loop bounds must be concrete
        """
        return self._execute(theta, replaced)[0]

    def explain(self) -> Explanation:
        """How the program's loops were compiled, and what came out of it. Traces the density once."""
        found: list[Interpreter] = []

        def traced(theta: Array) -> Array:
            value, run = self._execute(theta, {})
            found.append(run)
            return value

        jaxpr = jax.make_jaxpr(traced)(jnp.zeros(self.dim))
        run = found[0]
        warnings = []
        if any(isinstance(c, bool | np.bool_) and not c for c in run.conditions):
            warnings.append("the density is 0 everywhere: a condition that depends on data only fails")
        for loop in run.reports:
            if loop.mode == "unroll" and loop.iterations > 100:
                warnings.append(f"{loop.position}: {loop.iterations} iterations are unrolled: {loop.reason}")
        return Explanation(tuple(run.reports), _equations(jaxpr.jaxpr), tuple(warnings))

    def _execute(self, theta: Array, replaced: Mapping[str, Any]) -> tuple[Array, Interpreter]:
        dtype = jnp.asarray(theta).dtype
        single = self.precision == "float32"
        precision = jax.enable_x64(False) if single else nullcontext()
        with precision, np.errstate(all="ignore"), _as_unsupported(self.name):
            numbers = jnp.asarray(theta, jnp.float32 if single else float)
            run = Interpreter(_functions(self.program), Memory(self._variables(replaced)), traced=True)
            run.memory.autodiff = True
            run.target.append(self._declare_parameters(run, numbers))
            run.execute_all(self.program.transformed_parameters, None)
            _check(run, self.program.transformed_parameters)
            run.execute_all(self.program.model, None)
            value = run.log_density()
        return jnp.asarray(value, dtype), run

    def _variables(self, replaced: Mapping[str, Any]) -> dict[str, Storage]:
        variables = {}
        for name, value in self.data.items():
            if name in replaced:
                value = Value(value.type, replaced[name])
            variables[name] = Storage(name, value.type, value.shape, None, value)
        unknown = replaced.keys() - self.data.keys()
        if unknown:
            raise ValueError(f"{self.name!r} has no data called {', '.join(sorted(unknown))}")
        return variables

    def _declare_parameters(self, run: Interpreter, numbers: Array) -> Any:
        log_jacobian: Any = 0.0
        for block, node in zip(self.parameters, syntax.declarations(self.program.parameters), strict=True):
            declared = statements.declared(run, node.type, None, bounds=True)
            free = numbers[block.start : block.start + block.size]
            data, increment = constrain(declared, free)
            log_jacobian = log_jacobian + increment
            value = Value(declared.type, data)
            run.memory.declare(block.name, declared.type, declared.shape, None, value)
        return log_jacobian


def lower(program: Program, data: Mapping[str, Any], *, precision: Precision = "float64") -> Lowered:
    """A Stan program and its data as a log density in JAX.

    Transformed data are computed here, once. What is not supported shows when the density is traced.

    Parameters
    ----------
    data : as of `read_data`: plain values by name
    precision : of the density; ``"float32"`` is faster on accelerators and correct to fewer digits

    Raises
    ------
    UnsupportedStanError
        If the program has a construct that is not lowered, with its file and line.
    StanProgramError, StanDataError
        If the program cannot be read, or data are missing or of another shape.
    """
    if precision not in ("float64", "float32"):
        raise ValueError(f"precision={precision!r} is not supported: use 'float64' or 'float32'")
    tree = parse_program(program)
    run = Interpreter(_functions(tree), Memory(), traced=False)
    with np.errstate(all="ignore"), _as_unsupported(program.name):
        _declare_data(run, tree.data, data, program.name)
        run.execute_all(tree.transformed_data, None)
        blocks = _blocks(run, tree)
    values = {name: storage.content() for name, storage in run.memory.variables.items()}
    return Lowered(program.name, tree, blocks, values, precision)


def parameter_blocks(
    tree: syntax.Program, data: Mapping[str, Any], name: str
) -> tuple[tuple[ParameterBlock, ...], dict[str, np.ndarray]]:
    """The parameters and their places, and the data as arrays, with no density.

    Transformed data are computed only where a parameter's size depends on them.

    Raises
    ------
    UnsupportedStanError
        If it does, and they cannot be computed.
    StanDataError
        If data are missing or of another shape.
    """
    run = Interpreter(_functions(tree), Memory(), traced=False)
    with np.errstate(all="ignore"), _as_unsupported(name):
        _declare_data(run, tree.data, data, name)
        arrays = {given: np.asarray(found.content().data) for given, found in run.memory.variables.items()}
        sizes = syntax.variables(tuple(d.type.sizes for d in syntax.declarations(tree.parameters)))
        if sizes - arrays.keys():
            run.execute_all(tree.transformed_data, None)
        return _blocks(run, tree), arrays


def _blocks(run: Interpreter, tree: syntax.Program) -> tuple[ParameterBlock, ...]:
    blocks, start = [], 0
    for node in syntax.declarations(tree.parameters):
        declared = statements.declared(run, node.type, None)
        blocks.append(ParameterBlock(node.name, declared, start, free_size(declared)))
        start += blocks[-1].size
    return tuple(blocks)


@contextmanager
def _as_unsupported(name: str) -> Iterator[None]:
    """`NotBatchable` never leaves the lowering: here no way of executing a loop is left to try."""
    try:
        yield
    except NotBatchable as error:
        raise UnsupportedStanError(f"{name}: a loop in which {error}") from error


def _functions(tree: syntax.Program) -> dict[str, list[syntax.Function]]:
    found: dict[str, list[syntax.Function]] = {}
    for function in tree.functions:
        found.setdefault(function.name, []).append(function)
    return found


def _declare_data(
    run: Interpreter, block: Sequence[syntax.Statement], data: Mapping[str, Any], name: str
) -> None:
    for node in syntax.declarations(block):
        declared = statements.declared(run, node.type, None)
        if node.name not in data:
            raise StanDataError(f"the data of {name!r} lack {node.name!r}")
        array = _as_array(data[node.name], declared, node.name, name)
        run.memory.declare(node.name, declared.type, declared.shape, None, Value(declared.type, array))


def _as_array(given: Any, declared: Declared, variable: str, program: str) -> np.ndarray:
    dtype: Callable[..., Any] = np.int64 if declared.type.kind == INT.kind else np.float64
    try:
        array = np.asarray(given, dtype)
        if array.size == 0 == int(np.prod(declared.shape)):
            array = array.reshape(declared.shape)
    except (ValueError, TypeError) as error:
        raise StanDataError(f"{variable!r} in the data of {program!r}: {error}") from error
    if array.shape != declared.shape:
        raise StanDataError(
            f"{variable!r} in the data of {program!r} has the shape {array.shape}, "
            f"declared is {declared.shape}"
        )
    return array


def _check(run: Interpreter, block: Sequence[syntax.Statement]) -> None:
    """Transformed parameters outside of their declared bounds reject."""
    for node in syntax.declarations(block):
        if node.type.constraints or node.type.base not in ("int", "real", "vector", "row_vector", "matrix"):
            declared = statements.declared(run, node.type, None, bounds=True)
            met = satisfied(declared, run.memory.read(node.name, None).data)
            run.require(Value(INT, met), None)


def _equations(jaxpr: Any) -> int:
    """Equations of a jaxpr and of the jaxprs within it."""
    count = 0
    for equation in jaxpr.eqns:
        count += 1
        for parameter in equation.params.values():
            for inner in parameter if isinstance(parameter, tuple | list) else (parameter,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    count += _equations(inner)
    return count
