"""An ensemble is a name, what it is, and members that stay what they were."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from logit_store import (
    DamagedFile,
    EnsembleChanged,
    LogitKey,
    LogitStore,
    MissingEnsemble,
    MissingLogits,
    TiedEnsembles,
)
from logit_store.folder import Folder

KEYS = [LogitKey("tau", 25, "a"), LogitKey("tau", 25, "b")]


@pytest.fixture
def filled(store: LogitStore, logits_NK: np.ndarray) -> LogitStore:
    for i, key in enumerate(KEYS):
        store.write(key, logits_NK + i, {})
    return store


def document(store: LogitStore) -> dict:
    members = [
        {"member": key.member, "weight": weight, "hash": store.read_footer(key).logits_hash}
        for key, weight in zip(KEYS, (0.25, 0.75), strict=True)
    ]
    return {"members": members, "space": "logits", "fold": "select", "losses": [1.5, 1.25]}


def make_numbered(n: int) -> dict:
    return {"members": [{"member": "a", "weight": 1.0, "hash": "0"}], "n": n}


def test_an_ensemble_is_read_as_it_was_written(store: LogitStore) -> None:
    reference = store.ensembles.write(
        "tau", 25, "greedy-1", {"members": ["a"], "temperature": None}
    )
    store.ensembles.write("tau", 5, "other", {})
    assert reference.startswith("greedy-1@")
    assert store.ensembles.read("tau", 25, reference) == {"members": ["a"], "temperature": None}
    assert store.ensembles.find_all("tau", 25) == [reference]


def test_the_same_document_has_the_same_reference_in_any_order_of_keys(
    store: LogitStore,
) -> None:
    first = store.ensembles.write("tau", 25, "best", {"a": 1, "b": 2})
    assert store.ensembles.write("tau", 25, "best", {"b": 2, "a": 1}) == first
    assert store.ensembles.write("tau", 25, "best", {"a": 1, "b": 3}) != first
    assert len(store.ensembles.find_all("tau", 25)) == 2


def test_a_name_alone_stands_for_the_newest_ensemble(store: LogitStore) -> None:
    for n in (1, 2, 1):
        store.ensembles.write("tau", 25, "best", {"n": n})
        assert store.ensembles.read("tau", 25, "best") == {"n": n}
    store.ensembles.write("tau", 25, "best-of-all", {"n": 3})
    assert store.ensembles.read("tau", 25, "best") == {"n": 1}


def test_the_newest_ensemble_is_the_one_written_last_even_if_the_clock_was_set_back(
    store: LogitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.ensembles.write("tau", 25, "best", make_numbered(1))
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    for n in (2, 3, 1, 2):
        reference = store.ensembles.write("tau", 25, "best", make_numbered(n))
        assert store.ensembles.find("tau", 25, "best") == reference
    # A copy of the store whose files have other times.
    for age_s, path in enumerate(sorted(Path(store.address).rglob("best@*"), reverse=True)):
        os.utime(path, (age_s, age_s))
    assert store.ensembles.read("tau", 25, "best") == make_numbered(2)


def test_ensembles_of_earlier_versions_are_as_old_as_their_files(store: LogitStore) -> None:
    first, second = (store.ensembles.write("tau", 25, "best", make_numbered(n)) for n in (1, 2))
    shutil.rmtree(Path(store.address) / "ensemble_times")
    (file,) = Path(store.address).rglob(f"{first}.json")
    os.utime(file, (2e9, 2e9))
    assert store.ensembles.find("tau", 25, "best") == first
    assert store.ensembles.write("tau", 25, "best", make_numbered(2)) == second
    assert store.ensembles.find("tau", 25, "best") == second


def test_a_copy_of_a_store_keeps_the_newest_ensemble_if_the_others_are_of_an_earlier_version(
    store: LogitStore,
) -> None:
    first = store.ensembles.write("tau", 25, "best", make_numbered(1))
    shutil.rmtree(Path(store.address) / "ensemble_times")
    second = store.ensembles.write("tau", 25, "best", make_numbered(2))
    (file,) = Path(store.address).rglob(f"ensembles/**/{first}.json")
    os.utime(file, (2e9, 2e9))
    assert store.ensembles.find("tau", 25, "best") == second


def test_a_writer_that_is_killed_leaves_no_ensemble_without_its_time(
    store: LogitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(Folder, "put", lambda self, name, data: written.append(name))
    store.ensembles.write("tau", 25, "best", make_numbered(1))
    assert [name.partition("/")[0] for name in written] == ["ensemble_times", "ensembles"]


def test_two_newest_ensembles_are_an_error_that_names_both(store: LogitStore) -> None:
    references = sorted(store.ensembles.write("tau", 25, "best", make_numbered(n)) for n in (1, 2))
    times = sorted(Path(store.address).rglob("ensemble_times/**/best@*"))
    times[0].write_bytes(times[1].read_bytes())
    with pytest.raises(TiedEnsembles, match=f"{' and '.join(references)} .*: give NAME@HASH"):
        store.ensembles.find("tau", 25, "best")
    assert store.ensembles.find("tau", 25, references[0]) == references[0]
    # Without them the times of the files count.
    for time in times:
        time.unlink()
    for reference in references:
        (file,) = Path(store.address).rglob(f"{reference}.json")
        os.utime(file, (1e9, 1e9))
    with pytest.raises(TiedEnsembles, match=" and ".join(references)):
        store.ensembles.read("tau", 25, "best")
    store.ensembles.write("tau", 25, "best", make_numbered(1))
    assert store.ensembles.read("tau", 25, "best") == make_numbered(1)


@pytest.mark.parametrize("text", ["", "[]", '{"made": 1}', '{"made": "2026-01-31"}', "\ud800"])
def test_a_damaged_time_of_an_ensemble_is_named(store: LogitStore, text: str) -> None:
    for n in (1, 2):
        store.ensembles.write("tau", 25, "best", {"n": n})
    time = min(Path(store.address).rglob("ensemble_times/**/best@*"))
    time.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(DamagedFile, match=str(time)):
        store.ensembles.find("tau", 25, "best")


def test_a_file_without_a_hash_in_its_name_stays_readable(store: LogitStore) -> None:
    path = Path(store.address) / "ensembles/v1/corpus=tau/split=25/old.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"n": 1}')
    assert store.ensembles.read("tau", 25, "old") == {"n": 1}
    assert store.ensembles.find_all("tau", 25) == ["old"]


def test_an_error_names_the_missing_ensemble_and_the_present_ones(store: LogitStore) -> None:
    reference = store.ensembles.write("tau", 25, "best", {})
    for absent in ("worst", "bes", "best@000000000000"):
        with pytest.raises(MissingEnsemble, match=f"'{absent}' of tau, split 25.*{reference}"):
            store.ensembles.read("tau", 25, absent)


@pytest.mark.parametrize("name", ["", "a/b", ".best", "a@b", "*"])
def test_a_name_that_cannot_be_part_of_a_path_is_refused(store: LogitStore, name: str) -> None:
    with pytest.raises(ValueError, match="ensemble"):
        store.ensembles.write("tau", 25, name, {})


def test_an_ensemble_that_is_not_json_is_refused(store: LogitStore) -> None:
    with pytest.raises(ValueError, match="ensemble 'best' is no JSON"):
        store.ensembles.write("tau", 25, "best", {"weights": np.ones(2)})
    assert store.ensembles.find_all("tau", 25) == []


def test_an_ensemble_that_was_edited_is_refused(store: LogitStore) -> None:
    reference = store.ensembles.write("tau", 25, "best", {"weight": 1})
    path = Path(store.address) / f"ensembles/v1/corpus=tau/split=25/{reference}.json"
    path.write_text(path.read_text().replace("1", "2"))
    with pytest.raises(DamagedFile, match=reference.partition("@")[2]):
        store.ensembles.read("tau", 25, reference)


def test_unchanged_members_have_their_weights(filled: LogitStore) -> None:
    reference = filled.ensembles.write("tau", 25, "best", document(filled))
    assert filled.ensembles.read_weights("tau", 25, reference) == dict(
        zip(KEYS, (0.25, 0.75), strict=True)
    )
    # Written again with the same logits: nothing has changed.
    filled.write(KEYS[0], filled.read(KEYS[:1])[0], {"again": True})
    assert list(filled.ensembles.read_weights("tau", 25, "best")) == KEYS


def test_an_error_names_a_changed_member_and_both_hashes(
    filled: LogitStore, logits_NK: np.ndarray
) -> None:
    filled.ensembles.write("tau", 25, "best", document(filled))
    before = filled.read_footer(KEYS[1]).logits_hash
    filled.write(KEYS[1], -logits_NK, {})
    after = filled.read_footer(KEYS[1]).logits_hash
    with pytest.raises(EnsembleChanged, match=f"{KEYS[1]}: .*{after}, expected {before}"):
        filled.ensembles.read_weights("tau", 25, "best")


def test_an_error_names_a_missing_member(filled: LogitStore) -> None:
    filled.ensembles.write("tau", 25, "best", document(filled))
    (path,) = Path(filled.address).glob("logits/v1/*/*/member=a/*/*")
    path.unlink()
    with pytest.raises(MissingLogits, match="tau/25/a/0"):
        filled.ensembles.read_weights("tau", 25, "best")


@pytest.mark.parametrize("members", [None, ["a"], [{"member": "a"}]])
def test_a_document_without_hashes_has_no_weights(store: LogitStore, members: object) -> None:
    store.ensembles.write("tau", 25, "best", {"members": members})
    with pytest.raises(DamagedFile, match="expected a list of member, weight and hash"):
        store.ensembles.read_weights("tau", 25, "best")


def test_sql_shows_a_row_for_each_member(filled: LogitStore) -> None:
    reference = filled.ensembles.write("tau", 25, "best", document(filled))
    rows = filled.sql(
        "select ensembles.*, members.bytes from ensembles join members using (corpus, split, member)"
        " order by member"
    ).to_pylist()
    assert [(row["member"], row["weight"]) for row in rows] == [("a", 0.25), ("b", 0.75)]
    assert {f"{row['name']}@{row['hash']}" for row in rows} == {reference}
    assert {(row["space"], row["fold"], row["loss"], row["n_members"]) for row in rows} == {
        ("logits", "select", 1.25, 2)
    }
    assert [row["logits_hash"] for row in rows] == [
        filled.read_footer(key).logits_hash for key in KEYS
    ]
