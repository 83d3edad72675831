"""SQL gives the same values as numpy."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import log_softmax

from logit_store import LogitKey, LogitStore, QueryFailed
from logit_store.paths import clips_path, logits_path
from metrics import log_loss, score_groups

MakeClips = Callable[..., pa.Table]


@pytest.fixture
def filled(store: LogitStore, logits_NK: np.ndarray) -> LogitStore:
    """Two members of one corpus."""
    store.write(LogitKey("tau", 25, "m-1"), logits_NK, {"kind": "teacher"})
    store.write(LogitKey("tau", 10, "m-2"), -logits_NK, {"kind": "teacher"})
    return store


def test_accuracy_and_log_loss_by_recording_device_are_those_of_numpy(
    filled: LogitStore, labels_N: np.ndarray, clips: pa.Table
) -> None:
    rows = filled.sql(
        "select member, recording_device, avg(correct::int) as accuracy, avg(log_loss) as loss,"
        " count(*) as n from predictions group by all"
    ).to_pylist()
    for key in filled.keys(view=0):
        expected = score_groups(
            filled.read([key])[0], labels_N, clips["recording_device"].to_numpy()
        )
        found = {row["recording_device"]: row for row in rows if row["member"] == key.member}
        assert sorted(found) == sorted(expected)
        for device, scores in expected.items():
            assert found[device]["n"] == scores.n
            # float64 sums in another order
            assert found[device]["accuracy"] == pytest.approx(scores.accuracy, rel=1e-12)
            assert found[device]["loss"] == pytest.approx(scores.log_loss, rel=1e-12)


def test_predictions_have_all_columns_of_a_clip(filled: LogitStore, clips: pa.Table) -> None:
    answer = filled.sql("select * from predictions where member = 'm-1' order by row")
    assert answer.column_names == [
        "corpus",
        "split",
        "member",
        "view",
        "row",
        "clip_id",
        "scene",
        "recording",
        "city",
        "recording_device",
        "fold",
        "predicted",
        "correct",
        "log_loss",
    ]
    for name in ("row", "clip_id", "scene", "recording", "city", "recording_device"):
        assert answer[name].to_pylist() == clips[name].to_pylist()
    assert answer["fold"].to_pylist() == clips["fold_25"].to_pylist()


@pytest.mark.parametrize("n", [1, 2, 60])
@pytest.mark.parametrize(
    "condition", ["row = 0", "clip_id = 'clip-0-0'", "recording = 'recording-0' and row < 1"]
)
def test_predictions_are_filtered_by_what_each_clip_may_have_alone(
    tmp_path: Path, make_clips: MakeClips, condition: str, n: int
) -> None:
    store = LogitStore(tmp_path)
    store.write_clips("tau", make_clips(n, ["airport"]))
    store.write(LogitKey("tau", 25, "m"), np.zeros((n, 1)), {})
    assert store.sql(f"select row from predictions where {condition}").to_pylist() == [{"row": 0}]


def test_predictions_are_stable_and_the_first_of_equal_classes_wins(
    store: LogitStore, labels_N: np.ndarray, clips: pa.Table
) -> None:
    logits_NK = np.zeros((60, 4), np.float32)
    logits_NK[0] = [65504, -65504, 0, 65504]
    logits_NK[1] = [-65504, -65504, -65504, -65504]
    key = LogitKey("tau", 25, "m")
    store.write(key, logits_NK, {})
    answer = store.sql("select predicted, log_loss from predictions order by row")
    assert set(answer["predicted"].to_pylist()) == {min(clips["scene"].to_pylist())}
    expected_N = -log_softmax(logits_NK.astype(float), axis=1)[np.arange(60), labels_N]
    np.testing.assert_allclose(answer["log_loss"].to_numpy(), expected_N, rtol=1e-12)


@pytest.mark.parametrize(
    "where",
    [
        "recording_device = 's1'",
        "recording_device in ('a', 's1') and fold = 'fit' and corpus = 'tau'",
        "recording_device = 'a' and recording > 'k' or clip_id > 't' and view = 0",
        "member = 'm-1' and fold in ('fit', 'select')",
        "split < 25 or city = 'oslo'",
        "correct",
        "log_loss > 3 and recording_device <> 'a' and member = 'm-2'",
        "predicted = 'airport' or fold is null",
        "scene >= 'b' and predicted is not null and row between 5 and 40",
    ],
)
def test_a_filter_gives_the_rows_of_all_that_pass_it(filled: LogitStore, where: str) -> None:
    order = "order by member, row"
    everything = filled.sql(f"from predictions {order}")
    with duckdb.connect() as connection:
        connection.register("everything", everything)
        passing = connection.sql(f"from everything where {where} {order}").to_arrow_table()
    assert 0 < passing.num_rows < everything.num_rows
    assert filled.sql(f"from predictions where {where} {order}").to_pylist() == passing.to_pylist()
    # Few columns, and none of those that the filter names.
    few = filled.sql(f"select clip_id, view from predictions where {where} {order}")
    assert few.to_pylist() == passing.select(["clip_id", "view"]).to_pylist()


def test_members_that_a_filter_excludes_are_not_read(
    filled: LogitStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(filled.files.locate(logits_path(LogitKey("tau", 10, "m-2"))))
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 1
    path.write_bytes(data)
    query = "select distinct member from predictions"
    assert filled.sql(f"{query} where split = 25")["member"].to_pylist() == ["m-1"]
    assert caplog.messages == []
    assert filled.sql(query)["member"].to_pylist() == ["m-1"]
    assert [str(path) in each for each in caplog.messages] == [True]


def test_only_the_columns_of_the_clips_that_a_query_needs_are_read(
    filled: LogitStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(filled.files.locate(clips_path("tau")))
    data = bytearray(path.read_bytes())
    group = pq.ParquetFile(path).metadata.row_group(0)
    (city,) = (c for c in map(group.column, range(11)) if c.path_in_schema == "city")
    data[city.dictionary_page_offset + 40] ^= 1
    path.write_bytes(data)
    query = "select count(*) as n from predictions where recording_device <> 'a'"
    n = filled.sql(query)["n"][0].as_py()
    assert n > 0
    assert caplog.messages == []
    assert filled.sql(f"{query} and city <> ''")["n"][0].as_py() == 0
    assert [str(path) in each for each in caplog.messages] == [True]


def test_a_query_may_read_predictions_twice(filled: LogitStore) -> None:
    agreement = filled.sql(
        "select avg((a.predicted = b.predicted)::int) as x from predictions a join predictions b"
        " using (row) where a.member = 'm-1' and b.member = 'm-2'"
    )
    logits_MNK = filled.read(filled.keys(view=0))
    first_N, second_N = logits_MNK.argmax(axis=2)
    assert agreement["x"][0].as_py() == pytest.approx((first_N == second_N).mean())


def test_logits_join_clips_by_row(filled: LogitStore, clips: pa.Table) -> None:
    answer = filled.sql(
        'select member, avg("tram\'s") as mean from logits join clips using (row)'
        " where recording_device = 's1' group by member order by member"
    ).to_pylist()
    inside = clips["recording_device"].to_numpy() == "s1"
    for row, key in zip(answer, filled.keys(view=0), strict=True):
        mean = filled.read([key])[0, inside, 3].mean(dtype=np.float64)
        assert row["mean"] == pytest.approx(mean, rel=1e-12)


def test_the_logits_view_equals_read(filled: LogitStore) -> None:
    answer = filled.sql("select * from logits where split = 10 and view = 0 order by row")
    assert answer.column_names[:5] == ["corpus", "split", "member", "view", "row"]
    sql_NK = np.stack([answer[name].to_numpy() for name in answer.column_names[5:]], axis=1)
    np.testing.assert_array_equal(sql_NK, filled.read([LogitKey("tau", 10, "m-2")])[0])


def test_the_members_view_equals_members(filled: LogitStore) -> None:
    answer = filled.sql("select * from members order by member").to_pylist()
    assert answer == sorted(filled.members().to_pylist(), key=lambda row: row["member"])


def test_two_corpora_with_different_classes_share_a_store(
    filled: LogitStore, make_clips: MakeClips
) -> None:
    # "airport" is in both corpora; "city" and "split_" look like columns of the views.
    scenes = ("airport", "city", "largest", "logit_0", "split_")
    clips = make_clips(40, scenes, seed=7)
    filled.write_clips("cochl", clips)
    logits_NK = np.random.default_rng(3).normal(size=(40, 5))
    key = LogitKey("cochl", 25, "m-1")
    filled.write(key, logits_NK, {})
    counts = filled.sql("select corpus, count(*) n, count(city) cities from logits group by all")
    found = {row["corpus"]: (row["n"], row["cities"]) for row in counts.to_pylist()}
    assert found == {"cochl": (40, 40), "tau": (120, 0)}
    loss = filled.sql("select avg(log_loss) as x from predictions where corpus = 'cochl'")
    labels_N = [sorted(scenes).index(scene) for scene in clips["scene"].to_pylist()]
    expected = log_loss(filled.read([key])[0], labels_N)
    assert loss["x"][0].as_py() == pytest.approx(expected, rel=1e-12)
    assert filled.sql("select count(*) n from clips where corpus = 'cochl'")["n"][0].as_py() == 40
    assert [k.corpus for k in filled.keys(view=0)] == ["cochl", "tau", "tau"]


def test_a_corpus_of_one_class_can_be_queried(store: LogitStore, make_clips: MakeClips) -> None:
    store.write_clips("one", make_clips(20, ["only"]))
    store.write(LogitKey("one", 25, "m"), np.ones((20, 1)), {})
    answer = store.sql("select distinct predicted, correct, log_loss from predictions")
    assert answer.to_pylist() == [{"predicted": "only", "correct": True, "log_loss": 0.0}]


@pytest.mark.parametrize("view", ["clips", "logits", "members", "predictions"])
def test_an_empty_store_has_empty_views(tmp_path: Path, view: str) -> None:
    answer = LogitStore(tmp_path).sql(f"select * from {view}")
    assert answer.num_rows == 0
    assert "corpus" in answer.column_names


def test_a_store_without_logits_has_the_columns_of_its_classes(store: LogitStore) -> None:
    answer = store.sql("select * from logits")
    assert answer.num_rows == 0
    assert "metro station" in answer.column_names


def test_a_folder_may_have_characters_of_patterns_and_quotes(
    tmp_path: Path, clips: pa.Table, logits_NK: np.ndarray
) -> None:
    store = LogitStore(tmp_path / "we[i]rd * 'name' seed=3")
    store.write_clips("tau", clips)
    store.write(LogitKey("tau", 25, "m"), logits_NK, {})
    assert store.sql("select count(*) n from predictions")["n"][0].as_py() == 60


def test_a_parent_folder_that_looks_like_a_column_is_refused(
    tmp_path: Path, clips: pa.Table, logits_NK: np.ndarray
) -> None:
    store = LogitStore(tmp_path / "split=5" / "store")
    store.write_clips("tau", clips)
    store.write(LogitKey("tau", 25, "a"), logits_NK, {})
    with pytest.raises(QueryFailed, match="'split=5'"):
        store.sql("select * from logits")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("select * from nowhere", "nowhere does not exist.*views: clips, logits"),
        ("selec 1", "syntax error"),
        ("select member::int from logits", "Conver"),
        ("select * from text", "text does not exist"),
    ],
)
def test_a_wrong_query_gives_a_clear_error(filled: LogitStore, text: str, words: str) -> None:
    with pytest.raises(QueryFailed, match=words):
        filled.sql(text)


def test_s3_gives_the_same_rows_as_a_disk(
    filled: LogitStore, clips: pa.Table, logits_NK: np.ndarray, s3_address: str
) -> None:
    bucket = LogitStore(s3_address)
    bucket.write_clips("tau", clips)
    for key, sign in ((LogitKey("tau", 25, "m-1"), 1), (LogitKey("tau", 10, "m-2"), -1)):
        bucket.write(key, sign * logits_NK, {"kind": "teacher"})
    pin = {
        "member": "m-1",
        "weight": 1.0,
        "hash": filled.read_footer(LogitKey("tau", 25, "m-1")).logits_hash,
    }
    for store in (filled, bucket):
        store.ensembles.write("tau", 25, "best", {"members": [pin]})
    for query in (
        "select * from predictions where recording_device = 's1' order by member, row",
        "select * from logits order by all",
        "select * from clips order by row",
        "select * exclude (written) from members order by all",
        "select * exclude (written) from ensembles",
    ):
        assert bucket.sql(query).equals(filled.sql(query)), query
