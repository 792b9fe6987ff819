"""Which parameters belong to a datum each: Stan programs, numpyro plates, and what a user gives."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from essper.models import (
    Hierarchy,
    HierarchyError,
    LoweredTarget,
    from_log_density,
    from_numpyro,
    from_stan,
)
from essper.models.names import split_name
from essper.models.stan_source import read_program
from essper.models.stan_to_jax import find_hierarchy
from essper.models.stan_to_jax.constraints import Declared, constrain
from essper.posteriordb_adapter import PosteriorDatabase

sample: Any = numpyro.sample
SCHOOLS = [[28, 15], [8, 10], [-3, 16], [7, 11], [-1, 9], [1, 11], [18, 10], [12, 18]]


def moved_by(target, coordinates):
    """The constrained parameters that change with some coordinates, as ``{"theta": {(2,), …}, …}``."""
    x = np.random.default_rng(0).normal(0, 0.3, target.dim)
    found: dict[str, set[tuple[int, ...]]] = {}
    for coordinate in np.ravel(coordinates):
        before, after = target.constrain(np.stack([x, x + 0.5 * (np.arange(target.dim) == coordinate)]))
        changed = [name for name, same in zip(target.param_names, before == after, strict=True) if not same]
        assert changed, f"coordinate {coordinate} moves nothing"
        for name, index in map(split_name, changed):
            found.setdefault(name, set()).add(index)
    return found


def assert_local(target, names):
    """Row k moves the parameters ``names`` at leading index k, each of them wholly, and no others do."""
    hierarchy = target.hierarchy
    rows = [moved_by(target, places) for places in hierarchy.local]
    for k, row in enumerate(rows):
        assert set(row) == set(names)
        assert {index[0] for indices in row.values() for index in indices} == {k + 1}
    every = [split_name(name) for name in target.param_names]
    for name in names:
        assert set.union(*(row[name] for row in rows)) == {index for base, index in every if base == name}
    assert hierarchy.dim == target.dim
    assert sorted([*hierarchy.shared, *hierarchy.local.ravel()]) == list(range(target.dim))


# -- Stan programs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "local"), [("centered", {"theta"}), ("noncentered", {"theta_trans", "theta"})]
)
def test_eight_schools(model, local):
    posterior = PosteriorDatabase().posterior(f"eight_schools-eight_schools_{model}")
    target = posterior.target("bridgestan", hierarchy="auto")
    assert target.hierarchy is not None
    assert (target.hierarchy.data, target.hierarchy.n) == ("J", 8)
    assert target.hierarchy.input_names == ("y", "sigma")
    np.testing.assert_array_equal(target.hierarchy.inputs, SCHOOLS)
    assert_local(target, local)
    assert {"mu", "tau"} <= set(moved_by(target, target.hierarchy.shared))
    plain = posterior.target("bridgestan")
    assert plain.hierarchy is None
    assert (plain.digest, plain.param_names) == (target.digest, target.param_names)
    named = posterior.target("bridgestan", hierarchy="J").hierarchy
    assert named is not None
    np.testing.assert_array_equal(target.hierarchy.local, named.local)


def test_surgical_and_its_lowered_density():
    posterior = PosteriorDatabase().posterior("simulated_surgical-surgical_model")
    target = posterior.target("jax", verify=False, hierarchy="N")
    assert isinstance(target, LoweredTarget)
    assert target.hierarchy is not None
    assert target.hierarchy.input_names == ("n", "r")
    np.testing.assert_array_equal(target.hierarchy.inputs, np.stack([posterior.data()[v] for v in "nr"], 1))
    assert_local(target, {"b", "p"})


SHAPES = """
data { int J; int K; int size; vector[J] y; array[J] matrix[2, K] x; array[K] real of_columns; }
transformed data { int three = size; }
parameters {
  real mu;
  matrix<lower=0>[J, K] rows;
  array[J] vector[K] arrays;
  array[J, 2] simplex[three] simplexes;
  array[J] cov_matrix[2] matrices;
  row_vector<lower=-1, upper=mu + 50>[J] across;
  ordered[J] o;
  simplex[J] w;
  array[K] vector[J] not_leading;
  vector<offset=mu, multiplier=2>[J] scaled;
}
model { y ~ normal(scaled, 1); }
"""


def test_types_whose_values_belong_to_a_leading_index():
    rng = np.random.default_rng(0)
    y, x = rng.standard_normal(4), rng.standard_normal((4, 2, 3))
    data = {"J": 4, "K": 3, "size": 3, "y": y, "x": x, "of_columns": [1, 2, 3]}
    target = from_stan(SHAPES, data, "bridgestan", hierarchy="J")
    assert target.hierarchy is not None
    assert_local(target, {"rows", "arrays", "simplexes", "matrices", "across", "scaled"})
    assert {"mu", "o", "w", "not_leading"} <= set(moved_by(target, target.hierarchy.shared))
    assert target.hierarchy.local.shape == (4, 3 + 3 + 2 * 2 + 3 + 1 + 1)
    x_names = [f"x[{i},{j}]" for i in (1, 2) for j in (1, 2, 3)]
    assert target.hierarchy.input_names == ("y", *x_names)
    np.testing.assert_array_equal(target.hierarchy.inputs, np.column_stack([y, x.reshape(4, 6)]))
    with pytest.raises(HierarchyError, match="several kinds; set hierarchy to J or K"):
        from_stan(SHAPES, data, "bridgestan", hierarchy="auto")


def test_rows_of_a_stochastic_matrix():
    text = "data { int J; vector[J] y; } parameters { real a; row_stochastic_matrix[J, 4] q; }"
    hierarchy = found(text, {"J": 3, "y": [1, 2, 3]})
    assert (hierarchy.local.shape, hierarchy.shared.tolist()) == ((3, 3), [0])
    declared = Declared("row_stochastic_matrix", (), (3, 4))
    free = np.random.default_rng(0).normal(size=(4, 9))
    free[1:] = free[0]
    np.put_along_axis(free[1:], hierarchy.local - 1, 5.0, axis=1)
    matrices, _ = jax.jit(jax.vmap(lambda x: constrain(declared, x)))(free)
    changed = np.asarray(matrices[1:] != matrices[0])
    np.testing.assert_array_equal(changed.all(2), np.eye(3, dtype=bool))
    np.testing.assert_array_equal(changed.any(2), np.eye(3, dtype=bool))


LONG = "int N; int J; array[N] int<lower=1{upper}> g; vector[N] y; array[N] vector[2] x; real once;"
ALPHA = "vector[J] alpha; real<lower=0> s;"
ROWS: dict[str, Any] = {"N": 5, "J": 4, "g": [2, 1, 2, 4, 2], "y": [1, 2, 3, 4, 9.5], "once": 1.0}
ROWS["x"] = [[1, 10], [2, 20], [3, 30], [4, 40], [8, 50]]


@pytest.mark.parametrize(
    ("upper", "parameters", "model"),
    [
        (", upper=J", ALPHA, ""),
        ("", ALPHA, "y ~ normal(alpha[g], s);"),
        ("", ALPHA, "for (n in 1:N) y[n] ~ normal(alpha[g[n]], s);"),
        ("", ALPHA, "for (n in 1:N) { int k; k = g[n]; y[n] ~ normal(alpha[k], s); }"),
        ("", ALPHA, "matrix[2, J] m = rep_matrix(alpha', 2); for (n in 1:N) y[n] ~ normal(m[1, g[n]], s);"),
    ],
)
def test_rows_that_point_to_their_group(upper, parameters, model):
    text = f"data {{ {LONG.format(upper=upper)} }} parameters {{ {parameters} }} model {{ {model} }}"
    hierarchy = found(text, ROWS)
    assert (hierarchy.data, hierarchy.dim, hierarchy.local.tolist()) == ("J", 5, [[0], [1], [2], [3]])
    assert hierarchy.input_names == ("count", "mean of y", "mean of x[1]", "mean of x[2]")
    means = [[1, 2, 2, 20], [3, 4.5, 4, 30], [0, 3.9, 3.6, 30], [1, 4, 4, 40]]  # group 3: of all rows
    np.testing.assert_allclose(hierarchy.inputs, means, rtol=1e-14)


def test_rows_that_point_and_data_of_the_group():
    data = "int N; int J; array[N] int<upper=J> g; vector[N] y; vector[J] u;"
    hierarchy = found(f"data {{ {data} }} parameters {{ {ALPHA} }}", ROWS | {"u": [5, 6, 7, 8]})
    assert hierarchy.input_names == ("u", "count", "mean of y")
    np.testing.assert_array_equal(hierarchy.inputs[:, 0], [5, 6, 7, 8])


def found(text, data, size=None):
    return find_hierarchy(read_program(text + "\n", "model"), data, size)


@pytest.mark.parametrize(
    ("data", "parameters", "size", "message"),
    [
        ("int J; vector[J] y;", "real a;", None, r"one datum each \(J: the leading size of no parameter\)$"),
        (
            "int J; vector[J] y;",
            "ordered[J] a;",
            None,
            r"\(J: no element of a belongs to one of them alone\)",
        ),
        (
            "int J; int N; vector[N] y;",
            "vector[J] a;",
            None,
            r"\(J: the leading size of no data, and no .*; N:",
        ),
        ("int one; vector[one] y;", "vector[one] a;", None, r"\(one: there are 1 of them\)"),
        ("int J; vector[J] gap;", "vector[J] a;", None, r"\(J: inputs .* finite numbers: gap are not every"),
        ("int J; matrix[J, 0] x;", "vector[J] a;", None, r"\(J: x have no columns\)"),
        ("real r;", "vector[2] a;", None, r"\(no int is among its data\)"),
        (
            "int J; int N; array[N] int<upper=J> g; array[N] int<upper=J> h;",
            "vector[J] a;",
            "J",
            r"\(J: g and h point to it, so that a row belongs to 2 of them\)",
        ),
        ("int J; int N; vector[J] y;", "vector[J] a;", "N", r"\(N: the leading .*\); set hierarchy to J$"),
        ("int J; vector[J] y;", "vector[J] a;", "M", r"^M is no int among the data of 'model'; set .* to J$"),
        (
            "int J; int N; vector[J] y; vector[N] z;",
            "vector[J] a; vector[N] b;",
            None,
            r"^'model' has local parameters for data of several kinds; set hierarchy to J or N$",
        ),
    ],
)
def test_what_is_no_hierarchy_is_refused(data, parameters, size, message):
    given = {"J": 3, "N": 2, "one": 1, "r": 0.5, "y": [1, 2, 3], "z": [1, 2], "g": [1, 3], "h": [2, 2]}
    given |= {"gap": [1, 2, float("inf")], "x": [[], [], []]}
    if "vector[N] y" in data:
        given["y"] = [1, 2]
    elif "vector[one]" in data:
        given["y"] = [1]
    with pytest.raises(HierarchyError, match=message):
        found(f"data {{ {data} }} parameters {{ {parameters} }}", given, size)


def test_programs_that_cannot_be_read_and_the_remedy():
    program = "data { int J; } parameters { tuple(real, real) t; }"
    with pytest.raises(
        HierarchyError, match=r"no hierarchy can be read from the program 'model': model:1:\d+"
    ):
        found(program, {"J": 2})
    with pytest.raises(HierarchyError, match=r"To give one: dataclasses.replace\(target, hierarchy="):
        from_stan("parameters { real a; } model { a ~ normal(0, 1); }\n", hierarchy="auto")


def hierarchy_of(dim, local, inputs, names):
    return Hierarchy(dim, np.array(local), np.array(inputs), tuple(names))


@pytest.mark.parametrize("backend", ["bridgestan", "jax"])
def test_a_hierarchy_of_ones_own(backend):
    program = "parameters { vector[4] z; } model { z ~ normal(0, 1); }\n"
    target = from_stan(program, backend=backend, verify=False) if backend == "jax" else from_stan(program)
    given = replace(target, hierarchy=hierarchy_of(4, [[0, 1], [3, 2]], [[0.5], [1.5]], "x"))
    assert type(given) is type(target)
    assert (given.digest, given.density) == (target.digest, target.density)
    assert given.hierarchy is not None
    assert given.hierarchy.local.tolist() == [[0, 1], [3, 2]]
    assert given.hierarchy.shared.tolist() == []
    assert (given.hierarchy.n, given.hierarchy.data) == (2, "data")


@pytest.mark.parametrize(
    ("local", "inputs", "message"),
    [
        ([[0], [0]], [[1], [2]], "needs different integers"),
        ([[0], [3]], [[1], [2]], "outside of 0 … 2"),
        ([[0], [1]], [[1]], "2 local parameters and 1 data"),
        ([[0], [1]], [[1], [np.nan]], "finite numbers: x are not everywhere"),
        ([[0], [1]], [[1, 2], [3, 4]], "2 columns of inputs and 1 names"),
        ([0, 1], [[1], [2]], r"local needs the shape \[n, d\]"),
    ],
)
def test_what_is_given_is_checked(local, inputs, message):
    target = from_log_density("flat", 3, jnp.sum)
    with pytest.raises(HierarchyError, match=message):
        replace(target, hierarchy=hierarchy_of(target.dim, local, inputs, "x"))


def test_windows_hold_the_neighbours_and_zeros_beyond_the_ends():
    hierarchy = hierarchy_of(3, [[0], [1], [2]], [[1, 10], [2, 20], [3, 30]], "ab")
    windows = hierarchy.windows(before=1)
    np.testing.assert_array_equal(windows, [[0, 0, 1, 10], [1, 10, 2, 20], [2, 20, 3, 30]])
    np.testing.assert_array_equal(hierarchy.windows(after=2)[:, 4:], [[3, 30], [0, 0], [0, 0]])


# -- plates ---------------------------------------------------------------------------------------

Y, SIGMA = np.array(SCHOOLS, float).T


def schools(errors, y, twice=False):
    mu, tau = sample("mu", dist.Normal(0, 5)), sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("J", len(y)) as j:
        theta = sample("theta", dist.Normal(mu, tau))
        y = jnp.asarray(y)[j] if twice else y
        sample("y", dist.Normal(theta, errors["sigma"]), obs=y)


@pytest.mark.parametrize("twice", [False, True])
def test_schools_of_a_plate(twice):
    target = from_numpyro(schools, {"sigma": SIGMA}, Y, twice=twice)
    assert target.hierarchy is not None
    assert (target.hierarchy.data, target.hierarchy.input_names) == ("J", ("y", "errors.sigma"))
    np.testing.assert_array_equal(target.hierarchy.inputs, SCHOOLS)
    assert target.hierarchy.local.tolist() == [[k] for k in range(2, 10)]
    assert target.digest == replace(target, hierarchy=None).digest


def events(x, y):
    """A plate that is not the last dimension; simplexes, vectors and observed vectors; a factor."""
    scale = sample("scale", dist.HalfNormal(2))
    with numpyro.plate("sites", 3, dim=-2):
        shares = sample("shares", dist.Dirichlet(jnp.ones(4)))
        slopes = sample("slopes", dist.Normal(0, scale).expand([3, 1, 2]).to_event(1))
        sample("y", dist.Normal(slopes, 1).to_event(1), obs=y)
        with numpyro.plate("visits", 5):
            sample("z", dist.Normal(x[:, None] * shares[..., 0], 1), obs=np.arange(15.0).reshape(3, 5))
        numpyro.factor("f", -jnp.square(shares[..., 1]))
    last = sample("last", dist.Normal(0, 1).expand([2]).to_event(1))
    numpyro.factor("g", -jnp.square(last[0]))


def test_plates_with_events():
    y = np.arange(6.0).reshape(3, 1, 2)
    target = from_numpyro(events, np.array([7.0, 8.0, 9.0]), y)
    assert target.hierarchy is not None
    assert_local(target, {"shares", "slopes"})
    assert target.hierarchy.local.shape == (3, 3 + 2)
    assert set(moved_by(target, target.hierarchy.shared)) == {"scale", "last"}
    expected = np.column_stack([y[:, 0], np.arange(15).reshape(3, 5), [7, 8, 9]])
    np.testing.assert_array_equal(target.hierarchy.inputs, expected)
    assert target.hierarchy.input_names == ("y[1]", "y[2]", *(f"z[{i}]" for i in range(1, 6)), "x")


def several(y, nested=False):
    mu = sample("mu", dist.Normal(0, 1))
    with numpyro.plate("groups", 3):
        sample("effect", dist.Normal(mu, 1))
    with numpyro.plate("rows", len(y), dim=-1):
        if nested:
            with numpyro.plate("columns", 2, dim=-2):
                sample("z", dist.Normal(mu, 1))
        else:
            sample("z", dist.Normal(mu, 1))
        sample("y", dist.Normal(mu, 1), obs=y)
    with numpyro.plate("others", 2):
        sample("more", dist.Normal(mu, 1), obs=np.ones(2))


@pytest.mark.parametrize(
    ("options", "hierarchy", "message"),
    [
        ({}, "row", "no such plate; it has 'groups', 'rows', 'others'"),
        ({}, "groups", "nothing is observed in the plate 'groups', and no argument has the leading size 3"),
        ({}, "others", "no latent site stands in the plate 'others'"),
        ({"nested": True}, "auto", "'z' stands in several plates, columns, rows"),
    ],
)
def test_plates_that_are_no_hierarchy(options, hierarchy, message):
    with pytest.raises(HierarchyError, match=message):
        from_numpyro(several, Y, hierarchy=hierarchy, **options)


def test_without_being_asked_only_what_is_clear():
    found = from_numpyro(several, Y).hierarchy
    assert found is not None
    assert found.data == "rows"
    assert from_numpyro(several, Y, nested=True).hierarchy is None

    def pooled(y):
        mu = sample("mu", dist.Normal(0, 1))
        with numpyro.plate("rows", len(y)):
            sample("y", dist.Normal(mu, 1), obs=y)

    assert from_numpyro(pooled, Y).hierarchy is None
    with pytest.raises(HierarchyError, match="0 plates have latent and observed sites"):
        from_numpyro(pooled, Y, hierarchy="auto")
