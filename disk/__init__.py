"""Files that several processes share: whole or not there, and locks."""

from disk.lock import hold_lock
from disk.whole import open_whole, publish, remove_abandoned, write_whole

__all__ = ["hold_lock", "open_whole", "publish", "remove_abandoned", "write_whole"]
