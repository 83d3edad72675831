"""Files that a listing passes over: a damaged or stray one never hides the others."""

import functools
import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from logit_store.errors import LogitStoreError, MissingClips, UnreadableFile

logger = logging.getLogger(__name__)

T = TypeVar("T")


def keep_usable(things: Iterable[T], use: Callable[[T], object]) -> list[T]:
    """Use each of some things; return those that can be used, and warn of the others.

    Args:
        things: such as files in a listing.
        use: raises UnreadableFile for a file that must not be used, MissingClips for logits without
            clips, and FileNotFoundError for a file that was deleted since it was listed.
    """
    kept = []
    for thing in things:
        try:
            use(thing)
        except FileNotFoundError:
            continue
        except (UnreadableFile, MissingClips) as error:
            warn(error)
        else:
            kept.append(thing)
    return kept


def warn(error: LogitStoreError) -> None:
    """Say that a file is passed over, once per process."""
    _warn_once(str(error))


@functools.lru_cache(maxsize=4096)
def _warn_once(words: str) -> None:
    logger.warning("passed over: %s", words)
