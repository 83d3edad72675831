"""Functions compiled by numba, kept in files that are made again where they are damaged.

Numba writes them without waiting for the disk, and believes what it reads: after a power failure, each
later process would fail, and a changed bit could be run. Here each file ends with a digest. Where no file
can be written, numba ends the process; here the functions are compiled again in the next one.
"""

import contextlib
import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core import caching

from disk.places import find_cache_folder
from disk.tail import has_right_tail, make_tail

logger = logging.getLogger(__name__)
# Without its types, which allow no other classes and methods in their places.
_numba: Any = caching


class _CheckedFiles(caching.IndexDataCacheFile):
    """The files of one function; a damaged one counts as absent, so that it is made again."""

    def _dump(self, obj: Any) -> bytes:
        content = super()._dump(obj)
        # Unpickling ends before it.
        return content + make_tail(content)

    def _load_index(self) -> dict[Any, str]:
        try:
            return super()._load_index()
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - damage raises many kinds of errors
            _warn_of_damage(self._index_path, error)
            return {}

    def _load_data(self, name: str) -> Any:
        path = self._data_path(name)
        try:
            if has_right_tail(Path(path).read_bytes()) is False:
                raise ValueError("its digest does not match")
            return super()._load_data(name)
        except OSError:
            raise
        except Exception as error:
            _warn_of_damage(path, error)
            # So numba compiles the function and writes the file again.
            raise FileNotFoundError(path) from error

    def _save_data(self, name: str, data: Any) -> None:
        try:
            super()._save_data(name, data)
        except OSError:
            # The index names it already, and an older source may have left a file of this name.
            Path(self._data_path(name)).unlink(missing_ok=True)
            raise


class _LastPlace(_numba._SourceFileBackedLocatorMixin, _numba._CacheLocator):
    """The folder where functions are looked for if numba can write to no other; it may be read-only."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        self._py_file = py_file
        self._lineno = py_func.__code__.co_firstlineno
        folder = Path(_numba.config.CACHE_DIR or find_cache_folder() / "numba")
        self._cache_path = str(folder / self.get_suitable_cache_subpath(py_file))

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "_LastPlace | None":
        # Unlike numba's places, not asked whether it can be written to: what is there can be read all the same.
        return cls(py_func, py_file) if Path(py_file).exists() else None

    def get_cache_path(self) -> str:
        return self._cache_path


@contextlib.contextmanager
def _go_on_without_files(cache: caching.Cache) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Not the error's own words: they name a temporary file, another one for each function.
        _warn(
            f"{cache.cache_path}: no compiled function can be kept ({error.strerror or error}), so each "
            "process compiles them again: name a folder in NUMBA_CACHE_DIR"
        )


def _warn_of_damage(path: str, error: Exception) -> None:
    reason = " ".join(str(error).split()) or type(error).__name__
    _warn(f"{path}: damaged, so it is made again ({reason})")


@functools.cache
def _warn(text: str) -> None:
    """Warn once in a process: numba reads an index again before it writes it, and has many functions."""
    logger.warning("%s", text)


# Numba has no public way to choose these.
caching.IndexDataCacheFile = _CheckedFiles
_numba.CacheImpl._locator_classes.append(_LastPlace)
_numba.Cache._guard_against_spurious_io_errors = _go_on_without_files
compiled = functools.partial(numba.njit, cache=True, no_cfunc_wrapper=True, no_rewrites=True)
"""Decorates a function that is compiled when it is first called on a machine.

What takes time to compile and is of no use here is left out: an entry for callers in C, and the fusion of numpy's
operations on whole arrays.
"""
