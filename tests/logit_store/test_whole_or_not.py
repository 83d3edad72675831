"""Whatever happens to writers, readers see whole files."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logit_store import LogitKey, LogitStore
from logit_store.store import _host

N = 20_000
KEY = LogitKey("tau", 5, "m")

WRITER = """
import sys
import numpy as np
from logit_store import LogitKey, LogitStore
store, value, times = LogitStore(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
logits_NK = np.full((20_000, 4), value, np.float32)
print("ready", flush=True)
for _ in range(times):
    store.write(LogitKey("tau", 5, "m"), logits_NK, {"value": value})
"""

KILLED_WRITER = """
import os, pathlib, signal, sys
from logit_store import LogitStore, store
def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
stage = sys.argv[2]
if stage == "half of the bytes":
    real = pathlib.Path.open
    class Half:
        def __init__(self, file): self.file = file
        def __enter__(self): return self
        def __exit__(self, *error): pass
        def write(self, data):
            self.file.write(bytes(data)[: len(data) // 2])
            self.file.flush()
            die()
    pathlib.Path.open = lambda *a, **k: Half(real(*a, **k))
elif stage == "before fsync":
    os.fsync = die
elif stage == "before rename":
    os.replace = os.rename = pathlib.Path.replace = die
elif stage == "after rename":
    real_replace = pathlib.Path.replace
    pathlib.Path.replace = lambda *a: (real_replace(*a), die())
LogitStore(sys.argv[1]).write_object("teachers/v1/m/weights", b"new" * 100_000)
"""


@pytest.fixture
def large_store(tmp_path: Path, make_clips: Callable[..., Any]) -> LogitStore:
    store = LogitStore(tmp_path / "store")
    store.write_clips("tau", make_clips(N))
    return store


def the_value(store: LogitStore) -> float:
    """The one value that all logits have, if no two writes are mixed."""
    (value,) = np.unique(store.read([KEY]))
    return float(value)


def temporary_files(store: LogitStore) -> list[Path]:
    return [path for path in Path(store.address).rglob(".*") if path.is_file()]


def finish(process: subprocess.Popen[str]) -> int:
    _, error = process.communicate(timeout=120)
    assert "Traceback" not in error, error
    return process.returncode


def test_a_reader_of_what_four_processes_write_sees_whole_files(
    large_store: LogitStore, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    address = large_store.address
    writers = [start_python("-c", WRITER, address, str(value), "12") for value in range(4)]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if KEY in large_store:
            seen.add(the_value(large_store))
    assert [finish(writer) for writer in writers] == [0, 0, 0, 0]
    assert seen
    assert seen <= {0.0, 1.0, 2.0, 3.0}
    assert the_value(large_store) == large_store.record(KEY)["value"]
    assert temporary_files(large_store) == []
    assert large_store.keys() == [KEY]


def test_a_writer_killed_at_any_time_leaves_whole_logits_or_none(
    large_store: LogitStore, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    for value, delay_s in enumerate([0.0, 0.013, 0.047]):
        writer = start_python("-c", WRITER, large_store.address, str(value), "100000")
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(delay_s)
        os.kill(writer.pid, signal.SIGKILL)
        assert finish(writer) == -signal.SIGKILL
        assert KEY not in large_store or the_value(large_store) in range(value + 1)
    large_store.write(KEY, np.full((N, 4), 9.0), {})
    assert the_value(large_store) == 9
    assert temporary_files(large_store) == []


@pytest.mark.parametrize(
    "stage", ["half of the bytes", "before fsync", "before rename", "after rename"]
)
def test_a_writer_killed_at_each_stage_leaves_the_old_or_the_new(
    tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]], stage: str
) -> None:
    store, name = LogitStore(tmp_path), "teachers/v1/m/weights"
    store.write_object(name, b"old")
    assert finish(start_python("-c", KILLED_WRITER, str(tmp_path), stage)) == -signal.SIGKILL
    renamed = stage == "after rename"
    assert store.read_object(name) == (b"new" * 100_000 if renamed else b"old")
    left = temporary_files(store)
    assert len(left) == (0 if renamed else 1)
    assert all(path.suffix != ".parquet" for path in left)
    store.write_object(name, b"newer")
    assert store.read_object(name) == b"newer"
    assert temporary_files(store) == []


def test_a_write_that_fails_leaves_the_old_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, name = LogitStore(tmp_path), "teachers/v1/m/weights"
    store.write_object(name, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "no space left left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        store.write_object(name, b"new")
    assert store.read_object(name) == b"old"
    assert temporary_files(store) == []


def test_half_written_files_are_not_seen(
    large_store: LogitStore,
) -> None:
    folder = Path(large_store.address) / "logits/v1/corpus=tau/split=5/member=m/view=0"
    folder.mkdir(parents=True)
    (folder / f".{os.getpid()}-{_host()}-00000000.tmp").write_bytes(b"PAR1")
    ensembles = Path(large_store.address) / "ensembles/v1/corpus=tau/split=5"
    ensembles.mkdir(parents=True)
    (ensembles / ".1-00000000-00000000.tmp").write_bytes(b"{")
    (ensembles / ".best.json").write_bytes(b"{")
    assert KEY not in large_store
    assert large_store.keys() == []
    assert large_store.ensembles("tau", 5) == []
    assert large_store.sql("select * from logits").num_rows == 0


def test_only_abandoned_temporary_files_are_swept(tmp_path: Path) -> None:
    store, name = LogitStore(tmp_path), "teachers/v1/m/weights"
    store.write_object(name, b"old")
    folder = store.object_path(name).parent
    # The largest process id that Linux allows is 2^22.
    dead, alive = 2**22 + 1, os.getpid()
    abandoned = [f".{dead}-{_host()}-00000000.tmp", ".1-ffffffff-00000001.tmp"]
    kept = [f".{alive}-{_host()}-00000002.tmp", ".1-ffffffff-00000003.tmp", ".mine.tmp"]
    for each in abandoned + kept:
        (folder / each).write_bytes(b"x")
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(folder / abandoned[1], (two_days_ago, two_days_ago))
    store.write_object(name, b"new")
    assert sorted(path.name for path in temporary_files(store)) == sorted(kept)
