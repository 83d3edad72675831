"""Functions compiled by numba, kept in files that are made again where they are damaged.

Numba writes them without waiting for the disk, and believes what it reads: after a power failure, each
later process would fail, and a changed bit could be run. Here each file ends with a digest.
"""

import functools
import logging
from pathlib import Path
from typing import Any

import numba
from numba.core import caching

from disk.tail import has_right_tail, make_tail

logger = logging.getLogger(__name__)


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


def _warn_of_damage(path: str, error: Exception) -> None:
    reason = " ".join(str(error).split()) or type(error).__name__
    _warn(f"{path}: damaged, so it is made again ({reason})")


@functools.cache
def _warn(text: str) -> None:
    """Warn once in a process: numba reads an index again before it writes it."""
    logger.warning("%s", text)


# Numba has no public way to choose the class of these files.
caching.IndexDataCacheFile = _CheckedFiles
compiled = functools.partial(numba.njit, cache=True, no_cfunc_wrapper=True, no_rewrites=True)
"""Decorates a function that is compiled when it is first called on a machine.

What takes time to compile and is of no use here is left out: an entry for callers in C, and the fusion of numpy's
operations on whole arrays.
"""
