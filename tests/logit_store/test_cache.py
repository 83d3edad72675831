"""Local copies: those used last stay, whoever uses them."""

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from logit_store import UnusableCache
from logit_store.cache import Cache, open_machine_cache

CROWD = """
import os, pathlib, random, sys
from logit_store.cache import Cache

def use(seed):
    # Twenty copies of 1,000 bytes each; the limit leaves five.
    cache, order = Cache(pathlib.Path(sys.argv[1]), 5_000), random.Random(seed)
    for _ in range(300):
        value = order.randrange(20)
        copy = cache.open(str(value))
        if copy is not None:
            found = copy.read()
            assert found == bytes([value]) * 1_000, (value, found[:4], len(found))
        cache.put(str(value), bytes([value]) * 1_000)
        cache.trim()

children = []
for seed in range(4):
    child = os.fork()
    if not child:
        use(seed)
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] for child in children))
"""


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 3_000)


def use(cache: Cache, *versions: str) -> None:
    """Read copies, or make those of 1,000 bytes that are not there."""
    for version in versions:
        if cache.open(version) is None:
            cache.put(version, version.encode() * 1_000)
            cache.trim()


def held(tmp_path: Path) -> str:
    """The first letters of all copies, in the order of their last use."""
    copies = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    copies.sort(key=lambda path: path.stat().st_mtime_ns)
    return "".join(path.read_text()[0] for path in copies)


def test_a_copy_belongs_to_one_version(cache: Cache) -> None:
    assert cache.open("a") is None
    assert cache.path("a") is None
    path = cache.put("a", b"first")
    assert path == cache.path("a")
    opened = cache.open("a")
    assert opened is not None
    assert opened.read() == b"first"
    assert cache.open("b") is None


def test_the_copies_used_last_are_kept(cache: Cache, tmp_path: Path) -> None:
    use(cache, "a", "b", "c", "a")
    assert held(tmp_path) == "bca"
    use(cache, "d")
    assert held(tmp_path) == "cad"
    cache.path("c")
    use(cache, "e")
    assert held(tmp_path) == "dce"


def test_a_copy_larger_than_the_limit_is_removed_first(cache: Cache, tmp_path: Path) -> None:
    use(cache, "a", "b")
    path = cache.put("x", b"x" * 9_000)
    cache.trim()
    assert path.stat().st_size == 9_000
    assert held(tmp_path) == "x"
    use(cache, "c")
    assert held(tmp_path) == "c"


def test_a_removed_copy_stays_readable_for_its_readers(cache: Cache, tmp_path: Path) -> None:
    use(cache, "a")
    opened = cache.open("a")
    assert opened is not None
    use(cache, "b", "c", "d")
    assert held(tmp_path) == "bcd"
    assert opened.read() == b"a" * 1_000


def test_processes_that_make_and_remove_copies_see_whole_copies(
    tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start_python("-c", CROWD, str(tmp_path / "cache"))
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    copies = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    # Each of the four processes may have added a copy after the others counted.
    assert 5 <= len(copies) <= 9
    assert not [path for path in copies if path.name.startswith(".")]


def test_the_variables_name_folder_and_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "named"))
    monkeypatch.setenv("TUTTI_CACHE_GB", "0.0000015")
    named = open_machine_cache()
    assert named.put("a", b"a" * 1_000).is_relative_to(tmp_path / "named" / "store")
    named.put("b", b"b" * 1_000)
    named.trim()
    assert named.path("a") is None
    assert named.path("b") is not None


def test_without_variables_copies_are_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUTTI_CACHE", raising=False)
    monkeypatch.delenv("TUTTI_CACHE_GB", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = open_machine_cache().put("a", b"a")
    assert path.is_relative_to(tmp_path / ".cache" / "tutti" / "store")


@pytest.mark.parametrize("limit", ["much", "-1", "nan", "inf"])
def test_a_limit_that_is_not_a_size_is_refused(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv("TUTTI_CACHE_GB", limit)
    with pytest.raises(UnusableCache, match=f"TUTTI_CACHE_GB is '{limit}', expected gigabytes"):
        open_machine_cache()


def test_an_error_names_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnusableCache, match=r"file.*name another folder in TUTTI_CACHE"):
        Cache(tmp_path / "file" / "cache", 1_000).put("a", b"a")


def test_an_error_names_a_full_disk(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    use(cache, "a")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnusableCache, match=r"no space left for a copy of 5 bytes: free some"):
        cache.put("b", b"bbbbb")
    assert held(tmp_path) == "a"


def test_a_damaged_copy_is_made_again(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    path = cache.put("a", b"first")
    for damaged in (b"fIrst", b"fir", b""):
        path.write_bytes(damaged)
        assert cache.open("a") is None
        assert f"{path}: a damaged copy" in caplog.text
        assert cache.put("a", b"first").read_bytes() == b"first"
