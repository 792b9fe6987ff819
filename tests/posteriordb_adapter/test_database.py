"""Look-up of posteriors in layers."""

import os

import pytest
from essper.posteriordb_adapter import (
    CorruptDatabase,
    LayerNotFound,
    PosteriorDatabase,
    PosteriorNotFound,
    errors,
)


def test_every_error_is_a_database_error():
    found = [
        error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, Exception)
    ]
    assert len(found) >= 8
    assert all(issubclass(error, errors.DatabaseError) for error in found)


def test_a_layer_is_the_folder_or_a_checkout_that_contains_it(make_layer):
    inner = make_layer("checkout/posterior_database")
    inner.posterior("a-b")
    for path in (inner.root, inner.root.parent, str(inner.root)):
        assert PosteriorDatabase(path, builtin=False).names() == ["a-b"]


def test_a_layer_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LayerNotFound, match="absent is not a directory"):
        PosteriorDatabase(tmp_path / "absent")


def test_names_are_those_of_all_layers(make_layer):
    one, two = make_layer("one"), make_layer("two")
    one.posterior("b-m")
    two.posterior("a-m")
    two.posterior("b-m")
    two.text("posteriors/.hidden.json", "{}")
    assert PosteriorDatabase(one.root, two.root, builtin=False).names() == ["a-m", "b-m"]


def test_layers_come_from_the_environment(make_layer, monkeypatch):
    one, two = make_layer("one"), make_layer("two")
    one.posterior("a-m", keywords="first")
    two.posterior("a-m", keywords="second")
    two.posterior("b-m")
    monkeypatch.setenv("POSTERIORDB_PATH", os.pathsep.join(["", str(one.root), str(two.root)]))
    database = PosteriorDatabase()
    assert database.posterior("a-m").keywords == ("first",)
    assert {"a-m", "b-m", "eight_schools-eight_schools_centered"} <= set(database.names())
    assert "b-m" not in PosteriorDatabase(one.root).names()  # layers that are given replace those


def test_without_layers_the_builtin_database_is_there(monkeypatch):
    monkeypatch.delenv("POSTERIORDB_PATH", raising=False)
    assert len(PosteriorDatabase().names()) >= 10


def test_aliases_are_resolved(make_layer):
    one, two = make_layer("one"), make_layer("two")
    two.posterior("a-m")
    two.posterior("b-m")
    two.json("alias/posteriors.json", {"short": "a-m", "b-m": "a-m", "lost": "c-m"})
    database = PosteriorDatabase(one.root, two.root, builtin=False)
    assert database.posterior("short").name == "a-m"
    assert database.posterior("b-m").name == "b-m"  # a posterior of this name comes first
    with pytest.raises(PosteriorNotFound):
        database.posterior("lost")
    one.json("alias/posteriors.json", {"short": "b-m"})
    assert database.posterior("short").name == "b-m"


@pytest.mark.parametrize("aliases", [[], {"x": 1}, {"x": "../a-m"}])
def test_broken_aliases_are_corrupt(layer, aliases):
    layer.posterior("a-m")
    layer.json("alias/posteriors.json", aliases)
    with pytest.raises(CorruptDatabase, match=r"alias.posteriors\.json"):
        layer.database().posterior("x")
    assert layer.database().posterior("a-m").name == "a-m"  # what needs no alias is not held up


def test_what_is_not_found_is_told_with_what_is_near(layer):
    layer.posterior("eight_schools-centered")
    layer.posterior("garch-garch11")
    with pytest.raises(PosteriorNotFound, match=r"did you mean eight_schools-centered\?"):
        layer.database().posterior("eight_shools-centred")
    with pytest.raises(PosteriorNotFound, match=r"did you mean garch-garch11\?"):
        layer.database().posterior("GARCH11")
    with pytest.raises(PosteriorNotFound, match="essper list"):
        layer.database().posterior("zzz")


@pytest.mark.parametrize("name", ["../layer/posteriors/a-m", "/etc/passwd", "", "a/b", "a\0", "x" * 5000])
def test_names_that_are_paths_find_nothing(layer, name):
    layer.posterior("a-m")
    with pytest.raises(PosteriorNotFound, match="cannot be the name"):
        layer.database().posterior(name)


def test_a_folder_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "some_folder").mkdir()
    with pytest.raises(LayerNotFound, match="has none of the folders posteriors, models"):
        PosteriorDatabase(tmp_path)
