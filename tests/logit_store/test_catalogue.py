"""The catalogue is a cache: what is listed is what lies there."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from logit_store import DamagedFile, LogitKey, LogitStore, logits_file

KEYS = [LogitKey("tau", 25, f"m-{i}") for i in range(3)]


@pytest.fixture
def filled(store: LogitStore, logits_NK: np.ndarray) -> LogitStore:
    for i, key in enumerate(KEYS):
        store.write(key, logits_NK * (i + 1), {"kind": "teacher", "recipe": f"r-{i}"})
    return store


@pytest.fixture
def read_footers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose footers were read one by one."""
    names = []
    opened = logits_file.opened

    def noting(files, name, **arguments):
        names.append(name)
        return opened(files, name, **arguments)

    monkeypatch.setattr(logits_file, "opened", noting)
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
    assert list(again.footers(KEYS)) == KEYS
    assert again.sql("select count(*) n from members")["n"].to_pylist() == [3]
    assert len(read_footers) == 3


def test_only_what_is_new_is_read(
    filled: LogitStore, logits_NK: np.ndarray, read_footers: list[str]
) -> None:
    filled.members()
    filled.write(LogitKey("tau", 5, "new"), logits_NK, {})
    read_footers.clear()
    assert names(filled) == ["m-0", "m-1", "m-2", "new"]
    assert read_footers == ["logits/v1/corpus=tau/split=5/member=new/view=0/logits.parquet"]


def test_a_file_that_was_replaced_is_read_again(filled: LogitStore, logits_NK: np.ndarray) -> None:
    before = filled.members()["log_loss_select"].to_pylist()
    filled.write(KEYS[1], -logits_NK, {"kind": "student"})
    after = filled.members()
    assert after["kind"].to_pylist() == ["teacher", "student", "teacher"]
    losses = after["log_loss_select"].to_pylist()
    assert (losses[0], losses[2]) == (before[0], before[2])
    assert losses[1] == filled.footer(KEYS[1]).figure("select").log_loss != before[1]


def test_a_member_that_is_gone_is_not_listed_and_leaves_the_catalogue(filled: LogitStore) -> None:
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
def test_a_catalogue_that_is_of_no_use_is_made_again(
    filled: LogitStore, spoil: Callable[[Path], None]
) -> None:
    before = filled.members()
    whole = catalogue(filled).read_bytes()
    spoil(catalogue(filled))
    assert filled.members().equals(before)
    assert catalogue(filled).read_bytes() == whole


def test_a_catalogue_of_another_store_says_nothing(
    filled: LogitStore, tmp_path: Path, clips: pa.Table, logits_NK: np.ndarray
) -> None:
    filled.members()
    other = LogitStore(tmp_path / "other")
    other.write_clips("tau", clips)
    other.write(KEYS[0], -logits_NK, {"kind": "student"})
    catalogue(other).parent.mkdir(parents=True)
    shutil.copy(catalogue(filled), catalogue(other))
    assert other.members()["kind"].to_pylist() == ["student"]


def test_a_store_that_takes_no_writes_is_listed_all_the_same(
    filled: LogitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, data: object) -> None:
        raise PermissionError(name)

    monkeypatch.setattr(filled.files, "put", refuse)
    assert names(filled) == ["m-0", "m-1", "m-2"]
    assert not catalogue(filled).exists()


def test_a_damaged_file_hinders_only_those_who_ask_for_it(
    filled: LogitStore, logits_NK: np.ndarray
) -> None:
    good = LogitKey("tau", 5, "good")
    filled.write(good, logits_NK, {})
    cut(file_of(filled, KEYS[1]))
    assert filled.members(split=5)["member"].to_pylist() == ["good"]
    assert list(filled.footers([good, KEYS[0]])) == [good, KEYS[0]]
    for ask in (filled.members, lambda: filled.footers(KEYS), lambda: filled.sql("select 1")):
        with pytest.raises(DamagedFile, match="member=m-1"):
            ask()
