"""Verification reports what was changed, and nothing else."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow_logits import encode_logits

from disk.tail import make_tail
from logit_store import LogitKey, LogitStore, MissingStore, parquet
from logit_store.catalogue import encode_catalogue
from logit_store.collect import find_garbage, remove_garbage
from logit_store.files import Entry
from logit_store.folder import Folder
from logit_store.verify import StoreProblem, verify

KEYS = [LogitKey("tau", 25, "a"), LogitKey("tau", 5, "b"), LogitKey("tau", 25, "a", 1)]


@pytest.fixture
def filled(store: LogitStore, logits_NK: np.ndarray) -> LogitStore:
    for i, key in enumerate(KEYS):
        store.write(key, logits_NK + i, {"kind": "teacher"})
    pin = {"member": "a", "weight": 1.0, "hash": store.read_footer(KEYS[0]).logits_hash}
    store.ensembles.write("tau", 25, "best", {"members": [pin]})
    store.objects.write("teachers/v1/a/weights.safetensors", b"x")
    store.members()
    return store


@pytest.fixture
def spoilt_file(filled: LogitStore) -> Path:
    return Path(filled.address) / "logits/v1/corpus=tau/split=25/member=a/view=0/logits.parquet"


def rewrite(
    path: Path, change: Callable[[pa.Table], pa.Table] = lambda table: table, **pairs: str
) -> None:
    """Change the table and the key-value pairs of a file, but not its form."""
    with pq.ParquetFile(path) as file:
        table, metadata = file.read(), dict(file.metadata.metadata)
    told = {key.decode(): value.decode() for key, value in metadata.items()}
    told |= {f"tutti.{name}": value for name, value in pairs.items()}
    write = encode_logits if path.name == "logits.parquet" else parquet.encode_small
    path.write_bytes(write(change(table), told))


def with_value(name: str, row: int, value: object) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[row] = value
        field = table.schema.field(name)
        array = pa.array(np.array(values, field.type.to_pandas_dtype()), field.type)
        return table.set_column(table.column_names.index(name), field, array)

    return change


def words(store: LogitStore) -> dict[str, list[str]]:
    """Return the problems by file."""
    found: dict[str, list[str]] = {}
    for problem in verify(store):
        name = problem.file.removeprefix(f"{store.address}/")
        found.setdefault(name, []).append(problem.problem)
    return found


def test_a_sound_store_has_no_problems_and_progress_is_reported(filled: LogitStore) -> None:
    seen = []
    assert verify(filled, lambda done, total: seen.append((done, total))) == []
    # A catalogue, clips, three files of logits, an ensemble and its time, weights.
    assert seen == [(done, 8) for done in range(1, 9)]


def test_a_single_changed_logit_is_found(filled: LogitStore, spoilt_file: Path) -> None:
    rewrite(spoilt_file, with_value("airport", 7, 3.5))
    (name, (first, *others)), *more = words(filled).items()
    assert name == "logits/v1/corpus=tau/split=25/member=a/view=0/logits.parquet"
    assert first.startswith("logits_hash ")
    assert first.endswith("computed again")
    assert all(each.startswith(("scores of", "largest_logit")) for each in others)
    # The ensemble refers to the hash in the footer, which has not changed.
    assert more == []


def test_a_wrong_score_is_reported_with_fold_and_recording_device(
    filled: LogitStore, spoilt_file: Path
) -> None:
    with pq.ParquetFile(spoilt_file) as file:
        figures = json.loads(file.metadata.metadata[b"tutti.figures"])
    wrong = next(each for each in figures if each["recording_device"] == "s1")
    wrong["log_loss"] += 1e-6
    rewrite(spoilt_file, figures=json.dumps(figures))
    (problems,) = words(filled).values()
    assert [each.split(":")[0] for each in problems] == [f"scores of {wrong['fold']}/s1"]


def test_scores_that_differ_in_the_last_digit_are_no_problem(
    filled: LogitStore, spoilt_file: Path
) -> None:
    with pq.ParquetFile(spoilt_file) as file:
        figures = json.loads(file.metadata.metadata[b"tutti.figures"])
    for each in figures:
        each["log_loss"] = float(np.nextafter(each["log_loss"], 9))
    rewrite(spoilt_file, figures=json.dumps(figures))
    assert words(filled) == {}


@pytest.mark.parametrize(
    ("change", "pairs", "expected"),
    [
        (with_value("airport", 3, np.nan), {}, "1 logits are not finite"),
        (with_value("row", 3, 4), {}, "row 4 in place 3"),
        (lambda table: table.slice(0, 59), {}, "59 rows, expected 60"),
        (lambda table: table, {"largest_logit": "1.0"}, "largest_logit 1.0"),
        (lambda table: table, {"format_version": "2"}, "format version 2, expected 1"),
        (lambda table: table, {"row_order_hash": "0"}, "row-order hash 0, expected"),
        (lambda table: table, {"class_order": '["b", "a"]'}, "classes ['b', 'a'], expected"),
        (lambda table: table.rename_columns(["row", *"abcd"]), {}, "expected one of row and"),
    ],
)
def test_wrong_content_is_found(
    filled: LogitStore,
    spoilt_file: Path,
    change: Callable[[pa.Table], pa.Table],
    pairs: dict[str, str],
    expected: str,
) -> None:
    rewrite(spoilt_file, change, **pairs)
    problems = verify(filled)
    assert expected in " ".join(each.problem for each in problems)
    assert {each.file for each in problems} == {str(spoilt_file)}


def test_a_truncated_file_is_found(filled: LogitStore, spoilt_file: Path) -> None:
    spoilt_file.write_bytes(spoilt_file.read_bytes()[:200])
    problems = verify(filled)
    assert {each.file for each in problems} == {str(spoilt_file)}
    assert "cannot be read" in problems[0].problem


def test_changed_clips_are_found(filled: LogitStore) -> None:
    path = Path(filled.address) / "clips/v1/corpus=tau/clips.parquet"

    def change(table: pa.Table) -> pa.Table:
        return table.set_column(4, "city", pa.array(["rome"] * 60))

    rewrite(path, change)
    (problem,) = verify(filled)
    assert problem.file == str(path)
    assert problem.problem.startswith("content_hash ")


def test_logits_without_clips_are_found(filled: LogitStore) -> None:
    (Path(filled.address) / "clips/v1/corpus=tau/clips.parquet").unlink()
    problems = verify(filled)
    assert len({each.file for each in problems}) == 4
    assert all("holds no clips of corpus 'tau'" in each.problem for each in problems)


def test_an_ensemble_with_a_changed_or_missing_member_is_found(
    filled: LogitStore, logits_NK: np.ndarray, spoilt_file: Path
) -> None:
    (reference,) = filled.ensembles.find_all("tau", 25)
    name = f"ensembles/v1/corpus=tau/split=25/{reference}.json"
    filled.write(KEYS[0], -logits_NK, {})
    assert "as when the ensemble was selected" in words(filled)[name][0]
    spoilt_file.unlink()
    assert "holds no logits for 1 member(s)" in words(filled)[name][0]
    (Path(filled.address) / name).write_text("{}")
    assert "content hash" in words(filled)[name][0]


@pytest.mark.parametrize(
    "name",
    [
        "logits/v1/corpus=tau/split=25/logits.parquet",
        "logits/v1/corpus=tau/split=25/member=a/view=0/copy.parquet",
        "logits/v1/corpus=tau/split=7/member=a/view=0/logits.parquet",
        "logits/v2/corpus=tau/logits.parquet",
        "clips/notes.txt",
        "ensembles/v1/corpus=tau/split=7/best.json",
    ],
)
def test_a_file_out_of_place_is_found(filled: LogitStore, name: str) -> None:
    path = Path(filled.address) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    (problem,) = verify(filled)
    assert problem.file == str(path)
    assert "move it out of the store" in problem.problem


def test_a_wrong_catalogue_is_found(filled: LogitStore, spoilt_file: Path) -> None:
    path = Path(filled.address) / "catalogue/v1/corpus=tau/catalogue.parquet"
    (place,) = np.flatnonzero(
        [name.endswith("split=25/member=a/view=0/logits.parquet") for name in names(path)]
    )
    with pq.ParquetFile(path) as file:
        rows = with_value("largest_logit", int(place), 1.0)(file.read())
    path.write_bytes(encode_catalogue(rows))
    assert verify(filled) == [
        StoreProblem(
            str(spoilt_file),
            f"the catalogue differs from its footer: delete {path}",
        )
    ]


def names(path: Path) -> list[str]:
    return pq.read_table(path)["name"].to_pylist()


def test_a_missing_folder_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(MissingStore):
        verify(LogitStore(tmp_path / "nowhere"))


def test_s3_is_catalogued_and_verified(
    clips: pa.Table, logits_NK: np.ndarray, s3_address: str
) -> None:
    store, key = LogitStore(s3_address), LogitKey("tau", 25, "m-1")
    store.write_clips("tau", clips)
    store.write(key, logits_NK, {"kind": "teacher"})
    first = store.members()
    assert LogitStore(s3_address).members().equals(first)
    assert verify(store) == []
    assert find_garbage(store) == []
    store.files.put("logits/v1/notes.txt", b"x")
    assert [problem.file for problem in verify(store)] == [f"{s3_address}/logits/v1/notes.txt"]


OBJECTS = {
    "teachers/v1/a/record.json": b'{"kind": "teacher", "epochs": 3}',
    "jobs/v1/j/driver.json": b"\xff",
    "units/v1/j/00001/1.json": b"[" * 100_000,
    "search/v1/s/result.json": b"[]",
    "search/v1/s/checkpoints/t.pt": b"no zip",
    "students/v1/b/checkpoint.pt": b"content" + make_tail(b"Content"),
    "students/v1/b/test-1-2.npy": b"logits" + make_tail(b"Logits"),
    "students/v1/b/events.out.tfevents.000001.tutti": b"no events, but many bytes",
    "catalogue/v1/corpus=tau/catalogue.parquet": b"PAR1",
    "ensembles/v1/corpus=tau/split=25/best@0123456789ab (1).json": b"{}",
    "ensembles/v1/corpus=tau/split=25/nan.json": b'{"members": [{"member": "a", "weight": NaN, "hash": "0"}]}',
    "ensembles/v1/corpus=tau/split=25/minus.json": b'{"members": [{"member": "a", "weight": -1, "hash": "0"}]}',
    "ensembles/v1/corpus=tau/split=25/huge.json": b'{"members": [{"member": "a", "weight": 1'
    + b"0" * 400
    + b', "hash": "0"}]}',
    "ensembles/v1/corpus=tau/split=25/nested.json": b'{"members": [[[[1]]]]}',
    "ensembles/v1/corpus=tau/split=25/half.json": b'{"members": [{"member": "a", "weight": 1, "hash": "\\ud800"}]}',
    "ensembles/v1/corpus=tau/split=25/latin.json": b'{"name": "\xe9"}',
    "clips/v1/corpus=tau (1)/clips.parquet": b"",
    "logits/v1/corpus=tau/split=25/member=a (1)/view=0/logits.parquet": b"",
}
"""Damaged and stray objects; the first is sound."""


def test_damaged_and_stray_objects_are_listed_with_a_way_out_and_hide_no_other(
    filled: LogitStore, caplog: pytest.LogCaptureFixture
) -> None:
    members, ensembles = filled.members(), filled.sql("from ensembles")
    for name, content in OBJECTS.items():
        filled.files.put(name, content)
    # A link to itself is no file.
    (Path(filled.address) / "teachers/v1/a/loop.json").symlink_to("loop.json")
    assert filled.members().drop("written").equals(members.drop("written"))
    assert filled.keys(view=None) == sorted(KEYS, key=lambda key: (key.member, key.view))
    assert filled.corpora() == ["tau"]
    assert filled.sql("from ensembles").equals(ensembles)
    assert filled.sql("from predictions").num_rows == 180
    assert len(filled.ensembles.find_all("tau", 25)) == 7
    assert any("best@0123456789ab (1).json" in each for each in caplog.messages)
    # The catalogue was made again.
    filled.files.put("catalogue/v1/corpus=tau/catalogue.parquet", b"PAR1")
    find_garbage(filled)
    found = words(filled)
    assert sorted(found) == sorted(list(OBJECTS)[1:])
    assert all("delete it" in each or "move it out" in each for (each,) in found.values())


def test_each_weight_of_a_member_is_compared_with_its_record(
    filled: LogitStore, logits_NK: np.ndarray
) -> None:
    key = LogitKey("tau", 25, "w")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    filled.write(key, logits_NK, {"weights_sha256": sha256})
    filled.objects.write("students/v1/w/weights.safetensors", b"weights")
    assert verify(filled) == []
    filled.objects.write("students/v1/w/weights.safetensors", b"wEights")
    ((name, (problem,)),) = words(filled).items()
    assert name == "students/v1/w/weights.safetensors"
    assert f"expected {sha256}" in problem
    assert "delete it and the member's logits" in problem


class Rewritten(Folder):
    """A folder in which another process replaces files each time that one of them was listed."""

    def __init__(self, root: Path, rewrite: Callable[[], None]) -> None:
        super().__init__(root)
        self.rewrite = rewrite

    def find(self, pattern: str) -> list[Entry]:
        found = super().find(pattern)
        self.rewrite()
        return found


def test_a_writer_that_replaces_and_deletes_files_causes_no_false_alarm(
    filled: LogitStore, logits_NK: np.ndarray
) -> None:
    other, rounds = LogitStore(filled.address), iter(range(1_000))

    def rewrite() -> None:
        number = next(rounds)
        other.write(KEYS[1], logits_NK + number % 7, {"kind": "teacher", "seed": number})
        other.write(LogitKey("tau", 5, f"new-{number}"), logits_NK, {})
        other.objects.write_json("jobs/v1/j/driver.json", {"number": number})
        for path in Path(filled.address).glob(f"logits/v1/*/*/member=new-{number - 2}/*/*"):
            path.unlink()
        other.members()

    filled.files = Rewritten(Path(filled.address), rewrite)
    assert verify(filled) == []
    remove_garbage(filled, find_garbage(filled))
    assert next(rounds) > 20


def test_garbage_that_another_process_removes_meanwhile_is_no_error(
    filled: LogitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Folder, "sweep", lambda self, dry_run=False: ["logits/.1-0-0.tmp"])
    assert find_garbage(filled) == []
