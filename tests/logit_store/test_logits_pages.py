"""Files of logits are those of pyarrow's writer, without it (N clips, K classes)."""

import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyarrow_logits import encode_logits as encode_with_pyarrow

from logit_store import LogitKey, LogitStore
from logit_store.footer import ClipsHeader
from logit_store.logits_file import convert_to_float16, hash_logits, logits_schema

RECORD = {"kind": "teacher", "recipe": {"name": "größe"}, "note": "x" * 20_000}


def make_store(folder: Path, clips: pa.Table) -> LogitStore:
    store = LogitStore(folder)
    store.write_clips("tau", clips)
    return store


@pytest.mark.parametrize("n_classes", [1, 13, 14, 200])
@pytest.mark.parametrize("n", [1, 2, 128, 129, 130, 20_000])
def test_a_file_has_the_bytes_that_pyarrow_writes(
    tmp_path: Path, make_clips: Callable[..., pa.Table], key: LogitKey, n: int, n_classes: int
) -> None:
    """Should a new pyarrow write another form, then this test keeps to the one before: files change for no reason."""
    clips = make_clips(n, [f"{k} Straße" for k in range(n_classes)])
    store = make_store(tmp_path, clips)
    classes = sorted(pc.unique(clips["scene"]).to_pylist())
    logits_NK = np.random.default_rng(n).normal(0, 5, (n, len(classes))).astype(np.float32)
    store.write(key, logits_NK, RECORD)
    data = next(tmp_path.glob("logits/**/*.parquet")).read_bytes()
    table = pa.table(
        [np.arange(n, dtype=np.int32), *logits_NK.T.astype(np.float16)],
        schema=logits_schema(classes),
    )
    assert data == encode_with_pyarrow(table, store.read_footer(key).to_metadata())


def test_other_programs_read_the_logits(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray
) -> None:
    store.write(key, logits_NK, RECORD)
    (file,) = map(str, Path(store.address).glob("logits/**/*.parquet"))
    by_arrow = pq.ParquetFile(file).read()
    by_duckdb = duckdb.sql(f"from '{file}'").to_arrow_table()
    by_polars = polars.read_parquet(file).to_arrow()
    for table in (by_arrow, by_duckdb, by_polars):
        row_N, *columns = (column.to_numpy() for column in table.columns[:5])
        np.testing.assert_array_equal(row_N, np.arange(60))
        np.testing.assert_array_equal(columns, logits_NK.T.astype(np.float16))


def make_hard_float32() -> np.ndarray:
    """Return float32 values [N, 2] between all neighbouring float16 values, beside them, and at random."""
    half_N = np.arange(2**16, dtype=np.uint16).view(np.float16)
    exact_N = np.sort(half_N[np.isfinite(half_N)].astype(np.float32))
    between_N = (exact_N[1:] + exact_N[:-1]) / 2
    beside = [np.nextafter(between_N, np.float32(each)) for each in (-np.inf, np.inf)]
    random_N = np.random.default_rng(0).integers(0, 2**32, 2**18, np.uint32).view(np.float32)
    values_N = np.concatenate([exact_N, between_N, *beside, random_N])
    values_N = values_N[np.abs(values_N) <= 65504]
    return values_N[: len(values_N) // 2 * 2].reshape(-1, 2)


@pytest.mark.parametrize("with_torch", [True, False])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_logits_are_rounded_as_numpy_rounds_them(
    key: LogitKey, monkeypatch: pytest.MonkeyPatch, dtype: type[np.floating], with_torch: bool
) -> None:
    if with_torch:
        pytest.importorskip("torch")
    else:
        monkeypatch.delitem(sys.modules, "torch", raising=False)
    logits_NK = make_hard_float32().astype(dtype)
    # In float64, this is above the middle of two float16 values, and in float32 it is not.
    logits_NK[0] = 1 + 2.0**-11 + 2.0**-40
    header = ClipsHeader(n=len(logits_NK), row_order_hash="", content_hash="", classes=("a", "b"))
    stored = convert_to_float16(key, logits_NK, header, str)
    half_NK = logits_NK.astype(np.float16)
    np.testing.assert_array_equal(stored.logits_KN.view(np.uint16), half_NK.T.view(np.uint16))
    assert stored.hash == hash_logits(half_NK)
    assert stored.largest == 65504


@pytest.mark.parametrize("change", ["transposed", "read-only", "reversed"])
def test_logits_may_lie_in_memory_in_any_way(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray, change: str
) -> None:
    given_NK = {
        "transposed": np.asfortranarray(logits_NK),
        "read-only": np.frombuffer(logits_NK.tobytes(), np.float32).reshape(logits_NK.shape),
        "reversed": np.ascontiguousarray(logits_NK[::-1])[::-1],
    }[change]
    store.write(key, given_NK, {})
    stored_NK = store.read([key], dtype=np.float16)[0]
    np.testing.assert_array_equal(stored_NK, logits_NK.astype(np.float16))


def test_scores_are_of_the_clips_that_the_store_holds_now(
    store: LogitStore, key: LogitKey, logits_NK: np.ndarray, clips: pa.Table
) -> None:
    store.write(key, logits_NK, {})
    before = store.read_footer(key).scores
    for other in (LogitKey("tau", 10, "m"), LogitKey("tau", 5, "m")):
        store.write(other, logits_NK, {})
        assert (store.read_footer(other).scores == before) == (other.split == 10)
    for entry in store.files.find("logits/v1/*/*/*/*/*"):
        store.files.delete(entry.name)
    scenes = pa.array(clips["scene"].to_pylist()[::-1])
    store.write_clips("tau", clips.set_column(2, "scene", scenes))
    store.write(key, logits_NK, {})
    assert store.read_footer(key).scores != before
