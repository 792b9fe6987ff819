"""Small programs, each with something that could silently go wrong, held against Stan.

A comment ``// scan`` or ``// unroll`` at a loop is how it may be compiled at worst; without one the loop
must be executed for all iterations at once.
"""

from pathlib import Path

import jax
import numpy as np
import pytest
from against_stan import compare, pair, points_for
from essper.models.stan_source import read_program
from essper.models.stan_to_jax import LoweringError, UnsupportedStanError, lower

FOLDER = Path(__file__).parent / "programs"
NAMES = sorted(file.stem for file in FOLDER.glob("*.stan"))
TOLERANCES = {
    # Stan's derivatives of log Φ are piecewise polynomials, good to 3e-6.
    "functions_density": 1e-5,
    "truncation": 1e-5,
}
REJECTING = {
    "constraints_chained",
    "not_a_number",
    "rejections",
    "support",
    "transformed_violations",
    "transformed_violations_types",
    "truncation",
}
MODES = ("batch", "scan", "unroll")
"""Of loops, the best first."""


@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_are_stans(name):
    program, data = FOLDER / f"{name}.stan", FOLDER / f"{name}.json"
    evaluated = pair(program, data if data.exists() else None)
    found = compare(evaluated, points_for(evaluated.lowered.dim))
    found.require(TOLERANCES.get(name, 1e-8), finite=20)
    assert (found.finite < found.points) == (name in REJECTING)
    lines = program.read_text().splitlines()
    for loop in evaluated.lowered.explain().loops:
        _, _, allowed = lines[loop.position.line - 1].rpartition("  // ")
        worst = allowed if allowed in MODES else "batch"
        assert MODES.index(loop.mode) <= MODES.index(worst), loop


DECLARED = """
functions {
  vector system(vector x, vector theta, array[] real x_r, array[] int x_i) { return x - theta; }
}
data { int N; }
parameters { vector[3] a; vector[1] b; matrix[3, 3] m; array[2] real q; }
model {
"""

REFUSED = {
    "a loop as long as parameters say": "real s = a[1]; while (s < 2) s += 1; target += s;",
    "a loop that parameters leave": "for (i in 1:3) { if (a[i] > 0) break; target += a[i]; }",
    "bounds that are parameters'": "for (i in 1:(a[1] > 0 ? 2 : 3)) target += a[i];",
    "the target as a value": "target += sqrt(target());",
    "tuples": "tuple(real, int) t = (a[1], 2); target += t.1;",
    "complex numbers": "complex z = to_complex(a[1], a[2]); target += get_real(z);",
    "algebraic equations": "target += algebra_solver(system, a, a, {0.0}, {0})[1];",
    "an unknown distribution": "a ~ zeta(1);",
    "an unknown function": "target += zeta(a[1]);",
}

WRONG = {
    "sizes of a sum": "target += sum(a + b);",
    "sizes of a product": "target += dot_product(a, b);",
    "sizes of matrices": "target += sum(m .* m[1:1]);",
    "sizes of a density's arguments": "a ~ normal(b, 1);",
    "sizes of an assignment": "vector[3] c = b; target += sum(c);",
    "sizes of an assignment to a part": "vector[3] c = a; c[1:3] = b; target += sum(c);",
    "sizes of an increment": "vector[3] c = a; c += b; target += sum(c);",
    "an index of 0": "target += a[N - 3];",
    "an index beyond the end": "target += a[N + 1];",
    "an index beyond a column": "target += m[1, 4];",
    "a range beyond the end": "target += sum(a[2:4]);",
    "a segment beyond the end": "target += sum(segment(a, 2, 3));",
    "an index in a loop": "for (i in 1:3) target += a[i + 1];",
    "an assignment in a loop": "vector[3] c; for (i in 1:4) c[i] = a[1]; target += sum(c);",
    "an assignment in a long loop": "vector[30] c; for (i in 1:31) c[i] = i > 1 ? c[i - 1] + a[1] : 0;",
    "a division of ints by 0": "target += N %/% (N - 3);",
}


def evaluate(statements):
    lowered = lower(read_program(f"{DECLARED}{statements}\n}}", "program"), {"N": 3})
    return jax.vmap(jax.value_and_grad(lowered.log_density))(points_for(lowered.dim))


@pytest.mark.parametrize("construct", REFUSED)
def test_what_is_not_lowered_is_refused(construct):
    with pytest.raises(UnsupportedStanError, match=r"program:\d+:\d+: "):
        evaluate(REFUSED[construct])


@pytest.mark.parametrize("mistake", WRONG)
def test_what_stan_would_refuse_is_no_number(mistake):
    """Such programs fail in Stan at every evaluation or at some; an array library would broadcast or clip."""
    with pytest.raises(LoweringError, match=r"program:\d+:\d+: "):
        evaluate(WRONG[mistake])


def test_the_declarations_around_what_is_refused_are_fine():
    values, gradients = evaluate("target += sum(a);")
    assert np.isfinite(values).all()
    assert np.isfinite(gradients).all()


@pytest.mark.parametrize(
    ("statement", "coordinate"),
    [("if (a[1] > 0) target += a[4];", 0), ("for (i in 1:3) if (a[i] > 0) target += a[i + 1];", 2)],
)
def test_an_index_beyond_the_end_below_a_condition_is_no_number_where_it_holds(statement, coordinate):
    values, _ = evaluate(statement)
    np.testing.assert_array_equal(np.isfinite(values), points_for(15)[:, coordinate] <= 0)
