"""Clips that nobody labelled: they are stored, members predict them, and nothing judges on them."""

import numpy as np
import pyarrow as pa
import pytest

from audio.clips import UNLABELLED
from logit_store import LogitKey, LogitStore
from logit_store.catalogue import MEMBERS_SCHEMA
from logit_store.clips_table import CLIPS_SCHEMA
from logit_store.verify import verify

POOL = "tau_0123456789ab"
KEY, OTHER = LogitKey(POOL, 25, "m-0"), LogitKey(POOL, 25, "n-0")
CLASSES = ("bus", "park")
FOLDS = [f"fold_{split}" for split in (5, 10, 25, 50, 100)]


def forget_labels(clips: pa.Table, rows: np.ndarray, fold: str | None = "pool") -> pa.Table:
    """Return clips of which some have no label and are in this fold of every split."""
    for name, value in {"scene": UNLABELLED, **dict.fromkeys(FOLDS, fold)}.items():
        values = np.array(clips[name].to_pylist(), object)
        values[rows] = value
        place = clips.column_names.index(name)
        clips = clips.set_column(place, name, pa.array(values.tolist(), pa.string()))
    return clips


@pytest.fixture
def pool(store: LogitStore, clips: pa.Table) -> LogitStore:
    """A store with a corpus and a pool of its own."""
    store.write_clips(POOL, forget_labels(clips, np.arange(60)))
    return store


def test_members_predict_a_pool_with_the_classes_that_they_learnt(
    pool: LogitStore, logits_NK: np.ndarray
) -> None:
    pool.write(KEY, logits_NK[:, :2], {"kind": "teacher"}, classes=CLASSES)
    pool.write(OTHER, logits_NK[:, :3], {}, classes=["a", "b", "c"])
    (read_NK,) = pool.read([KEY])
    np.testing.assert_array_equal(read_NK, logits_NK[:, :2].astype(np.float16))
    assert pool.read([OTHER], rows=[3]).shape == (1, 1, 3)
    footer = pool.read_footer(KEY)
    assert (footer.classes, footer.scores) == (CLASSES, ())
    assert pool.members(POOL).column_names == MEMBERS_SCHEMA.names
    assert pool.members(POOL)["log_loss_select"].to_pylist() == [None, None]
    assert set(pool.read_footers([KEY, OTHER])) == {KEY, OTHER}
    assert verify(pool) == []
    with pytest.raises(ValueError, match=r"m-0/0 has classes \['bus', 'park'\], .* read members"):
        pool.read([KEY, OTHER])


@pytest.mark.parametrize("classes", [None, (), ("park", "bus"), ("bus", "bus"), ("bus", "row")])
def test_classes_that_no_member_learnt_are_refused(
    pool: LogitStore, logits_NK: np.ndarray, classes: tuple[str, ...] | None
) -> None:
    with pytest.raises(ValueError, match=r"expected those that the member learnt|rename it"):
        pool.write(KEY, logits_NK[:, :2], {}, classes=classes)
    with pytest.raises(ValueError, match="as in the corpus's clips"):
        pool.write(LogitKey("tau", 25, "m-0"), logits_NK, {}, classes=("bus", "park"))
    assert pool.keys() == []


def test_sql_shows_null_for_clips_without_a_label(pool: LogitStore, logits_NK: np.ndarray) -> None:
    pool.write(KEY, logits_NK[:, :2], {}, classes=CLASSES)
    pool.write(OTHER, logits_NK[:, :3], {}, classes=["a", "bus", "c"])
    pool.write(LogitKey("tau", 25, "m-0"), logits_NK, {})
    counts = pool.sql(
        "select corpus, member, count(*) as n, count(scene) as scenes, count(correct) as judged, "
        "count(log_loss) as losses, count(predicted) as predicted, any_value(fold) as fold "
        "from predictions where corpus != 'tau' group by all order by member"
    ).to_pylist()
    shown = {"corpus": POOL, "n": 60, "scenes": 0, "judged": 0, "losses": 0, "predicted": 60}
    assert counts == [shown | {"member": name, "fold": "pool"} for name in ("m-0", "n-0")]
    predicted = pool.sql(
        f"select predicted from predictions where corpus = '{POOL}' and member = 'm-0' order by row"
    )["predicted"].to_pylist()
    assert predicted == [CLASSES[k] for k in logits_NK[:, :2].astype(np.float16).argmax(axis=1)]
    assert pool.sql("from clips where scene is null").num_rows == 60
    logits = pool.sql(f"select bus, park, c from logits where corpus = '{POOL}' and member = 'n-0'")
    assert logits["park"].null_count == 60
    assert logits["bus"].null_count == 0
    assert pool.sql("from predictions where corpus = 'tau' and correct is null").num_rows == 0


def test_clips_without_a_label_beside_others_change_no_class_and_no_score(
    store: LogitStore, clips: pa.Table, logits_NK: np.ndarray
) -> None:
    outside = np.flatnonzero(np.array(clips["fold_25"].to_pylist(), object) == None)
    key = LogitKey("tau", 25, "m-0")
    store.write(key, logits_NK, {})
    before = store.read_footer(key)
    elsewhere = LogitStore(f"{store.address}-2")
    elsewhere.write_clips("tau", forget_labels(clips, outside))
    elsewhere.write(key, logits_NK, {})
    after = elsewhere.read_footer(key)
    assert (after.classes, after.scores) == (before.classes, before.scores)
    assert elsewhere.read_clips("tau").schema.equals(CLIPS_SCHEMA)
    judged = "select count(*) - count(correct) as n from predictions"
    assert elsewhere.sql(judged)["n"].to_pylist() == [len(outside)]
    assert verify(elsewhere) == []


@pytest.mark.parametrize("fold", ["fit", "select", "test"])
def test_clips_without_a_label_are_in_no_fold_but_pool(
    store: LogitStore, clips: pa.Table, fold: str
) -> None:
    with pytest.raises(
        ValueError, match=f"'clip-0-7' has no scene and is in fold {fold} of fold_5"
    ):
        store.write_clips("new", forget_labels(clips, np.array([7]), fold))
    store.write_clips("new", forget_labels(clips, np.array([7]), None))
