"""A store of clips with several labels, or none, says the same of them as numpy."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from audio.several import make_targets
from logit_store import ImportRefused, LogitKey, LogitStore
from logit_store.exporters import UnfitExport, export_members
from logit_store.importers import import_logits
from logit_store.verify import verify
from metrics import log_loss, mean_average_precision

KEY = LogitKey("own", 25, "m-1")
CLASSES = ("dog", 'it"s', "rain")
SCENES = ["|dog|rain|", "|", '|it"s|', "|dog|", ""]


@pytest.fixture
def several(clips: pa.Table, tmp_path: Path) -> LogitStore:
    """Sixty clips of three classes, of which one in five is unlabelled, and a member."""
    scenes = [SCENES[row % 5] for row in range(60)]
    folds = [("fit", "select", "test")[row % 3] if scenes[row] else "pool" for row in range(60)]
    for name, values in (("scene", scenes), ("fold_25", folds)):
        clips = clips.set_column(clips.column_names.index(name), name, pa.array(values))
    for split in (5, 10, 50, 100):
        place = clips.column_names.index(f"fold_{split}")
        clips = clips.set_column(place, f"fold_{split}", pa.nulls(60, pa.string()))
    store = LogitStore(tmp_path / "several")
    store.write_clips("own", clips)
    logits_NK = np.random.default_rng(0).normal(0, 3, (60, 3)).astype(np.float16)
    store.write(KEY, logits_NK, {"kind": "teacher"})
    return store


def read(store: LogitStore) -> tuple[np.ndarray, np.ndarray, pa.Table]:
    clips = store.read_clips("own")
    return store.read([KEY])[0], make_targets(clips["scene"], CLASSES), clips


def test_scores_in_the_footer_are_map_and_mean_log_loss(several: LogitStore) -> None:
    logits_NK, targets_NK, clips = read(several)
    footer = several.read_footer(KEY)
    assert footer.classes == CLASSES
    for device in (None, "a", "s1"):
        inside = clips["fold_25"].to_numpy() == "select"
        if device is not None:
            inside &= clips["recording_device"].to_numpy() == device
        found = footer.find_scores("select", device)
        assert found is not None
        assert found.n == inside.sum()
        assert found.accuracy == mean_average_precision(logits_NK[inside], targets_NK[inside])
        assert found.log_loss == log_loss(logits_NK[inside], targets_NK[inside])
    assert list(verify(several)) == []


def test_sql_says_which_classes_are_present_and_whether_all_are_right(several: LogitStore) -> None:
    logits_NK, targets_NK, clips = read(several)
    rows = several.sql("select * from predictions order by row").to_pylist()
    for row, logits_K, targets_K in zip(rows, logits_NK, targets_NK, strict=True):
        present = [name for name, logit in zip(CLASSES, logits_K, strict=True) if logit > 0]
        assert row["predicted"] == "|" + "".join(f"{name}|" for name in present)
        if row["scene"] is None:
            assert row["correct"] is None
            assert row["log_loss"] is None
        else:
            assert row["correct"] == bool(((logits_K > 0) == targets_K).all())
            assert row["log_loss"] == pytest.approx(log_loss(logits_K[None], targets_K[None]))
    found = several.sql("select count(*) as n from clips where scene like '%|dog|%'")
    assert found["n"][0].as_py() == 24
    assert clips["scene"].to_pylist().count("") == 12


def test_exports_hold_all_labels_or_are_refused(several: LogitStore, tmp_path: Path) -> None:
    (path,) = export_members(several, [KEY], tmp_path / "out", "npz").values()
    with np.load(path) as file:
        assert np.array_equal(file["labels"], read(several)[1])
    with pytest.raises(UnfitExport, match="several labels or none, and csv names one scene"):
        export_members(several, [KEY], tmp_path / "out", "csv")


def test_imports_are_refused(several: LogitStore, tmp_path: Path) -> None:
    (tmp_path / "mn10_25.npz").write_bytes(b"")
    with pytest.raises(
        ImportRefused, match="several labels or none, and imported rows are checked"
    ):
        import_logits(several, "own", [tmp_path / "mn10_25.npz"])
