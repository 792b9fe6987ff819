"""The dependence check against the definition: what it accepts does the same at once as in order."""

import numpy as np
import pytest
from essper.models.stan_to_jax.dependence import Accesses
from essper.models.stan_to_jax.errors import NotBatchable

ROWS, ELEMENTS, STATEMENTS, TRIALS = 4, 4, 3, 3000


def random_body(rng):
    """Statements that read or write one element per row: ``[(writes, i[rows]), …]``."""
    patterns = [
        lambda: rng.integers(0, ELEMENTS, ROWS),
        lambda: np.arange(ROWS),
        lambda: np.clip(np.arange(ROWS) + rng.integers(-1, 2), 0, ELEMENTS - 1),
        lambda: rng.permutation(ELEMENTS)[:ROWS],
    ]
    return [(bool(rng.integers(2)), patterns[rng.integers(4)]()) for _ in range(STATEMENTS)]


def execute(body, order):
    """What is read, by statement and row, and what is left behind."""
    memory = [("before", element) for element in range(ELEMENTS)]
    read = {}
    for statement, row in order:
        writes, elements = body[statement]
        if writes:
            memory[elements[row]] = (statement, row)
        else:
            read[statement, row] = memory[elements[row]]
    return read, memory


IN_ORDER = [(statement, row) for row in range(ROWS) for statement in range(STATEMENTS)]
AT_ONCE = [(statement, row) for statement in range(STATEMENTS) for row in range(ROWS)]


def accepted(body, accesses_type=Accesses):
    accesses = accesses_type(ELEMENTS)
    try:
        for writes, elements in body:
            method = accesses.write if writes else accesses.read
            method(np.arange(ROWS), elements, "x")
    except NotBatchable:
        return False
    return True


def outcomes(accesses_type=Accesses):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(TRIALS):
        body = random_body(rng)
        # Rows that write one element in one statement are refused (or get copies) before this check.
        if any(writes and np.unique(elements).size < ROWS for writes, elements in body):
            continue
        same = execute(body, IN_ORDER) == execute(body, AT_ONCE)
        found.append((accepted(body, accesses_type), same))
    return np.array(found)


def test_what_is_accepted_is_the_same_at_once():
    accepts, same = outcomes().T
    assert not (accepts & ~same).any()
    # It is no empty promise: most of what would be right is accepted, and much of the rest is not.
    assert (accepts & same).sum() > 0.8 * same.sum()
    assert (~same).sum() > 100


class WithoutAntiDependence(Accesses):
    def write(self, rows, elements, name):
        self.writer[elements] = rows


class WithoutFlowDependence(Accesses):
    def read(self, rows, elements, name):
        np.maximum.at(self.last_reader, elements, rows)


@pytest.mark.parametrize("broken", [WithoutAntiDependence, WithoutFlowDependence])
def test_check_with_a_rule_left_out_is_caught(broken):
    accepts, same = outcomes(broken).T
    assert (accepts & ~same).any()


def test_inner_loops_are_held_against_what_came_before():
    inner, outer = Accesses(3), Accesses(3)
    outer.write(np.array([1]), np.array([0]), "x")  # the outer loop's second row has assigned x[0]
    inner.read(np.array([0, 3]), np.array([0, 0]), "x")  # its first row reads it, in an inner loop of two
    with pytest.raises(NotBatchable, match="before a later iteration"):
        outer.absorb(inner, np.array([0, 0, 1, 1]), "x")
    later = Accesses(3)
    later.read(np.array([2, 3]), np.array([0, 0]), "x")
    outer.absorb(later, np.array([0, 0, 1, 1]), "x")
    assert outer.first_reader[0] == outer.last_reader[0] == 1
