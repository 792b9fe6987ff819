"""Files of a database are read within bounds and inside of their layer."""

import os
import struct
import zipfile

import pytest
from essper.posteriordb_adapter import CorruptDatabase
from essper.posteriordb_adapter import files as module
from essper.posteriordb_adapter.files import (
    as_strings,
    inside,
    is_name,
    read_content,
    read_json,
    write_atomically,
)
from hypothesis import given
from hypothesis import strategies as st


@given(st.text(alphabet="aZ0_.+-/\\~ \n\0é", max_size=6))
def test_a_name_is_one_path_component(name):
    if is_name(name):
        assert os.path.basename(name) == name
        assert name not in ("", ".", "..")
        assert not set(name) & set("\0\n ~é")


@pytest.mark.parametrize(
    "name", ["arK-arK", "2pl_latent_reg_irt", "ecdc0401-covid19imperial_v2", "a.b", "x+y"]
)
def test_published_names_are_names(name):
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "/etc/passwd", "a/b", "a\\b", ".hidden", "a\n", "-x", "a\0"]
)
def test_paths_are_no_names(name):
    assert not is_name(name)


def test_inside_finds_files_and_reports_what_is_not_there(layer):
    path = layer.text("models/stan/m.stan", "x")
    assert inside(layer.root, "models/stan/m.stan") == path
    assert inside(layer.root, "models/stan/other.stan") is None
    assert inside(layer.root, "models/stan/m.stan/below.stan") is None


@pytest.mark.parametrize("relative", ["../secret", "models/../../secret", "../absent"])
def test_nothing_leads_out_of_a_layer(layer, relative):
    (layer.root.parent / "secret").write_text("secret")
    with pytest.raises(CorruptDatabase, match="leads out of its layer"):
        inside(layer.root, relative)


def test_absolute_paths_and_links_do_not_lead_out_either(layer):
    secret = layer.root.parent / "secret"
    secret.write_text("secret")
    (layer.root / "link").symlink_to(secret)
    (layer.root / "folder").symlink_to(layer.root.parent)
    (layer.root / "dangling").symlink_to(layer.root.parent / "absent")
    for relative in (str(secret), "link", "folder/secret", "dangling"):
        with pytest.raises(CorruptDatabase, match="leads out of its layer"):
            inside(layer.root, relative)


def test_links_within_a_layer_are_followed(layer):
    layer.text("data/data/a.json", "{}")
    (layer.root / "data/data/b.json").symlink_to("a.json")
    assert inside(layer.root, "data/data/b.json") is not None


def test_what_is_no_regular_file_is_refused(layer):
    os.mkfifo(layer.root / "pipe")  # opening it would wait for ever
    (layer.root / "loop").symlink_to("loop")
    with pytest.raises(CorruptDatabase, match="no regular file"):
        inside(layer.root, "pipe")
    with pytest.raises(CorruptDatabase, match="no regular file"):
        inside(layer.root, ".")
    with pytest.raises(CorruptDatabase, match="cannot be opened"):
        inside(layer.root, "loop")
    with pytest.raises(CorruptDatabase, match="cannot be opened"):
        inside(layer.root, "nul\0byte")


def test_zip_members_are_found_by_name(layer):
    path = layer.zip("a.json.zip", {"__MACOSX/._a.json": "junk", "a.json": '{"N": 1}', "b.json": "[]"})
    assert read_json(path) == {"N": 1}


@pytest.mark.parametrize("members", [{}, {"b.json": "[]"}, {"sub/a.json": "[]"}])
def test_an_archive_without_its_member_is_corrupt(layer, members):
    with pytest.raises(CorruptDatabase, match=r"should hold 'a.json' exactly once") as raised:
        read_content(layer.zip("a.json.zip", members))
    assert raised.value.path == layer.root / "a.json.zip"


def test_sizes_are_bounded(layer):
    plain, packed = layer.text("a.json", "x" * 100), layer.zip("b.json.zip", {"b.json": "x" * 100})
    for path in (plain, packed):
        assert len(read_content(path, max_bytes=100)) == 100
        with pytest.raises(CorruptDatabase, match="more than 99 bytes"):
            read_content(path, max_bytes=99)


def test_a_zip_bomb_is_refused_by_its_ratio(layer, monkeypatch):
    path = layer.zip("a.json.zip", {"a.json": " " * 1_000_000})
    assert len(read_content(path)) == 1_000_000  # small enough not to matter
    monkeypatch.setattr(module, "RATIO_EXEMPT", 100_000)
    with pytest.raises(CorruptDatabase, match="times its size"):
        read_content(path)


def test_a_member_larger_than_it_declares_is_refused(layer):
    path = layer.zip("a.json.zip", {"a.json": " " * 1_000_000})
    honest = struct.pack("<L", 1_000_000)
    path.write_bytes(path.read_bytes().replace(honest, struct.pack("<L", 10)))
    assert zipfile.ZipFile(path).infolist()[0].file_size == 10
    with pytest.raises(CorruptDatabase, match="cannot be read"):
        read_content(path)


def test_truncated_and_foreign_archives_are_corrupt(layer):
    path = layer.zip("a.json.zip", {"a.json": "[1, 2, 3]" * 100})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CorruptDatabase, match="cannot be read"):
        read_content(path)
    with pytest.raises(CorruptDatabase, match="cannot be read"):
        read_content(layer.text("b.json.zip", "version https://git-lfs.github.com/spec/v1"))


@pytest.mark.parametrize("content", ["", "{", "[1,]", "[" * 100_000, '{"a": ' + "9" * 10_000 + "}", "\udcff"])
def test_what_is_not_json_is_corrupt(layer, content):
    path = layer.root / "a.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CorruptDatabase, match="is not JSON"):
        read_json(path)


def test_writing_replaces_and_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "new/folder/file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"newer")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("published", "normalized"),
    [(None, ()), ("", ()), ("a", ("a",)), ([], ()), (["a", "b"], ("a", "b")), ([""], ())],
)
def test_fields_of_strings_have_many_published_forms(tmp_path, published, normalized):
    assert as_strings(published, tmp_path, "urls") == normalized


@pytest.mark.parametrize("published", [1, {"a": 1}, [1], [["a"]]])
def test_other_forms_of_strings_are_corrupt(tmp_path, published):
    with pytest.raises(CorruptDatabase, match="'urls'"):
        as_strings(published, tmp_path, "urls")
