"""Bytes that changed are found before they are read as numbers; old files have no checksums."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from logit_store import DamagedFile, LogitKey, LogitStore
from logit_store.paths import clips_path, logits_path

KEYS = [LogitKey("tau", 25, "a"), LogitKey("tau", 25, "b")]
OLD_FORM = {
    "compression": "none",
    "use_dictionary": False,
    "write_statistics": False,
    "store_schema": False,
}


@pytest.fixture
def filled(store: LogitStore, logits_NK: np.ndarray) -> LogitStore:
    for key in KEYS:
        store.write(key, logits_NK, {"kind": "teacher"})
    return store


def flip(path: Path, place: int, bit: int = 0) -> None:
    """Change one bit of a file, and neither its size nor its time."""
    data, stat = bytearray(path.read_bytes()), path.stat()
    data[place] ^= 1 << bit
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def find_values(path: Path, column: int) -> int:
    """Return the place of a column's last byte."""
    with pq.ParquetFile(path) as file:
        chunk = file.metadata.row_group(0).column(column)
    return chunk.data_page_offset + chunk.total_compressed_size - 1


def find_header(path: Path, column: int) -> tuple[int, int]:
    """Return the place of the header of a column's only page, and that of its first value."""
    with pq.ParquetFile(path) as file:
        chunk, n = file.metadata.row_group(0).column(column), file.metadata.num_rows
    header_bytes = 30 if column == 0 else chunk.total_compressed_size - 2 * n
    return chunk.data_page_offset, chunk.data_page_offset + header_bytes


def make_old(path: Path, form: dict[str, object]) -> None:
    """Write a file again as earlier versions did, without checksums and digest."""
    with pq.ParquetFile(path) as file:
        pairs = dict(file.metadata.metadata)
        table = file.read().replace_schema_metadata(None)
    del pairs[b"tutti.digest"]
    with pq.ParquetWriter(path, table.schema, **form) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(pairs)


def test_a_changed_logit_is_found_by_every_reader(
    filled: LogitStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(filled.files.locate(logits_path(KEYS[0])))
    right = filled.sql("from logits where member = 'b' order by row")
    flip(path, find_values(path, 2), bit=1)
    for rows in (None, [0]):
        with pytest.raises(
            DamagedFile, match="the page of 'metro station' has not the checksum"
        ) as caught:
            filled.read(KEYS, rows)
        assert str(path) in str(caught.value)
    assert filled.read(KEYS[1:]).shape == (1, 60, 4)
    assert filled.sql("from logits order by row").equals(right)
    assert any(f"passed over: {path}: cannot be read" in each for each in caplog.messages)


def test_every_changed_bit_of_a_page_header_is_found(filled: LogitStore) -> None:
    path = Path(filled.files.locate(logits_path(KEYS[0])))
    begin, end = find_header(path, 2)
    for place in range(begin, end):
        for bit in range(8):
            flip(path, place, bit)
            with pytest.raises(DamagedFile, match="'metro station' has not the checksum or header"):
                filled.read(KEYS[:1])
            flip(path, place, bit)
    assert filled.read(KEYS[:1]).shape == (1, 60, 4)


def test_a_changed_header_of_the_rows_changes_no_answer(filled: LogitStore) -> None:
    path = Path(filled.files.locate(logits_path(KEYS[0])))
    text = "from logits order by member, row"
    right = filled.sql(text)
    without = right.slice(60)
    begin, end = find_header(path, 0)
    for number in range(0, 8 * (end - begin), 7):
        flip(path, begin + number // 8, number % 8)
        found = filled.sql(text)
        assert found.equals(right) or found.equals(without), number
        flip(path, begin + number // 8, number % 8)


@pytest.mark.parametrize("text", [b'"kind"', b"airport", b"tutti.logits_hash", b"tutti-blake2b:"])
def test_a_changed_footer_is_found(filled: LogitStore, text: bytes) -> None:
    path = Path(filled.files.locate(logits_path(KEYS[0])))
    flip(path, path.read_bytes().rindex(text) + len(text) + 1)
    with pytest.raises(DamagedFile, match="digest does not match"):
        filled.read_footer(KEYS[0])
    assert filled.members()["member"].to_pylist() == ["b"]


def test_changed_clips_are_found(filled: LogitStore) -> None:
    path = Path(filled.files.locate(clips_path("tau")))
    flip(path, find_values(path, 3))
    with pytest.raises(DamagedFile, match=r"clips\.parquet: cannot be read"):
        filled.read_clips("tau")


def test_files_without_checksums_are_read_as_before(
    filled: LogitStore, logits_NK: np.ndarray, clips: pa.Table
) -> None:
    before = filled.members()
    for key in KEYS:
        make_old(Path(filled.files.locate(logits_path(key))), OLD_FORM)
    make_old(Path(filled.files.locate(clips_path("tau"))), {"compression": "zstd"})
    np.testing.assert_array_equal(
        filled.read(KEYS, dtype=np.float16)[0], logits_NK.astype(np.float16)
    )
    assert filled.read_clips("tau").equals(clips.cast(filled.read_clips("tau").schema))
    assert filled.sql("from predictions").num_rows == 120
    columns = [name for name in before.column_names if name not in ("bytes", "written")]
    assert filled.members().select(columns).equals(before.select(columns))


def test_clips_may_have_any_encoding(filled: LogitStore, logits_NK: np.ndarray) -> None:
    before = filled.sql("from predictions order by member, row")
    encodings = {"scene": "DELTA_BYTE_ARRAY", "recording_device": "DELTA_LENGTH_BYTE_ARRAY"}
    form = {"use_dictionary": ["city"], "column_encoding": encodings, "store_schema": False}
    make_old(Path(filled.files.locate(clips_path("tau"))), form)
    assert filled.sql("from predictions order by member, row").equals(before)
    filled.write(LogitKey("tau", 25, "c"), logits_NK, {})


def test_the_content_of_clips_without_checksums_is_compared_with_its_hash(
    filled: LogitStore, logits_NK: np.ndarray
) -> None:
    path = Path(filled.files.locate(clips_path("tau")))
    make_old(path, OLD_FORM)
    filled.read_clips("tau")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"clip-0-7", b"clip-0-x"))
    for read in (
        lambda: filled.read_clips("tau"),
        lambda: filled.read(KEYS, clip_ids=["clip-0-1"]),
        lambda: filled.write(KEYS[0], logits_NK, {}),
    ):
        with pytest.raises(DamagedFile, match="content hash"):
            read()


def test_a_changed_digit_of_a_json_object_is_found_and_old_objects_are_read(
    store: LogitStore,
) -> None:
    name, document = (
        "teachers/v1/m/record.json",
        {"loss": 0.25, "seeds": [1, 2], "nested": {"a": 1}},
    )
    store.objects.write_json(name, document)
    assert store.objects.read_json(name) == document
    written = store.objects.read(name)
    for changed in (
        written.replace(b"0.25", b"0.35"),
        written.replace(b"tutti.digest", b"tutti.dIgest"),
        written.replace(b"tutti-blake2b", b"tutti-blake3b"),
        written[:-4],
    ):
        store.objects.write(name, changed)
        with pytest.raises(DamagedFile, match=r"record\.json: cannot be read"):
            store.objects.read_json(name)
    store.objects.write(name, json.dumps(document).encode())
    assert store.objects.read_json(name) == document


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"\xff", b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}"]
)
def test_what_is_no_json_object_is_an_error_that_names_it(
    store: LogitStore, content: bytes
) -> None:
    store.objects.write("jobs/v1/j/driver.json", content)
    with pytest.raises(DamagedFile, match=r"driver\.json: cannot be read \(no JSON object"):
        store.objects.read_json("jobs/v1/j/driver.json")


def test_values_that_no_column_holds_are_null_and_hide_no_member(
    filled: LogitStore, logits_NK: np.ndarray
) -> None:
    odd = {"kind": "\ud800", "seed": 2**63, "epochs": 10**400, "commit": "\ud800"}
    filled.write(LogitKey("tau", 25, "odd"), logits_NK, odd)
    assert filled.members()["seed"].to_pylist() == [None] * 3
    assert filled.runs()["member"].to_pylist() == ["a", "b", "odd"]
    assert filled.sql("select kind from members order by member")["kind"].to_pylist()[2] is None
