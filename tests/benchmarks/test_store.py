"""The results directory holds whole cells or nothing, whatever happens in between."""

import os

import pytest
from essper.benchmarks import store
from essper.benchmarks.store import (
    StoreError,
    cell_folder,
    has_cell,
    load_records,
    remove_leftovers,
    write_cell,
)
from records import make_failure, make_record


def draws(path):
    path.write_bytes(b"draws")


def everything(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_a_cell_is_written_and_read_back(tmp_path):
    record = make_record()
    assert not has_cell(tmp_path, record["digest"])
    write_cell(tmp_path, record, draws)
    assert has_cell(tmp_path, record["digest"])
    assert load_records(tmp_path) == [record]
    folder = f"cells/{record['digest']}"
    assert everything(tmp_path) == [f"{folder}/draws.nc", f"{folder}/record.json"]


@pytest.mark.parametrize("before", ["nothing", "a failed attempt"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_what_was_there(tmp_path, before, error):
    failure = make_failure()
    if before != "nothing":
        write_cell(tmp_path, failure)
    expected = everything(tmp_path)

    def interrupted(path):
        path.write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        write_cell(tmp_path, make_record(), interrupted)
    assert everything(tmp_path) == expected
    assert not has_cell(tmp_path, failure["digest"])


def test_a_record_that_is_no_json_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_cell(tmp_path, make_record(dim=float("nan")), draws)
    assert everything(tmp_path) == []


def test_a_failed_cell_is_replaced_with_all_that_it_had(tmp_path):
    failure, success = make_failure(), make_record()
    write_cell(tmp_path, failure)
    assert not has_cell(tmp_path, failure["digest"])
    assert load_records(tmp_path) == [failure]
    write_cell(tmp_path, success, draws)
    assert has_cell(tmp_path, success["digest"])
    assert load_records(tmp_path) == [success]
    write_cell(tmp_path, failure)  # the other way round nothing of the success stays either
    assert everything(tmp_path) == [f"cells/{failure['digest']}/record.json"]


def test_a_process_killed_between_the_two_renames_loses_the_failed_attempt_only(tmp_path, monkeypatch):
    write_cell(tmp_path, make_failure())
    replaced, replace = [], os.replace

    def killed(source, destination):
        replaced.append(source)
        if len(replaced) == 2:
            raise KeyboardInterrupt
        replace(source, destination)

    monkeypatch.setattr(store.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_cell(tmp_path, make_record(), draws)
    monkeypatch.undo()
    assert not has_cell(tmp_path, make_record()["digest"])
    remove_leftovers(tmp_path)
    write_cell(tmp_path, make_record(), draws)
    assert load_records(tmp_path) == [make_record()]


def test_leftovers_are_not_read_and_are_removed(tmp_path):
    record = make_record()
    write_cell(tmp_path, record, draws)
    finished = everything(tmp_path)
    leftover = cell_folder(tmp_path, f".{record['digest']}.0123abcd")
    leftover.mkdir()
    (leftover / "record.json").write_text('{"half')
    assert load_records(tmp_path) == [record]
    remove_leftovers(tmp_path)
    assert everything(tmp_path) == finished
    assert not leftover.exists()
    remove_leftovers(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"status": "ok", "dig', "cannot be read"),
        (b"", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"3", "cannot be read"),
        (b"[]", "lacks status"),
        (b"null", "cannot be read"),
        (b"{}", "lacks status, digest, posterior, sampler, seed, budget"),
        (b'{"status": "ok", "digest": "a", "posterior": "p", "seed": 0, "budget": 1}', "lacks sampler"),
    ],
)
def test_a_broken_record_is_named_with_what_to_do(tmp_path, content, message):
    write_cell(tmp_path, make_record(seed=1))
    record = make_record()
    write_cell(tmp_path, record)
    path = cell_folder(tmp_path, record["digest"]) / "record.json"
    path.write_bytes(content)
    for read in (lambda: load_records(tmp_path), lambda: has_cell(tmp_path, record["digest"])):
        with pytest.raises(StoreError, match=message) as caught:
            read()
        assert str(path) in str(caught.value)
        assert "delete its folder" in str(caught.value)


def test_directories_without_results_say_what_to_do(tmp_path):
    with pytest.raises(StoreError, match="is no directory"):
        load_records(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="run 'essper compare"):
        load_records(tmp_path)
    (tmp_path / "cells" / "empty").mkdir(parents=True)
    with pytest.raises(StoreError, match="holds no results"):
        load_records(tmp_path)


def test_records_come_in_a_stable_order_and_keep_their_letters(tmp_path):
    records = [make_record(p, s, seed) for p in ("a", "b") for s in ("hmc", "nuts") for seed in (0, 1, 10)]
    records[0]["warnings"] = ["θ ≥ 0 – “quoted”\n"]
    for record in reversed(records):
        write_cell(tmp_path, record)
    assert load_records(tmp_path) == records
    assert "θ" in (cell_folder(tmp_path, records[0]["digest"]) / "record.json").read_text(encoding="utf-8")
