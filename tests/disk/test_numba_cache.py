"""A compiled function is made again where its file is damaged."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
