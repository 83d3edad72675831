"""Readers see whole files, whatever happens to writers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from disk import hold_lock
from disk.whole import hash_host
from logit_store import LogitKey, LogitStore, StoreFull
from logit_store.folder import Folder

PROJECT = Path(__file__).resolve().parents[2]
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
    os.writev = lambda file, parts: (os.write(file, parts[0][: len(parts[0]) // 2]), die())
elif stage == "before fsync":
    os.fsync = die
elif stage == "before rename":
    os.replace = os.rename = pathlib.Path.replace = die
elif stage == "after rename":
    real_replace = pathlib.Path.replace
    pathlib.Path.replace = lambda *a: (real_replace(*a), die())
LogitStore(sys.argv[1]).objects.write("teachers/v1/m/weights", b"new" * 100_000)
"""

CROWD = """
import os, random, sys, time
import numpy as np
from logit_store import LogitKey, LogitStore

address, n_writers = sys.argv[1], int(sys.argv[2])
keys = [LogitKey("tau", 5, f"m-{i:02}") for i in range(40)]
finished = f"{sys.argv[3]}/finished"

def write(writer):
    # Every logit is the number of its writer, so two writers in one file would be seen.
    store, logits_NK = LogitStore(address), np.full((2_000, 4), writer, np.float32)
    for key in random.Random(writer).sample(keys, len(keys)):
        store.write(key, logits_NK, {"writer": writer})

def read(reader):
    store, order, n_seen = LogitStore(address), random.Random(reader), 0
    while not os.path.exists(finished):
        some = [key for key in order.sample(keys, 5) if key in store]
        for logits_NK in store.read(some) if some else ():
            (value,) = np.unique(logits_NK)
            assert value in range(n_writers), value
            n_seen += 1
        time.sleep(0.02)
    assert n_seen, "nothing was seen"

def start(work, number):
    child = os.fork()
    if not child:
        work(number)
        os._exit(0)
    return child

readers = [start(read, i) for i in range(4)]
writers = [start(write, i) for i in range(n_writers)]
failed = [os.waitpid(child, 0)[1] for child in writers]
open(finished, "w").close()
failed += [os.waitpid(child, 0)[1] for child in readers]
sys.exit(any(failed))
"""

KILLS = """
import os, random, signal, sys, time
import numpy as np
from logit_store import LogitKey, LogitStore

store, order = LogitStore(sys.argv[1]), random.Random(0)
keys = [LogitKey("tau", 5, f"m-{i}") for i in range(8)]
for value, key in enumerate(keys):
    store.write(key, np.full((20_000, 4), value, np.float32), {"value": value})
names = [entry.name for entry in store.files.find("logits/v1/*/*/*/*/*")]
contents = [store.files.get(name) for name in names]
n_half_written = 0
for _ in range(int(sys.argv[2])):
    child = os.fork()
    if not child:
        # Only the writing itself, so that most kills interrupt it.
        while True:
            store.files.put(order.choice(names), order.choice(contents))
    time.sleep(order.uniform(0.005, 0.03))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    n_half_written += len(store.files.sweep()) > 0
    for name in names:
        assert store.files.get(name) in contents, name
print(n_half_written)
"""

KILLS_IN_NAMESPACE = """
import os, random, signal, sys, time
from pathlib import Path
from logit_store.folder import Folder

folder, mine, n_kills = Folder(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
order, written, to_parent = random.Random(mine), *os.pipe()

def write(child):
    for i in range(1_000):
        name = f"{mine}-{child}-{i}"
        folder.put(f"all/{name}", name.encode() * 20_000)
        os.write(to_parent, f"{name}\\n".encode())

# No writer of one container has a number that a process of the other has.
for _ in range(int(mine) * 150):
    os.waitpid(os.fork() or os._exit(0), 0)

n_half_written = 0
print("ready", flush=True)
sys.stdin.readline()
for kill in range(n_kills):
    child = os.fork()
    if not child:
        write(kill)
    time.sleep(order.uniform(0.005, 0.03))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    n_half_written += any(Path(sys.argv[1]).glob(f"all/.{child}-*.tmp"))
os.close(to_parent)
print(n_half_written)
print(open(written).read(), end="")
"""


@pytest.fixture
def large_store(tmp_path: Path, make_clips: Callable[..., Any]) -> LogitStore:
    store = LogitStore(tmp_path / "store")
    store.write_clips("tau", make_clips(N))
    return store


def the_value(store: LogitStore) -> float:
    """Return the value of all logits: there is only one unless two writes are mixed."""
    (value,) = np.unique(store.read([KEY]))
    return float(value)


def temporary_files(store: LogitStore) -> list[Path]:
    return [path for path in Path(store.address).rglob(".*") if path.is_file()]


def finish(process: subprocess.Popen[str]) -> int:
    _, error = process.communicate(timeout=120)
    assert "Traceback" not in error, error
    return process.returncode


def test_a_reader_sees_whole_files_while_four_processes_write(
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
    assert the_value(large_store) == large_store.read_record(KEY)["value"]
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


@pytest.mark.parametrize(("where", "n_writers"), [("folder", 8), ("bucket", 3)])
def test_readers_see_whole_files_while_many_write_the_same_forty_keys(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    make_clips: Callable[..., Any],
    start_python: Callable[..., subprocess.Popen[str]],
    where: str,
    n_writers: int,
) -> None:
    s3_address = request.getfixturevalue("s3_address") if where == "bucket" else None
    store = LogitStore(s3_address or tmp_path / "store")
    store.write_clips("tau", make_clips(2_000))
    process = start_python("-c", CROWD, store.address, str(n_writers), str(tmp_path))
    assert finish(process) == 0
    assert len(store.files.find("logits/v1/*/*/*/*/*")) == 40
    assert len(store.keys()) == 40
    if s3_address is None:
        assert temporary_files(store) == []


@pytest.mark.parametrize("n_kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_writers_killed_many_times_leave_whole_files_or_none(
    large_store: LogitStore, start_python: Callable[..., subprocess.Popen[str]], n_kills: int
) -> None:
    process = start_python("-c", KILLS, large_store.address, str(n_kills))
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    # Otherwise the kills came too early or too late to prove anything.
    assert int(output) > n_kills / 10
    assert temporary_files(large_store) == []
    keys = large_store.keys()
    assert [len(np.unique(logits_NK)) for logits_NK in large_store.read(keys)] == [1] * 8


def start_in_namespace(store: Path, number: int, n_kills: int) -> subprocess.Popen[str]:
    """Start writers whose process numbers begin at 1, on a host of the same name."""
    unshare = ["unshare", "--pid", "--fork", "--kill-child"]
    if os.geteuid():
        unshare += ["--user", "--map-root-user"]
    try:
        allowed = subprocess.run([*unshare, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare to make namespaces of process numbers with")
    if allowed.returncode:
        pytest.skip(f"namespaces of process numbers are not allowed here: {allowed.stderr!r}")
    script = ["-c", KILLS_IN_NAMESPACE, str(store), str(number), str(n_kills)]
    return subprocess.Popen(
        [*unshare, sys.executable, *script],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("n_kills", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_writers_killed_in_two_containers_of_one_host_name_lose_nothing(
    tmp_path: Path, n_kills: int
) -> None:
    containers = [start_in_namespace(tmp_path, number, n_kills) for number in range(2)]
    for container in containers:
        assert container.stdout is not None
        assert container.stdout.readline() == "ready\n"
    # communicate sends the line by which both begin, so that both write at once.
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda each: each.communicate("go\n", timeout=120), containers))
    # A write that fails leaves a traceback.
    assert [error for _, error in answers] == ["", ""]
    assert [container.returncode for container in containers] == [0, 0]
    n_half_written, acknowledged = 0, []
    for output, _ in answers:
        first, *names = output.splitlines()
        n_half_written += int(first)
        acknowledged += names
    assert n_half_written > n_kills / 10
    assert len(acknowledged) > n_kills / 10
    store = Folder(tmp_path)
    assert all(store.get(f"all/{name}") == name.encode() * 20_000 for name in acknowledged)
    store.sweep()
    assert not list(tmp_path.rglob(".*"))
    # A write that was killed after its rename was not acknowledged.
    assert {path.name for path in (tmp_path / "all").iterdir()} >= set(acknowledged)


@pytest.mark.parametrize(
    "stage", ["half of the bytes", "before fsync", "before rename", "after rename"]
)
def test_a_writer_killed_at_each_stage_leaves_the_old_or_the_new_file(
    tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]], stage: str
) -> None:
    store, name = LogitStore(tmp_path), "teachers/v1/m/weights"
    store.objects.write(name, b"old")
    assert finish(start_python("-c", KILLED_WRITER, str(tmp_path), stage)) == -signal.SIGKILL
    renamed = stage == "after rename"
    assert store.objects.read(name) == (b"new" * 100_000 if renamed else b"old")
    left = temporary_files(store)
    assert len(left) == (0 if renamed else 1)
    assert all(path.suffix != ".parquet" for path in left)
    store.objects.write(name, b"newer")
    assert store.objects.read(name) == b"newer"
    assert temporary_files(store) == []


def test_a_failing_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, name = LogitStore(tmp_path), "teachers/v1/m/weights"
    store.objects.write(name, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "no space left left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        store.objects.write(name, b"new")
    assert store.objects.read(name) == b"old"
    assert temporary_files(store) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may make a small disk, and not everywhere")
    try:
        yield folder
    finally:
        # Lazily, because a failing test may still have open files.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def write_all(store: LogitStore, keys: Sequence[LogitKey], n: int) -> None:
    for key in keys:
        store.write(key, np.zeros((n, 4)), {})


def test_an_error_names_a_full_disk_and_stored_files_stay(
    small_disk: Path, make_clips: Callable[..., Any]
) -> None:
    store, n = LogitStore(small_disk / "store"), 10_000
    store.write_clips("tau", make_clips(n))
    store.write(KEY, np.ones((n, 4)), {})
    others = [LogitKey("tau", 5, f"m-{i}") for i in range(100)]
    with pytest.raises(StoreFull, match=r"no space left for its [\d,]+ bytes.*untouched") as caught:
        write_all(store, others, n)
    stored = {KEY, *(key for key in others if key in store)}
    assert 2 < len(stored) < 20
    assert f"member=m-{len(stored) - 1}/" in caught.value.path
    # There is no space for the new file beside the old one.
    with pytest.raises(StoreFull):
        store.write(KEY, np.full((n, 4), 2.0), {})
    assert the_value(store) == 1
    assert set(store.keys()) == stored
    assert store.read(sorted(stored, key=str)).shape == (len(stored), n, 4)
    assert temporary_files(store) == []


def test_half_written_files_are_not_seen(
    large_store: LogitStore,
) -> None:
    folder = Path(large_store.address) / "logits/v1/corpus=tau/split=5/member=m/view=0"
    folder.mkdir(parents=True)
    (folder / f".{os.getpid()}-{hash_host()}-00000000.tmp").write_bytes(b"PAR1")
    ensembles = Path(large_store.address) / "ensembles/v1/corpus=tau/split=5"
    ensembles.mkdir(parents=True)
    (ensembles / ".1-00000000-00000000.tmp").write_bytes(b"{")
    (ensembles / ".best.json").write_bytes(b"{")
    assert KEY not in large_store
    assert large_store.keys() == []
    assert large_store.ensembles.find_all("tau", 5) == []
    assert large_store.sql("select * from logits").num_rows == 0


def test_only_abandoned_temporary_files_are_removed(tmp_path: Path) -> None:
    store, name = LogitStore(tmp_path), "teachers/v1/m/weights"
    store.objects.write(name, b"old")
    folder = store.objects.fetch(name).parent
    abandoned = [f".{os.getpid()}-{hash_host()}-00000000.tmp", ".1-ffffffff-00000001.tmp"]
    kept = [f".1-{hash_host()}-00000002.tmp", ".1-ffffffff-00000003.tmp", ".mine.tmp"]
    for each in abandoned + kept:
        (folder / each).write_bytes(b"x")
    two_days_ago = time.time() - 2 * 24 * 3600
    for each in (abandoned[1], kept[0]):
        os.utime(folder / each, (two_days_ago, two_days_ago))
    with hold_lock(folder / kept[0]):
        store.objects.write(name, b"new")
    assert sorted(path.name for path in temporary_files(store)) == sorted(kept)
