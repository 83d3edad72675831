"""Embeddings are kept as logits are (N clips, n of them, D dimensions)."""

import io
import os
import re
import signal
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from logit_store import (
    ClipsMismatch,
    DamagedFile,
    EmbeddingKey,
    LogitStore,
    LogitStoreError,
    MissingClips,
    MissingEmbeddings,
    MissingMember,
    QueryFailed,
    RowOrderMismatch,
    UnfitExport,
    UnstorableEmbeddings,
    UnsupportedVersion,
    WrongRowOrder,
    embeddings_file,
    hash_row_order,
)
from logit_store.__main__ import main
from logit_store.collect import find_garbage, remove_garbage
from logit_store.embeddings_file import open_embeddings
from logit_store.exporters import export_embeddings, find_backbones
from logit_store.paths import embeddings_path, shard_path
from logit_store.verify import verify

KEY = EmbeddingKey("tau", "aisfx-0123456789ab")
OTHER = EmbeddingKey("tau", "mn10_as-0123456789ab", 2)
RECORD = {"backbone": "aisfx", "weights_sha256": "0" * 64, "pooling": "max"}
D = 24

KILLED_JOINER = """
import os, pathlib, signal, sys
from logit_store import EmbeddingKey, LogitStore, embeddings_file
embeddings_file._GROUP_BYTES = 2 * 24 * 7
def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
stage, key = sys.argv[2], EmbeddingKey("tau", "aisfx-0123456789ab")
store = LogitStore(sys.argv[1])
if stage == "between groups":
    real, calls = embeddings_file._Summary.note, []
    def note(self, block):
        return die() if calls.append(0) or len(calls) > 3 else real(self, block)
    embeddings_file._Summary.note = note
elif stage == "before rename":
    os.replace = os.rename = pathlib.Path.replace = die
elif stage == "before deletion":
    type(store.embeddings).delete_shards = die
store.embeddings.join_shards(key, {})
"""


@pytest.fixture
def embeddings_ND() -> np.ndarray:
    values_ND = np.random.default_rng(2).normal(0, 3, (60, D)).astype(np.float32)
    values_ND[:3, 0] = (65504, -65504, 6e-8)
    return values_ND


@pytest.fixture
def half_ND(embeddings_ND: np.ndarray) -> np.ndarray:
    return embeddings_ND.astype(np.float16)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups of 7 clips."""
    monkeypatch.setattr(embeddings_file, "_GROUP_BYTES", 2 * D * 7)


@pytest.fixture
def filled(store: LogitStore, embeddings_ND: np.ndarray, small_groups: None) -> LogitStore:
    store.embeddings.write(KEY, embeddings_ND, RECORD)
    store.embeddings.write(OTHER, embeddings_ND[:, :3], {})
    return store


def find_path(store: LogitStore, key: EmbeddingKey = KEY) -> Path:
    return Path(store.files.locate(embeddings_path(key)))


def flip(path: Path, place: int, bit: int) -> None:
    """Change one bit of a file, and not its time."""
    data, stat = bytearray(path.read_bytes()), path.stat()
    data[place] ^= 1 << bit
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def write_shards(store: LogitStore, values_ND: np.ndarray, *bounds: tuple[int, int]) -> None:
    for begin, end in bounds:
        store.embeddings.write_shard(KEY, begin, values_ND[begin:end], {})


def test_what_is_written_is_what_is_read(filled: LogitStore, half_ND: np.ndarray) -> None:
    embeddings, rows = filled.embeddings, np.array([59, 0, 7, 7])
    np.testing.assert_array_equal(embeddings.read(KEY), half_ND.astype(np.float32), strict=True)
    np.testing.assert_array_equal(embeddings.read(KEY, rows), half_ND[rows])
    np.testing.assert_array_equal(embeddings.read(OTHER), half_ND[:, :3])
    blocks = list(embeddings.iterate(KEY, 11))
    assert [len(block) for block in blocks] == [11] * 5 + [5]
    np.testing.assert_array_equal(np.concatenate(blocks), half_ND)
    assert embeddings.read(KEY, np.array([], int)).shape == (0, D)
    footer = embeddings.read_footer(KEY)
    assert (footer.record, footer.n_dims, footer.largest_value) == (RECORD, D, 65504)


def test_other_programs_read_fixed_size_lists_of_float16(
    filled: LogitStore, half_ND: np.ndarray
) -> None:
    table = pq.ParquetFile(find_path(filled)).read()
    assert table.schema.equals(embeddings_file.make_schema(D))
    assert table["row"].to_pylist() == list(range(60))
    np.testing.assert_array_equal(np.stack(table["embedding"].to_pylist()), half_ND)


def test_keys_and_a_table_list_them(filled: LogitStore) -> None:
    embeddings = filled.embeddings
    assert embeddings.keys() == [KEY]
    assert embeddings.keys(view=None) == [KEY, OTHER]
    assert embeddings.keys("tau", OTHER.backbone, view=2) == [OTHER]
    assert embeddings.keys("cochl") == []
    assert KEY in embeddings
    assert EmbeddingKey("tau", "none-0") not in embeddings
    table = embeddings.tabulate().to_pylist()
    assert [(row["backbone"], row["view"], row["clips"], row["dimensions"]) for row in table] == [
        (KEY.backbone, 0, 60, D),
        (OTHER.backbone, 2, 60, 3),
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65505.0])
def test_values_that_float16_cannot_hold_are_refused_with_the_name_of_the_clip(
    filled: LogitStore, embeddings_ND: np.ndarray, half_ND: np.ndarray, value: float
) -> None:
    embeddings_ND[50, 4] = value
    words = f"value 4 of the embedding of clip 'clip-0-50' is {re.escape(str(value))}, expected"
    with pytest.raises(UnstorableEmbeddings, match=words):
        filled.embeddings.write(KEY, embeddings_ND, RECORD)
    with pytest.raises(UnstorableEmbeddings, match=words):
        filled.embeddings.write_shard(KEY, 40, embeddings_ND[40:], RECORD)
    # The old ones are still there, and nothing else.
    np.testing.assert_array_equal(filled.embeddings.read(KEY), half_ND)
    assert [path for path in Path(filled.address).rglob(".*") if path.is_file()] == []


def test_what_does_not_fit_is_refused_in_words(
    filled: LogitStore, embeddings_ND: np.ndarray, make_clips: Callable[..., pa.Table]
) -> None:
    embeddings = filled.embeddings
    for wrong in (embeddings_ND[:59], embeddings_ND[0], embeddings_ND.astype(int)):
        with pytest.raises(ValueError, match=r"expected floats of shape \(60, D\)"):
            embeddings.write(KEY, wrong, {})
    with pytest.raises(ValueError, match="the record is no JSON"):
        embeddings.write(KEY, embeddings_ND, {"a": np.nan})
    with pytest.raises(ValueError, match="rows 50 to 69, expected some of 0 to 59"):
        embeddings.write_shard(KEY, 50, embeddings_ND[:20], {})
    with pytest.raises(MissingClips):
        embeddings.write(EmbeddingKey("esc", "a"), embeddings_ND, {})
    with pytest.raises(WrongRowOrder, match="embeddings of clips with row-order hash"):
        embeddings.write(KEY, embeddings_ND, {}, row_order=hash_row_order(["a"]))
    with pytest.raises(MissingEmbeddings, match="no embeddings for tau/none-0/0"):
        embeddings.read(EmbeddingKey("tau", "none-0"))
    with pytest.raises(ValueError, match="rows within 60...60"):
        embeddings.read(KEY, [60])
    with pytest.raises(ClipsMismatch, match="holds results of corpus 'tau'"):
        filled.write_clips("tau", make_clips(seed=3))


def test_new_labels_of_the_same_clips_leave_embeddings_as_they_are(
    filled: LogitStore, half_ND: np.ndarray
) -> None:
    clips = filled.read_clips("tau")
    filled.write_clips("tau", clips.set_column(4, "city", pa.array(["rome"] * 60)))
    np.testing.assert_array_equal(filled.embeddings.read(KEY), half_ND)


def test_shards_are_joined_into_the_file_that_one_writer_would_write(
    filled: LogitStore, embeddings_ND: np.ndarray
) -> None:
    expected = find_path(filled).read_bytes()
    find_path(filled).unlink()
    write_shards(filled, embeddings_ND, (40, 60), (0, 20))
    embeddings = filled.embeddings
    with pytest.raises(MissingEmbeddings, match="of rows 20 to 39 for tau/aisfx") as caught:
        embeddings.join_shards(KEY, RECORD)
    assert caught.value.rows == range(20, 40)
    assert KEY not in embeddings
    # They may overlap.
    write_shards(filled, embeddings_ND, (15, 41))
    assert embeddings.find_shards(KEY) == [range(20), range(15, 41), range(40, 60)]
    assert verify(filled) == []
    embeddings.join_shards(KEY, RECORD)
    assert find_path(filled).read_bytes() == expected
    assert embeddings.find_shards(KEY) == []
    embeddings.join_shards(KEY, RECORD)


def test_shards_of_other_clips_and_damaged_ones_are_not_found(
    store: LogitStore, embeddings_ND: np.ndarray, make_clips: Callable[..., pa.Table]
) -> None:
    write_shards(store, embeddings_ND, (0, 30))
    store.write_clips("tau", make_clips(seed=5))
    write_shards(store, embeddings_ND, (30, 60), (30, 40))
    flip(Path(store.files.locate(shard_path(KEY, range(30, 40)))), -20, 0)
    assert store.embeddings.find_shards(KEY) == [range(30, 60)]
    assert len(verify(store)) == 2


@pytest.mark.parametrize("stage", ["between groups", "before rename", "before deletion"])
def test_a_joiner_killed_at_each_stage_leaves_the_shards_or_the_whole_file(
    store: LogitStore,
    embeddings_ND: np.ndarray,
    half_ND: np.ndarray,
    start_python: Callable[..., subprocess.Popen[str]],
    stage: str,
) -> None:
    write_shards(store, embeddings_ND, (0, 30), (30, 60))
    process = start_python("-c", KILLED_JOINER, store.address, stage)
    _, error = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, error
    joined = stage == "before deletion"
    assert (KEY in store.embeddings) == joined
    assert store.embeddings.find_shards(KEY) == [range(30), range(30, 60)]
    assert {each.why for each in find_garbage(store)} == {
        "all embeddings of its backbone are stored" if joined else "its writer was killed"
    }
    remove_garbage(store, find_garbage(store))
    assert len(store.embeddings.find_shards(KEY)) == (0 if joined else 2)
    store.embeddings.join_shards(KEY, {})
    np.testing.assert_array_equal(store.embeddings.read(KEY), half_ND)
    assert [path for path in Path(store.address).rglob(".*") if path.is_file()] == []


def test_joining_and_reading_hold_some_row_groups_in_memory(
    store: LogitStore, make_clips: Callable[..., pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    n, n_dims = 4_000, 500
    monkeypatch.setattr(embeddings_file, "_GROUP_BYTES", 2**16)
    store.write_clips("tau", make_clips(n))
    for begin in range(0, n, 1_000):
        store.embeddings.write_shard(KEY, begin, np.ones((1_000, n_dims), np.float16), {})
    tracemalloc.start()
    arrow = pa.total_allocated_bytes()
    store.embeddings.join_shards(KEY, {})
    assert sum(len(block) for block in store.embeddings.iterate(KEY, 100)) == n
    assert tracemalloc.get_traced_memory()[1] < 2 * n * n_dims / 3
    assert pa.total_allocated_bytes() - arrow < 2**18
    tracemalloc.stop()


@pytest.mark.parametrize("stride", [200, pytest.param(3, marks=pytest.mark.slow)])
def test_every_changed_bit_of_a_file_is_noticed_or_changes_nothing(
    store: LogitStore, half_ND: np.ndarray, small_groups: None, stride: int
) -> None:
    store.embeddings.write(KEY, half_ND[:, :5], {"a": 1})
    path, refused = find_path(store), 0
    with pq.ParquetFile(path) as file:
        page = file.metadata.row_group(0).column(1).data_page_offset
    header = range(8 * page, 8 * (page + 34))
    others = range(0, 8 * path.stat().st_size, stride)
    for number in (*header, *others):
        flip(path, number // 8, number % 8)
        found = read_if_sound(store, path)
        assert found is None or np.array_equal(found, half_ND[:, :5]), number
        refused += found is None
        flip(path, number // 8, number % 8)
    # The rows are counted, so their column may change; `verify` and SQL compare it too.
    assert refused > len(header) + 0.6 * len(others)


def read_if_sound(store: LogitStore, path: Path) -> np.ndarray | None:
    try:
        return store.embeddings.read(KEY)
    except LogitStoreError as error:
        return None if str(path) in str(error) else np.array([])


def test_a_changed_value_is_found_by_every_reader(
    filled: LogitStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = find_path(filled)
    (with_value,) = [m.start() for m in re.finditer(re.escape(b"\xff\x7b"), path.read_bytes())][:1]
    flip(path, with_value, 0)
    for read in (
        lambda: filled.embeddings.read(KEY),
        lambda: filled.embeddings.read(KEY, [1]),
        lambda: list(filled.embeddings.iterate(KEY, 60)),
    ):
        with pytest.raises(DamagedFile, match="a page has not the checksum"):
            read()
    # Another row group is whole.
    assert filled.embeddings.read(KEY, [59]).shape == (1, D)
    assert filled.sql("select distinct backbone from embeddings")["backbone"].to_pylist() == [
        OTHER.backbone
    ]
    assert any(f"passed over: {path}" in each for each in caplog.messages)
    assert [problem.file for problem in verify(filled)] == [str(path)]


def rewrite(path: Path, values: pa.Array, **pairs: str) -> None:
    """Write a file again with other lists and pairs, without checksums, as another program might."""
    with pq.ParquetFile(path) as file:
        metadata, row = dict(file.metadata.metadata), file.read(["row"])["row"]
    told = {key.decode(): value.decode() for key, value in metadata.items()}
    told = {
        key: value for key, value in told.items() if key.startswith("tutti.") and "dig" not in key
    }
    told |= {f"tutti.{name}": value for name, value in pairs.items()}
    schema = pa.schema(
        [pa.field("row", pa.int32(), False), pa.field("embedding", values.type, False)]
    )
    form = {"compression": "none", "use_dictionary": False, "store_schema": False}
    with pq.ParquetWriter(path, schema, **form) as writer:
        writer.write_table(pa.table([row.combine_chunks(), values], schema=schema))
        writer.add_key_value_metadata(told)


FLOAT16 = pa.field("element", pa.float16(), nullable=False)


def test_a_file_of_another_program_without_checksums_is_read(
    filled: LogitStore, half_ND: np.ndarray
) -> None:
    rewrite(find_path(filled), pa.array(list(half_ND), pa.list_(FLOAT16)))
    np.testing.assert_array_equal(filled.embeddings.read(KEY), half_ND)
    assert verify(filled) == []


@pytest.mark.parametrize(
    ("change", "kind", "pairs", "words"),
    [
        (lambda x: x, FLOAT16, {"format_version": "2"}, "format version 2, expected 1"),
        (lambda x: x, FLOAT16, {"row_order_hash": "0"}, "delete the file and make the embeddings"),
        (lambda x: x, FLOAT16, {"first_row": "1"}, "60 rows from 1, expected 60 from 0"),
        (lambda x: x, FLOAT16, {"n_dims": "0"}, "0 dimensions"),
        (lambda x: x, FLOAT16, {"n_dims": "23"}, "expected one plain page"),
        (lambda x: x, FLOAT16, {"largest_value": "nan"}, "expected a finite number"),
        (lambda x: x, FLOAT16, {"embeddings_hash": "0"}, "embeddings_hash 0 in the footer"),
        (lambda x: x, pa.field("element", pa.float32(), False), {}, "required float16"),
        (lambda x: x * np.nan, FLOAT16, {}, "largest_value 65504.0 in the footer, nan computed"),
    ],
)
def test_wrong_content_is_refused_and_found(
    filled: LogitStore,
    half_ND: np.ndarray,
    change: Callable[[np.ndarray], np.ndarray],
    kind: pa.Field,
    pairs: dict[str, str],
    words: str,
) -> None:
    values = change(half_ND).astype(kind.type.to_pandas_dtype())
    rewrite(find_path(filled), pa.array(list(values), pa.list_(kind)), **pairs)
    problems = verify(filled)
    assert {each.file for each in problems} == {str(find_path(filled))}
    assert words in " ".join(each.problem for each in problems)
    if "computed" not in words and "footer" not in words:
        with pytest.raises((DamagedFile, RowOrderMismatch, UnsupportedVersion), match=words):
            filled.embeddings.read(KEY)


def test_lists_of_several_lengths_are_found(filled: LogitStore, half_ND: np.ndarray) -> None:
    lists = [half_ND[0, :-1], np.append(half_ND[1], half_ND[0, -1]), *half_ND[2:]]
    rewrite(find_path(filled), pa.array(lists, pa.list_(FLOAT16)))
    assert any("expected 24" in each.problem for each in verify(filled))


def test_sql_shows_them_beside_the_clips(filled: LogitStore, half_ND: np.ndarray) -> None:
    answer = filled.sql(
        "select row, clip_id, embedding[1] as first, len(embedding) as d from embeddings "
        "join clips using (corpus, row) where backbone like 'aisfx%' order by row"
    )
    assert answer["clip_id"].to_pylist() == [f"clip-0-{i}" for i in range(60)]
    assert answer["d"].to_pylist() == [D] * 60
    np.testing.assert_array_equal(answer["first"].to_numpy(), half_ND[:, 0])
    counts = filled.sql(
        "select backbone, view, count(*) as n from embeddings group by all order by 1"
    )
    assert counts.to_pylist() == [
        {"backbone": key.backbone, "view": key.view, "n": 60} for key in (KEY, OTHER)
    ]
    with pytest.raises(QueryFailed):
        filled.sql(f"from read_parquet('{find_path(filled).parent}/../x.parquet'), embeddings")


def test_commands_list_show_and_export_them(
    filled: LogitStore, half_ND: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = ("--store", filled.address)
    assert main(["ls", "--embeddings", *address]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "backbone\tcorpus\tview\tclips\tdimensions\tbytes\twritten"
    assert [row.split("\t")[0] for row in rows] == [KEY.backbone, OTHER.backbone]
    assert main(["show", "aisfx", "--json", *address]) == 0
    shown = capsys.readouterr().out
    assert '"pooling": "max"' in shown
    assert OTHER.backbone not in shown
    options = ["--corpus", "tau", "--form", "npz", "--to", str(tmp_path / "out"), "--embeddings"]
    assert main(["export", *options, *address]) == 0
    with np.load(tmp_path / "out/aisfx.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["embeddings"], half_ND)
        assert arrays["filenames"][3] == b"clip-0-3.wav"
        assert arrays["scenes"][3].decode() == filled.read_clips("tau")["scene"][3].as_py()


def test_exports_are_tensors_or_refused(
    filled: LogitStore, half_ND: np.ndarray, tmp_path: Path
) -> None:
    (path,) = export_embeddings(filled, [KEY], tmp_path, "pt").values()
    loaded = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
    np.testing.assert_array_equal(loaded.numpy(), half_ND)
    with pytest.raises(UnfitExport, match="take --form npz or pt"):
        export_embeddings(filled, [KEY], tmp_path, "csv")
    with pytest.raises(MissingMember, match="'nobody'"):
        find_backbones(filled, "tau", ["nobody"])


def test_gc_keeps_embeddings_and_shards_that_wait(
    filled: LogitStore, embeddings_ND: np.ndarray
) -> None:
    waiting = EmbeddingKey("tau", "new-0")
    filled.embeddings.write_shard(waiting, 0, embeddings_ND[:30], {})
    assert find_garbage(filled) == []


def test_a_file_out_of_place_is_found_and_hides_no_other(filled: LogitStore) -> None:
    strays = (
        "embeddings/v1/corpus=tau/backbone=a/view=00/embeddings.parquet",
        "embeddings/v1/corpus=tau/backbone=a/notes.txt",
        f"{shard_path(KEY, range(5)).rpartition('/')[0]}/5-5.parquet",
    )
    for name in strays:
        filled.files.put(name, b"x")
    assert filled.embeddings.keys() == [KEY]
    assert filled.embeddings.find_shards(KEY) == []
    assert {problem.file for problem in verify(filled)} == set(map(filled.files.locate, strays))
    with open_embeddings(filled.files, embeddings_path(KEY)) as file:
        assert len(file.list_groups()) == 9
