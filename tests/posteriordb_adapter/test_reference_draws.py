"""Reference draws: published forms, what is refused, and what a target can compare."""

import json

import numpy as np
import pytest
from conftest import NAMES, as_chains, exact_draws
from essper.posteriordb_adapter import CorruptDatabase, ReferenceDraws, UnmappedReference, comparable
from essper.posteriordb_adapter.draws import parse_chains, read_info
from hypothesis import given
from hypothesis import strategies as st

FILE = "reference_posteriors/draws/draws/toy-prior.json.zip"


def write(layer, content) -> None:
    layer.zip(FILE, {"toy-prior.json": content if isinstance(content, str) else json.dumps(content)})


def read(layer) -> ReferenceDraws:
    return layer.database().posterior("toy-prior").reference()


def test_draws_are_chain_draw_parameter(toy):
    reference = read(toy)
    np.testing.assert_array_equal(reference.draws, exact_draws())
    assert reference.draws.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        reference.draws[0, 0, 0] = 0.0


def test_chains_may_list_parameters_in_another_order(toy):
    chains = as_chains(NAMES, exact_draws(2, 5))
    write(toy, [chains[0], dict(reversed(chains[1].items()))])
    np.testing.assert_array_equal(read(toy).draws, exact_draws(2, 5))


def test_one_chain_and_one_draw_may_be_unboxed(tmp_path):
    names, draws = parse_chains({"mu": 1.5, "theta[2,1]": [2]}, tmp_path)
    assert names == ("mu", "theta[2,1]")
    np.testing.assert_array_equal(draws, [[[1.5, 2.0]]])


@pytest.mark.parametrize(
    ("chains", "reason"),
    [
        ("[]", "not a list of chains"),
        ("7", "not a list of chains"),
        ("[[1]]", "not a list of chains"),
        ("[{}]", "not a list of chains"),
        ('[{"mu": [1, 2]}, {"mu": [1]}]', "ragged"),
        ('[{"mu": [1, 2], "tau": [1]}]', "ragged"),
        ('[{"mu": []}]', "ragged"),
        ('[{"mu": [1]}, {"tau": [1]}]', "different parameters"),
        ('[{"mu": [1, NaN]}]', "not finite, of mu"),
        ('[{"mu": [1, 2], "x[1]": [1, 1e999]}]', r"not finite, of x\[1\]"),
        ('[{"mu": [1, null]}]', "not finite, of mu"),
        ('[{"mu": [1, "a"]}]', "no numbers"),
        ('[{"mu": [1, [2]]}]', "no numbers"),
        ('[{"mu": [[1], [2]]}]', "plain list"),
        ('[{"mu": {"a": 1}}]', "no numbers"),
        ('[{"mu": ["1e5", {}]}]', "no numbers"),
        ('[{"theta[": [1]}]', "no parameter name"),
        ('[{"theta[0]": [1]}]', "from 0"),
        ('[{"theta[1]": [1], "theta[1,1]": [1]}]', "do not fit"),
        ('[{"theta[1]": [1], "theta[01]": [1]}]', "do not fit"),
        ('[{"theta[999999999,999999999]": [1]}]', "of size 1e"),
        ("[{", "not JSON"),
    ],
)
def test_broken_draws_are_corrupt(toy, chains, reason):
    write(toy, chains)
    with pytest.raises(CorruptDatabase, match=reason) as raised:
        read(toy)
    assert raised.value.path == toy.root / FILE


def test_digest_is_of_the_content(toy):
    before = read(toy).digest
    write(toy, json.dumps(as_chains(NAMES, exact_draws()), indent=1))
    assert read(toy).digest == before
    moved = exact_draws()
    moved[0, 0, 0] = np.nextafter(moved[0, 0, 0], 10)
    write(toy, as_chains(NAMES, moved))
    assert read(toy).digest != before
    assert read(toy).select(NAMES[::-1]).digest != read(toy).digest


@given(st.permutations(NAMES))
def test_select_reorders_columns(order):
    draws = exact_draws(2, 3)
    chosen = ReferenceDraws("r", NAMES, draws).select(order[:4])
    assert chosen.names == tuple(order[:4])
    for column, name in enumerate(chosen.names):
        np.testing.assert_array_equal(chosen.draws[..., column], draws[..., NAMES.index(name)])


def test_select_names_what_is_not_there():
    with pytest.raises(KeyError, match="has no sigma"):
        ReferenceDraws("r", NAMES, exact_draws(1, 2)).select(["mu", "sigma"])


def test_datatree_has_one_array_a_variable():
    draws = exact_draws(2, 3)
    posterior = ReferenceDraws("r", NAMES, draws).to_datatree()["posterior"]
    assert posterior["theta"].shape == (2, 3, 2)
    np.testing.assert_array_equal(posterior["theta"].values, draws[..., 4:])
    np.testing.assert_array_equal(posterior["tau"].values, draws[..., 1])


def test_comparable_follows_the_target():
    reference = ReferenceDraws("r", ("theta[2]", "mu", "sigma"), np.zeros((1, 1, 3)))
    shared = comparable(NAMES, reference)
    assert shared.names == ("mu", "theta[2]")
    assert shared.columns.tolist() == [0, 5]
    assert shared.missing == ("tau", "z[1]", "z[2]", "theta[1]")


def test_nothing_comparable_is_an_error():
    with pytest.raises(UnmappedReference, match="belongs to another model"):
        comparable(NAMES, ReferenceDraws("r", ("sigma",), np.zeros((1, 1, 1))))


@pytest.mark.parametrize("key", ["diagnostic_information", "diagnostics_information"])
def test_both_published_schemas_become_one(toy, key):
    diagnostics = {key: {"names": "mu"}, "r_hat": 1.001, "divergent_transitions": 0, "ndraws": 10}
    toy.json("reference_posteriors/draws/info/toy-prior.info.json", {"diagnostics": diagnostics, "x": 1})
    assert read(toy).info == {
        "diagnostics": {
            "diagnostic_information": {"names": ["mu"]},
            "r_hat": [1.001],
            "divergent_transitions": [0],
            "ndraws": 10,
        },
        "x": 1,
    }


def test_lists_in_diagnostics_stay(layer):
    diagnostics = {"diagnostic_information": {"names": ["a", "b"]}, "r_hat": [1.0, 1.1]}
    assert read_info(layer.json("i.json", {"diagnostics": diagnostics}))["diagnostics"] == diagnostics


def test_broken_info_is_corrupt(layer):
    with pytest.raises(CorruptDatabase, match="'diagnostics'"):
        read_info(layer.json("i.json", {"diagnostics": [1]}))


def test_info_is_that_of_the_same_layer(make_layer, toy):
    """Another layer's description would be of other draws."""
    from essper.posteriordb_adapter import PosteriorDatabase

    other = make_layer("other")
    other.json("reference_posteriors/draws/info/toy-prior.info.json", {"comments": "other draws"})
    database = PosteriorDatabase(other.root, toy.root, builtin=False)
    assert database.posterior("toy-prior").reference().info == {}
