"""What was written is read unchanged, and wrong input gives clear errors."""

import json
import pickle
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logit_store import (
    CLIPS_SCHEMA,
    ClassOrderMismatch,
    ClipsMismatch,
    DamagedFile,
    LogitKey,
    LogitStore,
    MissingClips,
    MissingLogits,
    MissingObject,
    MissingStore,
    RowOrderMismatch,
    UnknownClips,
    UnstorableLogits,
    UnsupportedAddress,
    UnsupportedVersion,
    WrongRowOrder,
    hash_row_order,
)
from logit_store.logits_file import widen
from metrics import accuracy, log_loss

RECORD = {
    "kind": "teacher",
    "recipe": {"name": "mn10"},
    "family": "mobilenet",
    "protocol": "honest",
    "seed": 3,
    "history": [1.5, None, "é"],
}


def logits_file(store: LogitStore, key: LogitKey) -> Path:
    (path,) = Path(store.address).glob(f"logits/v1/*/*/member={key.member}/*/logits.parquet")
    return path


def rewrite(path: Path, form: Mapping[str, Any] | None = None, **changed: str) -> None:
    """Write the table of a file again with other key-value pairs, in pyarrow's form or another."""
    with pq.ParquetFile(path) as file:
        metadata = {k.decode(): v for k, v in file.metadata.metadata.items()}
        table = file.read().replace_schema_metadata(None)
    metadata |= {f"tutti.{name}": value for name, value in changed.items()}
    del metadata["tutti.digest"]
    with pq.ParquetWriter(path, table.schema, **(form or {})) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(metadata)


def test_what_is_written_is_what_is_read(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray
) -> None:
    store.write(key, logits_NK, RECORD)
    read_MNK = store.read([key])
    assert read_MNK.dtype == np.float32
    np.testing.assert_array_equal(read_MNK, logits_NK.astype(np.float16).astype(np.float32)[None])
    assert store.read_record(key) == RECORD
    assert key in store


def test_every_finite_float16_is_widened_exactly() -> None:
    half = np.arange(2**16, dtype=np.uint16).view(np.float16)
    half = half[np.isfinite(half)]
    single = np.empty(len(half), np.float32)
    widen(single, half)
    # Bits, so that -0.0 is not 0.0.
    np.testing.assert_array_equal(
        single.view(np.uint32), half.astype(np.float32).view(np.uint32), strict=True
    )


def test_members_and_rows_have_the_requested_order(
    store: LogitStore, logits_NK: np.ndarray
) -> None:
    keys = [LogitKey("tau", 25, f"m-{i}") for i in range(3)]
    for i, key in enumerate(keys):
        store.write(key, logits_NK * (i + 1), {})
    rows = np.array([59, 0, 7, 7])
    whole_MNK = store.read(keys)
    np.testing.assert_array_equal(store.read(keys[::-1], rows), whole_MNK[::-1][:, rows])
    assert store.read(keys, np.array([], int)).shape == (3, 0, 4)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(st.permutations(range(12)))
def test_a_corpus_in_another_order_is_read_by_clip_id(order: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, key = twelve_clips(folder)
        reordered = [f"clip-{i}" for i in order]
        np.testing.assert_array_equal(
            store.read([key], clip_ids=reordered), store.read([key])[:, order]
        )


def twelve_clips(folder: str) -> tuple[LogitStore, LogitKey]:
    texts = {name: ["x"] * 12 for name in ("recording", "city", "recording_device")}
    folds = {f"fold_{split}": ["fit"] * 12 for split in (5, 10, 25, 50, 100)}
    clips = pa.table(
        {"row": range(12), "clip_id": [f"clip-{i}" for i in range(12)], "scene": ["a", "b"] * 6}
        | texts
        | folds
    )
    store, key = LogitStore(folder), LogitKey("twelve", 5, "m")
    store.write_clips("twelve", clips)
    store.write(key, np.arange(24.0).reshape(12, 2), {})
    return store, key


def test_clip_ids_may_be_a_part_and_repeated(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray
) -> None:
    store.write(key, logits_NK, {})
    clip_ids = ["clip-0-59", "clip-0-3", "clip-0-59"]
    np.testing.assert_array_equal(
        store.read([key], clip_ids=clip_ids), store.read([key], [59, 3, 59])
    )
    assert store.read([key], clip_ids=[]).shape == (1, 0, 4)


def test_an_error_counts_unknown_clips_and_names_the_first(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray
) -> None:
    store.write(key, logits_NK, {})
    with pytest.raises(UnknownClips, match="lacks 2 of the clip_ids asked for, the first is 'x'"):
        store.read([key], clip_ids=["clip-0-0", "x", "y"])


def test_rows_and_clip_ids_together_are_refused(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray
) -> None:
    store.write(key, logits_NK, {})
    with pytest.raises(ValueError, match="rows and clip_ids"):
        store.read([key], [0], clip_ids=["clip-0-0"])


def test_logits_of_clips_in_another_order_are_not_written(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray, clips: pa.Table
) -> None:
    clip_ids = clips["clip_id"].to_pylist()
    given, expected = hash_row_order(clip_ids[::-1]), hash_row_order(clip_ids)
    with pytest.raises(WrongRowOrder, match=f"{given}, expected {expected}"):
        store.write(key, logits_NK, {}, row_order=given)
    assert key not in store
    store.write(key, logits_NK, {}, row_order=expected)
    assert key in store


def test_the_same_clips_in_another_order_are_recognised_and_change_nothing(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray, clips: pa.Table
) -> None:
    store.write(key, logits_NK, {})
    before = store.read_clips("tau")
    reordered = clips.take(np.random.default_rng(0).permutation(60))
    reordered = with_column(reordered, "row", list(range(60)), pa.int32())
    with pytest.raises(ClipsMismatch, match=r"same 60 clips in another order.*clip_ids=") as caught:
        store.write_clips("tau", reordered)
    assert caught.value.reordered
    assert store.read_clips("tau").equals(before)
    np.testing.assert_array_equal(
        store.read([key], clip_ids=reordered["clip_id"].to_pylist())[0],
        logits_NK.astype(np.float16)[
            [int(i.split("-")[2]) for i in reordered["clip_id"].to_pylist()]
        ],
    )


@pytest.mark.parametrize(
    "form",
    [
        {"use_dictionary": True, "compression": "none"},
        {"use_dictionary": False, "compression": "snappy"},
        {"use_dictionary": False, "compression": "none", "use_byte_stream_split": True},
        {"use_dictionary": False, "compression": "none", "data_page_size": 1},
    ],
)
def test_a_file_whose_columns_are_not_one_plain_page_is_refused(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray, form: dict[str, Any]
) -> None:
    store.write(key, logits_NK, {})
    path = logits_file(store, key)
    if "use_byte_stream_split" in form:
        form = form | {"use_byte_stream_split": list(store.read_footer(key).classes)}
    rewrite(path, form | {"write_batch_size": 1})
    with pytest.raises(DamagedFile, match="expected one plain page"):
        store.read([key])


def test_half_precision_is_what_the_file_holds(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray
) -> None:
    store.write(key, logits_NK, {})
    read_MNK = store.read([key], [5, 4], dtype=np.float16)
    np.testing.assert_array_equal(read_MNK[0], logits_NK.astype(np.float16)[[5, 4]], strict=True)


def test_read_footers_equals_read_footer_of_each(store: LogitStore, logits_NK: np.ndarray) -> None:
    keys = [LogitKey("tau", 25, "b"), LogitKey("tau", 5, "a"), LogitKey("tau", 25, "b", 1)]
    for i, key in enumerate(keys):
        store.write(key, logits_NK + i, RECORD | {"view": key.view})
    footers = store.read_footers(keys)
    assert list(footers) == keys
    assert footers == {key: store.read_footer(key) for key in keys}
    with pytest.raises(MissingLogits, match="gone"):
        store.read_footers([keys[0], LogitKey("tau", 25, "gone")])


@pytest.mark.parametrize("rows", [[-1], [60], [0.0], [[0]], [True]])
def test_wrong_row_numbers_are_refused(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray, rows: list[Any]
) -> None:
    store.write(key, logits_NK, {})
    with pytest.raises(ValueError, match="rows"):
        store.read([key], rows)


def test_the_largest_float16_fits_and_the_next_float32_does_not(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray
) -> None:
    logits_NK[3, 1] = -65504
    store.write(key, logits_NK, {})
    assert store.read([key])[0, 3, 1] == -65504
    assert store.read_footer(key).largest_logit == 65504
    logits_NK[3, 1] = np.nextafter(np.float32(-65504), np.float32(-np.inf))
    with pytest.raises(UnstorableLogits, match="65504"):
        store.write(key, logits_NK, {})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e6])
def test_an_error_names_clip_and_class_of_a_logit_that_float16_cannot_hold(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray, value: float
) -> None:
    logits_NK[17, 2] = value
    with pytest.raises(UnstorableLogits, match=r"clip 'clip-0-17' for class 'park \"city\"'"):
        store.write(key, logits_NK, {})
    assert key not in store


@pytest.mark.parametrize("shape", [(59, 4), (60, 3), (60,), (1, 60, 4)])
def test_logits_of_another_shape_are_refused(
    store: LogitStore, key: LogitKey, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"expected floats of shape \(60, 4\)"):
        store.write(key, np.zeros(shape, np.float32), {})


def test_integers_are_refused_as_logits(store: LogitStore, key: LogitKey) -> None:
    with pytest.raises(ValueError, match="int64"):
        store.write(key, np.zeros((60, 4), np.int64), {})


@pytest.mark.parametrize("record", [{"loss": float("nan")}, {"path": Path("x")}])
def test_a_record_that_is_not_json_is_refused(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray, record: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"tau/25/mn10-0123456789ab/0: the record is no JSON"):
        store.write(key, logits_NK, record)


def test_the_same_logits_make_the_same_bytes(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray
) -> None:
    store.write(key, logits_NK, RECORD)
    first = logits_file(store, key).read_bytes()
    store.write(key, logits_NK, RECORD)
    assert logits_file(store, key).read_bytes() == first


def test_a_file_has_one_plain_page_per_column(
    tmp_path: Path, make_clips: Callable[..., Any]
) -> None:
    n, key = 50_000, LogitKey("tau", 5, "m")
    store = LogitStore(tmp_path)
    store.write_clips("tau", make_clips(n))
    store.write(key, np.ones((n, 4), np.float32), {})
    with pq.ParquetFile(logits_file(store, key)) as file:
        assert file.num_row_groups == 1
        for column in map(file.metadata.row_group(0).column, range(1, 5)):
            assert column.compression == "UNCOMPRESSED"
            assert not column.has_dictionary_page
            # A second page would have a second header of about 25 bytes.
            assert column.total_compressed_size - 2 * n < 40
    # Row numbers, headers and footer cost less than 3 %.
    assert logits_file(store, key).stat().st_size < 1.03 * 2 * n * 4


def test_scores_are_of_fit_and_select_only(
    store: LogitStore,
    key: LogitKey,
    logits_NK: np.ndarray,
    labels_N: np.ndarray,
    clips: pa.Table,
) -> None:
    store.write(key, logits_NK, {})
    footer = store.read_footer(key)
    assert {figures.fold for figures in footer.scores} == {"fit", "select"}
    stored_NK = store.read([key])[0]
    folds, devices = clips["fold_25"].to_numpy(), clips["recording_device"].to_numpy()
    for device in (None, "a", "b", "s1"):
        inside = (folds == "select") & ((devices == device) | (device is None))
        figures = footer.find_scores("select", device)
        assert figures is not None
        assert figures.n == inside.sum()
        # float64 sums in another order
        loss = log_loss(stored_NK[inside], labels_N[inside])
        assert figures.log_loss == pytest.approx(loss, rel=1e-12)
        assert figures.accuracy == pytest.approx(accuracy(stored_NK[inside], labels_N[inside]))


def test_a_split_without_clips_has_no_scores(store: LogitStore, logits_NK: np.ndarray) -> None:
    key = LogitKey("tau", 5, "m")
    store.write(key, logits_NK, {})
    assert store.read_footer(key).scores == ()
    assert store.members().to_pylist()[0]["log_loss_fit"] is None


def test_clips_are_read_as_they_were_written(store: LogitStore, clips: pa.Table) -> None:
    assert store.read_clips("tau").equals(clips.cast(CLIPS_SCHEMA))
    assert store.corpora() == ["tau"]


def test_the_same_clips_may_be_written_again(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray, clips: pa.Table
) -> None:
    store.write(key, logits_NK, {})
    store.write_clips("tau", clips.select(clips.column_names[::-1]))
    assert store.read([key]).shape == (1, 60, 4)


def test_clips_are_replaced_as_long_as_no_logits_belong_to_them(
    store: LogitStore, clips: pa.Table
) -> None:
    fewer = clips.slice(0, 50)
    store.write_clips("tau", fewer)
    assert store.read_clips("tau").num_rows == 50


def test_other_clips_are_refused_when_logits_belong_to_the_old_ones(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray, clips: pa.Table
) -> None:
    store.write(key, logits_NK, {})
    folds = pa.array(["fit"] * 60)
    position = clips.column_names.index("fold_25")
    other = clips.set_column(position, "fold_25", folds)
    with pytest.raises(ClipsMismatch, match=r"'tau'.*Give another --store") as caught:
        store.write_clips("tau", other)
    assert caught.value.stored in str(caught.value)
    assert caught.value.given in str(caught.value)
    assert caught.value.stored != caught.value.given
    assert store.read_clips("tau")["fold_25"].equals(clips["fold_25"])


def with_column(clips: pa.Table, name: str, values: list[Any], kind: pa.DataType) -> pa.Table:
    return clips.set_column(clips.column_names.index(name), name, pa.array(values, kind))


@pytest.mark.parametrize(
    ("name", "values", "kind", "words"),
    [
        ("row", [*range(1, 61)], pa.int32(), "row 1 in place 0"),
        ("row", [None, *range(1, 60)], pa.int32(), "nulls"),
        ("row", ["x"] * 60, pa.string(), "x"),
        ("clip_id", ["one"] * 60, pa.string(), "'one' occurs more than once"),
        ("city", [None] * 60, pa.string(), "nulls"),
        ("fold_10", ["train"] * 60, pa.string(), "fold_10 holds \\['train'\\]"),
        ("scene", ["bus", "Bus"] * 30, pa.string(), "'bus' has the name of scene 'Bus'"),
        ("scene", ["bus", "Row"] * 30, pa.string(), "'Row' has the name of a column"),
        ("scene", ["bus", "file_row_number"] * 30, pa.string(), "has the name of a column"),
        (
            "scene",
            ["bus", ""] * 30,
            pa.string(),
            "no scene and is in fold .* of fold_10, expected pool",
        ),
    ],
)
def test_a_table_that_does_not_hold_clips_is_refused(
    store: LogitStore,
    clips: pa.Table,
    name: str,
    values: list[Any],
    kind: pa.DataType,
    words: str,
) -> None:
    with pytest.raises(ValueError, match=words):
        store.write_clips("tau", with_column(clips, name, values, kind))


def test_a_table_with_other_columns_or_no_rows_is_refused(
    store: LogitStore, clips: pa.Table
) -> None:
    with pytest.raises(ValueError, match="columns"):
        store.write_clips("tau", clips.drop_columns(["city"]))
    with pytest.raises(ValueError, match="no clip"):
        store.write_clips("tau", clips.slice(0, 0))


def test_wider_string_types_are_accepted(store: LogitStore, clips: pa.Table) -> None:
    scenes = clips["scene"].to_pylist()
    store.write_clips("wide", with_column(clips, "scene", scenes, pa.large_string()))
    assert store.read_clips("wide").schema.equals(CLIPS_SCHEMA)


def test_logits_need_their_corpus(store: LogitStore, logits_NK: np.ndarray) -> None:
    with pytest.raises(MissingClips, match=r"'cochl' \(corpora there: tau\)"):
        store.write(LogitKey("cochl", 5, "m"), logits_NK, {})


def test_a_file_of_another_version_gives_a_clear_error(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray
) -> None:
    store.write(key, logits_NK, {})
    path = logits_file(store, key)
    rewrite(path, format_version="2")
    for reads in (store.read, lambda keys: store.read_record(keys[0]), store.read_footers):
        with pytest.raises(UnsupportedVersion, match="format version 2, expected 1") as caught:
            reads([key])
        assert str(path) in str(caught.value)


def test_clips_of_another_version_give_a_clear_error(store: LogitStore) -> None:
    rewrite(Path(store.address) / "clips/v1/corpus=tau/clips.parquet", format_version="2")
    with pytest.raises(UnsupportedVersion, match=r"clips\.parquet: format version 2, expected 1"):
        store.read_clips("tau")


def test_a_parquet_file_of_another_program_is_refused(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray
) -> None:
    store.write(key, logits_NK, {})
    pq.write_table(pa.table({"row": [1]}), logits_file(store, key))
    with pytest.raises(UnsupportedVersion, match="format version None"):
        store.read([key])


def test_logits_in_another_row_order_are_refused(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray, clips: pa.Table
) -> None:
    store.write(key, logits_NK, {})
    path = logits_file(store, key)
    reversed_hash = hash_row_order(clips["clip_id"].to_pylist()[::-1])
    rewrite(path, row_order_hash=reversed_hash)
    expected = hash_row_order(clips["clip_id"].to_pylist())
    words = f"{path}: row-order hash {reversed_hash}, expected {expected}"
    for reads in (store.read, lambda keys: store.read_footer(keys[0]), store.read_footers):
        with pytest.raises(RowOrderMismatch) as caught:
            reads([key])
        assert words in str(caught.value)
    assert store.sql("select count(*) n from logits")["n"].to_pylist() == [0]


def test_logits_in_another_class_order_are_refused(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray
) -> None:
    store.write(key, logits_NK, {})
    classes = list(store.read_footer(key).classes)
    rewrite(logits_file(store, key), class_order=json.dumps(classes[::-1]))
    with pytest.raises(ClassOrderMismatch) as caught:
        store.read([key])
    assert str(classes) in str(caught.value)
    assert str(classes[::-1]) in str(caught.value)
    assert str(logits_file(store, key)) in str(caught.value)


@pytest.mark.parametrize("length", [0, 10, 700])
def test_an_error_names_a_damaged_file(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray, length: int
) -> None:
    store.write(key, logits_NK, {})
    path = logits_file(store, key)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedFile, match="delete it") as caught:
        store.read([key])
    assert caught.value.path == str(path)


def test_an_error_names_all_missing_members(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray
) -> None:
    store.write(key, logits_NK, {})
    absent = [LogitKey("tau", 25, "gone-1"), LogitKey("tau", 25, "gone-2")]
    with pytest.raises(MissingLogits, match=r"2 member\(s\)") as caught:
        store.read([absent[0], key, absent[1]])
    assert caught.value.missing == tuple(absent)


@pytest.mark.parametrize("corpora", [(), ("tau", "cochl")])
def test_keys_of_several_corpora_are_refused(store: LogitStore, corpora: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="one corpus"):
        store.read([LogitKey(corpus, 5, "m") for corpus in corpora])


def test_an_error_survives_pickling(store: LogitStore, key: LogitKey) -> None:
    with pytest.raises(MissingLogits) as caught:
        store.read([key])
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is MissingLogits
    assert again.missing == (key,)
    assert str(again) == str(caught.value)


def test_a_store_survives_pickling_and_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clips: pa.Table
) -> None:
    monkeypatch.chdir(tmp_path)
    store = LogitStore("runs")
    store.write_clips("tau", clips)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pickle.loads(pickle.dumps(store)).corpora() == ["tau"]


def test_keys_are_sorted_by_member_and_filtered(store: LogitStore, logits_NK: np.ndarray) -> None:
    for split, member, view, kind in [
        (25, "b", 0, "teacher"),
        (5, "c", 0, "student"),
        (25, "a", 0, "student"),
        (25, "a", 1, "student"),
    ]:
        store.write(LogitKey("tau", split, member, view), logits_NK, {"kind": kind})
    assert [key.member for key in store.keys(view=0)] == ["a", "b", "c"]
    assert [key.member for key in store.keys(split=25)] == ["a", "b"]
    assert store.keys(view=1) == [LogitKey("tau", 25, "a", 1)]
    assert len(store.keys(view=None)) == 4
    assert [key.member for key in store.keys("tau", kind="student")] == ["a", "c"]
    assert store.keys("cochl") == []


def test_members_have_their_record_and_scores(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray
) -> None:
    store.write(key, logits_NK, RECORD)
    store.write(LogitKey("tau", 5, "x"), logits_NK, {"recipe": "by-name"})
    other, row = store.members("tau").to_pylist()[::-1]
    assert (row["member"], row["corpus"], row["split"]) == (key.member, "tau", 25)
    assert (row["kind"], row["recipe"], row["seed"]) == ("teacher", "mn10", 3)
    assert (row["family"], row["protocol"]) == ("mobilenet", "honest")
    assert (other["kind"], other["recipe"], other["seed"]) == (None, "by-name", None)
    figures = store.read_footer(key).find_scores("select")
    assert figures is not None
    assert row["log_loss_select"] == figures.log_loss
    assert row["accuracy_select"] == figures.accuracy
    assert row["bytes"] == logits_file(store, key).stat().st_size
    assert store.members(split=5).num_rows == 1


def test_a_missing_folder_can_be_written_but_not_read(
    tmp_path: Path, clips: pa.Table, key: LogitKey
) -> None:
    store = LogitStore(tmp_path / "new" / "store")
    reads: list[Callable[[], object]] = [
        lambda: store.read_clips("tau"),
        lambda: store.read([key]),
        lambda: store.read_record(key),
        store.keys,
        store.members,
        store.corpora,
        lambda: store.sql("select 1"),
        lambda: store.ensembles.find_all("tau", 5),
        lambda: store.ensembles.read("tau", 5, "best"),
        lambda: store.objects.read("teachers/v1/m/x"),
    ]
    for read in reads:
        with pytest.raises(MissingStore, match=f"no store at {store.address}"):
            read()
    assert key not in store
    assert "teachers/v1/m/x" not in store.objects
    store.write_clips("tau", clips)
    assert store.corpora() == ["tau"]


def test_an_address_of_another_kind_gives_a_clear_error() -> None:
    with pytest.raises(UnsupportedAddress, match="gs://bucket"):
        LogitStore("gs://bucket")


def test_objects_are_read_as_they_were_written(store: LogitStore) -> None:
    name = "teachers/v1/mn10-0123/weights.safetensors"
    assert name not in store.objects
    store.objects.write(name, b"one")
    store.objects.write(name, b"two\x00")
    assert name in store.objects
    assert store.objects.read(name) == b"two\x00"
    assert store.objects.fetch(name).read_bytes() == b"two\x00"
    store.objects.delete(name)
    store.objects.delete(name)
    assert name not in store.objects
    with pytest.raises(MissingObject, match=name):
        store.objects.read(name)
