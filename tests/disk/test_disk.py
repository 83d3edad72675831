"""Whole files and locks. tests/logit_store/test_whole_or_not.py kills writers at each stage."""

import ast
import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from disk import hold_lock, open_whole, remove_abandoned, write_parts, write_whole
from disk.whole import hash_host
from terminal import describe_error

PROJECT = Path(__file__).resolve().parents[2]

HOLDER = """
import sys, time
from pathlib import Path
from disk import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""

ASKER = """
import sys
from pathlib import Path
from disk import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("mine")
"""


def start(script: str, lock: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(lock)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )


def write_half(path: Path) -> None:
    with open_whole(path) as file:
        file.write(b"half")
        raise ZeroDivisionError


def lose_temporary_file(path: Path) -> None:
    with open_whole(path) as file:
        file.write(b"new")
        Path(file.name).unlink()


@pytest.mark.parametrize("sync", [True, False])
def test_a_file_appears_when_the_block_ends_and_replaces_the_old_one(
    tmp_path: Path, sync: bool
) -> None:
    path = tmp_path / "new folder" / "file"
    for content in (b"old", b"new"):
        before = path.read_bytes() if path.exists() else None
        with open_whole(path, sync=sync) as file:
            file.write(content)
            assert (path.read_bytes() if path.exists() else None) == before
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("taken", [1, 3, 100_000])
def test_parts_follow_one_another_however_many_bytes_the_system_takes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    def take(file: int, parts: list[memoryview]) -> int:
        assert len(parts) <= os.sysconf("SC_IOV_MAX")
        return os.write(file, b"".join(parts)[:taken])

    monkeypatch.setattr(os, "writev", take)
    parts = [b"", b"one", bytearray(b"two"), memoryview(b"three")[1:], b"", *3_000 * [b"."], b""]
    with open_whole(tmp_path / "file") as file:
        file.write(b"before ")
        write_parts(file, parts)
        file.write(b" after")
    assert (tmp_path / "file").read_bytes() == b"before onetwohree" + 3_000 * b"." + b" after"


def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    with pytest.raises(ZeroDivisionError):
        write_half(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_temporary_file_is_not_abandoned_while_its_writer_lives(tmp_path: Path) -> None:
    with open_whole(tmp_path / "file"):
        (temporary,) = tmp_path.iterdir()
        assert temporary.name.startswith(".")
        assert remove_abandoned(tmp_path.iterdir()) == []
        # Another process with the number of the writer, such as one in a container, is not asked.
        other = temporary.rename(temporary.with_name(f".4194305-{hash_host()}-00000000.tmp"))
        assert remove_abandoned(tmp_path.iterdir()) == []
        other.rename(temporary)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_was_taken_for_abandoned_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, removed = fcntl.flock, []

    def remove_first(file: Any, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not removed:
            removed.append(None)
            removed.extend(remove_abandoned(tmp_path.iterdir()))
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    write_whole(tmp_path / "file", b"new")
    assert len(removed) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_writer_whose_temporary_file_was_removed_says_so(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    with pytest.raises(OSError, match=r"file: not written.*another program removed") as caught:
        lose_temporary_file(path)
    assert not isinstance(caught.value, FileNotFoundError)
    assert path.read_bytes() == b"old"


def test_without_locks_or_another_user_s_file_its_age_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Any, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "file"
    write_whole(path, b"new")
    left = [tmp_path / f".1-{hash_host()}-0000000{i}.tmp" for i in range(2)]
    for each, age_h in zip(left, (23, 25), strict=True):
        each.touch()
        os.utime(each, times=(time.time() - age_h * 3600,) * 2)
    assert remove_abandoned(tmp_path.iterdir()) == left[1:]
    assert sorted(tmp_path.iterdir()) == [left[0], path]


def test_a_full_disk_names_the_file_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_whole(path, b"new")
    assert describe_error(caught.value) == (
        f"{path}: No space left on device: free some space there, or name another place "
        "(for caches: TUTTI_CACHE)"
    )
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_that_a_link_leads_to_is_replaced_and_no_device(tmp_path: Path) -> None:
    file, link, pipe = tmp_path / "file", tmp_path / "link", tmp_path / "pipe"
    file.write_bytes(b"old")
    link.symlink_to(file)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert file.read_bytes() == b"new"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="pipe: not a regular file"):
        write_whole(pipe, b"new")
    assert pipe.is_fifo()


WRITTEN_OTHERWISE = {
    "audio/decoded_map.py": "reserved, and vouched for by its index",
    "audio/sound_files.py": "a pipe",
    "cluster/simulated.py": "files of a temporary folder",
    "disk/folders.py": "files of a folder that appears whole",
    "disk/lock.py": "an empty file",
    "disk/whole.py": "this is how files are written",
    "report/ensemble_picture.py": "drawn into memory",
    "report/dcase/validate_inference.py": "files of a temporary folder",
    "students/device/run.py": "files of a temporary folder",
    "teachers/transfer.py": "a download that is continued, and then published",
    "training/trackers.py": "an empty file",
}


def writes_a_file(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = getattr(node.func, "attr", getattr(node.func, "id", None))
    modes = [each.value for each in [*node.args, *node.keywords] if isinstance(each, ast.Constant)]
    modes += [each.value.value for each in node.keywords if isinstance(each.value, ast.Constant)]
    writing = [mode for mode in modes if re.fullmatch(r"[rbt]*[wax+][rbt+]*", str(mode))]
    if name in ("open", "memmap", "fdopen", "NamedTemporaryFile", "mkstemp"):
        return bool(writing)
    return name in ("write_text", "write_bytes", "touch", "savefig", "rename", "truncate")


def test_every_file_is_written_whole_but_for_these() -> None:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    found = {
        path.relative_to(PROJECT).as_posix()
        for package in settings["tool"]["importlinter"]["root_packages"]
        for path in (PROJECT / package).rglob("*.py")
        if any(map(writes_a_file, ast.walk(ast.parse(path.read_text()))))
    }
    assert found == {*WRITTEN_OTHERWISE}


def test_one_process_holds_a_lock_until_it_ends_even_if_it_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with start(HOLDER, lock) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with start(ASKER, lock) as asker:
            with pytest.raises(subprocess.TimeoutExpired):
                asker.wait(1)
            os.kill(holder.pid, signal.SIGKILL)
            assert asker.communicate(timeout=60)[0] == "mine\n"


def test_a_lock_is_free_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with hold_lock(tmp_path / "lock"):
            pass
