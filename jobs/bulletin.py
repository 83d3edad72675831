"""An object of the store that a thread keeps up to date, so that nobody's work waits for it."""

import logging
import threading
import time
from collections.abc import Callable

from logit_store import LogitStore, LogitStoreError

logger = logging.getLogger(__name__)

EVERY_S = 5.0
"""News is written down no more often than this."""
SILENT_S = 30.0
"""Without news, this often: a sign of life."""
LOST_AFTER_S = 3 * SILENT_S
"""Who has given no sign for so long is lost, or cannot reach the store."""
LAST_WORDS_S = 30.0
"""A store that takes longer than this to take the last words does not get them."""


class Bulletin:
    """Writes what a function gives: when there is news, as a sign of life, and at the end.

    A store that cannot be written to does not end the work: that is said once.
    """

    def __init__(
        self,
        store: LogitStore,
        name: str,
        content: Callable[[], bytes],
        *,
        pulse: Callable[[], None],
        first_after_s: float,
    ) -> None:
        """Begin.

        Args:
            store: where the object lies.
            name: of the object.
            content: its bytes; called in the thread.
            pulse: called in the thread as often as news may be written, and before the last words:
                for what is looked at, or shown, every few seconds.
            first_after_s: what ends sooner is written once.
        """
        self._store, self._name = store, name
        self._content, self._pulse = content, pulse
        self._first_after_s = first_after_s
        self._news, self._closing = threading.Event(), threading.Event()
        self._news.set()
        self._has_warned = False
        self._thread = threading.Thread(target=self._keep, name=f"bulletin {name}", daemon=True)
        self._thread.start()

    def update(self) -> None:
        """Say that there is news."""
        self._news.set()

    def close(self, wait_s: float = LAST_WORDS_S) -> None:
        """Write a last time, and wait for that, at most so long."""
        self._closing.set()
        self._thread.join(wait_s)

    def _keep(self) -> None:
        pause_s, written = self._first_after_s, 0.0
        while not self._closing.wait(pause_s):
            pause_s = EVERY_S
            self._pulse()
            if self._news.is_set() or time.monotonic() - written >= SILENT_S:
                self._write()
                written = time.monotonic()
        self._pulse()
        self._write()

    def _write(self) -> None:
        self._news.clear()
        try:
            self._store.write_object(self._name, self._content())
        except (LogitStoreError, OSError) as error:
            if not self._has_warned:
                self._has_warned = True
                logger.warning("no log is kept in %s for now: %s", self._name, error)
