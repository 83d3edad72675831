"""An object of the store that a thread keeps up to date, so that no work waits for the store."""

import logging
import threading
import time
from collections.abc import Callable

from logit_store import LogitStore, LogitStoreError

logger = logging.getLogger(__name__)

EVERY_S = 5.0
"""The shortest time between two writes."""
SILENT_S = 30.0
"""The longest time between two writes: without news, one is a sign of life."""
LOST_AFTER_S = 3 * SILENT_S
"""A process that has given no sign of life for this long is lost, or cannot reach the store."""
LAST_WORDS_S = 30.0
"""The longest wait for the last write."""


class Bulletin:
    """Writes what a function returns: when there is news, as a sign of life, and at the end.

    If the store cannot be written to, this is logged once, and the work goes on.
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
        """Start the thread.

        Args:
            store: the store of the object.
            name: name of the object.
            content: returns its bytes; called in the thread.
            pulse: called in the thread every few seconds, before each possible write, to measure
                and to export.
            first_after_s: seconds before the first write; work that ends sooner is written once.
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
        """Have the object written soon, because there is news."""
        self._news.set()

    def close(self, wait_s: float = LAST_WORDS_S) -> None:
        """Write a last time, and wait for it for at most `wait_s` seconds."""
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
            self._store.objects.write(self._name, self._content())
        except (LogitStoreError, OSError) as error:
            if not self._has_warned:
                self._has_warned = True
                logger.warning("no log is kept in %s for now: %s", self._name, error)
