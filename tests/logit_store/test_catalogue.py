"""The catalogue is a cache: what is listed is what lies there."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from logit_store import DamagedFile, LogitKey, LogitStore, MissingLogits, logits_file
from logit_store.paths import logits_path
from logit_store.verify import verify

KEYS = [LogitKey("tau", 25, f"m-{i}") for i in range(3)]


@pytest.fixture
def filled(store: LogitStore, logits_NK: np.ndarray) -> LogitStore:
    for i, key in enumerate(KEYS):
        store.write(key, logits_NK * (i + 1), {"kind": "teacher", "recipe": f"r-{i}"})
    return store


@pytest.fixture
def read_footers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files whose footers were read one by one."""
    names = []
    open_logits = logits_file.open_logits

    def note(files, name, **arguments):
        names.append(name)
        return open_logits(files, name, **arguments)

    monkeypatch.setattr(logits_file, "open_logits", note)
    return names


def catalogue(store: LogitStore) -> Path:
    return Path(store.address) / "catalogue/v1/corpus=tau/catalogue.parquet"


def file_of(store: LogitStore, key: LogitKey) -> Path:
    (path,) = Path(store.address).glob(f"logits/v1/*/*/member={key.member}/*/logits.parquet")
    return path


def names(store: LogitStore) -> list[str]:
    return store.members()["member"].to_pylist()


def test_footers_are_read_once(filled: LogitStore, read_footers: list[str]) -> None:
    first = filled.members()
    assert len(read_footers) == 3
    again = LogitStore(filled.address)
    assert again.members().equals(first)
    assert again.keys(kind="teacher") == KEYS
    assert list(again.read_footers(KEYS)) == KEYS
    assert again.sql("select count(*) n from members")["n"].to_pylist() == [3]
    assert len(read_footers) == 3


def test_only_new_files_are_read(
    filled: LogitStore, logits_NK: np.ndarray, read_footers: list[str]
) -> None:
    filled.members()
    filled.write(LogitKey("tau", 5, "new"), logits_NK, {})
    read_footers.clear()
    assert names(filled) == ["m-0", "m-1", "m-2", "new"]
    assert read_footers == ["logits/v1/corpus=tau/split=5/member=new/view=0/logits.parquet"]


def test_a_look_at_one_split_keeps_what_is_known_of_the_others(
    filled: LogitStore, logits_NK: np.ndarray, read_footers: list[str]
) -> None:
    filled.members()
    new, gone = LogitKey("tau", 5, "new"), LogitKey("tau", 5, "gone")
    for key in (new, gone):
        filled.write(key, logits_NK, {})
    assert list(filled.read_hashes([gone, new])) == [gone, new]
    file_of(filled, gone).unlink()
    read_footers.clear()
    assert filled.read_hashes([new]) == {new: filled.read_footer(new).logits_hash}
    assert filled.members("tau", 5)["member"].to_pylist() == ["new"]
    read_footers.clear()
    assert names(filled) == ["m-0", "m-1", "m-2", "new"]
    assert read_footers == []


def test_hashes_are_read_without_the_records(
    filled: LogitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {key: filled.read_footer(key).logits_hash for key in KEYS}
    monkeypatch.delattr("logit_store.catalogue._decode_footer")
    assert filled.read_hashes(KEYS) == expected
    with pytest.raises(MissingLogits, match="gone"):
        filled.read_hashes([*KEYS, LogitKey("tau", 25, "gone")])


def test_a_query_of_members_looks_into_no_file_of_logits(
    filled: LogitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach, asked = filled.files.attach, []

    def note(connection):
        find = attach(connection)
        return lambda name: asked.append(name) or find(name)

    monkeypatch.setattr(filled.files, "attach", note)
    assert filled.sql("select count(*) n from members")["n"].to_pylist() == [3]
    assert not any(name.startswith("logits/") for name in asked)
    columns = "select column_name c from duckdb_columns() where table_name = 'log' || 'its'"
    assert "airport" in filled.sql(columns)["c"].to_pylist()
    assert filled.sql("select count(distinct member) n from LOGITS")["n"].to_pylist() == [3]


def test_a_plain_name_is_not_looked_for_among_thousands(
    filled: LogitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.scandir")
    (entry,) = filled.files.find(logits_path(KEYS[0]))
    assert entry.name == logits_path(KEYS[0])
    assert filled.files.find(logits_path(LogitKey("tau", 25, "gone"))) == []


def test_a_replaced_file_is_read_again(filled: LogitStore, logits_NK: np.ndarray) -> None:
    before = filled.members()["log_loss_select"].to_pylist()
    filled.write(KEYS[1], -logits_NK, {"kind": "student"})
    after = filled.members()
    assert after["kind"].to_pylist() == ["teacher", "student", "teacher"]
    losses = after["log_loss_select"].to_pylist()
    assert (losses[0], losses[2]) == (before[0], before[2])
    assert losses[1] == filled.read_footer(KEYS[1]).find_scores("select").log_loss != before[1]


def test_a_deleted_member_is_not_listed_and_leaves_the_catalogue(filled: LogitStore) -> None:
    filled.members()
    file_of(filled, KEYS[1]).unlink()
    assert names(filled) == ["m-0", "m-2"]
    assert filled.keys(kind="teacher") == [KEYS[0], KEYS[2]]
    assert pq.read_table(catalogue(filled))["member"].to_pylist() == ["m-0", "m-2"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def of_version_2(path: Path) -> None:
    table = pq.read_table(path)
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"tutti.format_version": "2"})


def of_somebody_else(path: Path) -> None:
    with pq.ParquetWriter(path, pa.schema({"x": pa.int32()})) as writer:
        writer.add_key_value_metadata({"tutti.format_version": "1"})


@pytest.mark.parametrize("spoil", [Path.unlink, cut, of_version_2, of_somebody_else])
def test_a_damaged_catalogue_is_made_again(
    filled: LogitStore, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    before = filled.members()
    whole = catalogue(filled).read_bytes()
    spoil(catalogue(filled))
    assert filled.members().equals(before)
    assert catalogue(filled).read_bytes() == whole
    line = f"{catalogue(filled)}: damaged or of another version, so it is made again"
    assert caplog.messages == ([] if spoil is Path.unlink else [line])


def test_a_catalogue_with_a_flipped_bit_gives_the_true_footers(filled: LogitStore) -> None:
    members, footers = filled.members(), filled.read_footers(KEYS)
    file = catalogue(filled)
    whole = file.read_bytes()
    for place in range(0, len(whole), len(whole) // 150):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << place % 8
        file.write_bytes(spoilt)
        assert filled.members().equals(members)
        assert filled.read_footers(KEYS) == footers
        assert file.read_bytes() == whole


def test_a_catalogue_from_before_there_were_digests_is_made_again_without_a_word(
    filled: LogitStore, caplog: pytest.LogCaptureFixture, read_footers: list[str]
) -> None:
    before = filled.members()
    whole = catalogue(filled).read_bytes()
    table = pq.read_table(catalogue(filled))
    with pq.ParquetWriter(catalogue(filled), table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"tutti.format_version": "1"})
    read_footers.clear()
    assert not verify(filled)
    assert filled.members().equals(before)
    assert len(set(read_footers)) == 3
    assert catalogue(filled).read_bytes() == whole
    assert not caplog.messages


def test_a_catalogue_of_another_store_is_ignored(
    filled: LogitStore, tmp_path: Path, clips: pa.Table, logits_NK: np.ndarray
) -> None:
    filled.members()
    other = LogitStore(tmp_path / "other")
    other.write_clips("tau", clips)
    other.write(KEYS[0], -logits_NK, {"kind": "student"})
    catalogue(other).parent.mkdir(parents=True)
    shutil.copy(catalogue(filled), catalogue(other))
    assert other.members()["kind"].to_pylist() == ["student"]


def test_a_read_only_store_can_be_listed(
    filled: LogitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, data: object) -> None:
        raise PermissionError(name)

    monkeypatch.setattr(filled.files, "put", refuse)
    assert names(filled) == ["m-0", "m-1", "m-2"]
    assert not catalogue(filled).exists()


def test_a_damaged_file_affects_only_requests_for_it(
    filled: LogitStore, logits_NK: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    good = LogitKey("tau", 5, "good")
    filled.write(good, logits_NK, {})
    cut(file_of(filled, KEYS[1]))
    assert filled.members(split=5)["member"].to_pylist() == ["good"]
    assert list(filled.read_footers([good, KEYS[0]])) == [good, KEYS[0]]
    with pytest.raises(DamagedFile, match="member=m-1"):
        filled.read_footers(KEYS)
    others = ["good", "m-0", "m-2"]
    assert names(filled) == others
    assert filled.runs()["member"].to_pylist() == others
    assert [key.member for key in filled.list_footers("tau")] == others
    query = "select distinct member from predictions order by member"
    assert filled.sql(query)["member"].to_pylist() == others
    # Once per process.
    (warning,) = (each for each in caplog.messages if "passed over" in each)
    assert str(file_of(filled, KEYS[1])) in warning
