"""A compiled function is made again where its file is damaged, and used where it cannot be kept."""

import errno
import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from numba.core import caching

from disk import NoCacheFolder

SOURCE = """
from disk.numba_cache import compiled

@compiled()
def add(first, second):
    return first + second
"""


def cut(content: bytes) -> bytes:
    return content[:-50]


def empty(content: bytes) -> bytes:
    return b""


def flip_bit(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    return bytes(changed)


def load(file: Path) -> Any:
    """Return the function as a new process would find it."""
    specification = importlib.util.spec_from_file_location("added", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.add


@pytest.mark.parametrize(
    ("ending", "damage"),
    [("nbi", cut), ("nbi", empty), ("nbc", cut), ("nbc", empty), ("nbc", flip_bit)],
)
def test_a_damaged_file_of_a_compiled_function_is_made_again_with_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    ending: str,
    damage: Callable[[bytes], bytes],
) -> None:
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path / "numba"))
    source = tmp_path / "added.py"
    source.write_text(SOURCE)
    assert load(source)(1, 2) == 3
    (file,) = tmp_path.rglob(f"*.{ending}")
    file.write_bytes(damage(file.read_bytes()))
    assert load(source)(1, 2) == 3
    assert caplog.text.count("damaged, so it is made again") == caplog.text.count(str(file)) == 1
    caplog.clear()
    add = load(source)
    assert add(1, 2) == 3
    assert len(add.stats.cache_hits) == 1
    assert caplog.text == ""


def refuse(**settings: Any) -> NoReturn:
    raise PermissionError(errno.EACCES, "Permission denied", settings["dir"])


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that numba can keep nothing beside, nor in the home directory, also not for root."""

    make_file = tempfile.TemporaryFile

    def refuse_elsewhere(**settings: Any) -> Any:
        in_cache = Path(settings["dir"]).is_relative_to(tmp_path / "cache")
        return make_file(**settings) if in_cache else refuse(**settings)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse_elsewhere)
    monkeypatch.setattr("numba.core.config.CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "added.py"
    source.write_text(SOURCE)
    return source


def refuse_files_but(*kept: str) -> Callable[..., Any]:
    """Return numba's way of opening a file for writing, on a disk that is full but for some kinds."""
    usual = caching.IndexDataCacheFile._open_for_write

    def open_for_write(files: Any, path: str) -> Any:
        if not path.endswith(kept):
            raise OSError(errno.ENOSPC, "No space left on device")
        return usual(files, path)

    return open_for_write


def test_beside_read_only_sources_functions_are_kept_in_the_cache_folder_and_read_if_that_is_so_too(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert load(source)(1, 2) == 3
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert {each.suffix for each in (tmp_path / "cache/numba").rglob("*.nb?")} == {".nbi", ".nbc"}
    add = load(source)
    assert add(1, 2) == 3
    assert len(add.stats.cache_hits) == 1
    assert caplog.text == ""


def test_without_any_folder_for_compiled_functions_the_variable_to_set_is_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUTTI_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(NoCacheFolder, match="TUTTI_CACHE"):
        load(source)


def test_where_nothing_can_be_written_functions_are_compiled_and_one_line_says_so(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Below a file nobody can make a folder or read a file, not even root.
    (tmp_path / "cache").write_text("")
    for _ in range(2):
        add = load(source)
        assert add(1, 2) == 3
        assert add(1.5, 2) == 3.5
    assert caplog.text.count("\n") == caplog.text.count("no compiled function can be kept") == 1
    assert str(tmp_path / "cache/numba") in caplog.text


@pytest.mark.parametrize("kept", [(), (".nbi",)])
def test_on_a_full_disk_functions_are_compiled_and_kept_as_soon_as_there_is_space(
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kept: tuple[str, ...],
) -> None:
    with monkeypatch.context() as full:
        full.setattr(caching.IndexDataCacheFile, "_open_for_write", refuse_files_but(*kept))
        assert load(source)(1, 2) == 3
    assert caplog.text.count("can be kept (No space left on device)") == 1
    assert load(source)(1, 2) == 3
    add = load(source)
    assert add(1, 2) == 3
    assert len(add.stats.cache_hits) == 1


def test_a_full_disk_leaves_no_function_of_an_older_source_under_the_new_one(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(source)(1, 2) == 3
    # Of another length: Python would take a file of the same second and length for the older one.
    source.write_text(SOURCE.replace("+", "* 1 *"))
    with monkeypatch.context() as full:
        full.setattr(caching.IndexDataCacheFile, "_open_for_write", refuse_files_but(".nbi"))
        assert load(source)(1, 2) == 2
    assert load(source)(1, 2) == 2
