"""A file's bytes from a server to this machine, across interruptions."""

import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from disk import publish

logger = logging.getLogger(__name__)

OnDownload = Callable[[int, int | None], None]
"""Called with the bytes received so far and their total (None if the server does not say)."""

WAITS_S: tuple[float, ...] = (1, 2, 4, 8)
"""Waits before each new attempt, for as long as attempts bring nothing new."""


class Body(NamedTuple):
    """What a server sends of a file."""

    start: int
    """The position in the file of the first byte that is sent."""
    total: int | None
    """Bytes of the whole file; None if the server does not say."""
    tag: str | None
    """Identifies this version of the file; None if the server does not tell versions apart."""
    chunks: Iterator[bytes]


OpenBody = Callable[[int, str | None], AbstractContextManager[Body]]
"""Takes the number of bytes that are here and their tag, and opens what is missing, or the whole
file if those bytes are stale."""


class Interrupted(Exception):
    """An attempt failed, but another one may succeed."""

    def __init__(
        self,
        reason: str,
        *,
        wait_s: float = 0,
        is_unreachable: bool = False,
        is_stale: bool = False,
    ) -> None:
        super().__init__(reason)
        self.wait_s, self.is_unreachable, self.is_stale = wait_s, is_unreachable, is_stale


class Refused(Exception):
    """The server will not give the file, however often it is asked."""


class PartialFile:
    """The bytes of a file that have arrived so far, and the tag of the version they belong to."""

    def __init__(self, place: Path) -> None:
        self.file = place.with_name(f".{place.name}.part")
        self.tag_file = place.with_name(f".{place.name}.tag")

    def complete(self, open_body: OpenBody, on_progress: OnDownload) -> None:
        """Try until the whole file is here.

        Raises:
            Interrupted: several attempts in a row brought nothing.
            Refused: the server will not give the file.
        """
        failures, longest = 0, self._size()
        while True:
            try:
                with open_body(self._size(), self._read_tag()) as body:
                    return self._receive(body, on_progress)
            except Interrupted as error:
                if self._size() > longest:
                    failures, longest = 0, self._size()
                # Without a network the answer stays the same for a while, and other processes wait
                # at the lock.
                if failures == (1 if error.is_unreachable else len(WAITS_S)):
                    raise
                if error.is_stale:
                    self._drop()
                logger.info("interrupted reason=%s failures=%d", error, failures)
                # Random, so that many machines do not all come back at the same moment.
                time.sleep(max(error.wait_s, WAITS_S[failures] * random.uniform(0.5, 1.5)))
                failures += 1

    def move_to(self, place: Path) -> None:
        """Give the complete file its final name."""
        with self.file.open("rb") as file:
            publish(file, place)
        self.tag_file.unlink(missing_ok=True)

    def _receive(self, body: Body, on_progress: OnDownload) -> None:
        """Append a body, or start over with it.

        Raises:
            Interrupted: fewer or more bytes arrived than were announced.
        """
        if body.start == 0:
            self._drop()
            if body.tag is not None:
                self.tag_file.write_text(body.tag)
        done = body.start
        with self.file.open("ab") as file:
            on_progress(done, body.total)
            for chunk in body.chunks:
                file.write(chunk)
                done += len(chunk)
                on_progress(done, body.total)
            file.flush()
            os.fsync(file.fileno())
        if body.total is not None and done != body.total:
            raise Interrupted(f"{done} of {body.total} bytes arrived")

    def _size(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def _read_tag(self) -> str | None:
        """Return the tag; without one, or if it is damaged, the download starts over."""
        if not self.tag_file.exists():
            return None
        tag = self.tag_file.read_text("ascii", errors="replace")
        return tag if tag.isascii() and tag.isprintable() else None

    def _drop(self) -> None:
        self.file.unlink(missing_ok=True)
        self.tag_file.unlink(missing_ok=True)
