"""A store on S3 behaves as one in a folder, asks little of the server and bears its faults."""

import asyncio
import contextlib
import pickle
import signal
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3_servers import BUCKET, SLOW_S, Fault, Proxy, S3Server, answering, moto, proxy, refusing

from logit_store import (
    ClipsMismatch,
    DamagedFile,
    EmbeddingKey,
    LogitKey,
    LogitStore,
    MissingClips,
    MissingEmbeddings,
    MissingEnsemble,
    MissingLogits,
    MissingObject,
    MissingStore,
    UnreachableStore,
    UnsupportedAddress,
    s3,
)
from logit_store.bucket import Bucket
from logit_store.verify import verify
from terminal.stopping import stop_on_signals

OBJECT = "teachers/v1/m/weights"

FORKED = """
import os, sys
from logit_store import LogitStore
store = LogitStore(sys.argv[1])
store.objects.write("teachers/v1/m/parent", b"from the parent")
child = os.fork()
if not child:
    store.objects.write("teachers/v1/m/child", store.objects.read("teachers/v1/m/parent"))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert store.objects.read("teachers/v1/m/child") == b"from the parent"
"""


@pytest.fixture(params=["folder", "bucket"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path, clips: pa.Table) -> LogitStore:
    """A store that knows the corpus, without logits."""
    if request.param == "bucket":
        store = LogitStore(request.getfixturevalue("s3_address"))
    else:
        store = LogitStore(tmp_path / "store")
    store.write_clips("tau", clips)
    return store


@pytest.fixture(scope="module")
def moto_server() -> Iterator[S3Server]:
    with moto() as server:
        yield server


@pytest.fixture
def faulty(
    moto_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Proxy]:
    """A proxy before moto, to which the variables lead."""
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    with proxy(moto_server) as between:
        between.server.name_in(monkeypatch)
        yield between


@pytest.fixture
def bucket(faulty: Proxy, tmp_path: Path) -> Bucket:
    return Bucket(f"s3://{BUCKET}/{tmp_path.name}")


def parquet_file(n: int, note: str) -> bytes:
    """A Parquet file of 8 n bytes and a footer as long as the note."""
    sink = pa.BufferOutputStream()
    table = pa.table({"row": np.random.default_rng(0).integers(0, 2**62, n)})
    with pq.ParquetWriter(sink, table.schema, compression="none", use_dictionary=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"note": note})
    return sink.getvalue().to_pybytes()


def keys_of(n: int) -> list[LogitKey]:
    return [LogitKey("tau", 25, f"m-{i:02}") for i in range(n)]


def test_what_is_written_is_what_is_read(any_store: LogitStore, logits_NK: np.ndarray) -> None:
    keys, rows = keys_of(3), np.array([59, 0, 7, 7])
    for i, key in enumerate(keys):
        any_store.write(key, logits_NK * (i + 1), {"kind": "teacher", "seed": i})
    expected_MNK = np.stack([(logits_NK * (i + 1)).astype(np.float16) for i in range(3)])
    np.testing.assert_array_equal(any_store.read(keys), expected_MNK)
    np.testing.assert_array_equal(any_store.read(keys[::-1], rows), expected_MNK[::-1][:, rows])
    half_MNK = any_store.read(keys, dtype=np.float16)
    np.testing.assert_array_equal(half_MNK, expected_MNK, strict=True)
    assert any_store.read_record(keys[2])["seed"] == 2


def test_a_replaced_file_is_read_again(any_store: LogitStore, logits_NK: np.ndarray) -> None:
    (key,), elsewhere = keys_of(1), LogitStore(any_store.address)
    for factor in (1, 2, 1):
        elsewhere.write(key, logits_NK * factor, {})
        np.testing.assert_array_equal(
            any_store.read([key])[0], (logits_NK * factor).astype(np.float16)
        )
    assert any_store.keys() == [key]


def test_listings_show_what_was_written(any_store: LogitStore, logits_NK: np.ndarray) -> None:
    for key in (*keys_of(2), LogitKey("tau", 5, "a"), LogitKey("tau", 25, "m-00", view=1)):
        any_store.write(key, logits_NK, {"kind": "teacher", "recipe": {"name": "mn10"}})
    assert any_store.corpora() == ["tau"]
    assert any_store.keys("tau", 25) == keys_of(2)
    assert any_store.keys("cochl") == []
    members = any_store.members(split=25).to_pylist()
    assert [row["member"] for row in members] == ["m-00", "m-00", "m-01"]
    assert {row["recipe"] for row in members} == {"mn10"}
    assert any_store.read_clips("tau").num_rows == 60


def test_objects_are_read_as_they_were_written(any_store: LogitStore) -> None:
    assert OBJECT not in any_store.objects
    for content in (b"one", b"two\x00", b""):
        any_store.objects.write(OBJECT, memoryview(content))
        assert OBJECT in any_store.objects
        assert any_store.objects.read(OBJECT) == content
        assert any_store.objects.fetch(OBJECT).read_bytes() == content
    any_store.objects.delete(OBJECT)
    any_store.objects.delete(OBJECT)
    assert OBJECT not in any_store.objects
    for read in (any_store.objects.read, any_store.objects.fetch):
        with pytest.raises(MissingObject, match=OBJECT):
            read(OBJECT)


def test_ensembles_are_read_as_they_were_written(any_store: LogitStore) -> None:
    document = {"members": ["a", "b"], "weights": [0.25, 0.75]}
    any_store.ensembles.write("tau", 25, "best", document)
    assert any_store.ensembles.read("tau", 25, "best") == document
    assert len(any_store.ensembles.find_all("tau", 25)) == 1
    assert any_store.ensembles.find_all("tau", 5) == []
    with pytest.raises(MissingEnsemble, match="'worst' of tau, split 25"):
        any_store.ensembles.read("tau", 25, "worst")


def test_embeddings_are_read_as_they_were_written_and_joined(any_store: LogitStore) -> None:
    values_ND = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float16)
    whole, joined = EmbeddingKey("tau", "whole-0"), EmbeddingKey("tau", "joined-0")
    embeddings = any_store.embeddings
    embeddings.write(whole, values_ND, {"a": 1})
    for begin, end in ((0, 25), (25, 60)):
        embeddings.write_shard(joined, begin, values_ND[begin:end], {})
    assert embeddings.find_shards(joined) == [range(25), range(25, 60)]
    embeddings.join_shards(joined, {"a": 1})
    assert embeddings.find_shards(joined) == []
    assert embeddings.keys() == [joined, whole]
    for key in (whole, joined):
        np.testing.assert_array_equal(embeddings.read(key), values_ND)
        np.testing.assert_array_equal(np.concatenate([*embeddings.iterate(key, 7)]), values_ND)
        assert embeddings.read_footer(key).record == {"a": 1}
    assert any_store.sql("from embeddings").num_rows == 120
    assert embeddings.tabulate()["dimensions"].to_pylist() == [8, 8]
    assert verify(any_store) == []
    with pytest.raises(MissingEmbeddings):
        embeddings.read(EmbeddingKey("tau", "none-0"))


def test_a_file_that_was_not_finished_is_not_there(any_store: LogitStore) -> None:
    any_store.files.put("x/f", b"old")
    with contextlib.suppress(KeyError), any_store.files.create("x/f", 3) as file:
        file.write(b"new")
        raise KeyError
    assert any_store.files.get("x/f") == b"old"
    with any_store.files.create("x/f", 6) as file:
        file.write(b"new")
        file.write(b"er!")
    assert any_store.files.get("x/f") == b"newer!"
    assert [each.name for each in any_store.files.find("x/*")] == ["x/f"]


def test_errors_name_what_is_missing(any_store: LogitStore, logits_NK: np.ndarray) -> None:
    first, *others = keys_of(3)
    any_store.write(first, logits_NK, {})
    with pytest.raises(MissingLogits, match=r"2 member\(s\)") as caught:
        any_store.read([others[0], first, others[1]])
    assert caught.value.missing == tuple(others)
    with pytest.raises(MissingClips, match=r"'cochl' \(corpora there: tau\)"):
        any_store.read_clips("cochl")
    beside = LogitStore(f"{any_store.address}-not")
    for read in (beside.keys, beside.corpora, lambda: beside.read([first])):
        with pytest.raises(MissingStore, match=f"no store at {any_store.address}-not"):
            read()


def test_other_clips_are_refused_when_logits_belong_to_the_old_ones(
    any_store: LogitStore, logits_NK: np.ndarray, make_clips: Callable[..., pa.Table]
) -> None:
    any_store.write_clips("tau", make_clips(seed=2))
    any_store.write(keys_of(1)[0], logits_NK, {})
    with pytest.raises(ClipsMismatch, match="'tau'"):
        any_store.write_clips("tau", make_clips(seed=3))
    assert any_store.read_clips("tau")["clip_id"][0].as_py() == "clip-2-0"


@pytest.mark.parametrize("length", [0, 10, 700])
def test_an_error_names_a_damaged_file(
    any_store: LogitStore, logits_NK: np.ndarray, length: int
) -> None:
    (key,) = keys_of(1)
    any_store.write(key, logits_NK, {})
    (entry,) = any_store.files.find("logits/v1/*/*/*/*/*")
    any_store.files.put(entry.name, any_store.files.get(entry.name)[:length])
    for read in (lambda: any_store.read([key]), lambda: any_store.read_record(key)):
        with pytest.raises(DamagedFile, match="delete it") as caught:
            read()
        assert caught.value.path == any_store.files.locate(entry.name)


def test_find_lists_the_files_that_match_a_pattern(any_store: LogitStore) -> None:
    files = any_store.files
    for name in ("x/a=1/f", "x/a=2/f", "x/a=2/g", "x/a=2/.1.tmp", "x/.a=3/f", "x/a=2/b/f", "xx/f"):
        files.put(name, b"12")
    assert [each.name for each in files.find("x/a=*/f")] == ["x/a=1/f", "x/a=2/f"]
    assert [each.name for each in files.find("x/*/*")] == ["x/a=1/f", "x/a=2/f", "x/a=2/g"]
    (entry,) = files.find("x/a=1/f")
    assert entry.size == 2
    assert files.find("x/a=1") == files.find("y/*") == []
    files.put("x/a=1/f", b"123")
    (replaced,) = files.find("x/a=1/f")
    assert replaced.version != entry.version
    assert replaced.written >= entry.written
    with pytest.raises(FileNotFoundError, match="x/a=9/f"):
        files.get("x/a=9/f")


def test_a_store_survives_pickling(any_store: LogitStore) -> None:
    any_store.objects.write(OBJECT, b"one")
    again = pickle.loads(pickle.dumps(any_store))
    assert again.objects.read(OBJECT) == b"one"
    assert again.objects.locate(OBJECT) == any_store.objects.locate(OBJECT)


def test_a_store_survives_a_fork(
    s3_address: str, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start_python("-c", FORKED, s3_address)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0, error


def test_a_bucket_is_a_store_without_a_prefix_too(s3_address: str, clips: pa.Table) -> None:
    store = LogitStore(f"s3://{BUCKET}")
    store.write_clips("tau", clips)
    assert store.corpora() == ["tau"]
    assert store.objects.locate(OBJECT) == f"s3://{BUCKET}/{OBJECT}"


def test_naming_a_store_makes_no_request(faulty: Proxy) -> None:
    LogitStore(f"s3://{BUCKET}/x")
    assert faulty.asked == []


def test_an_address_without_a_bucket_is_refused() -> None:
    with pytest.raises(UnsupportedAddress, match=r"s3:///x: no bucket.*s3://BUCKET/PREFIX"):
        LogitStore("s3:///x")


def test_wrong_keys_give_a_clear_error(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store = LogitStore(s3_address)
    for ask in (
        store.keys,
        lambda: store.objects.write(OBJECT, b""),
        lambda: keys_of(1)[0] in store,
    ):
        with pytest.raises(UnreachableStore, match="check AWS_ACCESS_KEY_ID") as caught:
            ask()
        assert s3_address in str(caught.value)


def test_an_error_names_missing_keys(
    s3_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UnreachableStore, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        LogitStore(s3_address).keys()


def test_an_error_names_a_missing_bucket(faulty: Proxy, clips: pa.Table) -> None:
    store = LogitStore("s3://nobodys/x")
    for ask in (store.keys, lambda: store.write_clips("tau", clips)):
        with pytest.raises(UnreachableStore, match=r"s3://nobodys.*make the bucket"):
            ask()


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "nonsense"])
def test_an_error_names_a_missing_server(
    s3_address: str, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setattr(s3, "_ATTEMPTS", 2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(UnreachableStore, match=rf"AWS_ENDPOINT_URL names it \({endpoint}\)"):
        LogitStore(s3_address).keys()


@pytest.mark.parametrize(
    "endpoint", ["http://anna:pass-word@127.0.0.1:99999", "anna:pass-word@127.0.0.1:1"]
)
def test_what_ray_shows_of_an_error_has_no_password_of_the_server(
    s3_address: str, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(UnreachableStore) as caught:
        LogitStore(s3_address).keys()
    shown = traceback.format_exception(caught.value)
    assert "pass-word" not in "".join([*shown, caught.value.reason])


def test_an_endpoint_with_the_bucket_in_it_is_refused_before_anything_is_written(
    moto_server: S3Server, clips: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto_server.name_in(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{moto_server.endpoint}/{BUCKET}")
    store = LogitStore(f"s3://{BUCKET}/st1")
    for ask in (store.keys, lambda: store.write_clips("tau", clips)):
        with pytest.raises(UnreachableStore, match="no bucket there") as caught:
            ask()
        assert str(caught.value).endswith(
            "AWS_ENDPOINT_URL is the server's address without a bucket"
        )


@pytest.mark.parametrize(
    ("status", "code", "way_out"),
    [
        (301, "PermanentRedirect", "another region: set AWS_DEFAULT_REGION"),
        (400, "AuthorizationHeaderMalformed", "another region: set AWS_DEFAULT_REGION"),
        (400, "ExpiredToken", "the keys have expired: log in again"),
        (403, "RequestTimeTooSkewed", "this machine's clock is wrong: set it"),
        (404, "NoSuchKey", "no such bucket or endpoint.*the server's address without a bucket"),
        (403, "AccessDenied", "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_refusal_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str, way_out: str
) -> None:
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path))
    with refusing(status, code) as server:
        server.name_in(monkeypatch)
        store = LogitStore(f"s3://{BUCKET}/x")
        for ask in (store.keys, lambda: store.objects.write(OBJECT, b"")):
            with pytest.raises(UnreachableStore, match=way_out) as caught:
                ask()
            assert "\n" not in str(caught.value)


def test_a_listing_continues_after_the_first_page(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(7):
        bucket.put(f"x/{i}", b"")
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    assert [each.name for each in bucket.find("x/*")] == [f"x/{i}" for i in range(7)]


def test_a_file_of_many_megabytes_is_written_in_one_request(bucket: Bucket, faulty: Proxy) -> None:
    bucket.put("x", bytes(120 * 2**20))
    assert faulty.asked == ["PUT"]
    (entry,) = bucket.find("x")
    assert entry.size == 120 * 2**20


def test_a_file_is_copied_once_and_then_only_checked(bucket: Bucket, faulty: Proxy) -> None:
    bucket.put("x", b"content")
    faulty.forget()
    for asked in (["HEAD", "GET"], ["HEAD"], ["HEAD"]):
        assert bucket.open("x").read() == b"content"
        assert faulty.asked == asked
        faulty.forget()
    assert bucket.fetch("x").read_bytes() == b"content"
    assert faulty.asked == ["HEAD"]


def test_copies_of_different_servers_are_not_mixed_up(
    bucket: Bucket, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("x", b"content")
    assert bucket.open("x").read() == b"content"
    moto_server.name_in(monkeypatch)
    directly = pickle.loads(pickle.dumps(bucket))
    assert directly.fetch("x") != bucket.fetch("x")


def test_prefetched_files_are_opened_without_a_request(bucket: Bucket, faulty: Proxy) -> None:
    names = [f"x/{i}" for i in range(12)]
    for name in names:
        bucket.put(name, name.encode())
    faulty.forget()
    faulty.pause_s = 0.1
    bucket.prefetch([*names, "x/absent"])
    assert faulty.most_at_once > 4
    assert sorted(faulty.asked) == ["GET"] * 12 + ["HEAD"] * 13
    faulty.forget()
    assert all(bucket.has(name) for name in names)
    assert [bucket.open(name).read() for name in names] == [name.encode() for name in names]
    assert faulty.asked == []
    assert not bucket.has("x/absent")
    with pytest.raises(FileNotFoundError):
        bucket.open("x/absent")


def test_a_file_prefetched_long_ago_is_checked_again(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("x", b"old")
    monkeypatch.setattr("logit_store.bucket._PREFETCHED_FOR_S", 0)
    bucket.prefetch(["x"])
    Bucket(bucket.locate("")).put("x", b"new")
    assert bucket.open("x").read() == b"new"


def test_a_prefetched_copy_that_was_removed_is_made_again(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTTI_CACHE_GB", "0")
    for name in "ab":
        bucket.put(name, name.encode() * 9)
    bucket.prefetch(["a", "b"])
    assert bucket.open("a").read() == b"a" * 9
    assert bucket.open("b").read() == b"b" * 9


@pytest.mark.parametrize(("note_bytes", "asked"), [(100, ["GET"]), (100_000, ["GET", "GET"])])
def test_a_footer_is_read_without_the_rest_of_the_file(
    bucket: Bucket, faulty: Proxy, note_bytes: int, asked: list[str]
) -> None:
    content = parquet_file(100_000, "n" * note_bytes)
    bucket.put("x.parquet", content)
    faulty.forget()
    with bucket.open_end("x.parquet") as source, pq.ParquetFile(source) as file:
        assert file.metadata.num_rows == 100_000
        assert file.metadata.metadata[b"note"] == b"n" * note_bytes
        assert faulty.asked == asked
        assert faulty.sent_bytes < 65_536 + 2 * note_bytes
        with pytest.raises(OSError, match="only the end is here"):
            file.read()


def test_the_end_of_a_short_file_is_the_whole_file(bucket: Bucket) -> None:
    bucket.put("x.parquet", parquet_file(10, "n"))
    with bucket.open_end("x.parquet") as source:
        assert pq.read_table(source).num_rows == 10


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry at once: pauses of seconds are for servers that restart."""
    monkeypatch.setattr(s3.random, "uniform", lambda low, high: 0.01)


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("fault", get_args(Fault))
def test_nothing_is_lost_when_every_third_request_fails(
    faulty: Proxy,
    fault: Fault,
    tmp_path: Path,
    clips: pa.Table,
    logits_NK: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3, "_READ_TIMEOUT_S", SLOW_S / 3)
    store, keys = LogitStore(f"s3://{BUCKET}/{tmp_path.name}"), keys_of(6)
    faulty.fault = fault
    store.write_clips("tau", clips)
    for i, key in enumerate(keys):
        store.write(key, logits_NK * i, {"i": i})
        # Written from a file, which an attempt after the first reads again from its start.
        store.embeddings.write(EmbeddingKey("tau", key.member), logits_NK * i, {})
    assert store.keys() == keys
    read_MNK = store.read(keys)
    embedded = [store.embeddings.read(key) for key in store.embeddings.keys()]
    faulty.fault = None
    np.testing.assert_array_equal(read_MNK, np.stack(embedded))
    np.testing.assert_array_equal(
        read_MNK, np.stack([(logits_NK * i).astype(np.float16) for i in range(6)])
    )
    np.testing.assert_array_equal(LogitStore(store.address).read(keys), read_MNK)
    assert [store.read_record(key)["i"] for key in keys] == list(range(6))
    # So many requests that some of each kind failed.
    assert len(faulty.asked) > 40
    assert (faulty.n_garbled > 0) == (fault == "garbled")


@pytest.mark.usefixtures("short_pauses")
def test_a_server_that_always_fails_gives_a_clear_error(
    bucket: Bucket, faulty: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_ATTEMPTS", 2)
    faulty.fault, faulty.every = "503", 1
    asks: list[Callable[[], Any]] = [
        lambda: bucket.put("x", b""),
        lambda: bucket.has("x"),
        lambda: bucket.prefetch(["x", "y"]),
    ]
    for ask in asks:
        with pytest.raises(UnreachableStore, match=r"503.*check that the server is up"):
            ask()
    assert len(faulty.asked) >= 2 * len(asks)


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize(
    ("fault", "words"), [("cut", "cannot be reached"), ("garbled", "checksum.*in 2 attempts")]
)
def test_a_response_that_is_always_broken_gives_a_clear_error(
    bucket: Bucket, faulty: Proxy, monkeypatch: pytest.MonkeyPatch, fault: Fault, words: str
) -> None:
    bucket.put("x", bytes(1_000))
    monkeypatch.setattr(s3, "_ATTEMPTS", 2)
    faulty.fault, faulty.every = fault, 1
    faulty.forget()
    with pytest.raises(UnreachableStore, match=words):
        bucket.get("x")
    assert faulty.asked == ["GET", "GET"]


def test_a_silent_server_is_given_up_after_half_a_minute(
    bucket: Bucket, faulty: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert s3._PATIENCE_S + s3._READ_TIMEOUT_S <= 45
    bucket.put("x", b"content")
    # A hundredth of the time.
    monkeypatch.setattr(s3, "_PATIENCE_S", s3._PATIENCE_S / 100)
    monkeypatch.setattr(s3, "_READ_TIMEOUT_S", s3._READ_TIMEOUT_S / 100)
    again = Bucket(bucket.locate(""))
    files = again._requests.file_system
    faulty.pause_s = 3
    path = bucket.locate("x").removeprefix("s3://")
    # The last two are DuckDB's way, for which s3fs has retries of its own.
    asks: list[Callable[[], Any]] = [
        lambda: again.find("*"),
        lambda: again.get("x"),
        lambda: files.cat_file(path, 0, 4),
        lambda: files.info(path),
    ]
    for ask in asks:
        with pytest.raises((UnreachableStore, s3.GaveUp), match=r"imeout.*in [23] attempts"):
            ask()


def test_a_server_that_is_none_of_s3_is_refused_before_anything_is_lost_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket = Bucket("s3://bucket/prefix")
    with answering(200, b"<html>please log in</html>") as server:
        server.name_in(monkeypatch)
        asks: list[Callable[[], Any]] = [
            lambda: bucket.put("x", b"content"),
            lambda: bucket.has("x"),
            lambda: bucket.get("x"),
            lambda: bucket.find("*"),
            bucket.exists,
        ]
        for ask in asks:
            with pytest.raises(UnreachableStore, match="is none of S3"):
                ask()


def test_a_request_that_is_interrupted_ends(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, main = threading.Event(), threading.main_thread().ident
    assert main is not None

    async def interrupt() -> None:
        try:
            # The thread that asked waits by then.
            await asyncio.sleep(0.2)
            signal.pthread_kill(main, signal.SIGINT)
            await asyncio.sleep(60)
        finally:
            ended.set()

    with stop_on_signals(), pytest.raises(KeyboardInterrupt):
        bucket._requests.run(interrupt)
    assert ended.wait(10)
