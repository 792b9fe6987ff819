"""A posterior: every published form of its fields, and its parts from different layers."""

import pytest
from conftest import DATA, NAMES, PROGRAM, exact_draws
from essper.posteriordb_adapter import (
    CorruptDatabase,
    MissingData,
    MissingProgram,
    MissingReference,
    PosteriorDatabase,
)


def test_parts_of_a_posterior(toy):
    posterior = toy.database().posterior("toy-prior")
    assert posterior.program() == PROGRAM
    assert posterior.program_path() == toy.root / "models/stan/prior.stan"
    assert posterior.data() == DATA
    assert posterior.reference().names == NAMES
    assert posterior.dimensions == {"mu": 1, "tau": 1, "theta": 2}
    assert posterior.has_reference


@pytest.mark.parametrize(
    ("published", "normalized"), [(None, ()), ("", ()), ("one", ("one",)), (["one", "two"], ("one", "two"))]
)
def test_published_forms_of_fields(layer, published, normalized):
    fields = {"keywords": published, "references": published, "urls": published}
    layer.posterior(**fields)
    layer.json("models/info/prior.info.json", fields | {"title": "T", "description": None, "prior": {}})
    layer.json("data/info/toy.info.json", fields | {"title": "D", "data_file": "data/data/toy.json"})
    posterior = layer.database().posterior("toy-prior")
    for described in (posterior, posterior.model, posterior.data_info):
        assert described.keywords == described.references == described.urls == normalized
    assert (posterior.model.title, posterior.model.description) == ("T", "")
    assert (posterior.data_info.name, posterior.data_info.title) == ("toy", "D")


def test_dimensions_are_numbers_or_extents(layer):
    layer.posterior(dimensions={"pi": 2, "A": [3, 2], "x": []})
    assert layer.database().posterior("toy-prior").dimensions == {"pi": 2, "A": 6, "x": 1}


@pytest.mark.parametrize(
    "fields",
    [
        {"model_name": None},
        {"model_name": "../prior"},
        {"data_name": "/etc/passwd"},
        {"data_name": 3},
        {"reference_posterior_name": "../../x"},
        {"reference_posterior_name": ["a"]},
        {"dimensions": [1]},
        {"dimensions": {"mu": "1"}},
        {"dimensions": {"mu": -1}},
        {"dimensions": {"mu": 10**30}},
        {"keywords": 7},
    ],
)
def test_fields_that_cannot_be_used_are_corrupt(layer, fields):
    path = layer.posterior(**fields)
    with pytest.raises(CorruptDatabase, match=next(iter(fields))) as raised:
        layer.database().posterior("toy-prior")
    assert raised.value.path == path


@pytest.mark.parametrize(
    ("file", "record"),
    [
        ("models/info/prior.info.json", {"model_implementations": "stan"}),
        ("models/info/prior.info.json", {"model_implementations": {"stan": "prior.stan"}}),
        ("models/info/prior.info.json", {"model_implementations": {"stan": {"model_code": 1}}}),
        ("models/info/prior.info.json", {"title": ["T"]}),
        ("data/info/toy.info.json", {"data_file": ["a"]}),
        ("data/info/toy.info.json", []),
    ],
)
def test_descriptions_that_cannot_be_used_are_corrupt(layer, file, record):
    layer.posterior()
    path = layer.json(file, record)
    with pytest.raises(CorruptDatabase) as raised:
        layer.database().posterior("toy-prior")
    assert raised.value.path == path


def test_fields_that_lead_out_of_the_layer_are_refused(toy):
    secret = toy.root.parent / "secret.json"
    secret.write_text("{}")
    for out in ("../secret.json", str(secret)):
        toy.json("data/info/toy.info.json", {"data_file": out})
        toy.json("models/info/prior.info.json", {"model_implementations": {"stan": {"model_code": out}}})
        posterior = toy.database().posterior("toy-prior")
        for read in (posterior.data, posterior.data_text, posterior.program, posterior.sources):
            with pytest.raises(CorruptDatabase, match="leads out of its layer"):
                read()


def test_layers_serve_file_by_file(make_layer):
    top, middle, bottom = make_layer("top"), make_layer("middle"), make_layer("bottom")
    top.text("models/stan/prior.stan", PROGRAM)
    middle.json("data/data/toy.json", DATA)
    middle.json("models/info/prior.info.json", {"title": "from the middle"})
    bottom.posterior()
    bottom.text("models/stan/prior.stan", "hidden by the top layer")
    bottom.zip("data/data/toy.json.zip", {"toy.json": "{}"})
    bottom.reference("toy-prior", NAMES, exact_draws(2, 5))
    database = PosteriorDatabase(top.root, middle.root, bottom.root, builtin=False)
    posterior = database.posterior("toy-prior")
    assert posterior.program() == PROGRAM
    assert posterior.data() == DATA
    assert posterior.model.title == "from the middle"
    assert posterior.sources() == {
        "posterior": bottom.root,
        "model": middle.root,
        "program": top.root,
        "data": middle.root,
        "reference": bottom.root,
    }


def test_what_no_layer_has_is_told_part_by_part(layer):
    layer.posterior()
    posterior = layer.database().posterior("toy-prior")
    with pytest.raises(MissingProgram, match=r"models/stan/prior\.stan"):
        posterior.program()
    with pytest.raises(MissingData, match=r"data/data/toy\.json"):
        posterior.data()
    with pytest.raises(MissingReference, match=r"essper reference build toy-prior"):
        posterior.reference()
    assert not posterior.has_reference
    assert posterior.sources() == {
        "posterior": layer.root,
        "model": None,
        "program": None,
        "data": None,
        "reference": None,
    }


def test_a_posterior_may_name_no_reference_or_another_ones(toy):
    toy.posterior("toy-other", reference_posterior_name=None)
    with pytest.raises(MissingReference, match="names no reference draws"):
        toy.database().posterior("toy-other").reference()
    toy.posterior("toy-other", reference_posterior_name="toy-prior")
    shared = toy.database().posterior("toy-other").reference()
    assert shared.digest == toy.database().posterior("toy-prior").reference().digest


def test_a_program_that_is_not_text_is_corrupt(toy):
    (toy.root / "models/stan/prior.stan").write_bytes(b"\xff\xfe")
    with pytest.raises(CorruptDatabase, match="not UTF-8"):
        toy.database().posterior("toy-prior").program()


def test_target_is_the_program_on_the_data(toy):
    target = toy.database().posterior("toy-prior").target()
    assert (target.name, target.dim) == ("toy-prior", 4)
    assert target.param_names == NAMES


def test_posteriordb_is_read_in_full(posteriordb):
    """Every description; program, data and draws where the database says they are."""
    with_reference = 0
    for name in posteriordb.names():
        posterior = posteriordb.posterior(name)
        assert posterior.dimensions
        with_reference += posterior.has_reference
    assert with_reference >= 46
