"""One bit flips in any object of a store: what is read is right, refused by name, or made again."""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from jobs.log.files import (
    AttemptRecord,
    DriverRecord,
    PlannedTask,
    PlanPart,
    decode_document,
    decode_summary,
    encode_document,
    locate_attempt,
    locate_driver,
    locate_plan,
)
from jobs.trials.journal import Journal, Trial
from logit_store import (
    EmbeddingKey,
    LogitKey,
    LogitStore,
    LogitStoreError,
    MissingEmbeddings,
    passed_over,
)
from logit_store.cache import Cache
from logit_store.ensemble_file import encode_ensemble
from logit_store.paths import (
    catalogue_path,
    clips_path,
    embeddings_path,
    logits_path,
    shard_path,
)
from logit_store.verify import verify
from report.dcase.entrant import read_predicted, write_predicted
from teachers.errors import DamagedWeights
from teachers.fetched import check_fetched
from training.checkpoint import Checkpoint, Progress
from training.stored_weights import fetch_weights

KEYS = [LogitKey("tau", 25, f"m-{i}") for i in range(3)]
BACKBONE, JOINED = EmbeddingKey("tau", "whole-0"), EmbeddingKey("tau", "joined-0")
ELSEWHERE = LogitKey("esc", 25, "m-0")
SEARCH = {"epochs": 3}
"""What decides the results of the search."""
PREDICTED = "students/v1/m-0/test-0-0.npy"
LONGEST_S = 180

Read = Callable[[LogitStore], Any]


@dataclass(frozen=True)
class Kind:
    """A kind of object, and every way in which it is read."""

    name: str
    """Of the object."""
    reads: tuple[Read, ...]
    is_cache: bool = False
    """Whether it is made again from other objects."""


def read_table(query: str) -> Read:
    return lambda store: store.sql(query).to_pylist()


def read_members(member: str) -> Read:
    """Read the row of a member, but for the time of its file, which the test changes."""
    return lambda store: [
        row for row in store.members("tau").drop("written").to_pylist() if row["member"] == member
    ]


def read_copy(store: LogitStore) -> bytes:
    cache = Cache(Path(store.address) / "copies", 10**9)
    opened = cache.open("version")
    return opened.read() if opened else cache.put("version", b"a copy" * 50).read_bytes()


def read_checkpoint(store: LogitStore) -> Any:
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    name = "teachers/v1/learning/checkpoint.pt"
    progress = Checkpoint(store, name).resume(module, optimizer)
    # A damaged one is deleted, and the run begins from its start.
    return (progress.steps_done, module.weight.tolist()) if name in store.objects else "begun anew"


def read_predictions(store: LogitStore) -> Any:
    found = read_predicted(store, PREDICTED)
    return "predicted again" if found is None else found.tolist()


def read_journal(store: LogitStore) -> Any:
    return [trial.losses for trial in Journal(store, "s", SEARCH).rank()]


def read_document(
    name: str, decode: Callable[[bytes, str], PlanPart | DriverRecord | AttemptRecord]
) -> Read:
    return lambda store: decode(store.objects.read(name), store.objects.locate(name))


def read_fetched(store: LogitStore) -> None:
    """Compare a fetched file with its record."""
    check_fetched("https://host.org/mn.pt", Path(store.address) / "mn.pt", store)


def join_shard(store: LogitStore) -> Any:
    """Join a shard, and leave it as it was."""
    name = shard_path(JOINED, range(60))
    shard = store.files.get(name)
    try:
        store.embeddings.join_shards(JOINED, {})
        return store.embeddings.read(JOINED).tolist()
    except MissingEmbeddings:
        # It was passed over.
        return []
    finally:
        store.files.delete(embeddings_path(JOINED))
        store.files.put(name, shard)


def make_numbered(n: int) -> dict[str, Any]:
    return {"members": [{"member": "m-0", "weight": 1.0, "hash": "0"}], "n": n}


NEWEST, _ = encode_ensemble("two", make_numbered(2))
DRIVER, PLAN, ATTEMPT = locate_driver("j"), locate_plan("j", 1), locate_attempt("j", 0, "began")

KINDS = {
    "clips": Kind(
        clips_path("tau"),
        (
            lambda store: store.read_clips("tau").to_pylist(),
            lambda store: store.read(KEYS[:1], clip_ids=["clip-0-3"]).tolist(),
            read_table("from clips where corpus = 'tau'"),
        ),
    ),
    "logits": Kind(
        logits_path(KEYS[0]),
        (
            lambda store: store.read(KEYS[:1]).tolist(),
            lambda store: store.read_footer(KEYS[0]),
            lambda store: store.read_footers(KEYS[:1]),
            read_table("from predictions where member = 'm-0' and corpus = 'tau' order by row"),
            read_members("m-0"),
        ),
    ),
    "embeddings": Kind(
        embeddings_path(BACKBONE),
        (
            lambda store: store.embeddings.read(BACKBONE).tolist(),
            lambda store: np.concatenate(list(store.embeddings.iterate(BACKBONE, 7))).tolist(),
            lambda store: store.embeddings.read_footer(BACKBONE),
            read_table("from embeddings order by row"),
        ),
    ),
    "shard": Kind(shard_path(JOINED, range(60)), (join_shard,)),
    "time of an ensemble": Kind(
        f"ensemble_times/v1/corpus=tau/split=25/{NEWEST}.json",
        (lambda store: store.ensembles.find("tau", 25, "two"),),
    ),
    "ensemble": Kind(
        "ensembles/v1/corpus=tau/split=25/best@*.json",
        (
            lambda store: store.ensembles.read("tau", 25, "best"),
            lambda store: store.ensembles.read_weights("tau", 25, "best"),
            read_table("from ensembles where name = 'best'"),
        ),
    ),
    "weights": Kind(
        "students/v1/m-0/weights.safetensors",
        (lambda store: fetch_weights(store, "student", "m-0").read_bytes(),),
    ),
    "record": Kind(
        "students/v1/m-0/record.json",
        (lambda store: store.objects.read_json("students/v1/m-0/record.json"),),
    ),
    "checkpoint": Kind("teachers/v1/learning/checkpoint.pt", (read_checkpoint,), is_cache=True),
    "journal": Kind("search/v1/s/result.json", (read_journal,)),
    "driver": Kind(DRIVER, (read_document(DRIVER, partial(decode_document, DriverRecord)),)),
    "plan": Kind(PLAN, (read_document(PLAN, partial(decode_document, PlanPart)),)),
    "attempt": Kind(
        ATTEMPT,
        (
            read_document(ATTEMPT, partial(decode_document, AttemptRecord)),
            read_document(ATTEMPT, decode_summary),
        ),
    ),
    "record of a fetched file": Kind("weights/v1/mn.pt/fetched.json", (read_fetched,)),
    "predicted logits": Kind(PREDICTED, (read_predictions,), is_cache=True),
    "catalogue": Kind(
        catalogue_path("tau"),
        (read_members("m-1"), lambda store: store.read_footers(KEYS)),
        is_cache=True,
    ),
    "copy": Kind("copies/*/*", (read_copy,), is_cache=True),
}

NEEDED = {
    "embeddings": ("clips",),
    "shard": ("clips",),
    "logits": ("clips",),
    "weights": ("clips", "logits"),
    "ensemble": ("clips", "logits"),
}
"""Kinds that are compared with others when they are read."""


@pytest.fixture(scope="module")
def filled(
    tmp_path_factory: pytest.TempPathFactory, make_clips: Callable[..., pa.Table]
) -> LogitStore:
    """A store with an object of each kind."""
    store, rng = LogitStore(tmp_path_factory.mktemp("flips")), np.random.default_rng(0)
    weights = safetensors.numpy.save({"layer": rng.normal(size=(8, 8)).astype(np.float32)})
    record = {"kind": "student", "weights_sha256": hashlib.sha256(weights).hexdigest()}
    for key in (*KEYS, ELSEWHERE):
        store.write_clips(key.corpus, make_clips())
        store.write(key, rng.normal(0, 5, (60, 4)).astype(np.float32), record)
    store.embeddings.write(BACKBONE, rng.normal(size=(60, 5)), {"backbone": "whole"})
    store.embeddings.write_shard(JOINED, 0, rng.normal(size=(60, 5)), {})
    pins = [
        {"member": key.member, "weight": 0.5, "hash": store.read_footer(key).logits_hash}
        for key in KEYS[1:]
    ]
    store.ensembles.write("tau", 25, "best", {"members": pins, "losses": [0.5]})
    store.objects.write("students/v1/m-0/weights.safetensors", weights)
    store.objects.write_json("students/v1/m-0/record.json", record | {"history": [{"loss": 0.1}]})
    module = torch.nn.Linear(2, 2)
    checkpoint = Checkpoint(store, "teachers/v1/learning/checkpoint.pt")
    checkpoint.save(Progress(steps_done=3), module, torch.optim.AdamW(module.parameters()))
    trial = Trial(point={"width": 0.1}, taught_by=None, seed=0, macs=1, parameter_bytes=1)
    trial.losses.append(0.123456789)
    Journal(store, "s", SEARCH).add(trial)
    for n in (1, 2):
        store.ensembles.write("tau", 25, "two", make_numbered(n))
    for name, document in {
        DRIVER: DriverRecord(command="x", commit=None, host="h", pid=1, since=0.5, told=1.5),
        PLAN: PlanPart(units=[PlannedTask(number=0, name="x", keys=("k",))]),
        ATTEMPT: AttemptRecord(unit="x", node="h", pid=1, since=0.5, told=1.5, lines=["a"]),
    }.items():
        store.objects.write(name, encode_document(document))
    (Path(store.address) / "mn.pt").write_bytes(b"weights")
    read_fetched(store)
    write_predicted(store, PREDICTED, rng.normal(size=(20, 4)).astype(np.float32))
    store.members()
    read_copy(store)
    return store


def flip_bit(
    store: LogitStore, kind: Kind, place: int, keep_time: bool
) -> tuple[Path, bytes, os.stat_result]:
    """Flip a bit of a kind's object; return its path, and its bytes and times before."""
    (path,) = Path(store.address).glob(kind.name)
    content, stat = path.read_bytes(), path.stat()
    changed = bytearray(content)
    changed[place // 8 % len(content)] ^= 1 << place % 8
    path.write_bytes(changed)
    if keep_time:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return path, content, stat


def judge(store: LogitStore, kind: Kind, path: Path, read: Read, right: Any, log: Any) -> str:
    """Return what became of a read, or fail."""
    log.clear()
    # Otherwise it would say the same words only once.
    passed_over._warn_once.cache_clear()
    found, error = right, None
    try:
        found = read(store)
    except (LogitStoreError, DamagedWeights) as caught:
        error = caught
    if error is not None:
        assert str(path) in str(error)
        assert not kind.is_cache
        return "refused"
    if found == right:
        made_again = kind.is_cache and any(str(path) in each for each in log.messages)
        return "made again" if made_again else "read right"
    if kind.is_cache:
        # Not even the cache was believed.
        assert found in ("begun anew", "predicted again"), found
        assert any(str(path) in each for each in log.messages)
        return "made again"
    # A listing passes over it, and says so.
    assert found == [], found
    assert any(str(path) in each for each in log.messages)
    return "refused"


def read_others(store: LogitStore, rights: dict[str, list[Any]], flipped: str) -> None:
    """Make sure that all other objects are listed and read right, but those that need the flipped one."""
    members = [(each.corpus, each.member) for each in store.keys(view=None)]
    assert len(members) == 4
    listed = store.members()
    assert listed.num_rows >= {"clips": 1, "logits": 3}.get(flipped, 4)
    assert store.read([ELSEWHERE]).shape == (1, 60, 4)
    for name, kind in KINDS.items():
        if name != flipped and not kind.is_cache and flipped not in NEEDED.get(name, ()):
            read, right = kind.reads[0], rights[name][0]
            assert read(store) == right, name


def try_flip(
    store: LogitStore,
    rights: dict[str, list[Any]],
    name: str,
    place: int,
    log: pytest.LogCaptureFixture,
) -> str:
    """Flip a bit, read all, mend it; return the gravest outcome."""
    kind = KINDS[name]
    path, content, stat = flip_bit(store, kind, place, keep_time=place % 3 > 0)
    try:
        outcomes = {
            judge(store, kind, path, read, right, log)
            for read, right in zip(kind.reads, rights[name], strict=True)
        }
        read_others(store, rights, name)
        if "refused" in outcomes:
            assert str(path) in [problem.file for problem in verify(store)]
    finally:
        for each in Path(store.address).glob(kind.name):
            each.unlink()
        path.write_bytes(content)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return next(each for each in ("refused", "made again", "read right") if each in outcomes)


def count_outcomes(
    store: LogitStore, n: int, log: pytest.LogCaptureFixture
) -> Counter[tuple[str, str]]:
    rights = {name: [read(store) for read in kind.reads] for name, kind in KINDS.items()}
    counts: Counter[tuple[str, str]] = Counter()
    ends = time.monotonic() + LONGEST_S

    @settings(
        max_examples=n,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(list(KINDS)), st.integers(0, 2**40))
    def flip(name: str, place: int) -> None:
        # On a slow machine, fewer are tried.
        if time.monotonic() < ends:
            counts[name, try_flip(store, rights, name, place, log)] += 1

    flip()
    return counts


def test_a_flipped_bit_is_never_read_as_a_number(
    filled: LogitStore, caplog: pytest.LogCaptureFixture
) -> None:
    counts = count_outcomes(filled, 30, caplog)
    assert {name for name, _ in counts} >= {"logits", "clips"}


@pytest.mark.slow
def test_of_500_flipped_bits_in_all_kinds_of_objects_none_is_read_as_a_number(
    filled: LogitStore,
    caplog: pytest.LogCaptureFixture,
    record_property: Callable[[str, object], None],
) -> None:
    counts = count_outcomes(filled, 500, caplog)
    lines = [f"{name:>24} {end:>10} {count:4}" for (name, end), count in sorted(counts.items())]
    record_property("printed", "\n".join(lines))
    assert {name for name, _ in counts} == set(KINDS)
