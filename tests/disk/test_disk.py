"""Whole files and locks. tests/logit_store/test_whole_or_not.py kills writers at each stage."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from disk import find_abandoned, hold_lock, open_whole, write_whole

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
        assert find_abandoned(tmp_path.iterdir()) == []


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
