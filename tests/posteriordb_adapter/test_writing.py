"""References written in posteriordb's layout: round trip, rounding, atomicity."""

import zipfile

import numpy as np
import pytest
from conftest import NAMES, exact_draws
from essper.posteriordb_adapter import DatabaseError, acceptance_checks, round_draws, write_reference
from hypothesis import given
from hypothesis import strategies as st

INFO = {"inference": {"method": "exact"}, "comments": None}


def test_what_is_written_is_read_back(toy):
    draws = exact_draws(seed=7)
    info = INFO | acceptance_checks(draws, NAMES, [0] * 4)
    path = write_reference(toy.root, "toy-prior", NAMES, draws, info)
    assert zipfile.ZipFile(path).namelist() == ["toy-prior.json"]
    reference = toy.database().posterior("toy-prior").reference()
    assert reference.names == NAMES
    np.testing.assert_array_equal(reference.draws, round_draws(draws))
    assert reference.info == {"name": "toy-prior", **info}


def test_the_same_draws_give_the_same_bytes(make_layer):
    one, two = (
        write_reference(make_layer(name).root, "a-b", NAMES, exact_draws(), INFO) for name in ("one", "two")
    )
    assert one.read_bytes() == two.read_bytes()


@given(st.integers(-6, 6), st.floats(-3, 3), st.integers(0, 1000))
def test_rounding_is_the_finer_of_both_rules(exponent, shift, seed):
    x = (np.random.default_rng(seed).standard_normal((2, 50, 1)) + shift) * 10.0**exponent
    error = np.abs(round_draws(x) - x)
    assert np.all(error <= x.std() / 50 / 2 * (1 + 1e-9))
    assert np.all(error <= np.abs(x) * 0.5e-2 * (1 + 1e-9))  # three significant digits


def test_rounding_is_idempotent_and_shortens():
    draws = exact_draws()
    rounded = round_draws(draws)
    assert (
        max(len(repr(float(x))) for x in rounded.flat)
        <= 12
        < np.mean([len(repr(float(x))) for x in draws.flat])
    )
    assert np.mean(round_draws(rounded) == rounded) > 0.999  # the sd itself may cross a power of ten


def test_small_values_keep_their_size():
    x = np.array([1e-7, 1.0, 2.0, 0.0]).reshape(1, 4, 1)
    assert round_draws(x).ravel().tolist() == [1e-7, 1.0, 2.0, 0.0]


def test_draws_that_rounding_would_spoil_keep_more_digits():
    p = np.random.default_rng(0).dirichlet([1.0, 2.0, 0.1], (2, 200))

    def sums_to_one(x):
        return np.abs(x.sum(-1) - 1) < 1e-8

    assert not sums_to_one(round_draws(p)).all()
    rounded = round_draws(p, accepts=sums_to_one)
    assert sums_to_one(rounded).all()
    np.testing.assert_array_equal(round_draws(p, accepts=lambda x: np.zeros(len(x), bool)), p)


@pytest.mark.parametrize(
    ("name", "names", "draws"),
    [
        ("../a", NAMES, exact_draws(1, 2)),
        ("a", NAMES[:5], exact_draws(1, 2)),
        ("a", NAMES, exact_draws(1, 2)[0]),
        ("a", ("mu", "mu[1]"), np.zeros((1, 2, 2))),
        ("a", ("mu",), np.full((1, 2, 1), np.nan)),
    ],
)
def test_what_could_not_be_read_back_is_not_written(layer, name, names, draws):
    with pytest.raises(DatabaseError):
        write_reference(layer.root, name, names, draws, INFO)
    assert not [path for path in layer.root.rglob("*") if path.is_file()]
